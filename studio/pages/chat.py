"""Chat: talk to a tuned model and see which expert speaks. The work is in ``static/chat.js``."""

from __future__ import annotations

import gradio as gr

from jobs.store import Store
from studio import cards
from studio.widgets import ChatThread

LEAD = "Each word has the colour of its leading expert. Point at it, or go to it with Tab, to see its gate weights."


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    gr.HTML(cards.head("Chat", LEAD))
    ChatThread(elem_id="chat")
