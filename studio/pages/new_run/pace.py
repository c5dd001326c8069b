"""How long a new run will take, by a speed that was measured, and what a training budget comes to at that speed."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from hydralora.config import TrainConfig
from hydralora.training.presets import PRESETS
from studio import cards
from studio.cards import Markup
from studio.estimate import Place, ask_speed, can_time, known_speed, settings_of, tell
from studio.pages.common import chosen_id, chosen_text
from studio.pages.new_run.views import shown_fields
from studio.pages.page import Changes, Part

# Settings that decide how long a run takes.
DECIDING = ("max_steps", "epochs", "batch_size", "accumulation", "eval_every", "held_out_fraction")


def place_of(corpus_id: Any, base: Any, method: Any) -> Place:
    """What a run is timed by, as its inputs hold it."""
    return Place(chosen_id(corpus_id), chosen_text(base), chosen_text(method))


class PaceNote(Part):
    """The estimate, and a button that has a few steps timed where the speed is not known."""

    def layout(self) -> None:
        with gr.Row(equal_height=True):
            self.estimate = gr.HTML(min_width=240)
            self.clock = gr.Button(
                "Time a few steps", size="sm", scale=0, min_width=150, visible=False, elem_id="time-steps"
            )
        self.stamp = gr.Textbox(visible=False)
        # What the budget comes to, as JSON: the browser puts it into the fields that nobody has touched.
        self.timed = gr.Textbox(visible=False)

    # Handlers; ``counts`` are the settings of ``DECIDING``, in order.

    def guess(self, corpus_id: Any, base: Any, method: Any, *counts: Any) -> Changes:
        """How long the run will take, and whether steps can be timed to find out."""
        place = place_of(corpus_id, base, method)
        words = tell(self.store, place, dict(zip(DECIDING, counts, strict=True)))
        return {
            self.estimate: Markup(f"<p class='hy-quiet'>{cards.text(words)}</p>"),
            self.clock: gr.Button(visible=can_time(self.store, place)),
        }

    def look(self, known: str, which: str, corpus_id: Any, base: Any, method: Any, *counts: Any) -> Changes:
        """The estimate; and, once the speed is known, what the budget comes to on this machine."""
        place = place_of(corpus_id, base, method)
        ask_speed(self.store, place)
        speed = known_speed(self.store, place)
        now = repr((place, speed))
        changes = {**self.guess(corpus_id, base, method, *counts), self.stamp: now}
        return {**changes, **self._budget(which, place)} if speed is not None and now != known else changes

    def pick_base(self, which: str, corpus_id: Any, base: Any, method: Any) -> Changes:
        """What the training budget comes to on another base, in the fields that nobody has touched."""
        return self._budget(which, place_of(corpus_id, base, method))

    def _budget(self, which: str, place: Place) -> Changes:
        if which not in PRESETS:
            return {}
        return {self.timed: json.dumps(shown_fields(TrainConfig, settings_of(self.store, which, place)))}

    def time_steps(self, corpus_id: Any, base: Any, method: Any, *counts: Any) -> Changes:
        """Have a few steps timed, whatever it takes."""
        ask_speed(self.store, place_of(corpus_id, base, method), fetch=True)
        return self.guess(corpus_id, base, method, *counts)
