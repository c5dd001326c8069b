"""Page parts that Gradio has not: a figure that can be clicked, the chat, and a page that follows what changes.

All are ``gr.HTML`` with a fixed template; data reaches them as JSON from the studio's own
addresses and enters the page through ``textContent`` only. Each is started by a module of ``static/``.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

STATIC_ADDRESS = "/ui/static"
START = "import('%s').then((module) => module.start(element, props, trigger, watch));"


def module(name: str) -> str:
    """JavaScript that gives a module of the studio, as a promise."""
    return f"import({json.dumps(f'{STATIC_ADDRESS}/{name}.js')})"


class Widget(gr.HTML):
    """A ``gr.HTML`` whose module of ``static/`` draws into a fixed template."""

    def __init__(self, module_name: str, template: str, value: dict[str, Any] | None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=template,
            js_on_load=START % f"{STATIC_ADDRESS}/{module_name}.js",
            apply_default_css=False,
            **kwargs,
        )

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"


class Choice(gr.Dropdown):
    """A dropdown whose value is checked by whoever handles it, since its choices change.

    Gradio compares a value with the choices that the server remembers for each open page, and a server that was started
    again remembers none: a page that stayed open would be refused whatever is chosen there.
    """

    def preprocess(self, payload: Any) -> Any:
        """The value as it was sent: a text, a number or nothing; a list of these where several can be chosen.

        Raises:
            gr.Error: When it is anything else.
        """
        is_list = isinstance(payload, list)
        are_plain = all(isinstance(value, str | int | float | None) for value in (payload if is_list else [payload]))
        if not are_plain or (is_list and not self.multiselect):
            raise gr.Error("A choice is a text or a number.")
        return [payload] if self.multiselect and payload is not None and not is_list else payload

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "dropdown"


class FigurePanel(Widget):
    """A plotly figure fetched from ``value['src']``, with title, reading aid, downloads and a table.

    ``select`` events carry ``{"kind": "click" | "lasso", "points": [{"x", "y", "id"}]}``.
    """

    def __init__(self, value: dict[str, Any] | None = None, *, height: int = 360, **kwargs: Any) -> None:
        host = f"<div class='pl-host' style='min-height:{height}px'></div>"
        template = f"<div class='hy-plot'><div class='hy-plot-head'></div>{host}</div>"
        super().__init__("figure-panel", template, value, container=True, **kwargs)


class CorpusMap(Widget):
    """All points of a corpus, drawn by WebGL2; its value is that of ``studio.figures.corpus_map.map_value``.

    ``select`` events carry ``{"kind": "loop", "loop": [[x, y], ...]}`` in units of the map, or
    ``{"kind": "click", "rows": [position]}``.
    """

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        template = "<div class='hy-map'><svg aria-hidden='true'><polygon></polygon></svg></div>"
        super().__init__("corpus-map", template, value, container=True, **kwargs)


class ChatThread(Widget):
    """The chat: conversations, messages coloured by expert, routing weights. See ``static/chat.js``."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__("chat", "<div class='hy-chat-root'></div>", value, container=False, **kwargs)


class TabBar(Widget):
    """The bar of a page's tabs; its value is ``{"tabs": [[name in the address, title], ...], "current": name}``.

    A tab that is opened stands in the address as ``tab`` before ``select`` is told; no tab is ever hidden.
    """

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__("tab-bar", "<div class='hy-tabbar' role='tablist'></div>", value, container=False, **kwargs)


class FirstAnswers(Widget):
    """Recorded answers in the colours of their experts; its value is ``{"experts", "answers": [{"question",
    "tokens"}]}``, each token ``[text, [shares]]``.

    Args:
        value: The answers.
        drawn: The same as HTML, which stands there until the module has loaded: the studio's own, no visitor's.
    """

    def __init__(self, value: dict[str, Any] | None = None, drawn: str = "", **kwargs: Any) -> None:
        super().__init__("first-answers", f"<div class='hy-answers'>{drawn}</div>", value, container=False, **kwargs)


class LogPanel(Widget):
    """The log of a job, a piece at a time and by words; its value is ``{"job": id, "size": bytes}``, or None."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__("log", "<div class='hy-log-root'></div>", value, container=False, **kwargs)


class SeenBefore(Widget):
    """Tells when this browser was here last: one ``select`` with ``{"since"}``, seconds since 1970 or 0."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("seen-before", "<div class='hy-seen' hidden></div>", None, container=False, **kwargs)


class Acts(gr.HTML):
    """HTML of the studio whose buttons tell what is wanted: ``select`` events carry ``{"act", "of"}``.

    ``act`` is the button's ``data-act``, ``of`` its ``data-of`` as a number, or null.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(js_on_load=START % f"{STATIC_ADDRESS}/acts.js", apply_default_css=False, **kwargs)

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"


class Choices(gr.HTML):
    """HTML of the studio whose selects tell what is chosen: ``select`` events carry ``{"name", "of", "value"}``.

    ``name`` is the select's own, ``of`` the ``data-of`` of what is around it. The keyboard stays where it is when the
    HTML is drawn anew.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(js_on_load=START % f"{STATIC_ADDRESS}/choices.js", apply_default_css=False, **kwargs)

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"


class ClusterList(gr.HTML):
    """HTML of the studio with boxes to tick and buttons that tell what is wanted: ``select`` events carry
    ``{"act", "of"}``.

    ``act`` is the button's ``data-act``, ``of`` the numbers it is about: its own ``data-of``, or those of the boxes
    that are ticked. The keyboard and the ticks stay where they are when the HTML is drawn anew.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(js_on_load=START % f"{STATIC_ADDRESS}/clusters.js", apply_default_css=False, **kwargs)

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"


class Addressed(gr.HTML):
    """HTML of the studio whose controls write into the page's address, which ``input`` events tell; what else is asked
    for is a ``select`` event, which carries ``{"act", "of", "value"}``.

    ``[data-param]`` sets a value of the address, ``button[data-act]`` asks for something (see ``static/addressed.js``).
    The keyboard stays where it is when the HTML is drawn anew.
    """

    MODULE = "addressed"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(js_on_load=START % f"{STATIC_ADDRESS}/{self.MODULE}.js", apply_default_css=False, **kwargs)

    def get_block_name(self) -> str:
        """Gradio finds the front-end part by this name."""
        return "html"


class RunTable(Addressed):
    """The same with a box for each run; the ticks stay, and ``of`` are the ids that are ticked, as addresses take
    them."""

    MODULE = "run-table"


class LiveChanges(Widget):
    """Tells a page when something that it shows has changed. It is seen only while the studio cannot be reached.

    Its value is ``{"of": "run-12", "since": "7"}``: the topics as ``GET /ui/changes`` takes them, and their stamp
    before the page was drawn, without which the first answer is taken for that; or None to rest. It asks every two
    seconds (or every ``"every"`` ms) while the page is seen, never while it is hidden, and less often while it fails.
    ``select`` events carry
    ``{"of", "stamp"}``.
    """

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        template = "<p class='hy-live' role='status'></p>"
        super().__init__("live-changes", template, value, container=False, **kwargs)


def figure(src: str | None, empty: str = "Nothing to show yet.") -> dict[str, Any]:
    """The value of a ``FigurePanel``: where its figure is, or what to say instead."""
    return {"src": src, "empty": empty}
