"""Chat with a base: what a model says untuned. A run answers on its own page. The work is in ``static/chat.js``."""

from __future__ import annotations

import gradio as gr

from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import asked_for, nothing_there
from studio.pages.page import Changes, Page
from studio.widgets import ChatThread

WAY_ON = "Ask something below: it begins a new conversation."
LEAD = cards.join(
    "The untuned starter answers. A run answers on its own page, in the colours of its experts. Programs ask by the ",
    cards.link("/endpoint", "endpoint"),
    ".",
)


def address_problem(store: Store, request: gr.Request) -> Markup:
    """What is wrong with the conversation that the address asks for; empty where nothing is."""
    _, conversation = asked_for(request, "conversation", "Conversation", store.chats.get)
    return nothing_there(conversation, WAY_ON)


class ChatPage(Page):
    """The chat with the untuned starter; what was said comes from ``/ui/chat``."""

    title = "Chat with a base"
    path = "chat"

    def layout(self) -> None:
        gr.HTML(cards.head(self.title, LEAD))
        self.problem = gr.HTML(elem_id="chat-problem")
        ChatThread({"run": None}, elem_id="chat")

    def connect(self) -> None:
        self.on_open(self.look, None, self.problem)

    def look(self, request: gr.Request) -> Changes:
        """What is wrong with what the address asks for."""
        return {self.problem: address_problem(self.store, request)}
