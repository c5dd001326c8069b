"""The script for a GPU runs as a whole with tiny shapes, and says what goes wrong instead of ending."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import bench_gpu
from tests.benchmarks.bench_gpu import SMALL, Bench

TINY = SMALL._replace(width=16, inner=24, heads=2, vocabulary=32, depth=1, short=1, tokens=(5,), rounds=1)


@pytest.fixture
def bench() -> Bench:
    return Bench("cpu", torch.float32, TINY, 1e9)


def test_every_row_of_the_script_runs_with_tiny_shapes(bench: Bench, tmp_path: Path) -> None:
    found = bench_gpu.run_rows(bench, "", tmp_path / "gpu.json")
    assert [result.get("error") for result in found.values()] == [None] * len(found)
    kept = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert kept["rows"].keys() == found.keys() and kept["about"]["torch"] == torch.__version__
    assert found["check layer"]["float32, 5 tokens"] < 1e-5


def test_a_row_that_fails_is_kept_with_its_traceback_and_the_next_one_runs(bench: Bench, monkeypatch: Any) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("no luck")

    monkeypatch.setattr(bench_gpu, "rows", lambda bench: {"one": fails, "two": lambda: {"figure": 1.0}})
    found = bench_gpu.run_rows(bench, "", None)
    assert "no luck" in found["one"]["error"] and "fails" in found["one"]["traceback"]
    assert found["two"]["figure"] == 1.0


def test_without_a_gpu_the_script_says_so_and_measures_nothing(capsys: Any, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert bench_gpu.main(["--json", str(tmp_path / "gpu.json")]) == 0
    assert "There is no GPU here" in capsys.readouterr().out and not (tmp_path / "gpu.json").exists()
