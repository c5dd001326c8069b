"""Optimizers, rates of their own, noise, order and an early end: each setting does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hydralora.corpus.batches import Collator, Encoded
from hydralora.errors import StoppedError, TrainingError
from hydralora.files import START, list_checkpoints
from hydralora.progress import Progress
from hydralora.training.train import train_adapter
from tests.hydralora.test_train import Recorder, make_config, stop_after

ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "eval_every": 0,
    "save_every": 0,
    "warmup_fraction": 0.0,
    "max_grad_norm": 1e6,
    "learning_rate": 1e-3,
}


def moved(base: Path, corpus: Path, folder: Path, method: str = "hydralora", **train: Any) -> dict[str, float]:
    """By how much the first step moves the weights of each kind at most: Adam's first step is its rate."""
    adapter = {"r": 4} if method == "lora" else {"r": 4, "num_experts": 3}
    train_adapter(make_config(base, method, adapter, **{**ONE_STEP, **train}), corpus, folder)
    before, after = (load_file(folder / name / "adapter_model.safetensors") for name in (START, "adapter"))
    kinds = {"a": "_A.", "b": "_B.", "router": "_router."}
    change = {name: (after[name] - before[name]).abs().max().item() for name in after}
    return {kind: max((c for name, c in change.items() if part in name), default=0.0) for kind, part in kinds.items()}


