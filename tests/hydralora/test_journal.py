"""A run that goes on is the run that began: its loss before training, its seconds, its settings and its examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from hydralora.errors import StoppedError, TrainingError
from hydralora.files import COMPLETE, drop_checkpoints, last_checkpoint, list_checkpoints, seal_checkpoint
from hydralora.progress import Progress
from hydralora.results import RunJournal, RunSummary
from hydralora.training.train import train_adapter
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after


@pytest.fixture(scope="module")
def stopped(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped at step 7 of 12; its checkpoints are of steps 4 and 7."""
    folder, steps = tmp_path_factory.mktemp("stopped"), Recorder()
    with pytest.raises(StoppedError):
        stopping = Progress(should_stop=stop_after(7, steps))
        train_adapter(make_config(base_folder), easy_corpus, folder, on_step=steps, progress=stopping)
    (folder / "before.json").write_text(json.dumps(steps.values[0]["eval_loss"]), "utf-8")
    return folder


def resume(stopped: Path, folder: Path, corpus: Path, base: Path, **train: Any) -> tuple[RunSummary, Recorder]:
    shutil.copytree(stopped, folder)
    return go_on(folder, corpus, base, **train)


def go_on(folder: Path, corpus: Path, base: Path, **train: Any) -> tuple[RunSummary, Recorder]:
    steps = Recorder()
    return train_adapter(make_config(base, **train), corpus, folder, on_step=steps, resume=True), steps


@pytest.mark.parametrize("newest_is_broken", [False, True])
def test_a_resumed_run_keeps_its_loss_before_training(stopped, base_folder, easy_corpus, tmp_path, newest_is_broken):
    before, run = json.loads((stopped / "before.json").read_text("utf-8")), tmp_path / "run"
    shutil.copytree(stopped, run)
    if newest_is_broken:
        (run / "checkpoints" / "checkpoint-7" / "optimizer.pt").unlink()
    summary, steps = go_on(run, easy_corpus, base_folder)
    assert summary.resumed_from == (4 if newest_is_broken else 7)
    assert summary.held_out_loss_before == before > summary.held_out_loss
    assert "eval_loss" not in steps.values.get(0, {})  # nothing is written over what was measured then


