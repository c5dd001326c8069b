"""Two processes with gradients averaged between them: equal weights, exact resume, the balance loss counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hydralora


@pytest.fixture(scope="module")
def ranks(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes found, see ``two_processes.py``; one start for all tests of this file."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    root = Path(hydralora.__file__).parent.parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    python_path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(base_folder), str(easy_corpus), str(folder)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{number}.json").read_text("utf-8")) for number in (0, 1)]


def test_both_processes_took_part_and_end_with_the_same_weights(ranks):
    assert [rank["whole"]["processes"] for rank in ranks] == [2, 2]
    for run in ("whole", "without balance", "resumed"):
        assert ranks[0][run]["weights"] == ranks[1][run]["weights"]


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(ranks):
    for rank in ranks:
        assert rank["resumed"]["weights"] == rank["whole"]["weights"]
    assert ranks[0]["resumed"]["losses"] == ranks[0]["whole"]["losses"] and len(ranks[0]["whole"]["losses"]) == 6


def test_the_balance_loss_is_part_of_the_training(ranks):
    whole, without = ranks[0]["whole"], ranks[0]["without balance"]
    assert whole["losses"][0] > without["losses"][0] + 1e-4
    assert whole["weights"] != without["weights"]
