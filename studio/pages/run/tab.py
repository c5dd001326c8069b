"""What the tabs of a run share: what is looked at, what a tab is, and how analyses are asked for and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import gradio as gr

from hydralora.results import Result, Routing, Weights
from jobs.store.records import Analysis, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import address_id, job_state
from studio.pages.page import Changes, Part
from studio.widgets import FigurePanel, figure

Wanted = tuple[int, str, dict[str, Any]]  # run, kind of analysis, parameters
Found = dict[str, Analysis | None]
NO_CORPUS = "This adapter came without a corpus. Choose one above to measure it on."
ALL_LAYERS = ("all layers", "")
EARLY = "This fills when the training has ended."


@dataclass(frozen=True)
class Choosers:
    """What is chosen beside the tabs, once for all of them."""

    corpus: gr.Dropdown
    layer: gr.Dropdown


@dataclass(frozen=True)
class Look:
    """What is looked at: the run, the chosen layer, and what the tabs' own inputs hold, by component.

    ``layer`` is empty for all layers together. ``on`` names the corpus in the parameters of an analysis: empty for the
    run's own, None where there is none. ``query`` is what the page's address says, which anybody can have written.
    """

    store: Store
    run: Run
    layer: str
    values: Mapping[Any, Any]
    on: dict[str, Any] | None = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # of the layers that can be chosen
    query: Mapping[str, str] = field(default_factory=dict)


class Tab(Part):
    """A tab, or a part of one: its own inputs, what it wants measured, and what it shows.

    Parts with one ``title`` stand in the tab of that name. A tab is filled when it is opened, and no sooner.
    """

    title: ClassVar[str]
    place: ClassVar[int] = 100  # among the tabs, and within one
    needs_adapter: ClassVar[bool] = True  # shows nothing before its run has one
    choosers: Choosers
    drawing: dict[str, Any]  # the page's event that draws what is open

    def picks(self) -> list[Any]:
        """Its own inputs."""
        return []

    def live(self) -> list[Any]:
        """The components that ``show`` fills."""
        raise NotImplementedError

    def wants(self, look: Look) -> dict[str, Wanted]:
        """The analyses it shows, by a name of its own; they are queued where they are missing."""
        return {}

    def show(self, look: Look, found: Found) -> Changes:
        """What it shows of them."""
        raise NotImplementedError

    def topics(self, values: Mapping[Any, Any]) -> list[str]:
        """What it shows beside its run, as ``jobs.store.changes`` names it; ``values`` are those of the inputs."""
        return []

    def state(self, look: Look) -> Any:
        """Anything else that changes what is shown, such as the states of other runs."""
        return None

    def early(self) -> Changes:
        """What it shows of a run that has no adapter yet."""
        changes: Changes = {}
        for component in self.live():
            if isinstance(component, FigurePanel):  # is a gr.HTML too
                changes[component] = figure(None, EARLY)
            elif isinstance(component, gr.HTML):
                changes[component] = ""
        first = next((part for part in self.live() if isinstance(part, gr.HTML) and part in changes), None)
        return (
            changes
            if first is None or isinstance(first, FigurePanel)
            else {**changes, first: cards.note("info", EARLY)}
        )

    def run_of(self, request: gr.Request) -> Run:
        """The run that the address names.

        Raises:
            UserError: When there is none (any more).
        """
        return self.store.runs.get(address_id(request, "run") or 0)


def side_by_side(*heights_and_ids: tuple[int, str | None]) -> list[FigurePanel]:
    """Figures beside each other, below each other on a phone."""
    panels = []
    with gr.Row():
        for height, elem_id in heights_and_ids:
            with gr.Column(min_width=320):
                panels.append(FigurePanel(height=height, elem_id=elem_id))
    return panels


def is_routed(run: Run) -> bool:
    """Whether the run's method has gates."""
    return run.config.adapter.combined_by == "router"


def ask(store: Store, wanted: Wanted, *, again: bool = False) -> Analysis | None:
    """The analysis with these parameters, queued if it was never tried (or failed, where ``again``)."""
    run_id, kind, params = wanted
    if kind in ("routing", "experts") and not is_routed(store.runs.get(run_id)):
        return None
    known = store.analyses.find(run_id, kind, params, failed=not again)
    return known or store.analyses.ask(run_id, kind, params)


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


R = TypeVar("R", bound=Result)


def result_of(store: Store, found: Analysis | None, kind: type[R]) -> R | None:
    """The stored result of a finished analysis.

    Raises:
        ResultError: When its file is gone or damaged.
    """
    if not is_done(found):
        return None
    assert found is not None
    return kind.read(store.home.analysis(found.id))


def layer_names(store: Store, run: Run, on: dict[str, Any] | None) -> list[str]:
    """The layers that can be chosen: those with gates, else all with matrices."""
    gates = result_of(store, store.analyses.find(run.id, "routing", on or {}), Routing)
    if gates:
        return gates.layers
    newest = store.runs.newest(run.id)
    if newest and newest.gates:
        return list(newest.gates)
    heads = result_of(store, store.analyses.find(run.id, "weights", {}), Weights)
    return [layer.name for layer in heads.layers] if heads else []


def picked(event: gr.EventData) -> Any:
    """The id of the point that was clicked, or None; untrusted."""
    points = event._data.get("points") if isinstance(event._data, dict) else None
    return points[0].get("id") if isinstance(points, list) and points and isinstance(points[0], dict) else None


def is_cell(cell: Any, rows: int, columns: int) -> bool:
    """Whether a clicked id names a cell of a table of this size."""
    whole = isinstance(cell, list) and len(cell) == 2 and all(type(i) is int for i in cell)
    return bool(whole and 0 <= cell[0] < rows and 0 <= cell[1] < columns)


def texts_table(found: Routing, ids: list[int], caption: str) -> Markup:
    """Examples by position, with their texts."""
    rows: list[list[object]] = [[i, cards.long_text(found.texts.get(str(i), ""), 600)] for i in ids]
    return cards.table(["#", "Text"], rows, caption=caption, numbers=[0])
