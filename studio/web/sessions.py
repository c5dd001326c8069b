"""What Gradio remembers of each open page: the components that an event has changed, and no more.

Gradio keeps a copy of the configuration of every component of every page for each page that is opened, for its deep
links: a megabyte and 33 ms each (gradio 6.31, ``state_holder.SessionState``). The studio's links are addresses, and
there is no ``gr.State``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

MOST = 1_000  # pages; one that is forgotten is as after a new start of the studio


class OpenPage(SessionState):
    """One open page."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))  # type: ignore[arg-type]

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Nothing is kept for deep links."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing is kept for deep links."""


class OpenPages(StateHolder):
    """Those of the studio, the ones used last."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__()
        blocks.state_session_capacity = MOST
        self.set_blocks(blocks)

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = OpenPage(self.blocks)
        return super().__getitem__(session_id)
