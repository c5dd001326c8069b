"""Inspect, Answers: base and tuned model side by side on held-out questions."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import cards
from studio.cards import Markup
from studio.pages.inspect_parts import NO_CORPUS, Found, Look, Part, on_corpus, result_of, state_of

SHOWN_ANSWERS = 40


def answers_table(found: dict[str, Any]) -> Markup:
    """Scores by kind, then wanted, base and tuned answers beside each other."""
    scores = found["scores"]
    kinds = [
        [name, f"{scores['base']['by_label'][name]:.0%}", f"{share:.0%}"]
        for name, share in scores["tuned"]["by_label"].items()
    ]
    rows: list[list[object]] = []
    for row, hit in list(zip(found["rows"], scores["tuned"]["hits"], strict=True))[:SHOWN_ANSWERS]:
        texts = (cards.long_text(row[name] or "(nothing)", 400) for name in ("prompt", "wanted", "base", "tuned"))
        rows.append([*texts, Markup("✓") if hit else ""])
    return cards.join(
        cards.table(["Kind", "Base", "Tuned"], list(kinds), caption="Word-for-word right, by kind", numbers=[1, 2]),
        cards.table(["Question", "Wanted", "Base", "Tuned", "Right"], rows, caption=f"The first {len(rows)} of {found['examples']:,} {'held-out ' * found.get('is_own', True)}questions"),
    )  # fmt: skip


def build() -> Part:
    """Draw the tab."""
    state, rows = gr.HTML(), gr.HTML(elem_id="answers")

    def show(look: Look, found: Found) -> list[Any]:
        answers = found.get("answers")
        compared = result_of(look.store, answers, "answers.json")
        return [state_of(answers, NO_CORPUS), answers_table(compared) if compared else ""]

    return Part([], [state, rows], lambda look: on_corpus(look, "answers"), show)
