"""Examples that are too long become shorter: they fit, end where a sentence does, and say where text went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hydralora.config import TrainConfig
from hydralora.corpus.edits import newest_edits, read_edits, write_edits
from hydralora.corpus.encode import encode_whole, prompt_tokens
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.findings import read_finding
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.shortening import GAP, shorten_rows, shortened
from tests.hydralora.conftest import write_lines

SENTENCE = "The red door is open."
LONG = " ".join([SENTENCE] * 30)
ASKED = "Which door is meant, of all that were named so far"


def tokens(tokenizer, example: Example) -> tuple[int, int]:
    rows = encode_whole(tokenizer, example)
    return len(rows["labels"]), prompt_tokens(rows)


@pytest.mark.parametrize("length", [40, 64, 100])
def test_a_shortened_answer_fits_with_its_end_and_could_not_be_a_sentence_longer(tokenizer, length):
    example = shortened(tokenizer, Example("Which?", LONG), length)
    assert tokens(tokenizer, example)[0] <= length
    assert example.answer == " ".join([SENTENCE] * (len(example.answer) // (len(SENTENCE) + 1) + 1))
    assert encode_whole(tokenizer, example)["labels"][-1] == tokenizer.eos_token_id
    assert tokens(tokenizer, Example("Which?", f"{example.answer} {SENTENCE}"))[0] > length


def test_what_fits_stays_as_it_is(tokenizer):
    example = Example("Which?", SENTENCE)
    assert shortened(tokenizer, example, tokens(tokenizer, example)[0]) is example


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("one two three four five six seven eight nine ten " * 20, ("one", "ten", "five", "three")),
        ("第一句话在这里。" * 40, ("。",)),
        ("x" * 900, ("x",)),
        ("a line of words\n" * 40, ("words",)),
    ],
)
def test_an_answer_ends_where_its_script_lets_it(tokenizer, answer, end):
    kept = shortened(tokenizer, Example("Which?", answer), 64).answer
    assert (
        0 < len(kept) < len(answer) and answer.startswith(kept) and tokens(tokenizer, Example("Which?", kept))[0] <= 64
    )
    assert kept.endswith(tuple(end)) or answer[len(kept)].isspace()


@pytest.mark.parametrize("length", [40, 64, 100])
def test_a_prompt_that_leaves_no_room_loses_its_middle_and_keeps_the_answer(tokenizer, length):
    prompt = f"Read this first. {LONG} {ASKED}?"
    example = shortened(tokenizer, Example(prompt, SENTENCE), length)
    whole, before = tokens(tokenizer, example)
    assert whole <= length and before + 1 < length and example.answer == SENTENCE
    head, tail = example.prompt.split(GAP)
    assert prompt.startswith(head) and prompt.endswith(tail) and head.startswith("Read this")
    assert tail.endswith("so far?") and len(example.prompt) < len(prompt)


def test_a_prompt_without_spaces_keeps_about_as_much_as_one_with_them(tokenizer):
    example = shortened(tokenizer, Example("题： " + "第一句话在这里。" * 60, SENTENCE), 100)
    whole, _ = tokens(tokenizer, example)
    assert 60 <= whole <= 100 and GAP in example.prompt


def test_where_prompt_and_answer_are_too_long_each_keeps_about_a_half(tokenizer):
    example = shortened(tokenizer, Example(LONG, LONG), 100)
    whole, before = tokens(tokenizer, example)
    assert whole <= 100 and 30 <= before <= 60 and example.answer.endswith("open.") and GAP in example.prompt


def test_of_a_conversation_the_longest_question_loses_its_middle_and_no_answer_does(tokenizer):
    history = (("user", "Hello"), ("assistant", SENTENCE), ("user", LONG), ("assistant", SENTENCE))
    long = Example("Which?", SENTENCE, history=history)
    example = shortened(tokenizer, long, 80, "last")
    assert len(encode_whole(tokenizer, example, "last")["labels"]) <= 80
    changed = [i for i, (a, b) in enumerate(zip(history, example.history, strict=True)) if a != b]
    assert changed == [2] and GAP in example.history[2][1] and (example.prompt, example.answer) == ("Which?", SENTENCE)


def test_a_conversation_of_many_turns_has_no_text_to_leave_out(tokenizer):
    history = (("user", "Which?"), ("assistant", SENTENCE)) * 30
    assert shortened(tokenizer, Example("Which?", SENTENCE, history=history), 64) is None


def keep(folder: Path) -> Path:
    rows = [{"prompt": f"Which {i}?", "answer": f"Number {i} is here."} for i in range(8)]
    rows[3]["answer"] = LONG
    rows[5]["prompt"] = f"{LONG} Which?"
    import_corpus([write_lines(folder / "rows.jsonl", rows)], folder / "corpus")
    return folder / "corpus"


def test_a_corpus_is_shortened_as_a_layer_that_nobody_reads_yet_and_keeps_earlier_edits(base_folder, tmp_path):
    folder = keep(tmp_path)
    before = write_edits(folder, {1: ("Which 1?", "Another answer.")}, Corpus(folder, "").take([1]))
    train = TrainConfig(max_length=64, edits=before, held_out_fraction=0.0)
    check_corpus(folder, train, base=str(base_folder))
    wanted = np.union1d(read_finding(folder, "cut"), read_finding(folder, "unfit"))
    found = shorten_rows(folder, wanted, train, str(base_folder))
    assert (found.positions, found.left, found.edits) == ([3, 5], 0, before) and newest_edits(folder) == before
    assert sorted(read_edits(folder, found.layer, 8).wordings()) == [1, 3, 5]
    again = check_corpus(folder, train.model_copy(update={"edits": found.layer}), base=str(base_folder))
    assert [one.kind for one in again.findings if one.kind in ("cut", "unfit")] == []


def test_a_text_of_the_report_says_which_findings_can_be_shortened(base_folder, tmp_path):
    report = check_corpus(keep(tmp_path), TrainConfig(max_length=64), base=str(base_folder))
    assert {one.kind: one.shortens for one in report.findings if one.shortens} == {"cut": 1, "unfit": 1}
