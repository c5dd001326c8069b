"""Held out is held out by prompt: what one side has learnt is never asked on the other."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hydralora.config import SplitBy, TrainConfig, parse_config
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.selection import FOLDER, write_selection
from hydralora.corpus.split import Split, learnt_prompts, split_examples, training_hash
from hydralora.errors import CorpusError
from tests.hydralora.conftest import write_lines


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {i}?", "answer": f"Answer {i}."} for i in range(start, start + count)]


def keep(folder: Path, rows: list[dict[str, Any]], name: str = "corpus") -> Corpus:
    import_corpus([write_lines(folder / f"{name}.jsonl", rows)], folder / name)
    return Corpus(folder / name)


def divide(corpus: Corpus, fraction: float, by: SplitBy = "prompt", selection: str = "") -> Split:
    return split_examples(corpus, TrainConfig(held_out_fraction=fraction, split_by=by, selection=selection))


def prompts(corpus: Corpus, part: list[int]) -> set[str]:
    return {example.prompt for example in corpus.take(part)}


def held_out_texts(corpus: Corpus, fraction: float = 0.2) -> set[str]:
    return {e.text() for e in corpus.take(divide(corpus, fraction)[1])}


def test_the_split_covers_every_example_once(tmp_path):
    train, held_out, _ = divide(keep(tmp_path, pairs(500)), 0.2)
    assert sorted(train + held_out) == list(range(500))
    assert 70 <= len(held_out) <= 130


def test_the_split_is_stable_under_reordering(tmp_path):
    rows = pairs(300)
    first = held_out_texts(keep(tmp_path, rows, "first"))
    random.Random(0).shuffle(rows)
    assert held_out_texts(keep(tmp_path, rows, "second")) == first


def test_the_same_content_is_never_split_in_two_parts(tmp_path):
    rows = pairs(100) * 3
    random.Random(0).shuffle(rows)
    corpus = keep(tmp_path, rows)
    train, held_out, _ = divide(corpus, 0.3)
    parts = [{e.content_hash() for e in corpus.take(part)} for part in (train, held_out)]
    assert parts[0] and parts[1] and not parts[0] & parts[1]


def test_new_rows_leave_the_old_split_alone(tmp_path):
    first = held_out_texts(keep(tmp_path, pairs(200), "first"))
    assert first <= held_out_texts(keep(tmp_path, pairs(400), "second"))


def test_a_label_does_not_move_an_example_to_the_other_side(tmp_path):
    plain = held_out_texts(keep(tmp_path, pairs(200), "first"))
    labelled = [{**row, "label": f"kind {i % 3}"} for i, row in enumerate(pairs(200))]
    assert held_out_texts(keep(tmp_path, labelled, "second")) == plain


def test_a_corpus_with_its_own_split_keeps_it(tmp_path):
    rows = [{**row, "split": "test" if i % 4 == 0 else "train"} for i, row in enumerate(pairs(20))]
    train, held_out, _ = divide(keep(tmp_path, rows), 0.5)
    assert held_out == [0, 4, 8, 12, 16] and len(train) == 15


def test_a_corpus_that_is_wholly_held_out_is_refused(tmp_path):
    rows = [{**row, "split": "test"} for row in pairs(3)]
    with pytest.raises(CorpusError, match="Every example is held out"):
        divide(keep(tmp_path, rows), 0.1)


def test_a_fraction_of_zero_holds_nothing_out(tmp_path):
    assert divide(keep(tmp_path, pairs(50)), 0.0) == (list(range(50)), [], [])


def test_all_answers_to_one_question_stay_on_one_side(tmp_path):
    rows = [{"prompt": f"Question {i}?", "answer": f"Answer {j}."} for i in range(60) for j in range(4)]
    random.Random(0).shuffle(rows)
    corpus = keep(tmp_path, rows)
    split = divide(corpus, 0.3)
    train, held_out = (prompts(corpus, part) for part in (split.train, split.held_out))
    assert train and held_out and not train & held_out
    assert learnt_prompts(corpus, split.train, split.held_out) == 0


def test_case_and_white_space_make_no_other_prompt(tmp_path):
    rows = [{"prompt": text.format(i), "answer": f"{j}"} for i in range(50) for j, text in enumerate(SPELLINGS)]
    corpus = keep(tmp_path, rows)
    split = divide(corpus, 0.3)
    numbers = [{e.prompt.split()[1].strip("?") for e in corpus.take(part)} for part in (split.train, split.held_out)]
    assert numbers[0] and numbers[1] and not numbers[0] & numbers[1]


SPELLINGS = ("Question {}?", "QUESTION {}?", "question  {}?\n")


def test_a_conversation_is_kept_with_those_that_were_asked_the_same(tmp_path):
    def talk(i: int, answer: str) -> dict[str, Any]:
        said = [("user", f"Hello {i}"), ("assistant", "Yes?"), ("user", "How much?"), ("assistant", answer)]
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    corpus = keep(tmp_path, [talk(i, answer) for i in range(40) for answer in ("one", "two")])
    split = divide(corpus, 0.3)
    begun = [{example.history[0][1] for example in corpus.take(part)} for part in (split.train, split.held_out)]
    assert begun[0] and begun[1] and not begun[0] & begun[1]


def test_a_prompt_that_the_files_hold_out_is_not_trained_on_and_is_counted(tmp_path):
    rows = [{**row, "split": "train"} for row in pairs(20)]
    rows += [{"prompt": f"Question {i}?", "answer": "Another.", "split": "test"} for i in range(15, 25)]
    split = divide(keep(tmp_path, rows), 0.1)
    assert split.leaking == [15, 16, 17, 18, 19]
    assert split.train == list(range(15)) and split.held_out == list(range(20, 30))


def test_files_whose_prompts_are_all_held_out_leave_nothing_and_say_so(tmp_path):
    rows = [{**row, "split": split} for split in ("train", "test") for row in pairs(4)]
    with pytest.raises(CorpusError, match="all 4 examples of the training part have a prompt that is held out too"):
        divide(keep(tmp_path, rows), 0.1)


def test_one_prompt_for_all_holds_nothing_out(tmp_path):
    rows = [{"prompt": "Write a line.", "answer": f"Line {i}."} for i in range(30)]
    assert divide(keep(tmp_path, rows), 0.9).held_out == []


def test_plain_texts_are_held_out_by_text(tmp_path):
    rows = [{"text": f"A text about the number {i}."} for i in range(100)] * 2
    corpus = keep(tmp_path, rows)
    split = divide(corpus, 0.2)
    texts = [{e.answer for e in corpus.take(part)} for part in (split.train, split.held_out)]
    assert texts[0] and texts[1] and not texts[0] & texts[1]


def test_a_file_without_prompt_hashes_is_split_as_one_with_them(tmp_path):
    corpus = keep(tmp_path, pairs(50))
    assert corpus.prompt_hashes().tolist() == [example.prompt_number() for example in corpus]


def test_what_an_earlier_version_stored_goes_on_by_row(tmp_path):
    stored = TrainConfig().model_dump()
    assert parse_config({"train": stored}).train.split_by == "prompt"
    del stored["split_by"]
    assert parse_config({"train": stored}).train.split_by == "row"
    assert parse_config({"train": {"max_steps": 3}}).train.split_by == "prompt"


def test_a_split_by_row_says_how_many_held_out_prompts_were_learnt(tmp_path):
    rows = [{"prompt": f"Question {i}?", "answer": f"{j}"} for i in range(30) for j in range(5)]
    corpus = keep(tmp_path, rows)
    split = divide(corpus, 0.2, "row")
    learnt = prompts(corpus, split.train)
    wanted = sum(example.prompt in learnt for example in corpus.take(split.held_out))
    assert learnt_prompts(corpus, split.train, split.held_out) == wanted > 0


def test_a_training_set_has_one_hash_and_another_set_another(tmp_path):
    corpus = keep(tmp_path, pairs(20))
    assert training_hash(corpus, [1, 2, 3]) == training_hash(corpus, [1, 2, 3]) != training_hash(corpus, [1, 2, 4])
    assert training_hash(corpus, [1, 2, 3]) != training_hash(corpus, [3, 2, 1])


def test_the_prompt_number_is_of_the_prompt_alone():
    first, second = Example("Which?", "red", label="a"), Example("which? ", "blue", system="Be brief.")
    assert first.prompt_number() == second.prompt_number() != Example("Who?", "red").prompt_number()


def test_what_is_left_out_is_on_neither_side_and_the_rest_stays_where_it_was(tmp_path):
    corpus = keep(tmp_path, pairs(100))
    before = divide(corpus, 0.3)
    out = {*before.train[:5], *before.held_out[:3]}
    after = divide(corpus, 0.3, selection=write_selection(corpus.folder, sorted(out)))
    assert after.train == before.train[5:] and after.held_out == before.held_out[3:]
    assert divide(corpus, 0.3) == before


def test_the_same_list_has_one_name_in_any_order_and_none_has_no_name(tmp_path):
    corpus = keep(tmp_path, pairs(10))
    assert write_selection(corpus.folder, [3, 1, 3]) == write_selection(corpus.folder, [1, 3]) != ""
    assert write_selection(corpus.folder, []) == ""


@pytest.mark.parametrize("harm", [b"", b"x", b"12345678" * 2])
def test_a_list_that_is_damaged_is_not_split_by(tmp_path, harm):
    corpus = keep(tmp_path, pairs(10))
    name = write_selection(corpus.folder, [1, 3])
    (corpus.folder / FOLDER / f"{name}.rows").write_bytes(harm)
    with pytest.raises(CorpusError, match="is damaged"):
        divide(corpus, 0.3, selection=name)


def test_a_list_that_is_gone_is_said(tmp_path):
    with pytest.raises(CorpusError, match="that this run leaves out is gone"):
        divide(keep(tmp_path, pairs(10)), 0.3, selection="0" * 16)


def test_leaving_everything_out_leaves_nothing_to_train_on(tmp_path):
    corpus = keep(tmp_path, pairs(10))
    with pytest.raises(CorpusError, match="Nothing is left"):
        divide(corpus, 0.3, selection=write_selection(corpus.folder, range(10)))
