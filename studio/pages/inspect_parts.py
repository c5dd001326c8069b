"""What the tabs of Inspect share: a part is a tab's inputs and outputs, what it wants measured, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from hydralora.methods import METHODS
from jobs.records import Analysis, Run
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import job_state
from studio.views import read_json
from studio.widgets import FigurePanel, figure

Wanted = tuple[int, str, dict[str, Any]]  # run, kind of analysis, parameters
Found = dict[str, Analysis | None]
NO_CORPUS = "This adapter came without a corpus. Choose one above to measure it on."


@dataclass(frozen=True)
class Look:
    """What is looked at: the run, the chosen layer, and the values of a part's own inputs.

    ``on`` names the corpus in the parameters of an analysis: empty for the run's own, None where there is none.
    """

    store: Store
    run: Run
    layer: str
    values: tuple[Any, ...]
    on: dict[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One tab. ``show`` gives one value for each of ``live``, in order.

    ``state`` is anything else that changes what is shown (the states of other runs).
    """

    picks: list[Any]
    live: list[Any]
    wants: Callable[[Look], dict[str, Wanted]]
    show: Callable[[Look, Found], list[Any]]
    state: Callable[[Look], Any] = lambda look: None

    def blank(self, body: Markup) -> list[Any]:
        """The values where no run is chosen."""

        def empty(component: Any) -> Any:
            if isinstance(component, FigurePanel):  # is a gr.HTML too
                return figure(None, "Choose a run.")
            return body if isinstance(component, gr.HTML) else gr.skip()

        return [empty(component) for component in self.live]


def is_routed(run: Run) -> bool:
    """Whether the run's method has gates."""
    return METHODS[run.config["method"]].routed or run.config["adapter"].get("combine") == "router"


def ask(store: Store, wanted: Wanted, *, again: bool = False) -> Analysis | None:
    """The analysis with these parameters, queued if it was never tried (or failed, where ``again``)."""
    run_id, kind, params = wanted
    if kind in ("routing", "experts") and not is_routed(store.run(run_id)):
        return None
    known = store.find_analysis(run_id, kind, params, failed=not again)
    return known or store.analyse(run_id, kind, params)


def on_corpus(look: Look, kind: str) -> dict[str, Wanted]:
    """An analysis of the chosen corpus; nothing where none is chosen."""
    return {} if look.on is None else {kind: (look.run.id, kind, look.on)}


def is_done(found: Analysis | None) -> bool:
    """Whether an analysis has succeeded."""
    return found is not None and found.job is not None and found.job.status == JobStatus.SUCCEEDED


def state_of(found: Analysis | None, missing: str) -> Markup:
    """Progress or trouble of an analysis; when done, its sentence."""
    if found is None or found.job is None:
        return cards.note("info", missing)
    if is_done(found):
        return cards.note("info", (found.job.result or {}).get("sentence", "Done."))
    return job_state(found.job)


def source(found: Analysis | None, view: str, **query: Any) -> dict[str, Any]:
    """The value of a panel that shows one view of an analysis."""
    if not is_done(found):
        return figure(None, "It appears when the analysis is done.")
    assert found is not None
    more = "&".join(f"{name}={value}" for name, value in query.items())
    return figure(f"/ui/figures/analyses/{found.id}/{view}?{more}")


def result_of(store: Store, found: Analysis | None, name: str) -> dict[str, Any] | None:
    """The stored result of a finished analysis."""
    if not is_done(found):
        return None
    assert found is not None
    return read_json(store.home.analysis(found.id) / name)


def layer_names(store: Store, run: Run, on: dict[str, Any] | None) -> list[str]:
    """The layers that can be chosen: those with gates, else all with matrices."""
    gates = result_of(store, store.find_analysis(run.id, "routing", on or {}), "routing.json")
    if gates:
        return list(gates["layers"])
    heads = result_of(store, store.find_analysis(run.id, "weights", {}), "weights.json")
    return [layer["name"] for layer in heads["layers"]] if heads else []


def picked(event: gr.EventData) -> Any:
    """The id of the point that was clicked, or None; untrusted."""
    points = event._data.get("points") if isinstance(event._data, dict) else None
    return points[0].get("id") if isinstance(points, list) and points and isinstance(points[0], dict) else None


def is_cell(cell: Any, rows: int, columns: int) -> bool:
    """Whether a clicked id names a cell of a table of this size."""
    whole = isinstance(cell, list) and len(cell) == 2 and all(type(i) is int for i in cell)
    return bool(whole and 0 <= cell[0] < rows and 0 <= cell[1] < columns)


def texts_table(found: dict[str, Any], ids: list[int], caption: str) -> Markup:
    """Examples by position, with their texts."""
    rows: list[list[object]] = [[i, cards.long_text(found["texts"].get(str(i), ""), 600)] for i in ids]
    return cards.table(["#", "Text"], rows, caption=caption, numbers=[0])
