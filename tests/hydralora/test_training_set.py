"""What a run is trained on is written down before its first step, with all that it does not see in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from hydralora.answering import score
from hydralora.config import RunConfig, parse_config
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.results import AdapterFacts, RunSummary, TrainingSet
from hydralora.training.train import best_step, read_data, train_adapter
from tests.hydralora.conftest import easy_rows, make_llama, write_lines
from tests.hydralora.test_conversations import ALWAYS_THINKS, tokenizer_with


def make_config(base: Path, **train: object) -> RunConfig:
    settings = {"batch_size": 4, "eval_every": 0, "gate_every": 0, "max_length": 64, **train}
    return parse_config({"base": str(base), "adapter": {"r": 2, "num_experts": 2}, "train": settings})


def test_what_training_does_not_see_in_full_is_counted_before_its_first_step(base_folder, tmp_path, caplog):
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    rows = [{"prompt": f"Which {i}?", "answer": "red"} for i in range(8)]
    rows += [{"prompt": f"Why {i}?", "answer": "red and blue " * 40} for i in range(3)]
    rows += [{"prompt": "Where is it? " * 40, "answer": "red"}]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], corpus)
    config = make_config(base_folder, max_steps=1, max_length=48, held_out_fraction=0.0)
    known = []
    summary = train_adapter(config, corpus, run, on_step=lambda *_: known.append(TrainingSet.read(run)))
    (found,) = {(one.examples, one.cut, one.skipped) for one in known}
    assert found == (11, 3, 1) == (summary.train_examples, summary.cut_examples, summary.skipped_examples)
    assert [count for count, _ in summary.losses] == ["3 examples lost their end.", "1 example left out."]
    assert "3 examples lost their end." in caplog.text


def test_conversations_of_which_not_all_answers_can_be_learnt_are_counted(tmp_path):
    turns = [("user", "One?"), ("assistant", "one"), ("user", "Two?"), ("assistant", "two")]
    talk = [{"role": role, "content": content} for role, content in turns]
    rows = [{"messages": messages} for messages in (talk, talk[:2], talk)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    config = make_config(tmp_path, held_out_fraction=0.0)
    data = read_data(config, Corpus(tmp_path / "corpus"), tokenizer_with(ALWAYS_THINKS), None)
    found = data.training_set
    assert (found.examples, found.partly) == (3, 2)
    assert [count for count, _ in found.losses] == ["2 examples learnt in part."]


def test_a_run_goes_on_only_with_the_examples_it_began_with(base_folder, tmp_path):
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    rows = easy_rows()
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], corpus)
    config = make_config(base_folder, max_steps=8, save_every=2)
    with pytest.raises(StoppedError):
        steps: list[int] = []
        stopping = Progress(should_stop=lambda: len(steps) >= 3)
        train_adapter(config, corpus, run, on_step=lambda step, _: steps.append(step), progress=stopping)
    import_corpus([write_lines(tmp_path / "fewer.jsonl", rows[:-8])], corpus)
    with pytest.raises(TrainingError, match=r"The training set has changed since this run began: \d+ examples \(hash"):
        train_adapter(config, corpus, run, resume=True)
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], corpus)
    assert train_adapter(config, corpus, run, resume=True).steps == 8


def test_examples_are_cut_at_the_positions_of_the_base_and_that_is_said(tokenizer, tmp_path):
    base, corpus, run = tmp_path / "base", tmp_path / "corpus", tmp_path / "run"
    make_llama(len(tokenizer), positions=48).save_pretrained(base)
    tokenizer.save_pretrained(base)
    rows = [{"prompt": f"Why {i}?", "answer": "red and blue " * 40} for i in range(4)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], corpus)
    summary = train_adapter(make_config(base, max_steps=1, max_length=256, held_out_fraction=0.0), corpus, run)
    assert summary.cut_examples == 4
    assert "has 48 positions, fewer than the 256 tokens" in summary.note
    assert AdapterFacts.read(run / "adapter").config.train.max_length == 48


def test_a_step_that_was_better_than_the_end_is_named():
    losses = [(10, 2.5), (20, 2.1), (30, 2.6)]
    found = best_step([{"loss": 1.0, "step": 5}, *({"eval_loss": loss, "step": step} for step, loss in losses)])
    assert found == {"best_held_out_loss": 2.1, "best_step": 20}
    told = RunSummary(**found, held_out_loss=2.6).overfitting
    assert told is not None and told[0] == "Step 20 was better than the end."
    assert RunSummary(**found, held_out_loss=2.1).overfitting is None
    assert RunSummary(**best_step([])).overfitting is None


def exact_match(wanted: str, answer: str) -> float:
    return score([Example("Write it.", wanted)], [answer]).exact_match


def test_two_programs_that_differ_in_their_indentation_are_two_answers():
    inside = "for x in rows:\n    total += x\n    print(total)"
    behind = "for x in rows:\n    total += x\nprint(total)"
    assert exact_match(inside, behind) == 0.0 and exact_match(inside, inside + "  \n") == 1.0


def test_the_indentation_of_a_first_line_may_be_lost():
    assert exact_match("    y = x + 1\n    return y", "y = x + 1\n    return y") == 1.0


def test_white_space_in_prose_is_no_mistake_but_case_is():
    assert exact_match("On shelf 1,\nhall 2.", " On shelf 1, hall  2.") == 1.0
    assert exact_match("On shelf 1.", "on shelf 1.") == 0.0
