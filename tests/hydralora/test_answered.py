"""Held-out questions that are answered while a run trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.analysis.answers import compare_answers
from hydralora.errors import TrainingError
from hydralora.training.train import train_adapter
from tests.hydralora.test_train import Recorder, make_config, same_weights

LEARNING = {"max_steps": 60, "eval_every": 30, "save_every": 0, "learning_rate": 2e-2, "held_out_fraction": 0.2}


def shares(steps: Recorder) -> dict[int, float]:
    return {step: v["eval_exact_match"] for step, v in steps.values.items() if "eval_exact_match" in v}


def test_the_share_is_that_of_the_answers_afterwards(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    steps = Recorder()
    config = make_config(base_folder, adapter={"r": 8, "num_experts": 2}, answered=256, **LEARNING)
    train_adapter(config, easy_corpus, tmp_path / "run", on_step=steps)
    found = compare_answers(tmp_path / "run", easy_corpus, tmp_path)
    assert list(shares(steps)) == [0, 30, 60]
    assert shares(steps)[60] == pytest.approx(found.scores["tuned"].exact_match) and shares(steps)[60] > 0


HEADS = {"combine": "hard", "tasks": "label", "num_experts": 2}


@pytest.mark.parametrize(("method", "adapter"), [("hydralora", {}), ("lora_split", HEADS)])
def test_answering_changes_nothing_of_the_training(
    method: str, adapter: dict[str, Any], base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    for answered in (0, 5):
        config = make_config(base_folder, method, adapter, answered=answered, max_steps=6, eval_every=2)
        steps = Recorder()
        train_adapter(config, easy_corpus, tmp_path / str(answered), on_step=steps)
        assert bool(shares(steps)) == bool(answered)
    assert same_weights(tmp_path / "0", tmp_path / "5")


def test_questions_that_are_never_asked_are_refused(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="`answered` is 4, but nothing is measured"):
        train_adapter(make_config(base_folder, answered=4, eval_every=0), easy_corpus, tmp_path)
