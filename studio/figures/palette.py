"""Colours, shapes and names: the one source of the stylesheet, of every figure and of the chat.

A colour is named, not written: a figure or a page says ``var(--e1)``, the browser knows its value in light and in
dark. ``stylesheet()`` gives the values as CSS custom properties, ``resolved`` puts them into a figure that is drawn
where there is no stylesheet. Experts and clusters are different things: experts are E1, E2, ... with filled shapes,
clusters are C1, C2, ... with open ones; an index keeps colour and shape everywhere. Eight experts and twelve clusters
have a colour of their own (at least 3:1 against every surface, and apart from each other under protanopia,
deuteranopia and tritanopia after Machado et al. 2009, https://doi.org/10.1109/TVCG.2009.113); further ones are grey
with their name.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal
from urllib.parse import quote

Mode = Literal["light", "dark"]

# name: (light, dark). Surfaces first, then what stands on them.
TOKENS: dict[str, tuple[str, str]] = {
    "ground": ("#f4f4f1", "#121417"),  # the page
    "sheet": ("#ffffff", "#1b1e22"),  # what is read as one piece: figure, table, form
    "well": ("#f3f4f1", "#23272c"),  # inside a sheet: log
    "raised": ("#ffffff", "#262a30"),  # above the page, with a shadow
    "sel": ("#f1f2ed", "#24292e"),  # a chosen row; hover of a button
    "bub": ("#e8e9e4", "#2a2f35"),  # one's own message
    "learn": ("#d3ebe2", "#1d4339"),  # the part of an example that is learnt
    "track": ("#e3e5e0", "#363c43"),  # the empty part of a bar
    "ink": ("#16191c", "#e9ebed"),
    "ink-hover": ("#33393f", "#c3c8cc"),  # the main button under the pointer
    "ink2": ("#565d63", "#a6aeb5"),  # second line, axes
    "line": ("#dddfda", "#30353b"),  # divider; decoration only
    "edge": ("#7d8489", "#7a838b"),  # of a control
    "onink": ("#ffffff", "#121417"),  # text on ink
    "onink2": ("#c6cbcf", "#474e55"),  # second line on ink
    "ok": ("#176b3a", "#6fcf97"),
    "warn": ("#8a5000", "#f0b65a"),
    "bad": ("#b3261e", "#ff9a8f"),
    "busy": ("#1f5fa8", "#7db4f5"),
    "focus": ("#1d5bd0", "#8fbcff"),
    "ga": ("#1f5fa8", "#7db4f5"),  # first of two groups, and below a middle
    "gb": ("#a8500f", "#f0a35e"),  # second of two groups, and above a middle
    "heat": ("#8a8c8d", "#616467"),  # the largest number of a scale: ink at 50 % on the sheet, 34 % in the dark
    "other": ("#565d63", "#a6aeb5"),  # an expert or a cluster beyond those with a colour of their own
}
SURFACES = ("ground", "sheet", "well", "raised", "sel")  # where experts, clusters and states stand
EXPERTS: tuple[tuple[str, str], ...] = (
    ("#3332b8", "#6c87e9"),
    ("#ae8320", "#dfa01b"),
    ("#019d6b", "#13b793"),
    ("#ba4984", "#ffc5ce"),
    ("#956ce4", "#c9d3fe"),
    ("#606307", "#8d8f55"),
    ("#004423", "#a6f08d"),
    ("#5d1a44", "#aa7da1"),
)
EXPERT_TEXTS: tuple[tuple[str, str], ...] = (
    ("#3332b8", "#8299ed"),
    ("#836319", "#dfa01b"),
    ("#017651", "#13b793"),
    ("#a54075", "#ffc5ce"),
    ("#7554b3", "#c9d3fe"),
    ("#606307", "#a2a375"),
    ("#004423", "#a6f08d"),
    ("#5d1a44", "#b995b2"),
)
CLUSTERS: tuple[tuple[str, str], ...] = (
    ("#3454a9", "#54b7fb"),
    ("#9c8a16", "#c7ab5b"),
    ("#c35868", "#cd7064"),
    ("#3a9483", "#21a28e"),
    ("#572058", "#9e81ac"),
    ("#14734b", "#7df4c8"),
    ("#9562e6", "#7283e7"),
    ("#054421", "#bbec7c"),
    ("#874560", "#f194ba"),
    ("#5e7518", "#a2b890"),
    ("#ab72a6", "#e5cff7"),
    ("#5e4e05", "#809501"),
)
# Plotly's names of the shapes, which are the keys of `PATHS` too.
EXPERT_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "x", "triangle-down", "star")
CLUSTER_SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "cross", "x"),
    *("triangle-down", "pentagon", "star", "hexagon", "hourglass", "bowtie"),
)
UNDERLINES = ("solid", "dashed", "double", "dotted")  # of the tokens of E1 to E4, and again of E5 to E8
ACCENT, ACCENT_2, ACCENT_3, MUTED = "var(--ink)", "var(--ga)", "var(--gb)", "var(--ink2)"
GROUPS = ("var(--ga)", "var(--gb)", "var(--ink)", "var(--ink2)")  # of compared groups, and again with other dashes
MOST_GROUPS = 8  # with a look of their own
DASHES = ("solid", "dash", "dot", "dashdot")
BARS = "var(--edge)"  # lighter than what is drawn over them
HEAT = [[0.0, "var(--sheet)"], [1.0, "var(--heat)"]]  # from nothing to the largest number
DIVERGING = [[0.0, "var(--ga)"], [0.5, "var(--sheet)"], [1.0, "var(--gb)"]]  # below and above a middle
UNQUOTED = " =:/'"  # in a picture inside double quotes
NAMED = re.compile(r"var\(--([\w-]+)\)")


def expert_colour(index: int) -> str:
    """Colour of expert ``index`` (from 0), by name."""
    return f"var(--e{index + 1})" if index < len(EXPERTS) else "var(--other)"


def expert_text_colour(index: int) -> str:
    """Colour of the name of expert ``index``, by name; dark enough for small text."""
    return f"var(--e{index + 1}-text)" if index < len(EXPERTS) else "var(--other)"


def expert_name(index: int) -> str:
    """``E1`` for expert 0."""
    return f"E{index + 1}"


def expert_shape(index: int) -> str:
    """Plotly marker of expert ``index``."""
    return EXPERT_SHAPES[index % len(EXPERT_SHAPES)]


def expert_class(index: int) -> str:
    """CSS class that carries colour, shape and underline of expert ``index``."""
    return f"hy-e{index + 1}" if index < len(EXPERTS) else "hy-other"


def cluster_colour(index: int) -> str:
    """Colour of cluster ``index`` (from 0), by name."""
    return f"var(--c{index + 1})" if index < len(CLUSTERS) else "var(--other)"


def cluster_shape(index: int) -> str:
    """Plotly marker of cluster ``index``."""
    return f"{CLUSTER_SHAPES[index % len(CLUSTER_SHAPES)]}-open"


def cluster_class(index: int) -> str:
    """CSS class that carries colour and shape of cluster ``index``."""
    return f"hy-c{index + 1}" if index < len(CLUSTERS) else "hy-other-open"


def group_colour(index: int) -> str:
    """Colour of compared group ``index`` (from 0), by name; dash and shape tell groups of one colour apart."""
    return GROUPS[index % len(GROUPS)] if index < MOST_GROUPS else "var(--other)"


def group_shape(index: int) -> str:
    """Plotly marker of compared group ``index``."""
    return EXPERT_SHAPES[index % len(EXPERT_SHAPES)]


def group_dash(index: int) -> str:
    """Plotly dash of compared group ``index``."""
    return DASHES[(index + index // len(GROUPS)) % len(DASHES)]


def group_class(index: int) -> str:
    """CSS class that carries colour and shape of compared group ``index``."""
    return f"hy-g{index + 1}" if index < MOST_GROUPS else "hy-other"


def colour_values(mode: Mode) -> dict[str, str]:
    """Every named colour as ``#rrggbb``."""
    place = 0 if mode == "light" else 1
    lists = {"e{}": EXPERTS, "e{}-text": EXPERT_TEXTS, "c{}": CLUSTERS}
    found = {name: pair[place] for name, pair in TOKENS.items()}
    found |= {name.format(i): pair[place] for name, pairs in lists.items() for i, pair in enumerate(pairs, 1)}
    return found


