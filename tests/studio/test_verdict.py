"""The verdict on a run says what its questions can tell, and no more."""

from __future__ import annotations

import re

import pytest

from hydralora.answering import rouge_l, score
from hydralora.corpus.examples import Example
from hydralora.methods import METHODS
from hydralora.results import AnswerRow, Answers, RunSummary
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.pages.run.headline import headline
from studio.pages.run.verdict import asked_answers, find_verdict, waits_for_verdict
from studio.verdict import sign_test, verdict_of
from tests.studio.stored import Stored

SUMMARY = RunSummary(steps=100, train_examples=900, best_step=40)


def answers(wanted: list[str], base: list[str], tuned: list[str], labels: list[str] | None = None) -> Answers:
    labels = labels or [""] * len(wanted)
    examples = [Example("q", text, label=label) for text, label in zip(wanted, labels, strict=True)]
    rows = [
        AnswerRow(id=i, prompt="q", wanted=w, label=label, base=b, tuned=t)
        for i, (w, b, t, label) in enumerate(zip(wanted, base, tuned, labels, strict=True))
    ]
    scores = {"base": score(examples, base), "tuned": score(examples, tuned)}
    return Answers(examples=len(rows), scores=scores, sentence="", rows=rows)


WANTED = [f"answer {i}" for i in range(40)]


def test_a_run_that_learnt_is_good_and_says_how_much() -> None:
    verdict = verdict_of(answers(WANTED, ["no"] * 40, WANTED[:36] + ["no"] * 4), SUMMARY)
    assert (verdict.weight, verdict.title) == ("good", "Right on 90% of 40 unseen questions, was 0%.")
    assert "chat" in verdict.next


def test_a_model_that_says_one_thing_to_everything_does_not_work_however_green_its_end() -> None:
    wanted = ["C"] * 12 + ["A", "B", "D", "E"] * 7
    verdict = verdict_of(answers(wanted, ["x"] * 40, ["C"] * 40), SUMMARY)
    assert verdict.weight == "bad" and "the same answer, “C”, to 100% of the questions" in verdict.body


def test_a_difference_that_the_questions_cannot_tell_is_open() -> None:
    verdict = verdict_of(answers(WANTED, WANTED[:30] + ["no"] * 10, WANTED[:32] + ["no"] * 8), SUMMARY)
    assert verdict.weight == "warn" and verdict.body.startswith("Open:")


def test_the_weakest_kinds_are_named_and_are_what_to_do_next() -> None:
    labels = ["code"] * 10 + ["units"] * 30
    verdict = verdict_of(answers(WANTED, ["no"] * 40, ["no"] * 8 + WANTED[8:], labels), SUMMARY)
    assert verdict.title.endswith("Weak on code (20%).") and "code" in verdict.next


def test_a_kind_of_few_questions_is_not_called_weak() -> None:
    labels = ["code"] * 5 + ["units"] * 35
    assert "Weak" not in verdict_of(answers(WANTED, ["no"] * 40, ["no"] * 5 + WANTED[5:], labels), SUMMARY).title


def test_long_free_answers_are_judged_by_the_words_they_share() -> None:
    wanted = [f"the red door number {i} is open all day long" for i in range(20)]
    tuned = [text.replace("open", "shut") for text in wanted]
    verdict = verdict_of(answers(wanted, ["nothing like it"] * 20, tuned), SUMMARY)
    assert (
        verdict.weight == "good" and verdict.title == "Like the wanted answers by 90% on 20 unseen questions, was 0%."
    )


@pytest.mark.parametrize(
    ("summary", "small", "words"),
    [
        ({"cut_examples": 300}, False, "Raise `max_length`: 300 of 900"),
        ({"best_step": 100}, False, "Train longer"),
        ({"best_step": 40, "best_held_out_loss": 0.5, "held_out_loss": 0.9}, False, "about 40 steps"),
        ({}, False, "Read the wrong answers, and whether"),
        ({"cut_examples": 300}, True, "Train a real language model"),
    ],
)
def test_what_to_do_next_is_the_first_thing_that_would_help(summary: dict, small: bool, words: str) -> None:
    found = answers(WANTED, ["no"] * 40, ["no"] * 38 + WANTED[38:])
    assert words in verdict_of(found, SUMMARY.model_copy(update=summary), is_small_world=small).next


def test_the_sign_test_is_that_of_the_binomial() -> None:
    assert sign_test([False] * 10, [True] * 10) == 2 / 2**10
    assert sign_test([True, False], [False, True]) == 1.0 and sign_test([True], [True]) == 1.0


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("A, b!", "a b", 1.0),
        ("法国的首都", "法国首都", 2 * 4 / 9),
    ],
)
def test_rouge_l_is_the_longest_common_sequence_of_words_over_both_lengths(
    answer: str, wanted: str, value: float
) -> None:
    assert rouge_l(answer, wanted) == pytest.approx(value)


def test_a_finished_run_is_asked_once_and_tells_what_it_waits_for(store: Store, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    assert run.summary is not None
    with_questions = run.summary.model_copy(update={"held_out_examples": 3})
    run = type(run)(**{**{f: getattr(run, f) for f in run.__dataclass_fields__}, "summary": with_questions})
    asked = asked_answers(store, run)
    assert asked is not None and asked == asked_answers(store, run)
    assert find_verdict(store, run, asked) is None and "is being measured" in waits_for_verdict(asked)


def test_a_run_without_held_out_questions_is_not_asked(store: Store, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    assert asked_answers(store, run) is None and waits_for_verdict(None) == ""


def test_a_corpus_without_questions_gives_no_verdict_and_is_no_failure(store: Store, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    asked = store.analyses.ask(run.id, "answers")
    said = "There are no held-out questions to answer: the corpus is plain text."
    stored.end(asked.job, status=JobStatus.FAILED, error=said, error_kind="user")
    shown = headline(store, run, None, store.analyses.get(asked.id), is_small=False)
    assert "Trained: the held-out loss is 1.25, was 2.50." in shown and said in shown and "ailed" not in shown


@pytest.mark.parametrize(("answer", "wanted"), [("हिन्दी भाषा", "हन्द भष"), ("สวัสดี", "สวสด")])
def test_marks_of_letters_count(answer: str, wanted: str) -> None:
    assert rouge_l(answer, answer) == 1.0 and rouge_l(answer, wanted) < 1.0


def test_a_run_that_was_named_by_itself_is_told_once(stored: Stored, store: Store) -> None:
    run = stored.run(stored.corpus("Trades"))
    own = f"{METHODS[run.method].title} on Trades"
    store.runs.rename(run.id, own)
    assert _text(headline(store, store.runs.get(run.id), None, None, is_small=True)).count("on Trades") == 1
    store.runs.rename(run.id, "My first")
    told = _text(headline(store, store.runs.get(run.id), None, None, is_small=True))
    assert "My first" in told and told.count("on Trades") == 1


def _text(shown: object) -> str:
    return re.sub(r"<[^>]+>", "", str(shown))
