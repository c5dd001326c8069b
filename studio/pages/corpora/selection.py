"""One selection: search, facets and map narrow the same rows, which are counted, shown, named, left out, exported."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.narrowing import findings_of, tokens
from hydralora.corpus.query import LONGEST_SEARCH, Query
from hydralora.errors import UserError
from jobs.store.membership import Membership
from jobs.store.records import Corpus
from jobs.store.selections import checked_query
from jobs.store.status import JobStatus
from studio.pages.common import ACT, TICK, address_id, chosen_id, chosen_text, job_state, set_address
from studio.pages.corpora.selection_views import (
    choices_of,
    count_line,
    export_links,
    language_choices,
    last_page,
    map_of,
    page_of_rows,
)
from studio.pages.page import Changes, Part
from studio.selections import flagged, saved_title
from studio.widgets import Choice, CorpusMap

SAVED = 8  # place of the named selection among the fields
SPREAD = "Place the rows by UMAP"
STATES = [("left out or not", ""), ("not left out", "no"), ("left out", "yes")]


class SelectionPart(Part):
    """The bar that narrows, the map of all points, and the table of what is selected."""

    def layout(self) -> None:
        with gr.Accordion("Rows: search, narrow, select", open=True, elem_id="part-rows"):
            with gr.Column(elem_classes="hy-select"):
                self._facets()
                self._actions()
            self.map = CorpusMap(elem_id="corpus-map")
            with gr.Row():
                self.spread = gr.Button(SPREAD, size="sm", visible=False, elem_id="spread-map")
                self.spreading = gr.HTML(min_width=240)
            with gr.Row():
                self.number = gr.Number(1, label="Page", precision=0, minimum=1, min_width=90, scale=0)
                self.back = gr.Button("◂ Previous", scale=0, min_width=130)
                self.forth = gr.Button("Next ▸", scale=0, min_width=110)
            self.rows = gr.HTML(elem_id="selected-rows")
        self.picked = gr.Textbox(visible=False)  # a loop or a clicked row, as JSON

    def _facets(self) -> None:
        choose: dict[str, Any] = {"multiselect": True, "min_width": 170, "visible": False}
        with gr.Row():
            self.search = gr.Textbox(
                label="Search",
                placeholder="words in prompt or answer",
                max_lines=1,
                max_length=LONGEST_SEARCH,
                scale=2,
                min_width=220,
                elem_id="search-rows",
            )
            self.labels = Choice([], label="Label", **choose)
            self.clusters = Choice([], label="Cluster", elem_id="facet-clusters", **choose)
            self.flags = Choice([], label="Problem", elem_id="facet-flags", **choose)
            self.languages = Choice([], label="Language", elem_id="facet-languages", **choose)
        with gr.Row():
            self.least = gr.Textbox(
                label="Characters from", placeholder="any", max_lines=1, max_length=7, min_width=110
            )
            self.most = gr.Textbox(label="to", placeholder="any", max_lines=1, max_length=7, min_width=90)
            self.left_out = gr.Dropdown(STATES, value="", label="State", min_width=140, elem_id="facet-left-out")
            self.saved = Choice([], label="Named selection", min_width=170, visible=False, elem_id="saved-selection")

    def _actions(self) -> None:
        with gr.Row(equal_height=False):
            self.count = gr.HTML(min_width=320, elem_id="selected-count")
            self.exports = gr.HTML(min_width=200)
        with gr.Row():
            self.name = gr.Textbox(
                label="Name of the selection", placeholder="such as: late parcels", max_lines=1, min_width=200
            )
            self.keep = gr.Button("Name", scale=0, min_width=90, elem_id="name-selection")
            self.exclude = gr.Button("Exclude", scale=0, min_width=110, elem_id="exclude-selection")
            self.clear = gr.Button("Clear", scale=0, min_width=90, elem_id="clear-selection")
            self.forget = gr.Button(
                "Delete this name", scale=0, min_width=150, visible=False, elem_id="forget-selection"
            )

    @property
    def fields(self) -> list[Any]:
        """What a query is read from, in the order that handlers take them."""
        texts = [self.search, self.labels, self.clusters, self.flags, self.languages]
        return [*texts, self.least, self.most, self.left_out, self.saved, self.picked]

    @property
    def found(self) -> list[Any]:
        """What is drawn of a selection."""
        return [self.count, self.exports, self.map, self.number, self.rows, self.exclude, self.keep, self.forget]

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        chosen = [self.labels, self.clusters, self.flags, self.languages, self.least, self.saved]
        return [*self.found, *chosen, self.spread, self.spreading]

    def connect_to(self, stamp: gr.Textbox) -> None:
        """Connect its events; what changes the corpus empties ``stamp``, whereupon the page looks anew."""
        self.stamp = stamp
        for field in (self.search, self.least, self.most):  # what is pasted is no input to Gradio
            field.change(self.narrow, self.fields, self.found, **TICK)
        for chooser in (self.labels, self.clusters, self.flags, self.languages, self.left_out, self.saved):
            chooser.input(self.narrow, self.fields, self.found, **TICK)
        self.saved.change(None, self.saved, None, js=f"(id) => ({set_address('selection')})(id || null)")
        self.map.select(self.pick, self.fields, [self.picked, *self.found], **ACT)
        turned = [self.number, self.rows]
        self.on_click(self.forth, self.next_rows, [self.number, *self.fields], turned)
        self.on_click(self.back, self.previous_rows, [self.number, *self.fields], turned)
        self.number.input(self.show_rows, [self.number, *self.fields], turned, **TICK)
        self.on_click(self.clear, self.clear_all, None, [*self.fields, *self.found])
        self.on_click(self.keep, self.name_it, [self.name, *self.fields], [self.name, stamp])
        self.on_click(self.exclude, self.leave_out, self.fields, stamp)
        self.on_click(self.spread, self.start_layout, None, stamp)
        self.on_click(self.forget, self.forget_name, self.saved, [self.saved, stamp])

    # Handlers

    def draw(self, corpus: Corpus | None, asked: int | None, *values: Any) -> Changes:
        """What can be chosen now, and what the fields select; nothing where there is no corpus.

        Args:
            asked: The named selection of the address, which opens where the field names none.
        """
        if corpus is None or corpus.examples is None:
            return {self.rows: "", self.count: "", self.exports: "", self.map: {"src": None, "empty": ""}}
        self.store.edits.layer(corpus.id)
        rows = Rows(self.store.home.corpus(corpus.id))
        known, saved = self.store.selections.membership(corpus.id), self.store.selections.all(corpus.id)
        flags = [(flagged(kind).capitalize(), kind) for kind in findings_of(rows.folder)]
        names = [(known.names[number], number) for number in known.numbers] if known else []
        opened = next((one.id for one in saved if one.id == (chosen_id(values[SAVED]) or asked)), 0)
        values = (*values[:SAVED], opened, *values[SAVED + 1 :])
        unit = "Tokens" if tokens(rows) is not None else "Characters"
        return {
            self.labels: choices_of(list(rows.manifest.labels)),
            self.clusters: choices_of(names),
            self.flags: choices_of(flags),
            self.languages: language_choices(rows),
            self.least: gr.Textbox(label=f"{unit} from"),
            self.saved: gr.Dropdown(
                choices=[("any", 0), *((saved_title(one), one.id) for one in saved)],
                value=opened,
                visible=bool(saved),
            ),
            **self._layout_state(corpus.id, known),
            **self._show(corpus.id, self._query(corpus.id, values)),
        }

    def _layout_state(self, corpus_id: int, known: Membership | None) -> Changes:
        """Whether the rows can be placed by UMAP, and how far that is."""
        job = self.store.layouts.job(corpus_id)
        is_open = job is not None and not job.is_finished
        can_be = known is not None and known.places.by != "UMAP" and not is_open
        is_told = job is not None and job.status != JobStatus.SUCCEEDED
        return {self.spread: gr.Button(visible=can_be), self.spreading: job_state(job) if is_told else ""}

    def state_of(self, corpus_id: int) -> object:
        """What tells one look from another."""
        job = self.store.layouts.job(corpus_id)
        placing = job and (job.id, job.status, round(job.progress, 2))
        return [one.id for one in self.store.selections.all(corpus_id)], placing

    def narrow(self, request: gr.Request, *values: Any) -> Changes:
        """Count and show what the fields select."""
        corpus_id = self._corpus(request)
        return self._show(corpus_id, self._query(corpus_id, values))

    def pick(self, request: gr.Request, event: gr.EventData, *values: Any) -> Changes:
        """Take a loop or a clicked row from the map; an empty one takes the last one back."""
        corpus_id, sent = self._corpus(request), event._data if isinstance(event._data, dict) else {}
        picked = {name: sent[name] for name in ("loop", "rows") if sent.get(name)}
        query = self._query(corpus_id, [*values[:-1], json.dumps(picked)])
        kept = {name: value for name, value in query.dump().items() if name in ("loop", "rows")}
        return {self.picked: json.dumps(kept) if kept else "", **self._show(corpus_id, query)}

    def next_rows(self, request: gr.Request, number: Any, *values: Any) -> Changes:
        """One page on."""
        return self._turn(request, number, 1, values)

    def previous_rows(self, request: gr.Request, number: Any, *values: Any) -> Changes:
        """One page back."""
        return self._turn(request, number, -1, values)

    def show_rows(self, request: gr.Request, number: Any, *values: Any) -> Changes:
        """The page whose number was typed."""
        return self._turn(request, number, 0, values)

    def clear_all(self, request: gr.Request) -> Changes:
        """Select every row again."""
        empty: Changes = {field: [] for field in (self.labels, self.clusters, self.flags, self.languages)}
        empty |= dict.fromkeys((self.search, self.least, self.most, self.left_out, self.picked), "")
        empty[self.saved] = 0
        return {**empty, **self._show(self._corpus(request), Query())}

    def name_it(self, request: gr.Request, name: Any, *values: Any) -> Changes:
        """Keep what is selected under a name."""
        corpus_id = self._corpus(request)
        self.store.selections.add(corpus_id, chosen_text(name), self._query(corpus_id, values))
        return {self.name: "", self.stamp: ""}

    def leave_out(self, request: gr.Request, *values: Any) -> Changes:
        """Leave what is selected out of every later run; the list of what is left out takes it back."""
        corpus_id = self._corpus(request)
        query = self._query(corpus_id, values)
        if query.is_empty:
            raise UserError(
                "Every row is selected. Narrow the selection first: leaving out all of them leaves nothing."
            )
        self.store.exclusions.add(corpus_id, self.store.selections.find(corpus_id, query).positions, query.words())
        return {self.stamp: ""}

    def forget_name(self, request: gr.Request, saved: Any) -> Changes:
        """Delete the name of the named selection that is chosen; its rows stay."""
        corpus_id, wanted = self._corpus(request), chosen_id(saved)
        if wanted not in {one.id for one in self.store.selections.all(corpus_id)} or wanted is None:
            raise UserError("Choose the named selection that shall be deleted.")
        self.store.selections.delete(wanted)
        return {self.saved: 0, self.stamp: ""}

    def start_layout(self, request: gr.Request) -> Changes:
        """Queue the job that places the rows by UMAP."""
        self.store.layouts.add(self._corpus(request))
        return {self.stamp: ""}

    def _turn(self, request: gr.Request, number: Any, by: int, values: tuple[Any, ...]) -> Changes:
        corpus_id = self._corpus(request)
        found = self.store.selections.find(corpus_id, self._query(corpus_id, values))
        wanted = number if isinstance(number, (int, float)) and abs(number) < 1e9 else 1
        target = min(max(int(wanted) + by, 1), last_page(found))
        known = self.store.selections.membership(corpus_id)
        return {self.number: target, self.rows: page_of_rows(self.store, corpus_id, found, target, known)}

    def _show(self, corpus_id: int, query: Query) -> Changes:
        found = self.store.selections.find(corpus_id, query)
        known, some = self.store.selections.membership(corpus_id), len(found.positions)
        return {
            self.count: count_line(found, query),
            self.exports: export_links(corpus_id, query, found),
            self.map: map_of(known, corpus_id, query, found),
            self.number: 1,
            self.rows: page_of_rows(self.store, corpus_id, found, 1, known),
            self.exclude: gr.Button(interactive=bool(some) and not query.is_empty),
            self.keep: gr.Button(interactive=bool(some)),
            self.forget: gr.Button(visible=query.saved is not None),
        }

    def _query(self, corpus_id: int, values: Any) -> Query:
        """The query that the fields hold; lengths are tokens where these were counted, else characters.

        Raises:
            UserError: When a browser sent something else than the fields can hold.
        """
        search, labels, clusters, flags, languages, least, most, left_out, saved, picked = values
        unit = "tokens" if tokens(Rows(self.store.home.corpus(corpus_id))) is not None else "length"
        asked = {
            "search": chosen_text(search),
            "labels": labels or [],
            "clusters": clusters or [],
            "flags": flags or [],
            "languages": languages or [],
            f"min_{unit}": chosen_text(least).strip() or None,
            f"max_{unit}": chosen_text(most).strip() or None,
            "left_out": left_out or "",
            "saved": saved or None,
            **_picked(chosen_text(picked)),
        }
        return checked_query(asked)

    def _corpus(self, request: gr.Request) -> int:
        return self.store.corpora.ready(address_id(request, "corpus") or 0).id


def _picked(text: str) -> dict[str, Any]:
    """What the hidden field holds of the map: ``loop`` or ``rows``."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found.keys() <= {"loop", "rows"}:
        raise UserError("What was drawn on the map cannot be read. Draw it again.")
    return found
