"""Edited rows lie over an import as a layer: every way to read the corpus sees them, and the import stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hydralora.analysis.runs import corpus_of
from hydralora.config import TrainConfig
from hydralora.corpus import narrowing
from hydralora.corpus.clusters.texts import Texts
from hydralora.corpus.edits import Edited, Wording, name_edits, newest_edits, wording_of, write_edits
from hydralora.corpus.examples import conversation_of
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.split import split_examples, training_hash
from hydralora.corpus.turns import SYSTEM, turns_of, with_turn
from hydralora.errors import CorpusError, StoppedError
from hydralora.progress import Progress
from hydralora.results import AdapterFacts, TrainingSet
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import easy_rows, write_lines
from tests.hydralora.test_training_set import make_config

COUNT = 2_300  # over three batches of the file
EDITED: Edited = {0: ("zero?", "nil"), 999: ("q", "a\nb"), 1_000: ("中文?", "好"), 2_299: ("last?", "=1+1 ünï")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"question {i}?", "answer": f"answer {i}", "label": f"l{i % 2}"} for i in range(COUNT)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    return tmp_path / "corpus"


def edit(folder: Path, edited: Edited) -> str:
    return write_edits(folder, edited, Corpus(folder, "").take(sorted(edited)))


def test_every_way_to_read_sees_the_edited_rows_and_the_import_stays(folder: Path) -> None:
    before = list(Corpus(folder))
    name = edit(folder, EDITED)
    corpus = Corpus(folder)
    assert corpus.edits == name == newest_edits(folder)
    after = list(corpus)
    assert {i: (e.prompt, e.answer) for i, e in enumerate(after) if e != before[i]} == EDITED
    assert all((a.label, a.row, a.source) == (b.label, b.row, b.source) for a, b in zip(after, before, strict=True))
    assert corpus.take([2_299, 0, 5]) == [after[2_299], after[0], after[5]] and corpus.page(998, 3) == after[998:1_001]
    assert corpus.hashes().tolist() == [e.hash_number() for e in after]
    assert corpus.prompt_hashes().tolist() == [e.prompt_number() for e in after]
    texts = [text for batch in corpus.scan("answer", "prompt") for text in batch.column("answer").to_pylist()]
    assert texts == [e.answer for e in after]
    assert np.flatnonzero(narrowing.search_texts(corpus, "中文")).tolist() == [1_000]
    assert not narrowing.search_texts(corpus, "question 999?").any()
    assert Texts.of(corpus).take(np.array([0])).to_pylist() == ["zero?\nnil"]
    assert list(Corpus(folder, "")) == before


def test_a_run_reads_the_rows_it_began_with_and_its_training_set_is_another(folder: Path) -> None:
    first = edit(folder, {3: ("three?", "3")})
    edit(folder, EDITED)
    held = TrainConfig(held_out_fraction=0.2)
    sets = []
    for layer in ("", first, None):
        corpus = Corpus(folder, layer)
        sets.append(training_hash(corpus, split_examples(corpus, held).train))
    assert len(set(sets)) == 3
    assert Corpus(folder, first).take([3])[0].answer == "3" and Corpus(folder).take([3])[0].answer == "answer 3"


def test_a_layer_is_called_by_what_it_holds_and_none_by_nothing(folder: Path) -> None:
    assert name_edits({}) == "" and edit(folder, EDITED) == name_edits(dict(reversed(EDITED.items())))
    assert edit(folder, {}) == "" and newest_edits(folder) == "" and Corpus(folder).take([0])[0].answer == "answer 0"


@pytest.mark.parametrize("name", ["0" * 16, "../../secret", "x", "newest"])
def test_a_layer_that_is_not_there_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=r"edits that this run began with are gone.*start a new run\."):
        Corpus(folder, name)


def test_a_damaged_layer_is_refused(folder: Path, tmp_path: Path) -> None:
    name = edit(folder, EDITED)
    (path := folder / "edits" / f"{name}.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(CorpusError, match="are damaged"):
        Corpus(folder)
    path.unlink()
    other = edit(folder, {1: ("other?", "other")})
    path.write_bytes((folder / "edits" / f"{other}.parquet").read_bytes())
    with pytest.raises(CorpusError, match="are damaged"):
        Corpus(folder, name)


def test_a_run_goes_on_and_is_measured_with_the_edits_it_began_with(base_folder: Path, tmp_path: Path) -> None:
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    import_corpus([write_lines(tmp_path / "rows.jsonl", easy_rows())], corpus)
    config = make_config(base_folder, max_steps=6, save_every=2, edits=edit(corpus, {0: ("Which one?", "red")}))
    steps: list[int] = []
    stopping = Progress(should_stop=lambda: len(steps) >= 3)
    with pytest.raises(StoppedError):
        train_adapter(config, corpus, run, on_step=lambda step, _: steps.append(step), progress=stopping)
    edit(corpus, {0: ("Which other?", "blue"), 1: ("And this?", "green")})
    assert train_adapter(config, corpus, run, resume=True).steps == 6
    assert corpus_of(AdapterFacts.read(run / "adapter"), corpus).take([0, 1])[0].answer == "red"
    assert Corpus(corpus).take([0])[0].answer == "blue"
    began = train_adapter(make_config(base_folder, max_steps=1), corpus, tmp_path / "plain")
    assert began.training_hash != TrainingSet.read(run).hash


# Conversations

CALL = {"type": "function", "function": {"name": "find", "arguments": {"item": 0}}}


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Conversations of which every third calls a tool, with a system text."""
    plain = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "one"}]
    asks = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
        {"role": "tool", "content": '{"shelf": 3}', "name": "find"},
        {"role": "assistant", "content": "On shelf 3."},
    ]
    more = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
    rows = [{"messages": asks if i % 3 == 0 else [*plain, *more]} for i in range(9)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    return tmp_path / "corpus"


def test_every_turn_of_a_conversation_can_be_worded_anew_and_is_read_so(talk: Path) -> None:
    before = list(Corpus(talk))
    after = with_turn(with_turn(with_turn(before[3], SYSTEM, "Be kind."), 0, "Where?"), 3, "Shelf 3.")
    edit(talk, {3: wording_of(before[3], after), 4: wording_of(before[4], with_turn(before[4], 1, "two"))})
    corpus = Corpus(talk)
    found = corpus.take([3])[0]
    assert found == after == list(corpus)[3]
    assert [(turn.role, turn.text) for turn in turns_of(found)] == [
        ("system", "Be kind."),
        ("user", "Where?"),
        ("assistant", "Let me look."),
        ("tool", '{"shelf": 3}'),
        ("assistant", "Shelf 3."),
    ]
    assert corpus.hashes()[3] == found.hash_number() and corpus.prompt_hashes()[3] == found.prompt_number()
    assert corpus.take([4])[0].history == (("user", "One?"), ("assistant", "two"))
    assert np.flatnonzero(narrowing.search_texts(corpus, "where?")).tolist() == [3]
    assert [corpus.take([i])[0] for i in (0, 5)] == [before[0], before[5]] and list(Corpus(talk, "")) == before


def test_calls_of_tools_stay_with_another_text_and_are_edited_as_checked_json(talk: Path) -> None:
    example = Corpus(talk).take([0])[0]
    kept = with_turn(example, 1, "Looking.")
    assert kept.details()["messages"]["1"] == {"content": "Looking.", "tool_calls": [CALL]}
    assert kept.history[1] == ("assistant", 'Looking.\n{"name": "find", "arguments": {"item": 0}}')
    called = with_turn(example, 1, calls='[{"name": "seek", "arguments": {"item": 7}}]')
    told = conversation_of(called)[2]
    assert (told["content"], told["tool_calls"][0]["function"]) == (
        "Let me look.",
        {"name": "seek", "arguments": {"item": 7}},
    )
    assert told["text"].endswith('{"name": "seek", "arguments": {"item": 7}}')
    assert with_turn(example, 1, "Let me look.", turns_of(example)[2].calls) == example


@pytest.mark.parametrize(
    ("place", "text", "calls", "words"),
    [
        (9, "x", None, "no turn 9 in this row. It has: system, 0, 1, 2, 3"),
        (0, " ", None, "Turn 0 is empty"),
        (SYSTEM, "", None, "Turn system is empty"),
        (0, "x", '[{"name": "find", "arguments": {}}]', "calls no tool"),
        (1, None, "[", "not valid JSON"),
        (1, None, "{}", "holds a dict, not a JSON list"),
        (1, None, "[]", "0 of 0 are right"),
        (1, None, '[{"name": "find", "arguments": [1]}]', "0 of 1 are right"),
        (1, None, '[{"name": "find", "arguments": {}}, {"arguments": {}}]', "1 of 2 are right"),
        (1, None, "[" * 40 + "]" * 40, "nested more than"),
        (1, None, '[{"name": "find", "arguments": {"item": NaN}}]', "NaN is no number"),
    ],
)
def test_what_is_no_turn_is_refused(talk: Path, place: int, text: str | None, calls: str | None, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        with_turn(Corpus(talk).take([0])[0], place, text, calls)


def test_a_layer_of_prompts_and_answers_is_called_as_it_always_was(folder: Path) -> None:
    assert name_edits({3: ("three?", "3")}) == name_edits({3: Wording("three?", "3")}) == "13e41a9c90f5f761"
    assert name_edits({3: Wording("three?", "3", '{"system": "x"}')}) != "13e41a9c90f5f761"
