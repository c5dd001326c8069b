"""What a new run would not train on in full, told before it starts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.config import TrainConfig
from hydralora.corpus.quality import DECIDING
from hydralora.errors import UserError
from hydralora.results import Quality
from studio import cards
from studio.cards import Markup
from studio.form import collect
from studio.pages.common import chosen_id, chosen_text, job_state
from studio.pages.page import Changes, Part

TOLD = frozenset(
    {"cut", "unfit", "pieces", "unpaired", "held out", "leaks"}
)  # findings that say what training does not see, or sees too early
UNKNOWN = "Not known yet: what of this corpus would be cut or left out."
ALL_WHOLE = "Every example is trained on whole."


class DataNote(Part):
    """The newest quality report as far as it is of this corpus, base and length, and a button that asks for one."""

    def layout(self) -> None:
        with gr.Row(equal_height=True):
            self.note = gr.HTML(min_width=240)
            self.check = gr.Button(
                "Check the data", size="sm", scale=0, min_width=150, visible=False, elem_id="check-data"
            )

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        return [self.note, self.check]

    # Handlers

    def draw(self, corpus_id: Any, base: Any, *settings: Any) -> Changes:
        """What would be cut or left out, where that is known; ``settings`` are those of ``DECIDING``, in order."""
        chosen, asked = chosen_id(corpus_id), dict(zip(DECIDING, settings, strict=True))
        if chosen is None:
            return {self.note: "", self.check: gr.Button(visible=False)}
        job = self.store.checks.job(chosen)
        if job is not None and not job.is_finished:
            return {self.note: job_state(job), self.check: gr.Button(visible=False)}
        report = self.store.checks.latest(chosen)
        if report is None or not self._is_of(report, chosen, base, asked):
            return {self.note: cards.note("info", UNKNOWN), self.check: gr.Button(visible=True)}
        return {self.note: told(report, chosen), self.check: gr.Button(visible=False)}

    def start(self, corpus_id: Any, base: Any, *settings: Any) -> Changes:
        """Queue a check for what the form holds."""
        chosen, asked = chosen_id(corpus_id), dict(zip(DECIDING, settings, strict=True))
        if chosen is None:
            raise UserError("No corpus is chosen. Choose one first.")
        wanted = collect(TrainConfig, asked)
        self.store.checks.add(chosen, base=chosen_text(base).strip() or "starter", **wanted)
        return self.draw(corpus_id, base, *settings)

    def _is_of(self, report: Quality, corpus_id: int, base: Any, asked: dict[str, Any]) -> bool:
        try:
            wanted = self.store.bases.look(chosen_text(base).strip() or "starter")
        except UserError:  # half a name, as it is being typed
            return False
        is_same = all(report.settings.get(name) == value for name, value in asked.items())
        return is_same and (report.base, report.selection, report.edits) == (
            wanted,
            self.store.exclusions.name(corpus_id),
            self.store.edits.name(corpus_id),
        )


def told(report: Quality, corpus_id: int) -> Markup:
    """What is not trained on in full, else that all is."""
    found = [finding for finding in report.findings if finding.kind in TOLD]
    if not found:
        return cards.note("good", ALL_WHOLE, f"{report.train:,} to train on, {report.held_out:,} held out.")
    rest = cards.link(f"/corpora?corpus={corpus_id}", "Look at them")
    return cards.join(
        *(
            cards.note("info" if one.kind == "pieces" else "warn", one.title, cards.join(one.advice, " ", rest))
            for one in found
        )
    )
