"""Controls whose choice stands in the page's address: drawn here, read from there, carried out by ``Addressed``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from studio.cards import Markup
from studio.figures.look import Look

SMOOTH = {"": "none", "0.05": "a little", "0.15": "more", "0.3": "much"}  # share of the steps


def read_look(query: Mapping[str, str]) -> Look:
    """How the address asks for lines over steps to be drawn; what it says wrongly is as usual."""
    smooth = query.get("smooth", "")
    return Look(bool(query.get("log")), float(smooth or 0) if smooth in SMOOTH else 0.0, bool(query.get("single")))


def look_controls(look: Look) -> list[Markup]:
    """The choices that every figure of lines over steps has."""
    smooth = f"{look.smooth:g}" if look.smooth else ""
    return [select("smooth", "Smoothing", SMOOTH, smooth), switch("log", "Log scale", look.log)]


def look_query(look: Look) -> dict[str, object]:
    """The same for the address of a figure; empty for lines as they are measured."""
    return {name: value for name, value in vars(look).items() if value}


def choice_row(*controls: Markup) -> Markup:
    """Controls beside each other."""
    return Markup(f"<div class='hy-choices'>{''.join(controls)}</div>")


def select(name: str, label: str, choices: Mapping[str, str], chosen: str) -> Markup:
    """A choice that stands in the address."""
    options = "".join(
        f"<option value='{escape(value, quote=True)}'{' selected' * (value == chosen)}>{escape(words)}</option>"
        for value, words in choices.items()
    )
    usual = escape(chosen, quote=True)
    return Markup(
        f"<label class='hy-choice'><span>{escape(label)}</span>"
        f"<select data-param='{name}' data-usual='{usual}'>{options}</select></label>"
    )


def switch(name: str, label: str, is_on: bool) -> Markup:
    """A box that stands in the address."""
    return Markup(
        f"<label class='hy-choice'><input type='checkbox' data-param='{name}'{' checked' * is_on}>"
        f"<span>{escape(label)}</span></label>"
    )


def segments(name: str, choices: Mapping[str, str], chosen: str, label: str) -> Markup:
    """A few choices side by side, one of them pressed."""
    buttons = "".join(
        f"<button type='button' data-param='{name}' data-value='{value}' aria-pressed='{str(value == chosen).lower()}'>"
        f"{escape(words)}</button>"
        for value, words in choices.items()
    )
    return Markup(f"<div class='hy-segments' role='group' aria-label='{escape(label, quote=True)}'>{buttons}</div>")
