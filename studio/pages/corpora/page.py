"""Corpora: upload, see what an import would make of the files, import, look at the rows, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from hydralora.corpus.formats import ENDINGS, known_names
from hydralora.errors import UserError
from hydralora.samples import GENERATORS
from jobs.store.bases import is_hub_allowed
from jobs.store.records import Corpus, Reading
from jobs.tour import add_sample
from studio import cards
from studio.cards import Markup
from studio.pages.common import TICK, address_id, asked_for, chosen_text, go_to, nothing_there
from studio.pages.corpora.clusters import Clusters
from studio.pages.corpora.edits import EditsPart
from studio.pages.corpora.problems import Problems
from studio.pages.corpora.reading import BASE, ReadingPart, stamp_of
from studio.pages.corpora.selection import SelectionPart
from studio.pages.corpora.steps import opening
from studio.pages.corpora.views import (
    cluster_report,
    corpora_list,
    facts,
    rejected_table,
)
from studio.pages.page import Changes, Page, refuse_unsure, rename_or_delete
from studio.silence import words_of
from studio.widgets import FigurePanel, LiveChanges, figure

FILE_TYPES = list(ENDINGS)
LEAD = (
    "A corpus is all examples of one dataset: questions with answers, conversations, or plain text. Files may be "
    f"{known_names()}; also packed, or many in one archive (ZIP, tar)."
)
SOON = 500  # ms between two looks at what has changed, while files are being looked at


class CorporaPage(Page):
    """All corpora, and the one that the address names."""

    title = "Corpora"
    path = "corpora"

    # Drawing

    def layout(self) -> None:
        self.watch = LiveChanges()
        with gr.Row(elem_classes="hy-listed"):
            with gr.Column(scale=0, min_width=236):
                gr.HTML(cards.side("Data", "/corpora", "Add data"))
                self.table = gr.HTML()
            with gr.Column(scale=1, min_width=320):
                self.nothing = gr.HTML()
                with gr.Column() as self.adding:
                    gr.HTML(cards.join(cards.section("Bring your data"), cards.paragraph(LEAD)))
                    with gr.Row():
                        self._upload()
                        self._samples()
                self._opened()
        self.opened = gr.Textbox(visible=False)
        # What is shown of the corpus, of how its files are read, and of what was read: none is drawn twice.
        self.stamp, self.looked, self.read = (gr.Textbox(visible=False) for _ in range(3))

    def _opened(self) -> None:
        with gr.Column(visible=False) as self.detail:
            self.head = gr.HTML()
            self.about = gr.HTML()
            self.reading = ReadingPart(self.blocks, self.store)
            with gr.Column(visible=False) as self.imported:
                self.problems = Problems(self.blocks, self.store)
                self._clusters()
                self.selection = SelectionPart(self.blocks, self.store)
                self.edits = EditsPart(self.blocks, self.store)
                with gr.Accordion("Rejected rows", open=False):
                    self.rejected = gr.HTML()
            self.new_name, self.rename, self.sure, self.delete = rename_or_delete("corpus")

    def _upload(self) -> None:
        with gr.Column(scale=2, min_width=300):
            self.files = gr.File(
                label="Files of one corpus",
                file_count="multiple",
                file_types=FILE_TYPES,
                height=130,
                elem_id="corpus-files",
            )
            self.dataset = gr.Textbox(
                label="Or a data set of the Hugging Face hub",
                placeholder="owner/name, or owner/name/folder",
                info="Its files are fetched, and shown before anything is imported.",
                max_lines=1,
                visible=is_hub_allowed(),
                elem_id="hub-dataset",
            )
            self.name = gr.Textbox(label="Name", placeholder="taken from the file when left empty", max_lines=1)
            self.add = gr.Button("Add corpus", variant="primary", elem_id="add-corpus")

    def _samples(self) -> None:
        with gr.Column(scale=1, min_width=240):
            self.sample = gr.Dropdown(
                list(GENERATORS),
                value="four-trades",
                label="Sample corpora",
                info="Small corpora that come with the studio.",
            )
            self.use = gr.Button("Use this sample", elem_id="use-sample")

    def _clusters(self) -> None:
        with gr.Accordion("Clusters: what kinds of text are there?", open=True, elem_id="part-clusters"):
            with gr.Row():
                self.auto = gr.Checkbox(True, label="Suggest the number", min_width=160, scale=0)
                self.k = gr.Slider(1, 24, 4, step=1, label="Clusters k", interactive=False, min_width=240)
                self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90, scale=0)
                self.cluster = gr.Button("Cluster", variant="primary", min_width=120, scale=0, elem_id="cluster")
            self.report = gr.HTML()
            self.clusters = Clusters(self.blocks, self.store)
            self.chart = FigurePanel(height=300, elem_id="elbow", visible=False)

    # Events

    def connect(self) -> None:
        shown = [self.detail, self.head, self.about, self.imported]
        live = [self.watch, self.adding, self.nothing, self.table, *shown, self.stamp, self.looked, self.read]
        self.on_change(self.watch, self.draw, self.stamp, live)
        # What the file holds changes only when it is read again: rows are left alone while clusters are made.
        self.read.change(self.fill, None, self.rejected, **TICK)
        self.looked.change(self.fill_reading, None, self.reading.parts(), **TICK)
        self.reading.link(self.stamp)
        self.problems.connect_to(self.stamp)
        self.clusters.connect_to(self.stamp)
        filled = self.stamp.change(self.fill_problems, None, self.problems.drawn, **TICK)
        self.selection.connect_to(self.stamp)
        filled = filled.then(self.fill_selection, self.selection.fields, self.selection.drawn, **TICK)
        self.edits.connect_to(self.stamp)
        filled = filled.then(self.fill_edits, None, self.edits.drawn, **TICK)
        filled.then(self.fill_clusters, None, [self.report, self.chart, *self.clusters.drawn], **TICK)
        self._connect_adding()
        self.auto.change(self.suggest, self.auto, self.k, **TICK)
        self.on_click(self.cluster, self.start_clustering, [self.auto, self.k, self.seed], self.stamp)
        self.on_click(self.rename, self.rename_corpus, self.new_name, self.stamp)
        self.on_click(self.delete, self.delete_corpus, self.sure, None).success(
            None, None, None, js="() => location.assign('/corpora')"
        )

    def _connect_adding(self) -> None:
        open_it = {"fn": None, "inputs": self.opened, "outputs": None, "js": go_to("/corpora", "corpus")}
        given = [self.files, self.name, self.dataset]
        adding = self.on_click(self.add, self.add_files, given, [self.opened, *given])
        adding.success(**open_it)
        self.on_click(self.use, self.use_sample, self.sample, self.opened).success(**open_it)

    # Handlers

    def chosen(self, request: gr.Request) -> tuple[Corpus | None, str]:
        """The corpus that the address asks for, or what is wrong with what it asks for."""
        return asked_for(request, "corpus", "Corpus", self.store.corpora.get)

    def draw(self, request: gr.Request, known: str = "") -> Changes:
        """The list, and the facts of the chosen corpus; nothing where all is as ``known``."""
        number = address_id(request, "corpus")
        watching = self.watching("corpora", f"corpus-{number}") if number else self.watching("corpora")
        corpus, problem = self.chosen(request)
        listing = corpora_list(self.store, corpus.id if corpus else None)
        if corpus is None:
            note = nothing_there(problem, "Add a corpus below, or open one of the list.")
            return {self.watch: watching, self.table: listing, self.nothing: note, self.stamp: ""}
        reading = self.store.corpora.reading(corpus.id)
        now = self._state_of(corpus, reading)
        if now == known:
            return {self.table: listing}
        soon = {"every": SOON} if reading.waits_for else {}
        return {
            self.watch: {**watching, **soon},
            self.table: listing,
            self.detail: gr.Column(visible=True),
            self.adding: gr.Column(visible=False),
            self.head: opening(self.store, corpus),
            self.about: facts(self.store, corpus),
            self.imported: gr.Column(visible=corpus.examples is not None),
            self.stamp: now,
            self.looked: repr((corpus.id, corpus.examples, _job(corpus), stamp_of(reading))),
            self.read: repr((corpus.id, corpus.examples, _job(corpus))),
        }

    def _state_of(self, corpus: Corpus, reading: Reading) -> str:
        jobs = [corpus.job]
        clustering = self.store.clusterings.latest(corpus.id)
        jobs += [clustering.job] if clustering else []
        states = [job and (job.id, job.status, round(job.progress, 2), words_of(job)) for job in jobs]
        parts = [part.state_of(corpus.id) for part in (self.problems, self.clusters, self.selection, self.edits)]
        return repr((corpus.id, corpus.name, states, stamp_of(reading), parts))

    def fill(self, request: gr.Request) -> Changes:
        """Rejected rows of a corpus that has been read."""
        corpus, _ = self.chosen(request)
        if corpus is None or corpus.examples is None:
            return {self.rejected: ""}
        return {self.rejected: rejected_table(self.store, corpus)}

    def fill_selection(self, request: gr.Request, *values: Any) -> Changes:
        """What can be chosen of its rows, and what its fields select."""
        corpus, _ = self.chosen(request)
        return self.selection.draw(corpus, address_id(request, "selection"), *values)

    def fill_problems(self, request: gr.Request) -> Changes:
        """The newest quality report, or how far the check is, and what is left out."""
        corpus, _ = self.chosen(request)
        return self.problems.draw(corpus)

    def fill_reading(self, request: gr.Request) -> Changes:
        """How its files are read, or would be."""
        return self.reading.draw(self.chosen(request)[0])

    def fill_edits(self, request: gr.Request) -> Changes:
        """What was edited of its rows."""
        return self.edits.draw(self.chosen(request)[0])

    def fill_clusters(self, request: gr.Request) -> Changes:
        """The newest clustering, or how far it is."""
        corpus, _ = self.chosen(request)
        ready = corpus if corpus and corpus.examples is not None else None
        done = self.store.clusterings.latest(ready.id, finished=True) if ready else None
        src = f"/ui/figures/clusterings/{done.id}" if done else None
        return {
            self.report: cluster_report(self.store, self.store.clusterings.latest(ready.id)) if ready else Markup(""),
            self.chart: gr.update(value=figure(f"{src}/elbow"), visible=True) if src else gr.update(visible=False),
            **self.clusters.draw(corpus),
        }

    def suggest(self, wanted: Any) -> Changes:
        """Whether k can be chosen."""
        return {self.k: gr.Slider(interactive=wanted is not True)}

    def add_files(self, uploaded: list[str] | None, given: str | None, dataset: str | None) -> Changes:
        """Take uploaded files in as a draft, or have a data set fetched, and open it: it is imported when its columns
        have been seen."""
        paths, name, asked = [Path(path) for path in uploaded or []], chosen_text(given).strip(), chosen_text(dataset)
        if paths and asked.strip():
            raise UserError("Files were chosen and a data set was named. Take one of them, then add the other.")
        if asked.strip():
            corpus = self.store.corpora.draft_of_hub(asked, name, base=BASE)
        else:
            name = name or (paths[0].name.split(".")[0] if paths else "corpus")
            corpus = self.store.corpora.draft(name, paths, base=BASE, keep_files=False)
        return {self.opened: str(corpus.id), self.files: None, self.dataset: "", self.name: ""}

    def use_sample(self, which: Any) -> Changes:
        """Add a sample corpus, and open it."""
        if chosen_text(which) not in GENERATORS:
            raise UserError("That sample does not exist.")
        return {self.opened: str(add_sample(self.store, which))}

    def start_clustering(self, request: gr.Request, suggest: bool, k: int, seed: int | None) -> Changes:
        """Queue a clustering."""
        self.store.clusterings.add(address_id(request, "corpus") or 0, None if suggest else k, seed or 0)
        return {self.stamp: ""}

    def rename_corpus(self, request: gr.Request, name: str) -> Changes:
        """Give it another name."""
        self.store.corpora.rename(address_id(request, "corpus") or 0, chosen_text(name))
        return {self.stamp: ""}

    def delete_corpus(self, request: gr.Request, is_sure: bool) -> None:
        """Delete it with all that was made from it, where the box is ticked."""
        refuse_unsure(is_sure)
        self.store.corpora.delete(address_id(request, "corpus") or 0)


def _job(corpus: Corpus) -> object:
    return corpus.job and (corpus.job.id, corpus.job.status)
