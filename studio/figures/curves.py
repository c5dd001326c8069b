"""The curves of a training: which numbers of its steps are drawn together, how they are read, and what they show.

Every number that a step has is stored by its name; one that is named here is drawn on the page of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from studio.figures import curve_titles as titles
from studio.figures.base import Figure, hold_range, layout_of, name_at_ends
from studio.figures.curve_titles import Known
from studio.figures.look import Line, Look, on_axis, scaled, smoothed
from studio.figures.palette import (
    ACCENT,
    ACCENT_2,
    MUTED,
    expert_colour,
    expert_name,
    expert_shape,
    expert_text_colour,
)

CURVE_POINTS = 2_000
MARKED = 60  # points with a mark each; more are a line
RAW = 0.35  # opacity of what a smoothed line is made of
COLOURS = (ACCENT, ACCENT_2, MUTED)
PLAIN = Look()


@dataclass(frozen=True)
class Curve:
    """One figure over the steps.

    Args:
        title: What it is called in lists, and as the name of its downloads.
        lines: Names of numbers, with the words for each line.
        unit: On the y axis.
        aid: How it is read.
        answer: What the lines show, as the figure's title.
        terms: Those of ``studio.terms`` that a reader may not know.
        empty: What is said where no step has such a number.
    """

    title: str
    lines: Mapping[str, str]
    unit: str
    aid: str
    answer: Callable[[Known], str] = titles.ends
    terms: Sequence[str] = ()
    empty: str = "None of these numbers was measured yet."


CURVES: dict[str, Curve] = {
    "loss": Curve(
        "Loss",
        {"loss": "training loss", "eval_loss": "held-out loss"},
        "nats per token",
        "Mean loss per answer token (nats); lower is better. When the held-out loss rises while the other falls, the "
        "adapter overfits.",
        titles.loss,
        ("loss", "held out"),
    ),
    "answers": Curve(
        "Right answers",
        {"eval_exact_match": "right"},
        "share",
        "Share of the same few held-out questions that are answered exactly right (exact match); where few are asked, "
        "a small step means nothing.",
        titles.answers,
        ("exact match", "held out"),
        empty="No questions were answered during this training (the setting “Questions answered” is 0).",
    ),
    "margin": Curve(
        "Margin of preferences",
        {"margin": "trained pairs", "eval_margin": "held-out pairs"},
        "margin",
        "By how much more the adapter has raised better answers than worse ones, in nats times `dpo_beta`; it begins "
        "at 0. Where that of the held-out pairs stops rising while the other goes on, the adapter overfits.",
        titles.margin,
        ("margin", "held out"),
        empty="No preferences are learnt in this run (the setting “Objective” is answers).",
    ),
    "speed": Curve(
        "Speed",
        {"tokens_per_second": "tokens per second"},
        "tokens/s",
        "Tokens read per second of training, padding left out.",
        titles.speed,
    ),
    "rate": Curve(
        "Learning rate",
        {"learning_rate": "learning rate"},
        "learning rate",
        "The planned learning rate at each step.",
        titles.rate,
        ("learning rate",),
    ),
}


def curve(chosen: Curve, steps: Sequence[int], values: Mapping[str, Sequence[float | None]], look: Look) -> Figure:
    """Values over steps, each line named at its end; a smoothed one with its own values faint behind it.

    Args:
        steps: ``(steps,)``.
        values: Of each line, by its words, ``(steps,)``; None where a step has none.
        look: A log scale is taken where every value is above zero.
    """
    drawing = go.Figure(layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": chosen.unit}))
    known: Known = {
        words: [(step, value) for step, value in zip(steps, line, strict=True) if value is not None]
        for words, line in values.items()
    }
    drawn = [value for points in known.values() for _, value in points]
    log = look.log and min(drawn, default=0.0) > 0
    ends: list[tuple[float, float, str, str]] = []
    for index, (words, points) in enumerate(known.items()):
        if points:
            marker = {"size": 6, "symbol": "circle" if index == 0 else "circle-open"}
            at, shown = _draw(drawing, _thinned(points), look, words, COLOURS[index % 3], marker)
            ends.append((float(at[-1]), on_axis(shown[-1], log=log), words, COLOURS[index % 3]))
    if ends:
        low, high = scaled(drawing, min(drawn), max(drawn), log=log)
        if len(ends) > 1:  # the axis names a line by itself
            name_at_ends(drawing, ends, low, high)
        steps_shown = [step for points in known.values() for step, _ in points]
        hold_range(drawing, (min(steps_shown), max(steps_shown)), (low, high))
    rows = [[step, *[line[i] for line in values.values()]] for i, step in enumerate(steps)]
    name = chosen.title.lower().replace(" ", "-")
    return Figure(
        drawing, _aid(chosen, look, log=log), name, ["step", *values], rows, chosen.answer(known), terms=chosen.terms
    )


def _thinned(points: Sequence[tuple[int, float]]) -> Line:
    """The steps and values of a line, evenly thinned where a figure could not show more."""
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), CURVE_POINTS)).astype(int))
    steps, values = np.array([points[i] for i in kept], dtype=float).T
    return steps, values


def _aid(chosen: Curve, look: Look, *, log: bool) -> str:
    why = "The scale is not logarithmic, since some values are not above zero." if look.log and not log else ""
    return f"{chosen.aid} {look.words}{why}".strip()


def gate_curves(steps: Sequence[int], means: Sequence[Sequence[float]], layer: str, look: Look = PLAIN) -> Figure:
    """Mean routing weight of every expert over steps, each line named at its end; ``look.log`` is left aside."""
    array = np.array(means)  # (steps, experts)
    drawing = go.Figure(
        layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": "mean routing weight", "tickformat": ".0%"})
    )
    ends: list[tuple[float, float, str, str]] = []
    for expert in range(array.shape[1]):
        marker = {"symbol": expert_shape(expert), "size": 6}
        line = (np.array(steps, dtype=float), array[:, expert])
        _, values = _draw(drawing, line, look, expert_name(expert), expert_colour(expert), marker)
        words = f"{expert_name(expert)} {values[-1]:.0%}"
        ends.append((steps[-1], float(values[-1]), words, expert_text_colour(expert)))
    drawing.add_hline(y=1 / array.shape[1], line={"dash": "dot", "color": MUTED, "width": 1})
    high = min(1.0, 1.15 * float(array.max()))
    name_at_ends(drawing, ends, 0.0, high)
    hold_range(drawing, (steps[0], steps[-1]), (0.0, high))
    aid = (
        f"Share of each expert, {layer}. The dotted line is an equal share; lines that leave it "
        f"show a router that chooses. {look.words}"
    )
    names = [expert_name(e) for e in range(array.shape[1])]
    rows = [[s, *map(float, row.round(4))] for s, row in zip(steps, array, strict=True)]
    title = titles.shares(array, steps)
    return Figure(drawing, aid.strip(), "gates-over-steps", ["step", *names], rows, title, terms=("gate",))


def _draw(drawing: go.Figure, line: Line, look: Look, name: str, colour: str, marker: dict[str, Any]) -> Line:
    """Draw a line as it shall look, and give it; where it is smoothed, its own values stay faint behind it."""
    shown = smoothed(line, look.smooth)
    if shown is not line:
        drawing.add_scatter(
            x=line[0].tolist(),
            y=line[1].tolist(),
            mode="lines",
            line={"color": colour, "width": 1},
            opacity=RAW,
            hoverinfo="skip",
            showlegend=False,
        )
    drawing.add_scatter(
        x=shown[0].tolist(),
        y=shown[1].tolist(),
        name=name,
        mode="lines+markers" if len(shown[0]) < MARKED else "lines",
        showlegend=False,
        line={"color": colour, "width": 2},
        marker=marker,
    )
    return shown
