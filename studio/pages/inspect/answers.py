"""Inspect, Answers: base and tuned model side by side on held-out questions."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.results import Answers
from studio import cards
from studio.cards import Markup
from studio.pages.inspect.tab import NO_CORPUS, Found, Look, Tab, Wanted, on_corpus, result_of, state_of
from studio.pages.page import Changes

SHOWN_ANSWERS = 40


def answers_table(found: Answers) -> Markup:
    """Scores by kind, then wanted, base and tuned answers beside each other."""
    base, tuned = found.scores["base"], found.scores["tuned"]
    kinds: list[list[object]] = [
        [name, f"{base.by_label[name]:.0%}", f"{share:.0%}"] for name, share in tuned.by_label.items()
    ]
    rows: list[list[object]] = []
    for row, hit in list(zip(found.rows, tuned.hits, strict=True))[:SHOWN_ANSWERS]:
        shown = (row.prompt, row.wanted, row.base, row.tuned)
        texts = (cards.long_text(text or "(nothing)", 400) for text in shown)
        rows.append([*texts, Markup("✓") if hit else ""])
    return cards.join(
        cards.table(["Kind", "Base", "Tuned"], kinds, caption="Exact match, by kind", numbers=[1, 2]),
        cards.table(
            ["Question", "Wanted", "Base", "Tuned", "Right"],
            rows,
            caption=f"The first {len(rows)} of {found.examples:,} {'held-out ' * found.is_own}questions",
        ),
    )


class AnswersTab(Tab):
    """Questions, wanted answers, and those of both models."""

    title = "Answers"
    place = 10

    def layout(self) -> None:
        self.verdict, self.rows = gr.HTML(), gr.HTML(elem_id="answers")

    def live(self) -> list[Any]:
        return [self.verdict, self.rows]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return on_corpus(look, "answers")

    def show(self, look: Look, found: Found) -> Changes:
        answers = found.get("answers")
        compared = result_of(look.store, answers, Answers)
        return {
            self.verdict: state_of(answers, NO_CORPUS),
            self.rows: answers_table(compared) if compared else "",
        }
