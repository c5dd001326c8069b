"""Hands on the clusters: rename, merge, split, leave out, look into rows, and take each edit back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.corpus.clusters.edits import LONGEST_NAME, check_numbers
from hydralora.corpus.clusters.why import explain_rows
from hydralora.corpus.folder import Corpus as Rows
from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.results import cluster_name
from jobs.store.cluster_edits import MOST_PARTS
from jobs.store.records import Clustering, Corpus, Edit
from studio import cards
from studio.cards import Markup
from studio.clusterings import edit_sentence
from studio.pages.common import EVENT, address_id, chosen_id, chosen_text, job_state
from studio.pages.corpora.cluster_views import ACTS, cluster_list, edits_table, label_table, rows_with_reasons
from studio.pages.page import Changes, Part
from studio.widgets import ClusterList

FOCUS = "() => document.querySelector('#cluster-form textarea, #cluster-form input')?.focus()"
PARTS_INFO = "0 takes as many as its texts suggest."


class Clusters(Part):
    """The list of clusters, what can be done with each, and everything that was done; each can be undone."""

    def layout(self) -> None:
        with gr.Column(visible=False) as self.whole:
            self.list = ClusterList(elem_id="cluster-list")
            self.state = gr.HTML()
            self.number = gr.Textbox(visible=False)  # of the cluster that a form below is about
            with gr.Column(elem_id="cluster-form"):
                with gr.Row(visible=False) as self.renaming:
                    self.name = gr.Textbox(label="Name", max_lines=1, min_width=220, max_length=200)
                    self.rename = gr.Button("Save the name", scale=0, min_width=150)
                with gr.Row(visible=False) as self.splitting:
                    self.parts = gr.Number(
                        0, label="Parts", info=PARTS_INFO, precision=0, minimum=0, maximum=MOST_PARTS, min_width=220
                    )
                    self.split = gr.Button("Split", scale=0, min_width=150)
            with gr.Row(visible=False) as self.undoing:
                self.undo = gr.Button("Undo", scale=0, min_width=200, elem_id="undo-edit")
                self.redo = gr.Button("Redo", scale=0, min_width=200, elem_id="redo-edit")
            self.rows = gr.HTML(elem_id="cluster-rows")
            with gr.Accordion("Labels and clusters", open=False, visible=False) as self.comparing:
                self.labels = gr.HTML()
            with gr.Accordion("Edits", open=False, visible=False) as self.history:
                self.edits = gr.HTML()

    def connect_to(self, stamp: gr.Textbox) -> None:
        """Connect its events; each edit empties ``stamp``, whereupon the page looks anew."""
        self.stamp = stamp
        forms = [self.number, self.renaming, self.name, self.splitting, self.split, self.parts, self.rows]
        self.list.select(self.act, None, [stamp, *forms], **EVENT).success(None, None, None, js=FOCUS)
        closing = [stamp, self.renaming, self.splitting, self.rows]
        self.name.submit(self.save_name, [self.number, self.name], closing, **EVENT)
        self.on_click(self.rename, self.save_name, [self.number, self.name], closing)
        self.on_click(self.split, self.begin_split, [self.number, self.parts], closing)
        self.on_click(self.undo, self.take_back, None, closing)
        self.on_click(self.redo, self.make_again, None, closing)

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        shown = [self.whole, self.list, self.state, self.undoing, self.undo, self.redo]
        return [*shown, self.comparing, self.labels, self.history, self.edits]

    def draw(self, corpus: Corpus | None) -> Changes:
        """The clusters of a corpus as they stand; nothing where it was not clustered."""
        ready = corpus is not None and corpus.examples is not None
        clustering = self.store.clusterings.latest(corpus.id, finished=True) if corpus and ready else None
        if clustering is None:
            return {self.whole: gr.Column(visible=False)}
        labels = label_table(clustering.clusters)
        return {
            self.whole: gr.Column(visible=True),
            self.list: cluster_list(clustering),
            self.state: _state(clustering),
            self.undoing: gr.Row(visible=bool(clustering.to_undo or clustering.to_redo)),
            self.undo: _button("Undo", clustering.to_undo),
            self.redo: _button("Redo", clustering.to_redo),
            self.comparing: gr.Accordion(visible=bool(labels)),
            self.labels: labels,
            self.history: gr.Accordion(visible=bool(clustering.edits)),
            self.edits: edits_table(clustering),
        }

    def state_of(self, corpus_id: int) -> object:
        """What tells one look from another."""
        clustering = self.store.clusterings.latest(corpus_id, finished=True)
        if clustering is None:
            return None
        edits = [
            (edit.id, edit.undone_at, edit.job and (edit.job.status, edit.job.progress)) for edit in clustering.edits
        ]
        return clustering.id, clustering.grouping, clustering.left_out, edits

    # Handlers

    def act(self, request: gr.Request, event: gr.EventData) -> Changes:
        """What a button of the list asks for: an edit, a form for one, or rows."""
        sent = event._data if isinstance(event._data, dict) else {}
        act, numbers = chosen_text(sent.get("act")), _numbers(sent.get("of"))
        clustering = self._clustered(request)
        check_numbers(clustering.clusters, numbers)
        if act == "merge":
            self.store.cluster_edits.merge(clustering.corpus_id, numbers)
            return self._look_anew()
        if act not in ACTS or len(numbers) != 1:
            raise UserError(f"There is nothing called {shown(act)} to do with a cluster. Reload the page.")
        if act == "exclude":
            self.store.cluster_edits.exclude(clustering.corpus_id, numbers[0])
            return self._look_anew()
        return self._form(clustering, act, numbers[0])

    def _form(self, clustering: Clustering, act: str, number: int) -> Changes:
        """The form of an edit, or rows of a cluster."""
        found = clustering.clusters
        shown_rows = self._rows(clustering, act, number) if act in ("typical", "borderline") else Markup("")
        return {
            self.number: str(number),
            self.renaming: gr.Row(visible=act == "rename"),
            self.name: gr.Textbox(
                value=found.given_name(number),
                label=f"Name of {cluster_name(number)}",
                placeholder=found.shown_name(number),
                info=f"At most {LONGEST_NAME} characters; left empty, it is called by its words.",
            ),
            self.splitting: gr.Row(visible=act == "split"),
            self.split: gr.Button(f"Split {cluster_name(number)}"),
            self.parts: 0,
            self.rows: shown_rows,
        }

    def save_name(self, request: gr.Request, number: Any, name: Any) -> Changes:
        """Give a cluster the name of the form."""
        self.store.cluster_edits.rename(self._corpus(request), _number(number), chosen_text(name))
        return self._look_anew()

    def begin_split(self, request: gr.Request, number: Any, parts: Any) -> Changes:
        """Queue a split."""
        self.store.cluster_edits.split(self._corpus(request), _number(number), chosen_id(parts) or None)
        return self._look_anew()

    def take_back(self, request: gr.Request) -> Changes:
        """Undo the newest edit."""
        self.store.cluster_edits.undo(self._corpus(request))
        return self._look_anew()

    def make_again(self, request: gr.Request) -> Changes:
        """Make the edit again that was undone last."""
        self.store.cluster_edits.redo(self._corpus(request))
        return self._look_anew()

    def _rows(self, clustering: Clustering, kind: str, number: int) -> Markup:
        found, folder = clustering.clusters, self.store.home.corpus(clustering.corpus_id)
        lists = found.typical if kind == "typical" else found.borderline
        positions = lists[found.place(number)] if lists else []
        if not positions:
            return cards.note("info", f"{cluster_name(number)} has no {kind} rows that are known.", NO_ROWS[kind])
        why = explain_rows(folder, self.store.clusterings.folder(clustering), positions)
        return rows_with_reasons(found, number, kind, Rows(folder).take(positions), why)

    def _look_anew(self) -> Changes:
        return {
            self.stamp: "",
            self.renaming: gr.Row(visible=False),
            self.splitting: gr.Row(visible=False),
            self.rows: "",
        }

    def _clustered(self, request: gr.Request) -> Clustering:
        return self.store.clusterings.clustered(self._corpus(request))

    def _corpus(self, request: gr.Request) -> int:
        return self.store.corpora.ready(address_id(request, "corpus") or 0).id


NO_ROWS = {
    "typical": "Cluster the corpus again to find them.",
    "borderline": "None of those that were noted lies between it and another cluster now.",
}


def _state(clustering: Clustering) -> Markup:
    """How far a split is, or why it failed; only of the newest edit."""
    newest = next((edit for edit in clustering.edits if edit.undone_at is None), None)
    if newest is None or newest.job is None or not (newest.is_pending or newest.has_failed):
        return Markup("")
    return cards.join(Markup(f"<p>{cards.text(edit_sentence(newest))}</p>"), job_state(newest.job))


def _button(word: str, edit: Edit | None) -> gr.Button:
    """A button that says which edit it is about."""
    return gr.Button(f"{word}: {edit_sentence(edit)}" if edit else word, visible=edit is not None)


def _numbers(sent: Any) -> list[int]:
    """Numbers of clusters that a browser sent.

    Raises:
        UserError: When there is none, or something else among them.
    """
    found = [number for number in sent if chosen_id(number) is not None] if isinstance(sent, list) else []
    if not found or len(found) != len(sent) or len(found) > 10_000:
        raise UserError("Choose a cluster of the list first.")
    return found


def _number(text: Any) -> int:
    """The number of the cluster that a form is about."""
    digits = chosen_text(text)
    return _numbers([int(digits) if digits.isdecimal() and len(digits) < 6 else None])[0]
