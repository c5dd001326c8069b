"""Chat: talk to a tuned model and see which expert speaks. The work is in ``static/chat.js``."""

from __future__ import annotations

import gradio as gr

from hydralora.errors import UserError
from jobs.store.records import Run
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import asked_for, nothing_there
from studio.pages.page import Changes, Page
from studio.widgets import ChatThread

WAY_ON = "Choose who answers below, or begin a new conversation."
LEAD = cards.join(
    "Each word has the colour of its leading expert. Point at a word to see its routing weights. Programs ask by the ",
    cards.link("/endpoint", "endpoint"),
    ".",
)


def answering_run(store: Store, run_id: int) -> Run:
    """A run that can answer: finished, or with a checkpoint.

    Raises:
        UserError: When it does not exist, or has nothing to answer with yet.
    """
    run = store.runs.get(run_id)
    if run.summary is None and not store.runs.checkpoints(run_id):
        state = cards.STATUS_WORDS[run.status]
        raise UserError(f"Run {run_id} has nothing to answer with yet ({state}). Its own page shows how far it is.")
    return run


def address_problem(store: Store, request: gr.Request) -> Markup:
    """What is wrong with the run or the conversation that the address asks for; empty where nothing is."""
    _, run = asked_for(request, "run", "Run", lambda wanted: answering_run(store, wanted))
    _, conversation = asked_for(request, "conversation", "Conversation", store.chats.get)
    return nothing_there(" ".join(filter(None, (run, conversation))), WAY_ON)


class ChatPage(Page):
    """The chat; whoever answers and what was said come from ``/ui/chat``."""

    title = "Chat"
    path = "chat"

    def layout(self) -> None:
        gr.HTML(cards.head("Chat", LEAD))
        self.problem = gr.HTML(elem_id="chat-problem")
        ChatThread(elem_id="chat")

    def connect(self) -> None:
        self.on_open(self.look, None, self.problem)

    def look(self, request: gr.Request) -> Changes:
        """What is wrong with what the address asks for."""
        return {self.problem: address_problem(self.store, request)}
