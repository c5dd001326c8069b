"""The same optimizer step in smaller parts: half the examples in one forward pass, twice the passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from hydralora.config import TrainConfig, parse_config
from hydralora.training.arguments import on_one_device
from hydralora.training.train import train_adapter


@pytest.mark.parametrize(
    ("batch", "passes", "smaller"),
    [(16, 1, (8, 2)), (8, 2, (4, 4)), (2, 8, (1, 16)), (5, 1, (1, 5)), (9, 2, (3, 6)), (1, 16, None), (2, 4096, None)],
)
def test_a_smaller_part_keeps_the_step_and_at_most_half_of_the_pass(
    batch: int, passes: int, smaller: tuple[int, int] | None
) -> None:
    train = TrainConfig(batch_size=batch, accumulation=passes).in_smaller_parts()
    assert (train and (train.batch_size, train.accumulation)) == smaller
    assert train is None or train.batch_asked == batch


def test_what_was_asked_for_is_kept_through_several_changes() -> None:
    train = TrainConfig(batch_size=16)
    while (smaller := train.in_smaller_parts()) is not None:
        train = smaller
    assert (train.batch_size, train.accumulation, train.batch_asked) == (1, 16, 16)


@pytest.mark.parametrize("order", ["shuffled", "by length"])
def test_going_on_in_smaller_parts_gives_the_same_losses(
    order: str, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    settings = {"batch_size": 8, "save_every": 3, "eval_every": 0, "max_length": 64, "order": order}
    train = TrainConfig(max_steps=9, **settings)  # more than one epoch of 58 examples
    smaller = train.in_smaller_parts()
    assert smaller is not None
    losses: list[dict[int, float]] = [{}, {}]

    def config(train: TrainConfig) -> Any:
        return parse_config({"base": str(base_folder), "adapter": {"r": 4}, "train": train.model_dump()})

    def keep(curve: dict[int, float]) -> Any:
        return lambda step, values: curve.update({step: values["loss"]} if "loss" in values else {})

    whole = tmp_path / "whole"
    train_adapter(config(train), easy_corpus, whole, on_step=keep(losses[0]))
    for late in (9, 6):  # as if it had come no further than step 3
        for file in sorted((whole / "checkpoints" / f"checkpoint-{late}").rglob("*"), reverse=True):
            file.unlink()
        (whole / "checkpoints" / f"checkpoint-{late}").rmdir()
    summary = train_adapter(config(smaller), easy_corpus, whole, on_step=keep(losses[1]), resume=True)
    assert summary.resumed_from == 3 and sorted(losses[1]) == list(range(4, 10))
    assert [losses[1][step] for step in range(4, 10)] == pytest.approx(
        [losses[0][step] for step in range(4, 10)], rel=1e-3
    )
    assert "went on with 4, 2 passes added up" in summary.note


def test_a_process_that_sees_several_gpus_trains_on_one(tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=4, report_to="none")
    arguments._n_gpu = 4  # as where four are in sight: then the Trainer takes DataParallel
    assert arguments.train_batch_size == 16
    assert on_one_device(arguments).n_gpu <= 1 and arguments.train_batch_size == 4


def test_a_method_with_episodes_of_its_own_has_no_smaller_parts() -> None:
    assert parse_config({"method": "hydralora"}).in_smaller_parts() is not None
    assert parse_config({"method": "meta_lora"}).in_smaller_parts() is None
