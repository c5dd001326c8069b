"""The numbers of a run in other programs' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.training.loggers import FOLDER, logger_of
from hydralora.training.train import train_adapter
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after


def scalars(folder: Path, name: str) -> dict[int, float]:
    """What TensorBoard shows of one number, by step."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    events = reader.EventAccumulator(str(folder / FOLDER))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_losses_and_gates_are_in_the_files_also_of_a_run_that_goes_on(
    base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    config, steps = make_config(base_folder, report_to="tensorboard", max_steps=10, gate_every=1), Recorder()
    with pytest.raises(StoppedError):
        stopping = Progress(should_stop=stop_after(4, steps))
        train_adapter(config, easy_corpus, tmp_path, on_step=steps, progress=stopping)
    train_adapter(config, easy_corpus, tmp_path, on_step=steps, resume=True)
    losses = scalars(tmp_path, "train/loss")
    assert losses == pytest.approx({step: loss for step, (loss, *_) in enumerate(steps.curve, 1)}, rel=1e-4)
    gates = [scalars(tmp_path, f"train/gates/E{expert}") for expert in (1, 2, 3)]
    assert all(sum(values) == pytest.approx(1.0, abs=1e-3) for values in zip(*(g.values() for g in gates), strict=True))
    assert len(gates[0]) == 10


def test_a_logger_changes_nothing_of_the_training(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard")
    for report_to in ("none", "tensorboard"):
        train_adapter(make_config(base_folder, report_to=report_to, max_steps=4), easy_corpus, tmp_path / report_to)
    assert same_weights(tmp_path / "none", tmp_path / "tensorboard")


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "trackio"])
def test_a_logger_that_is_not_installed_is_a_sentence(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydralora.training.loggers.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=f"`report_to` is {package}, and the package {package} is not installed"):
        logger_of(package, Path("nowhere"), 0)


def test_a_logger_without_its_key_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydralora.training.loggers.find_spec", lambda name: object())
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match="neither WANDB_API_KEY nor WANDB_MODE=offline"):
        logger_of("wandb", Path("nowhere"), 0)
