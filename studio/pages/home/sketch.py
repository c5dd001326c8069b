"""Small drawings in the style of the figures, from recorded numbers, for the first page: no script, no table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studio.cards import Markup
from studio.figures.palette import CLUSTER_SHAPES, PATHS

WIDE, HIGH = 390, 120  # px
LEFT, RIGHT, TOP, BELOW = 34, 28, 8, 22
GRID = "stroke='var(--line)'"
WORDS = "fill='var(--ink2)' font-size='12'"


def points(rows: Sequence[tuple[float, float, int]]) -> Markup:
    """Places of examples on a plane, in the colour and shape of their cluster."""
    x = _scale([row[0] for row in rows], 8, WIDE - 8)
    y = _scale([row[1] for row in rows], HIGH - 8, 8)
    marks = "".join(
        f"<g transform='translate({x(a):.1f} {y(b):.1f}) scale(0.5)'><path d='{PATHS[CLUSTER_SHAPES[c]]}' fill='none' "
        f"stroke='var(--c{c + 1})' stroke-width='2.6'/></g>"
        for a, b, c in rows
    )
    return _drawing(f"<g transform='translate(-4 -4)'>{marks}</g>", "Questions on a plane, in four groups")


def curve(steps: Sequence[float], values: Sequence[float]) -> Markup:
    """One line over the steps."""
    x, y = _axes(steps, 0.0, max(values))
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(steps, values, strict=True))
    grid = _grid([0.0, round(max(values) / 2), round(max(values))], y, "{:.0f}")
    drawn = f"<polyline points='{line}' fill='none' stroke='var(--ink)' stroke-width='2'/>"
    return _drawing(grid + _steps(steps, x) + drawn, "The loss by step, falling")


def shares(steps: Sequence[float], rows: Sequence[Sequence[float]]) -> Markup:
    """A line for each expert, with its name at the end; ``rows`` is ``(steps, experts)``."""
    top = max(max(row) for row in rows)
    x, y = _axes(steps, 0.0, top)
    experts = range(len(rows[0]))
    ends = _apart({e: y(rows[-1][e]) for e in experts}, 13.0)
    pieces = [_grid([0.0, 0.25, 0.5][: 2 + (top > 0.4)], y, "{:.0%}"), _steps(steps, x)]
    for e in experts:
        line = " ".join(f"{x(a):.1f},{y(row[e]):.1f}" for a, row in zip(steps, rows, strict=True))
        pieces.append(f"<polyline points='{line}' fill='none' stroke='var(--e{e + 1})' stroke-width='2'/>")
        pieces.append(
            f"<text x='{WIDE - RIGHT + 6}' y='{ends[e] + 4:.1f}' font-size='12' font-weight='700' "
            f"fill='var(--e{e + 1}-text)'>E{e + 1}</text>"
        )
    return _drawing("".join(pieces), "The share of each expert by step")


def _scale(values: Sequence[float], low: float, high: float) -> Callable[[float], float]:
    first, last = min(values), max(values)
    return lambda value: low + (value - first) / ((last - first) or 1.0) * (high - low)


def _axes(steps: Sequence[float], low: float, high: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return _scale(steps, LEFT, WIDE - RIGHT), _scale([low, high], HIGH - BELOW, TOP)


def _grid(values: Sequence[float], y: Callable[[float], float], form: str) -> str:
    return "".join(
        f"<path d='M{LEFT} {y(value):.1f}H{WIDE - RIGHT}' {GRID}/>"
        f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end' {WORDS}>{form.format(value)}</text>"
        for value in values
    )


def _steps(steps: Sequence[float], x: Callable[[float], float]) -> str:
    return "".join(
        f"<text x='{x(step):.1f}' y='{HIGH - 4}' text-anchor='middle' {WORDS}>{step:,.0f}</text>"
        for step in (steps[0], steps[len(steps) // 2], steps[-1])
    )


def _apart(places: dict[int, float], gap: float) -> dict[int, float]:
    """Places that are at least ``gap`` px from each other, in the same order."""
    found: dict[int, float] = {}
    last = -gap
    for name, place in sorted(places.items(), key=lambda one: one[1]):
        last = found[name] = max(place, last + gap)
    return found


def _drawing(inside: str, label: str) -> Markup:
    return Markup(f"<svg class='hy-sketch' viewBox='0 0 {WIDE} {HIGH}' role='img' aria-label='{label}'>{inside}</svg>")