def test_a_run_that_only_kept_its_adapter_at_the_end_keeps_its_loss_before_training(base_folder, easy_corpus, tmp_path):
    whole = train_adapter(make_config(base_folder), easy_corpus, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    again, steps = go_on(tmp_path / "run", easy_corpus, base_folder)
    assert again.held_out_loss_before == whole.held_out_loss_before
    assert 0 not in steps.values and again.timed_from == 0


def test_seconds_of_all_attempts_add_up(stopped, base_folder, easy_corpus, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    newest = run / "checkpoints" / "checkpoint-7"
    RunJournal.read(newest).model_copy(update={"seconds": 1000.0}).write(newest)
    seal_checkpoint(newest)
    summary, _ = go_on(run, easy_corpus, base_folder)
    assert 1000.0 < summary.seconds < 2000.0 and summary.timed_from == 0
    assert summary.seconds_per_step == pytest.approx(summary.seconds / 12)
    assert RunJournal.read(run / "checkpoints" / "checkpoint-12").seconds > 1000.0


def test_the_seconds_of_an_earlier_version_count_from_where_it_went_on():
    assert RunSummary(steps=12, seconds=8.0, resumed_from=8).seconds_per_step == 2.0
    assert RunSummary(steps=12, seconds=24.0, resumed_from=8, timed_from=0).seconds_per_step == 2.0
    assert RunSummary(steps=12).seconds_per_step is None


def test_a_run_of_an_earlier_version_goes_on_without_a_journal(stopped, base_folder, easy_corpus, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    for step in (4, 7):
        place = run / "checkpoints" / f"checkpoint-{step}"
        (place / RunJournal.FILE).unlink()
        (place / COMPLETE).unlink()
        seal_checkpoint(place)
    summary, _ = go_on(run, easy_corpus, base_folder)
    assert (summary.resumed_from, summary.timed_from, summary.held_out_loss_before) == (7, 7, None)


def test_a_run_goes_on_only_with_the_settings_it_began_with(stopped, base_folder, easy_corpus, tmp_path):
    with pytest.raises(TrainingError, match=r"`learning_rate` was 0\.01 when this run began and is 0\.02 now\."):
        resume(stopped, tmp_path / "run", easy_corpus, base_folder, learning_rate=0.02)
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-7"  # nothing was changed


def test_settings_that_change_no_weight_may_change(stopped, base_folder, easy_corpus, tmp_path):
    whole = tmp_path / "whole"
    train_adapter(make_config(base_folder), easy_corpus, whole)
    summary, _ = resume(stopped, tmp_path / "run", easy_corpus, base_folder, save_every=0, keep_checkpoints=3)
    assert summary.resumed_from == 7 and same_weights(whole, tmp_path / "run")


def test_a_run_goes_on_only_with_the_labels_it_began_with(stopped, base_folder, easy_corpus, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    file = base / "chat_template.jinja"
    file.write_text(file.read_text("utf-8").replace("<|begin|>", "<|begin|><|system|>"), "utf-8")
    with pytest.raises(TrainingError, match=r"their tokens, or which of them are learnt, are not .*chat template"):
        resume(stopped, tmp_path / "run", easy_corpus, base)


def test_a_run_goes_on_only_with_the_weights_it_began_with(stopped, base_folder, easy_corpus, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    weights = base / "model.safetensors"
    changed = {name: weight + 0.5 for name, weight in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="The weights of the base have changed since this run began"):
        resume(stopped, tmp_path / "run", easy_corpus, base)


def test_a_base_that_has_moved_is_the_same_base(stopped, base_folder, easy_corpus, tmp_path):
    shutil.copytree(base_folder, tmp_path / "moved")
    summary, _ = resume(stopped, tmp_path / "run", easy_corpus, tmp_path / "moved")
    assert summary.resumed_from == 7


# Checkpoints


def make_checkpoints(folder: Path, *sealed: int, parts: tuple[int, ...] = ()) -> Path:
    for step in (*sealed, *parts):
        place = folder / "checkpoints" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        (place / "weights").write_text(str(step))
        if step in sealed:
            seal_checkpoint(place)
    return folder / "checkpoints"


def test_an_old_checkpoint_is_deleted_only_once_the_next_is_sealed(base_folder, easy_corpus, tmp_path, monkeypatch):
    seen: list[list[int]] = []

    def look(folder: Path) -> None:
        seen.append(list_checkpoints(tmp_path))
        seal_checkpoint(folder)

    monkeypatch.setattr("hydralora.training.trainer.seal_checkpoint", look)
    config = make_config(base_folder, save_every=1, keep_checkpoints=1, max_steps=4, eval_every=0)
    train_adapter(config, easy_corpus, tmp_path)
    assert seen == [[], [1], [2], [3]] and list_checkpoints(tmp_path) == [4]


def test_the_best_checkpoint_and_the_newest_stay(tmp_path):
    folder = make_checkpoints(tmp_path, 2, 4, 6, 8, 10)
    drop_checkpoints(folder, 2, best="checkpoint-4")
    assert list_checkpoints(tmp_path) == [4, 10]
    drop_checkpoints(folder, 1)
    assert list_checkpoints(tmp_path) == [10]


def test_what_was_cut_short_goes_with_the_next_sealed_checkpoint_and_never_counts(tmp_path):
    folder = make_checkpoints(tmp_path, 2, 8, parts=(4, 9))
    drop_checkpoints(folder, 2)
    assert sorted(place.name for place in folder.iterdir()) == ["checkpoint-2", "checkpoint-8", "checkpoint-9"]


def test_without_a_sealed_checkpoint_nothing_is_deleted(tmp_path):
    folder = make_checkpoints(tmp_path, parts=(4, 9))
    drop_checkpoints(folder, 1)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", ["checkpoint-9.part", "checkpoint-", "checkpoint-x", "checkpoint--1"])
def test_leftover_parts_spoil_nothing(tmp_path, name):
    folder = make_checkpoints(tmp_path, 4)
    shutil.copytree(folder / "checkpoint-4", folder / name)
    assert last_checkpoint(tmp_path).name == "checkpoint-4" and list_checkpoints(tmp_path) == [4]


@pytest.mark.parametrize("seal", ["", "[]", '{"files": []}', '{"files": 3}', "null", "\x00\x00"])
def test_a_damaged_seal_vouches_for_nothing(tmp_path, seal):
    folder = make_checkpoints(tmp_path, 4, 8)
    (folder / "checkpoint-8" / COMPLETE).write_text(seal, "utf-8")
    assert last_checkpoint(tmp_path).name == "checkpoint-4"


def test_what_was_left_of_a_checkpoint_is_gone_when_it_is_written_anew(stopped, base_folder, easy_corpus, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    part = run / "checkpoints" / "checkpoint-8"
    part.mkdir()
    (part / "stray").write_text("half")
    go_on(run, easy_corpus, base_folder)
    assert not (part / "stray").exists() and 8 in list_checkpoints(run)
