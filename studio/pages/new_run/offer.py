"""A real base model that can be had with one click, offered until it is on the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.bases.packages import SMOLLM2
from hydralora.errors import UserError
from jobs.new_bases import find_packaged, get_base, getting
from jobs.store.bases import is_hub_allowed
from jobs.store.status import JobStatus
from studio import cards
from studio.cards import Markup
from studio.pages.common import job_state
from studio.pages.page import Changes, Part

ABOUT = (
    f"{SMOLLM2.title}: {SMOLLM2.about} Fetched once ({SMOLLM2.megabytes} MB, {SMOLLM2.licence}), without running "
    "anything of its package. By command: "
)
COMMAND = f"python -m studio bases get {SMOLLM2.name}"
NOT_HERE = "Whoever runs this studio has models fetched by command only. Ask them, or choose another base."
STARTER_KNOWS = "The starter knows the little world of its sample corpora only."


class BaseOffer(Part):
    """What can be had, a button that gets it, and how far it is."""

    def layout(self) -> None:
        self.note = gr.HTML()
        with gr.Row():
            self.get = gr.Button(
                f"Get {SMOLLM2.title}", size="sm", scale=0, min_width=240, visible=False, elem_id="get-base"
            )

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        return [self.note, self.get]

    # Handlers

    def draw(self) -> Changes:
        """The offer, the work on it, or nothing once the base is on the list."""
        if find_packaged(self.store, SMOLLM2) is not None or not is_hub_allowed():
            return {self.note: Markup(""), self.get: gr.Button(visible=False)}
        job = getting(self.store, SMOLLM2)
        if job is not None and not job.is_finished:
            return {self.note: job_state(job), self.get: gr.Button(visible=False)}
        failed = job_state(job) if job is not None and job.status != JobStatus.SUCCEEDED else Markup("")
        return {self.note: cards.join(offer(), failed), self.get: gr.Button(visible=True)}

    def start(self) -> Changes:
        """Queue it.

        Raises:
            UserError: Where nothing may be fetched for who comes to the page.
        """
        if not is_hub_allowed():
            raise UserError(NOT_HERE)
        get_base(self.store, SMOLLM2.name)
        return self.draw()


def offer() -> Markup:
    """What the base is, in words."""
    return cards.note("info", STARTER_KNOWS, cards.join(ABOUT, Markup(f"<code>{COMMAND}</code>.")))