def test_b_and_the_router_learn_at_rates_of_their_own(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    found = moved(base_folder, easy_corpus, tmp_path, "r_lora", b_rate=16.0, router_rate=4.0)
    expected = {"a": 1e-3, "b": 16e-3, "router": 4e-3}  # its heads do not start at zero, so all have a gradient
    assert found == pytest.approx(expected, rel=0.01)


def test_a_rate_of_nought_leaves_the_router_as_it_is(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    train = {**ONE_STEP, "max_steps": 3, "router_rate": 0.0}
    train_adapter(make_config(base_folder, **train), easy_corpus, tmp_path)
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in (START, "adapter"))
    routers = [name for name in after if "_router." in name]
    assert routers and all(torch.equal(before[name], after[name]) for name in routers)
    assert not all(torch.equal(before[name], after[name]) for name in after)


def test_loras_b_learns_at_its_rate(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    assert moved(base_folder, easy_corpus, tmp_path, "lora", b_rate=8.0)["b"] == pytest.approx(8e-3, rel=0.01)


def test_a_rate_for_what_a_method_has_not_is_refused(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="`router_rate` is 2, but this method trains no router"):
        train_adapter(make_config(base_folder, "lora", {"r": 4}, router_rate=2.0), easy_corpus, tmp_path)


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw_8bit", "lion"])
def test_other_optimizers_learn_too(optimizer: str, base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    if optimizer != "adafactor":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    steps = Recorder()
    rate = {"adafactor": 2e-2, "adamw_8bit": 2e-2, "lion": 2e-3}[optimizer]
    train = {"max_steps": 30, "eval_every": 0, "save_every": 0, "learning_rate": rate, "optimizer": optimizer}
    train_adapter(make_config(base_folder, "lora", {"r": 8}, **train), easy_corpus, tmp_path, on_step=steps)
    losses = [loss for loss, *_ in steps.curve]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_noise_on_the_embeddings_changes_training_and_leaves_measuring_alone(
    base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    found = {}
    for noise in (0.0, 5.0):
        steps, folder = Recorder(), tmp_path / str(noise)
        train = {"max_steps": 2, "save_every": 0, "neftune_noise": noise}
        summary = train_adapter(make_config(base_folder, **train), easy_corpus, folder, on_step=steps)
        found[noise] = (steps.curve[0][0], summary.held_out_loss_before)
    assert found[0.0][0] != found[5.0][0] and found[0.0][1] == found[5.0][1]


def test_batches_of_like_length_hold_less_padding(
    base_folder: Path, easy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counting(Collator):
        def __call__(self, examples: list[Encoded]) -> dict[str, torch.Tensor]:
            batch = super().__call__(examples)
            seen.append(int((batch["attention_mask"] == 0).sum()))
            return batch

    monkeypatch.setattr("hydralora.training.feed.Collator", Counting)
    padding = {}
    for order in ("shuffled", "by length"):
        seen.clear()
        train = {"max_steps": 7, "eval_every": 0, "save_every": 0, "held_out_fraction": 0.0, "order": order}
        train_adapter(make_config(base_folder, **train), easy_corpus, tmp_path / order)
        padding[order] = sum(seen)
    assert padding["by length"] < padding["shuffled"]


RISING = {"max_steps": 40, "eval_every": 2, "save_every": 2, "learning_rate": 1.0, "warmup_fraction": 0.0}


def test_a_run_ends_early_when_its_loss_does_not_fall_and_keeps_the_best(
    base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    train = {**RISING, "patience": 3, "keep_checkpoints": 2}
    summary = train_adapter(make_config(base_folder, **train), easy_corpus, tmp_path)
    assert summary.steps == summary.best_step + 2 * 3 < 40
    assert summary.best_step in list_checkpoints(tmp_path) and "ended at step" in summary.note


def test_a_stopped_run_ends_early_where_an_undisturbed_one_does(
    base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    config = make_config(base_folder, **{**RISING, "patience": 3})
    whole = train_adapter(config, easy_corpus, tmp_path / "whole")
    steps = Recorder()
    with pytest.raises(StoppedError):
        stopping = Progress(should_stop=stop_after(whole.steps - 2, steps))
        train_adapter(config, easy_corpus, tmp_path / "stopped", on_step=steps, progress=stopping)
    again = train_adapter(config, easy_corpus, tmp_path / "stopped", resume=True)
    assert (again.steps, again.best_step, again.held_out_loss) == (whole.steps, whole.best_step, whole.held_out_loss)


def test_an_early_end_without_a_measured_loss_is_refused(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="`patience` is 2, but no held-out loss is measured"):
        train_adapter(make_config(base_folder, patience=2, eval_every=0), easy_corpus, tmp_path)


def test_a_run_that_ended_early_and_was_killed_before_its_adapter_was_kept_ends_at_the_same_step(
    base_folder: Path, easy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(base_folder, **{**RISING, "patience": 3})
    whole = train_adapter(config, easy_corpus, tmp_path / "whole")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hydralora.training.train.save_adapter", killed)
        train_adapter(config, easy_corpus, tmp_path / "killed")
    again = train_adapter(config, easy_corpus, tmp_path / "killed", resume=True)
    assert (again.steps, again.best_step, again.note) == (whole.steps, whole.best_step, whole.note)
    before, after = (load_file(tmp_path / n / "adapter" / "adapter_model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("method", "train", "sentence"),
    [
        ("meta_lora", {"order": "by length"}, "`order` is by length, but meta_lora does not use it"),
        ("lorahub", {"b_rate": 16.0}, "`b_rate` is 16.0, but lorahub does not use it. Leave it at 1.0"),
        ("lorahub", {"patience": 2}, "`patience` is 2, but lorahub does not use it"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    method: str, train: dict[str, Any], sentence: str, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    adapter, sources = ({"r": 4, "tasks": "label"}, []) if method == "meta_lora" else ({}, [tmp_path / "source"])
    if sources:
        train_adapter(make_config(base_folder, "lora", {"r": 4}, max_steps=1), easy_corpus, tmp_path)
        sources = [tmp_path / "adapter"]
    config = make_config(base_folder, method, adapter, **train)
    with pytest.raises(TrainingError, match=re.escape(sentence)):
        train_adapter(config, easy_corpus, tmp_path / "run", sources=sources)


@pytest.mark.parametrize("method", ["lora_split", "lope", "thanora", "full", "prompt_tuning"])
def test_order_and_an_early_end_work_with_every_loop(
    method: str, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    adapter: dict[str, Any] = {
        "lora_split": {"r": 4, "num_experts": 2, "combine": "hard", "tasks": "label"},
        "lope": {"r": 4, "num_experts": 3},
        "thanora": {"r": 4, "tasks": "label"},
    }.get(method, {})
    train = {"max_steps": 4, "eval_every": 2, "save_every": 0, "order": "by length", "patience": 1}
    summary = train_adapter(make_config(base_folder, method, adapter, **train), easy_corpus, tmp_path)
    assert summary.steps in (2, 4) and summary.best_step


def test_an_optimizer_without_its_package_is_refused_in_a_sentence(
    base_folder: Path, easy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydralora.training.arguments.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="`optimizer` is lion, which needs the package bitsandbytes"):
        train_adapter(make_config(base_folder, optimizer="lion"), easy_corpus, tmp_path)