def resolved(value: Any, mode: Mode = "light") -> Any:
    """A value, or lists and dicts of them, with each ``var(--name)`` replaced by its colour."""
    if isinstance(value, dict):
        return {key: resolved(item, mode) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolved(item, mode) for item in value]
    named = NAMED.fullmatch(value) if isinstance(value, str) else None
    return colour_values(mode)[named[1]] if named else value


def stylesheet(dark: str = ":root:has(body.dark), .dark") -> str:
    """Colours and the classes of experts and clusters, as CSS.

    Args:
        dark: The selector of what is dark; or a media query, ``@media (...)``.
    """
    light_values, dark_values = _properties("light"), _properties("dark")
    as_dark = f"{dark} {{ :root {{ {dark_values} }} }}" if dark.startswith("@") else f"{dark} {{ {dark_values} }}"
    return "\n".join([f":root {{ {light_values} }}", as_dark, *_classes()]) + "\n"


def _properties(mode: Mode) -> str:
    return f"color-scheme: {mode}; " + " ".join(f"--{name}: {value};" for name, value in colour_values(mode).items())


def _classes() -> list[str]:
    """One rule for each expert, cluster and group: ``--colour``, ``--name-colour``, ``--shape``, ``--underline``."""
    rules = []
    for i in range(len(EXPERTS)):
        look = f"--colour: var(--e{i + 1}); --name-colour: var(--e{i + 1}-text)"
        more = f"--shape: {_picture(EXPERT_SHAPES[i])}; --underline: {UNDERLINES[i % len(UNDERLINES)]}"
        rules.append(f".{expert_class(i)} {{ {look}; {more}; }}")
    for i in range(len(CLUSTERS)):
        shape = _picture(CLUSTER_SHAPES[i], is_open=True)
        rules.append(f".{cluster_class(i)} {{ --colour: var(--c{i + 1}); --shape: {shape}; }}")
    for i in range(MOST_GROUPS):
        look = f"--colour: {group_colour(i)}; --name-colour: var(--ink); --shape: {_picture(group_shape(i))}"
        rules.append(f".{group_class(i)} {{ {look}; }}")
    other = "--colour: var(--other); --name-colour: var(--other); --underline: solid"
    rules.append(f".hy-other {{ {other}; --shape: {_picture('circle')}; }}")
    rules.append(f".hy-other-open {{ {other}; --shape: {_picture('circle', is_open=True)}; }}")
    return rules


