"""How matrices move from their start, and what several adapters share, against planted truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hydralora.adapters.matrices import read_modules
from hydralora.analysis.comparison import compare_adapters
from hydralora.analysis.drift import find_steps, measure_weights
from hydralora.config import parse_config
from hydralora.corpus.tasks import only_cluster
from hydralora.errors import AdapterError, StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.results import Comparison
from hydralora.training.train import train_adapter
from tests.hydralora.planted import RANK, WIDE, random_heads, write_adapter
from tests.hydralora.test_routing import clusters_file


def even_a(seed: int, heads: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(RANK, WIDE, generator=generator) for name in heads}


@pytest.fixture(scope="module")
def run(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with a checkpoint every two."""
    folder = tmp_path_factory.mktemp("run")
    config = parse_config(
        {
            "base": str(base_folder),
            "adapter": {"r": 4, "num_experts": 3, "target_modules": ["q_proj"]},
            "train": {"max_steps": 6, "save_every": 2, "batch_size": 8, "max_length": 64, "eval_every": 0},
        }
    )
    train_adapter(config, easy_corpus, folder)
    return folder


def test_a_run_keeps_its_untrained_start(run: Path) -> None:
    assert list(find_steps(run)) == [0, 2, 4, 6]
    assert all((module.heads == 0).all() for module in read_modules(run / "start"))


def test_every_step_has_its_figures_and_its_distance_from_the_start(run: Path, tmp_path: Path) -> None:
    found = measure_weights(run, tmp_path)
    first, *_, last = found.drift
    assert (first.a_moved, first.router_moved) == (0.0, 0.0) and first.a_kept == pytest.approx(1, abs=1e-5)
    before, after = ({m.name: m.a for m in read_modules(run / name)} for name in ("start", "adapter"))
    moved = [float((after[name] - before[name]).norm() / before[name].norm()) for name in before]
    assert last.a_moved == pytest.approx(sum(moved) / len(moved), rel=1e-4) and last.router_moved > 0
    stored = json.loads((tmp_path / "weights-6.json").read_text())
    assert stored["layers"] == found.dump()["layers"] and found.steps == [0, 2, 4, 6]
    assert found.drift_sentence.startswith("A has moved by")


def test_a_stop_between_steps_is_obeyed(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(StoppedError):
        measure_weights(run, tmp_path, progress=Progress(lambda share, text: said.append(text), lambda: len(said) > 2))
    assert said[-1].startswith("Step 2: ")


def parts(adapters: dict[str, Path], starts: dict[str, Path] | None = None) -> Comparison:
    return compare_adapters(adapters, starts)


def test_the_same_adapter_split_otherwise_is_found_to_be_the_same(tmp_path: Path) -> None:
    heads = random_heads(0)
    a, q = even_a(0, heads), torch.randn(RANK, RANK) + 2 * torch.eye(RANK)
    one = write_adapter(tmp_path / "1", heads, a)
    two = write_adapter(
        tmp_path / "2", {k: v @ q for k, v in heads.items()}, {k: torch.linalg.solve(q, v) for k, v in a.items()}
    )
    found = parts({"one": one, "two": two}).parts
    assert all(found[part].similarity == pytest.approx(1, abs=1e-4) for part in ("A", "B", "BA"))


def test_random_adapters_stay_at_chance(tmp_path: Path) -> None:
    adapters = {str(s): write_adapter(tmp_path / str(s), random_heads(s), even_a(s, random_heads(s))) for s in range(5)}
    found = parts(adapters)
    assert all(found.parts[part].above < 0.1 for part in ("A", "B", "BA"))
    assert found.sentence.count("no more alike than chance") == 3


def test_one_a_with_other_heads_is_told_apart(tmp_path: Path) -> None:
    a = even_a(0, random_heads(0))
    adapters = {str(s): write_adapter(tmp_path / str(s), random_heads(s), a) for s in range(3)}
    found = parts(adapters, adapters)
    assert found.parts["A"].similarity == pytest.approx(1, abs=1e-4) and found.parts["B"].above < 0.1
    assert (
        found.sentence.startswith("What A reads: alike beyond chance (1.00")
        and "began as the same numbers" in found.sentence
    )


def test_adapters_for_different_models_are_refused(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "1", {"layers.0.q": torch.randn(2, 10, 2)})
    two = write_adapter(tmp_path / "2", {"layers.0.q": torch.randn(2, 12, 2)})
    with pytest.raises(AdapterError, match="share no layer of one shape"):
        compare_adapters({"one": one, "two": two})
    with pytest.raises(AdapterError, match="at least two adapters"):
        compare_adapters({"one": one})


def test_a_run_on_one_cluster_sees_its_examples_only(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    clusters = clusters_file(tmp_path / "c", [0] * 40 + [1] * 24)
    config = parse_config(
        {
            "base": str(base_folder),
            "method": "lora",
            "adapter": {"r": 2, "target_modules": ["q_proj"]},
            "train": {"max_steps": 1, "only_cluster": 2, "max_length": 64, "held_out_fraction": 0.0},
        }
    )
    summary = train_adapter(config, easy_corpus, tmp_path / "run", clusters_folder=clusters)
    assert summary.train_examples == 24


def test_a_cluster_that_is_not_there_is_refused(tmp_path: Path) -> None:
    clusters = clusters_file(tmp_path, [0, 1, 1])
    assert only_cluster([0, 1, 2], [], 0, None) == ([0, 1, 2], [])
    assert only_cluster([0, 1], [2], 2, clusters) == ([1], [2])
    with pytest.raises(TrainingError, match="No training example lies in cluster C3; the corpus has C1, C2"):
        only_cluster([0, 1, 2], [], 3, clusters)
    with pytest.raises(TrainingError, match="`only_cluster` is 1, but the corpus has no clusters"):
        only_cluster([0], [], 1, None)
