"""Answers: what was wanted, what the run says and what its base said before, question by question."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Any

import gradio as gr

from hydralora.results import AnswerRow, Answers
from studio import cards
from studio.cards import Markup
from studio.pages.common import chosen_text
from studio.pages.page import Changes
from studio.pages.run.tab import NO_CORPUS, Found, Look, Tab, Wanted, on_corpus, result_of, state_of
from studio.widgets import Choice

MOST_SHOWN = 60  # answers at once
SHOWN_TEXT = 400  # characters of one
WHICH = [("All", "all"), ("Wrong", "wrong"), ("Right", "right")]
EVERY = ("every kind", "")
PIECES = re.compile(r"\w+|[^\w\s]|\s+")


def by_kind(found: Answers) -> Markup:
    """Exact match by kind, before and after, where the corpus has kinds."""
    base, tuned = found.scores["base"], found.scores["tuned"]
    counts = {name: sum(row.label == name for row in found.rows) for name in tuned.by_label}
    rows: list[list[object]] = [
        [name, counts[name] or found.examples, f"{base.by_label[name]:.0%}", f"{share:.0%}", _bar(share)]
        for name, share in sorted(tuned.by_label.items(), key=lambda one: one[1])
    ]
    head = ["Kind", "Questions", "Before", "Now", ""]
    return cards.table(head, rows, caption="Exact match by kind, the weakest first", numbers=[1, 2, 3])


def _bar(share: float) -> Markup:
    return Markup(f"<span class='hy-share' aria-hidden='true'><i style='--share:{round(100 * share)}%'></i></span>")


def chosen_rows(found: Answers, which: str, label: str, words: str) -> list[tuple[AnswerRow, bool]]:
    """The answers that are wrong or right, of a kind, with some words in question or answer; each with its hit."""
    words = words.casefold()
    return [
        (row, hit)
        for row, hit in zip(found.rows, found.scores["tuned"].hits, strict=True)
        if which == "all" or hit == (which == "right")
        if not label or row.label == label
        if not words or words in f"{row.prompt}\n{row.wanted}\n{row.tuned}".casefold()
    ]


def answers_table(found: Answers, rows: list[tuple[AnswerRow, bool]]) -> Markup:
    """Question, wanted answer, the run's and its base's beside each other; words that differ are underlined."""
    shown: list[list[object]] = []
    for row, hit in rows[:MOST_SHOWN]:
        sign = cards.status("succeeded" if hit else "failed", "right" if hit else "wrong")
        question = cards.join(
            cards.long_text(row.prompt, SHOWN_TEXT), Markup(f"<small>{cards.text(row.label)}</small>")
        )
        now = row.tuned if hit else differing(row.tuned, row.wanted)
        shown.append(
            [sign, question, *(cards.long_text(t or "(nothing)", SHOWN_TEXT) for t in (row.wanted, now, row.base))]
        )
    what = f"{len(rows):,} of {found.examples:,} {'held-out ' * found.is_own}questions"
    first = f"; the first {MOST_SHOWN} are shown" if len(rows) > MOST_SHOWN else ""
    if not rows:
        return cards.empty("No answer is like that", "Choose another kind, or look at all.")
    head = ["", "Question", "Wanted", "This run", "Before training"]
    return cards.table(head, shown, caption=f"{what}{first}. Words that differ from the wanted ones are underlined.")


def differing(text: str, wanted: str) -> Markup:
    """A text with the words underlined that the wanted one has not at this place."""
    ours, theirs = PIECES.findall(text[:SHOWN_TEXT]), PIECES.findall(wanted[:SHOWN_TEXT])
    pieces: list[object] = []
    for what, _, _, first, last in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        piece = "".join(ours[first:last])
        pieces.append(piece if what == "equal" or not piece.strip() else Markup(f"<u>{cards.text(piece)}</u>"))
    return cards.join(*pieces)


class AnswersTab(Tab):
    """Questions, wanted answers, and those of both models."""

    title = "Answers"
    place = 10

    def layout(self) -> None:
        self.verdict, self.kinds = gr.HTML(), gr.HTML(elem_id="answers-by-kind")
        with gr.Row():
            self.which = gr.Radio(WHICH, value="all", label="Show", min_width=220, elem_id="answers-which")
            self.label = Choice([EVERY], value="", label="Kind", min_width=150, elem_id="answers-kind")
            self.words = gr.Textbox(label="With the words", max_lines=1, min_width=200, elem_id="answers-words")
        self.rows = gr.HTML(elem_id="answers")

    def picks(self) -> list[Any]:
        return [self.which, self.label, self.words]

    def live(self) -> list[Any]:
        return [self.verdict, self.kinds, self.label, self.rows]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return on_corpus(look, "answers")

    def show(self, look: Look, found: Found) -> Changes:
        answers = found.get("answers")
        compared = result_of(look.store, answers, Answers)
        labels = sorted({row.label for row in compared.rows if row.label}) if compared else []
        return {
            self.verdict: "" if compared and compared.is_own else state_of(answers, NO_CORPUS),
            self.kinds: by_kind(compared) if compared and labels else "",
            self.label: gr.Dropdown(choices=[EVERY, *labels], visible=bool(labels)),
            self.rows: answers_table(compared, self._chosen(look, compared)) if compared else "",
        }

    def _chosen(self, look: Look, found: Answers) -> list[tuple[AnswerRow, bool]]:
        which, label, words = (chosen_text(look.values[pick]) for pick in self.picks())
        return chosen_rows(found, which or "all", label, words)