def _corners(count: int, *, inner: float = 0.0) -> str:
    """A regular polygon, or with ``inner`` a star, of radius 7 around the middle of a square of 16."""
    steps = count * (2 if inner else 1)
    radii = [7.0, inner] if inner else [7.0]
    angles = [2 * math.pi * i / steps - math.pi / 2 for i in range(steps)]
    points = [
        (8 + radii[i % len(radii)] * math.cos(a), 8 + radii[i % len(radii)] * math.sin(a)) for i, a in enumerate(angles)
    ]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "z"


PATHS = {
    "circle": "M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13z",
    "square": "M2.5 2.5h11v11h-11z",
    "triangle-up": "M8 2L15 14H1z",
    "diamond": "M8 1L15 8L8 15L1 8z",
    "cross": "M5.7 1.5h4.6v4.2h4.2v4.6h-4.2v4.2H5.7v-4.2H1.5V5.7h4.2z",
    "x": "M4.2 1.2L8 5l3.8-3.8 3 3L11 8l3.8 3.8-3 3L8 11l-3.8 3.8-3-3L5 8 1.2 4.2z",
    "triangle-down": "M8 14L1 2h14z",
    "star": _corners(5, inner=3.0),
    "pentagon": _corners(5),
    "hexagon": _corners(6),
    "hourglass": "M2.5 2h11L2.5 14h11z",
    "bowtie": "M2 2.5v11L14 2.5v11z",
}


def _picture(shape: str, *, is_open: bool = False) -> str:
    """A shape as a CSS image, to be used as a mask."""
    style = "fill='none' stroke='#000' stroke-width='2'" if is_open else ""
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path {style} d='{PATHS[shape]}'/></svg>"
    return f'url("data:image/svg+xml,{quote(drawing, safe=UNQUOTED)}")'
