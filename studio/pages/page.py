"""A page, and a part of one: components as attributes, handlers as methods.

``layout`` draws, ``connect`` says which event calls which method. A handler takes what its inputs hold and gives a
dict by component, or None where nothing changes, so that tests call it without a browser. What a browser sends is
untrusted: handlers take every value through ``chosen_id``, ``chosen_text`` and their like (``common.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gradio as gr
from gradio.components import Component

from hydralora.errors import UserError
from jobs.store.changes import as_text
from jobs.store.store import Store
from studio.pages.common import EVENT, TICK
from studio.widgets import LiveChanges

Handler = Callable[..., Any]
Changes = dict[Any, Any]  # new values by component
SURE = "Tick “Yes, delete it for good” first."


class Part:
    """A part of a page over one store."""

    def __init__(self, blocks: gr.Blocks, store: Store) -> None:
        self.blocks, self.store = blocks, store
        self.layout()

    def layout(self) -> None:
        """Draw the components, and keep those that handlers need."""
        raise NotImplementedError

    def connect(self) -> None:
        """Name the handler of every event."""

    def watching(self, *topics: str) -> dict[str, str]:
        """The value of a ``LiveChanges`` for what is read after this call."""
        return {"of": as_text(topics), "since": self.store.changes.stamp(topics)}

    def on_open(self, handler: Handler, inputs: Any, outputs: Any) -> Any:
        """Call ``handler`` when the page is opened."""
        return self.blocks.load(handler, inputs, outputs, **TICK)

    def on_change(self, watch: LiveChanges, handler: Handler, inputs: Any, outputs: Any) -> Any:
        """Call ``handler`` when the page is opened, and whenever something that ``watch`` names has changed."""
        watch.select(handler, inputs, outputs, **TICK)
        return self.on_open(handler, inputs, outputs)

    def on_click(self, button: gr.Button, handler: Handler, inputs: Any, outputs: Any) -> Any:
        """Call ``handler`` on a click, with a sign that it works."""
        return button.click(handler, inputs, outputs, **EVENT)


class Page(Part):
    """A page with an address of its own."""

    title: ClassVar[str]
    path: ClassVar[str]
    in_menu: ClassVar[bool] = True  # of the header, unless it stands in the header itself
    section: ClassVar[str] = ""  # address of the page in the header that it belongs to, where it is none itself

    def __init__(self, blocks: gr.Blocks, store: Store) -> None:
        super().__init__(blocks, store)
        self.connect()


def rename_or_delete(what: str) -> tuple[gr.Textbox, gr.Button, gr.Checkbox, gr.Button]:
    """The folded last part of a page: a new name with its button, and a box to tick with the button that deletes."""
    with gr.Accordion("Rename or delete", open=False), gr.Row():
        name = gr.Textbox(label="New name", max_lines=1, min_width=200)
        rename = gr.Button("Rename", scale=0, min_width=110)
        sure = gr.Checkbox(False, label="Yes, delete it for good", min_width=170, scale=0)
        delete = gr.Button(f"Delete {what}", variant="stop", scale=0, min_width=130, elem_id=f"delete-{what}")
    return name, rename, sure, delete


def refuse_unsure(is_sure: Any) -> None:
    """Refuse to delete what was not ticked.

    Raises:
        UserError: When the box is not ticked.
    """
    if is_sure is not True:
        raise UserError(SURE)


def components(*found: Component | list[Component]) -> list[Component]:
    """Components and lists of them as one list."""
    return [part for each in found for part in (each if isinstance(each, list) else [each])]
