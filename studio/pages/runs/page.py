"""Runs: all of them, found, sorted, tagged and archived; where comparing starts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.bounds import LONGEST_NAME
from hydralora.errors import UserError
from jobs.store.run_list import SORTS, RunQuery
from studio import cards
from studio.cards import Markup
from studio.comparison.address import parse_ids
from studio.pages.common import ACT, TICK, address_id, chosen_text
from studio.pages.page import Changes, Page
from studio.pages.runs.views import checked_act, filters, read_sort, runs_table
from studio.widgets import Addressed, LiveChanges, RunTable

NEWEST = "-created"


def address_text(request: gr.Request | None, name: str) -> str:
    """A text of the page's address, cut where it is longer than any name; empty where there is none."""
    value = request.query_params.get(name) if request else None
    return chosen_text(value[:LONGEST_NAME]) if value else ""


def query_of(request: gr.Request | None) -> RunQuery:
    """What the page's address asks for; an order that there is not is the usual one."""
    sort, descending = read_sort(address_text(request, "sort") or NEWEST)
    if sort not in SORTS:
        sort, descending = read_sort(NEWEST)
    return RunQuery(
        text=address_text(request, "q"),
        corpus_id=address_id(request, "corpus"),
        base=address_text(request, "base"),
        method=address_text(request, "method"),
        tag=address_text(request, "tag"),
        archived=bool(address_text(request, "archived")),
        sort=sort,
        descending=descending,
        page=address_id(request, "page") or 1,
    )


class RunsPage(Page):
    """The list of runs that the address asks for."""

    title = "Runs"
    path = "runs"

    def layout(self) -> None:
        self.watch = LiveChanges()
        new = cards.link("/new-run", "New run").replace("<a ", "<a class='hy-go' ")
        gr.HTML(Markup(f"<div class='hy-opened'><div class='hy-head'><h1>Runs</h1></div>{new}</div>"))
        self.filters = Addressed(elem_id="run-filters")
        self.table = RunTable(elem_id="run-table")
        self.stamp = gr.Textbox(visible=False)

    def connect(self) -> None:
        live = [self.watch, self.filters, self.table, self.stamp]
        self.on_change(self.watch, self.draw, self.stamp, live)
        for control in (self.filters, self.table):
            control.input(self.draw, self.stamp, live, **TICK)
        self.table.select(self.act, self.stamp, live, **ACT)

    # Handlers

    def draw(self, request: gr.Request, known: str) -> Changes:
        """The list as the address asks for it; the filters only where other ones can be chosen than ``known``."""
        watching, query = self.watching("runs", "corpora"), query_of(request)
        page = self.store.run_list.page(query)
        choices = repr(page.choices)
        changes: Changes = {self.watch: watching, self.table: runs_table(page, query)}
        return changes if choices == known else {**changes, self.filters: filters(page), self.stamp: choices}

    def act(self, request: gr.Request, known: str, event: gr.EventData) -> Changes:
        """What the bar asks for, then the list anew."""
        sent: dict[str, Any] = event._data if isinstance(event._data, dict) else {}
        act, value = checked_act(chosen_text(sent.get("act"))), chosen_text(sent.get("value"))
        if act:
            gr.Info(self.do(act, parse_ids(chosen_text(sent.get("of"))), value))
        return self.draw(request, known)

    def do(self, act: str, ids: list[int], value: str) -> str:
        """Tag, untag, archive or put back; what was done, as a sentence.

        Raises:
            UserError: When no run is ticked, or the tag is none.
        """
        if not ids:
            raise UserError("Tick a run of the list first.")
        runs, tag = self.store.run_list, value.strip()
        if act == "tag":
            count = runs.tag(ids, add=[tag])
            return f"{count:,} {'run has' if count == 1 else 'runs have'} the tag now."
        if act == "untag":
            runs.tag(ids, remove=[tag])
            return "The tag is taken off."
        count = runs.archive(ids, back=act == "unarchive")
        what = "back in the list" if act == "unarchive" else "archived; nothing of them is deleted"
        return f"{count:,} {'run is' if count == 1 else 'runs are'} {what}."
