"""Plain texts that are longer than a run takes are trained on in pieces: nothing is lost, doubled or moved."""

from __future__ import annotations

import pytest

from hydralora.config import TrainConfig, parse_config
from hydralora.corpus.encode import IGNORED, encode_whole, split
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.split import split_examples
from hydralora.training.data import read_data
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import write_lines

TEXT = Example("", "The red door is open and the blue one is not. " * 20)


@pytest.mark.parametrize("length", [8, 13, 64, 10_000])
def test_the_pieces_of_a_text_are_the_text(tokenizer, length):
    whole = encode_whole(tokenizer, TEXT)
    pieces = split(whole, length)
    for name, ids in whole.items():
        assert [one for piece in pieces for one in piece[name]] == ids
    sizes = [len(piece["labels"]) for piece in pieces]
    assert max(sizes) <= length and max(sizes) - min(sizes) <= 1
    assert all(label != IGNORED for piece in pieces[1:] for label in piece["labels"])


@pytest.fixture
def corpus(tmp_path):
    """Six short texts, two long ones, and a long answer to a prompt."""
    rows = [{"text": f"Short text number {i}."} for i in range(6)]
    rows += [{"text": f"Text {i}. {TEXT.answer}"} for i in range(2)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    return tmp_path / "corpus"


def config(base, **train):
    settings = {"max_length": 64, "batch_size": 2, "max_steps": 2, "gate_every": 0, "eval_every": 0, **train}
    return parse_config({"base": str(base), "adapter": {"r": 2, "num_experts": 2}, "train": settings})


def test_a_run_trains_on_all_pieces_and_counts_texts_and_pieces(corpus, base_folder, tokenizer):
    data = read_data(config(base_folder, held_out_fraction=0.0), Corpus(corpus), tokenizer, None)
    found = data.training_set
    wholes = [encode_whole(tokenizer, example) for example in Corpus(corpus)]
    assert (found.examples, found.split, found.cut, found.skipped) == (8, 2, 0, 0)
    assert found.pieces == sum(-(-len(one["labels"]) // 64) for one in wholes[6:]) > 4
    trained = [token for row in data.rows for token in row["input_ids"]]
    assert sorted(trained) == sorted(token for one in wholes for token in one["input_ids"])


def test_pieces_count_for_the_steps_of_an_epoch_and_not_for_the_hash(corpus, base_folder, tokenizer):
    asked = {"held_out_fraction": 0.0, "epochs": 1.0}
    cut, whole = (
        read_data(config(base_folder, **asked, long_texts=how), Corpus(corpus), tokenizer, None).training_set
        for how in ("cut", "split")
    )
    assert (cut.examples, cut.cut, cut.split, cut.steps) == (8, 2, 0, 4)
    assert whole.hash == cut.hash and whole.steps == (6 + whole.pieces + 1) // 2


def test_no_piece_of_a_held_out_text_is_trained_on(corpus, base_folder, tokenizer):
    chosen = config(base_folder, held_out_fraction=0.5)
    data, sides = read_data(chosen, Corpus(corpus), tokenizer, None), split_examples(Corpus(corpus), chosen.train)
    assert {position for position, _ in data.kept} == set(sides.train)
    assert {position for position, _ in data.measured} == set(sides.held_out)


def test_a_run_on_pieces_ends(corpus, base_folder, tmp_path):
    summary = train_adapter(config(base_folder), corpus, tmp_path / "run")
    assert summary.steps == 2 and summary.cut_examples == 0


def test_an_answer_to_a_prompt_is_cut_whatever_is_done_with_texts(base_folder, tokenizer, tmp_path):
    rows = [{"prompt": f"Which {i}?", "answer": TEXT.answer} for i in range(2)]
    import_corpus([write_lines(tmp_path / "a.jsonl", rows)], tmp_path / "c")
    data = read_data(config(base_folder, held_out_fraction=0.0), Corpus(tmp_path / "c"), tokenizer, None)
    assert (data.training_set.cut, data.training_set.split, len(data.rows)) == (2, 0, 2)


def test_a_stored_run_of_an_earlier_version_goes_on_cutting():
    stored = TrainConfig().model_dump()
    del stored["long_texts"]
    assert TrainConfig(**stored).long_texts == "cut" and TrainConfig().long_texts == "split"


@pytest.mark.parametrize(("how", "kinds"), [("split", {"pieces": 2}), ("cut", {"cut": 2})])
def test_a_report_says_what_becomes_of_long_texts(corpus, base_folder, how, kinds):
    train = TrainConfig(max_length=64, long_texts=how, held_out_fraction=0.0)
    report = check_corpus(corpus, train, base=str(base_folder))
    assert {one.kind: one.count for one in report.findings if one.kind in ("cut", "unfit", "pieces")} == kinds


def test_only_so_many_pieces_are_measured(base_folder, tokenizer, tmp_path, monkeypatch):
    rows = [{"text": f"Text {i}. {TEXT.answer}"} for i in range(12)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "many")
    monkeypatch.setattr("hydralora.training.data.MAX_EVALUATED", 7)
    data = read_data(config(base_folder, held_out_fraction=0.5), Corpus(tmp_path / "many"), tokenizer, None)
    assert len(data.measured) == len(data.held_out) == 7 < data.training_set.held_out * 4
