"""Chat: talk to the run, see which expert writes each word, mute one and ask again."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import cards
from studio.pages.page import Changes
from studio.pages.run.tab import Found, Look, Tab
from studio.widgets import ChatThread


class ChatTab(Tab):
    """The chat with the run; what was said comes from ``/ui/chat``."""

    title = "Chat"
    place = 50
    needs_adapter = False  # a checkpoint answers too

    def layout(self) -> None:
        self.note = gr.HTML()
        self.chat = ChatThread(elem_id="chat")

    def live(self) -> list[Any]:
        return [self.note, self.chat]

    def show(self, look: Look, found: Found) -> Changes:
        can_answer = look.run.summary is not None or bool(look.store.runs.checkpoints(look.run.id))
        missing = cards.note("info", "It has nothing to answer with yet.", "A checkpoint or the end of training will.")
        return {
            self.note: "" if can_answer else missing,
            self.chat: {"run": look.run.id, "layer": look.layer} if can_answer else None,
        }
