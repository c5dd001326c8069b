"""The answers of two runs to the same questions beside each other, and which words of them differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.results import Answers
from jobs.store.records import Analysis
from jobs.store.status import JobStatus
from jobs.store.store import Store

Which = Literal["a", "b", "differ", "all"]
WORDS: dict[Which, str] = {
    "a": "A right, B wrong",
    "b": "A wrong, B right",
    "differ": "Answers differ",
    "all": "All",
}
WORD = re.compile(r"\w+|\s+|[^\w\s]")
Pieces = list[tuple[str, bool]]  # text, and whether the other answer has something else there


@dataclass(frozen=True)
class Pair:
    """One question with two answers, and whether each is right."""

    position: int
    prompt: str
    wanted: str
    label: str
    first: str
    second: str
    first_right: bool
    second_right: bool

    def is_in(self, which: Which) -> bool:
        """Whether a filter keeps it."""
        if which == "all":
            return True
        if which == "differ":
            return self.first.strip() != self.second.strip()
        return self.first_right != self.second_right and self.first_right == (which == "a")


def answers_of(store: Store, run_id: int) -> Analysis | None:
    """The answers of a run to its own corpus, measured or not, newest first; None where they were never asked for."""
    return store.analyses.find(run_id, "answers", {}, failed=True)


def is_measured(found: Analysis | None) -> bool:
    """Whether an analysis has a result."""
    return found is not None and found.job is not None and found.job.status == JobStatus.SUCCEEDED


def pairs_of(store: Store, first: int, second: int) -> list[Pair]:
    """The questions that both of two runs were asked, in the order of the corpus.

    Raises:
        UserError: When one of them has no answers, or they are of different corpora.
        ResultError: When a stored file is gone or damaged.
    """
    runs = [store.runs.get(run_id) for run_id in (first, second)]
    if runs[0].corpus_id != runs[1].corpus_id:
        raise UserError("A and B are on different corpora, so that they were asked different questions.")
    found = [answers_of(store, run.id) for run in runs]
    missing = [run for run, one in zip(runs, found, strict=True) if not is_measured(one)]
    if missing:
        raise UserError(f"The answers of {shown(missing[0].name)} are not measured yet.")
    a, b = (Answers.read(store.home.analysis(one.id)) for one in found if one is not None)
    right = dict(zip((row.id for row in b.rows), zip(b.rows, b.scores["tuned"].hits, strict=True), strict=True))
    pairs = []
    for row, hit in zip(a.rows, a.scores["tuned"].hits, strict=True):
        if row.id in right:
            other, other_hit = right[row.id]
            pairs.append(Pair(row.id, row.prompt, row.wanted, row.label, row.tuned, other.tuned, hit, other_hit))
    return sorted(pairs, key=lambda pair: pair.position)


def apart(first: str, second: str) -> tuple[Pieces, Pieces]:
    """Two answers in pieces: what differs in each, word by word."""
    words = WORD.findall(first), WORD.findall(second)
    pieces: tuple[Pieces, Pieces] = ([], [])
    for what, a, a_end, b, b_end in SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side, (begin, end) in enumerate(((a, a_end), (b, b_end))):
            if end > begin:
                pieces[side].append(("".join(words[side][begin:end]), what != "equal"))
    return pieces
