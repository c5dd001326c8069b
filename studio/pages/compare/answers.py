"""Compare, Answers: two runs' answers to the same unseen questions side by side, with what differs underlined."""

from __future__ import annotations

from html import escape
from typing import Any

from hydralora.errors import UserError
from hydralora.plain import without_paths
from jobs.store.run_list import RunLine
from studio import cards
from studio.cards import Markup
from studio.comparison.answers import WORDS, Pair, Pieces, answers_of, apart, pairs_of
from studio.pages.common import job_state
from studio.pages.compare.asked import SHOWN, Asked
from studio.pages.compare.tab import CompareTab, Look, choosers, pair_of
from studio.pages.controls import choice_row, segments
from studio.pages.page import Changes
from studio.widgets import Addressed

LONGEST = 400  # characters of a text that is shown


class AnswersTab(CompareTab):
    """Questions with the answers of A and B."""

    name = "answers"

    def layout(self) -> None:
        self.body = Addressed(elem_id="compare-answers")

    def live(self) -> list[Any]:
        return [self.body]

    def state(self, look: Look) -> Any:
        pair = pair_of(look.compared, look.asked) or ()
        found = [answers_of(self.store, line.id) for line in pair]
        return [(one.id, one.job.status, one.job.progress) if one and one.job else None for one in found]

    def show(self, look: Look) -> Changes:
        pair = pair_of(look.compared, look.asked)
        if pair is None:
            return {self.body: cards.empty("Answers stand beside each other", "Choose two runs or more at the left.")}
        head = choice_row(*choosers(look.compared, pair))
        try:
            pairs = pairs_of(self.store, pair[0].id, pair[1].id)
        except UserError as problem:
            states = [self._state(line) for line in pair if line.score is None]
            return {self.body: cards.join(head, cards.note("info", without_paths(str(problem))), *states)}
        return {self.body: cards.join(head, answers_view(pairs, pair, look.asked))}

    def _state(self, line: RunLine) -> Markup:
        """How far the answers of a run are."""
        found = answers_of(self.store, line.id)
        return job_state(found.job) if found is not None else Markup("")


def answers_view(pairs: list[Pair], runs: tuple[RunLine, RunLine], asked: Asked) -> Markup:
    """The filter with its counts, and the answers that it keeps."""
    counts = {name: sum(pair.is_in(name) for pair in pairs) for name in WORDS}
    choices: dict[str, str] = {name: f"{words} {counts[name]:,}" for name, words in WORDS.items()}
    bar = segments("show", choices, asked.show, "Which questions")
    export = cards.link(asked.csv("answers", a=runs[0].id, b=runs[1].id), "CSV")
    kept = [pair for pair in pairs if pair.is_in(asked.show)]
    agree = sum(pair.first_right == pair.second_right for pair in pairs)
    foot = Markup(
        f"<p class='hy-quiet'>A and B are both right or both wrong on {agree:,} of {len(pairs):,}. {export}</p>"
    )
    if not kept:
        return cards.join(bar, cards.empty("No question is like that", "Choose others above."), foot)
    rows: list[list[object]] = [_row(pair) for pair in kept[: asked.most]]
    head = ["Question", f"A: {runs[0].name}", f"B: {runs[1].name}"]
    table = Markup(cards.table(head, rows).replace("hy-table'", "hy-table hy-answers'"))
    more = Markup("")
    if len(kept) > asked.most:
        more = Markup(
            f"<button type='button' class='hy-btn' data-param='most' data-value='{asked.most + SHOWN}' data-key='more'>"
            f"Show {min(SHOWN, len(kept) - asked.most)} more of {len(kept):,}</button>"
        )
    return cards.join(bar, table, more, foot)


def _row(pair: Pair) -> list[object]:
    first, second = apart(pair.first[:LONGEST], pair.second[:LONGEST])
    second_line = ", ".join(filter(None, (pair.label, f"wanted: {pair.wanted[:LONGEST]}")))
    question = Markup(
        f"<div class='hy-text'>{escape(pair.prompt[:LONGEST])}</div><div class='hy-quiet'>{escape(second_line)}</div>"
    )
    return [question, _answer(first, pair.first_right), _answer(second, pair.second_right)]


def _answer(pieces: Pieces, is_right: bool) -> Markup:
    """An answer in pieces, those that the other has otherwise underlined."""
    sign = (
        "<i class='ok' role='img' aria-label='right'>✓</i>"
        if is_right
        else "<i class='bad' role='img' aria-label='wrong'>×</i>"
    )
    words = "".join(f"<em>{escape(text)}</em>" if differs else escape(text) for text, differs in pieces)
    return Markup(f"<div class='hy-answer'>{sign}<span>{words or '(nothing)'}</span></div>")
