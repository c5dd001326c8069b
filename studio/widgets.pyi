"""Page parts that Gradio has not: a figure that can be clicked, and the chat.

Both are ``gr.HTML`` with a fixed template; data reaches them as JSON from the studio's own
addresses and enters the page through ``textContent`` only.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

WAIT = "(async () => { while (!(window.Hydra && window.Hydra.%s)) await new Promise(r => setTimeout(r, 40)); window.Hydra.%s(element, props, trigger, watch); })();"

from gradio.events import Dependency

class FigurePanel(gr.HTML):
    """A plotly figure fetched from ``value['src']``, with reading aid, downloads and a table.

    ``select`` events carry ``{"kind": "click" | "lasso", "points": [{"x", "y", "id"}]}``.
    """

    def __init__(self, value: dict[str, Any] | None = None, *, height: int = 360, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=f"<div class='hy-plot'><div class='pl-host' style='min-height:{height}px'></div></div>",
            js_on_load=WAIT % ("panel", "panel"),
            apply_default_css=False,
            container=True,
            **kwargs,
        )

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


class ChatThread(gr.HTML):
    """The chat: conversations, messages coloured by expert, gate bars. See ``static/chat.js``."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template="<div class='hy-chat-root'></div>",
            js_on_load=WAIT % ("chat", "chat"),
            apply_default_css=False,
            container=False,
            **kwargs,
        )

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


def figure(src: str | None, empty: str = "Nothing to show yet.") -> dict[str, Any]:
    """The value of a ``FigurePanel``: where its figure is, or what to say instead."""
    return {"src": src, "empty": empty}