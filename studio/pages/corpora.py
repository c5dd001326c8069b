"""Corpora: upload, look at the rows, correct the roles, cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from hydralora.corpus import Corpus as Rows
from hydralora.corpus import Example
from hydralora.errors import UserError
from hydralora.samples import GENERATORS
from jobs.records import Clustering, Corpus
from jobs.store import Store
from jobs.tour import add_sample
from studio import cards
from studio.cards import Markup
from studio.pages.common import (
    EVENT,
    LIVE_SECONDS,
    TICK,
    address_id,
    go_to,
    job_state,
    moment,
    shows_errors,
)
from studio.palette import cluster_colour, cluster_name
from studio.widgets import FigurePanel, figure

PAGE_ROWS = 10
LASSO_ROWS = 50
FILE_TYPES = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".md", ".gz"]
LEAD = "A corpus is all examples of one dataset: questions with answers, conversations, or plain text."
ONE_ROLE = ("answer", "text", "messages", "system", "label", "split")


def corpora_table(store: Store, chosen: int | None) -> Markup:
    """All corpora, newest first."""
    found = store.corpora()
    if not found:
        return cards.empty(
            "No corpus yet", "Upload files above: CSV, TSV, JSONL, JSON, Parquet, TXT or MD, also gzipped."
        )
    rows: list[list[object]] = []
    for corpus in found:
        state = cards.status(corpus.job.status) if corpus.job and corpus.examples is None else f"{corpus.examples:,}"
        name = cards.link(f"/corpora?corpus={corpus.id}", corpus.name)
        mark = Markup(" ◂") if corpus.id == chosen else Markup("")
        rows.append([cards.join(name, mark), state, corpus.rejected if corpus.rejected is not None else "–",
                     corpus.format or "–", moment(corpus.created_at)])  # fmt: skip
    return cards.table(
        ["Corpus", "Examples", "Refused rows", "Format", "Added"], rows, caption="Corpora", numbers=[1, 2]
    )


def facts(store: Store, corpus: Corpus) -> Markup:
    """What was found in a corpus."""
    if corpus.examples is None:
        return job_state(corpus.job)
    manifest = Rows(store.home.corpus(corpus.id)).manifest
    roles = {k: ", ".join(v) if isinstance(v, list) else v for k, v in manifest["roles"].items() if v}
    described = "; ".join(f"{k}: {v}" for k, v in roles.items())
    held_out = manifest["splits"].get("held_out")
    more = [f"{len(manifest['labels'])} labels"] if manifest["labels"] else []
    more += [f"{held_out:,} held out by the file"] if held_out else []
    return cards.cards([
        cards.card("Examples", f"{corpus.examples:,}", f"{manifest['duplicates']:,} duplicates"),
        cards.card("Refused rows", f"{corpus.rejected:,}", "listed below" if corpus.rejected else "every row was used"),
        cards.card("Kind", manifest["shape"], f"{manifest['format']}; {described}"),
        cards.card("Length", f"{manifest['characters'] / corpus.examples:,.0f}", "characters per example, " + (", ".join(more) or "no labels")),
    ])  # fmt: skip


def rows_table(examples: list[Example], ids: list[int], caption: str) -> Markup:
    """Examples as a table."""
    has_label = any(example.label for example in examples)
    rows: list[list[object]] = []
    for position, example in zip(ids, examples, strict=True):
        prompt = "\n".join([*(f"[{role}] {text}" for role, text in example.history), example.prompt])
        cells: list[object] = [position, cards.long_text(prompt), cards.long_text(example.answer)]
        rows.append([*cells, example.label] if has_label else cells)
    return cards.table(
        ["#", "Prompt", "Answer or text", *(["Label"] if has_label else [])], rows, caption=caption, numbers=[0]
    )


def page_of_rows(store: Store, corpus_id: int, number: int) -> Markup:
    """One page of a corpus; pages count from 1."""
    rows = Rows(store.home.corpus(corpus_id))
    pages = -(-len(rows) // PAGE_ROWS)
    number = min(max(int(number or 1), 1), pages)
    start = (number - 1) * PAGE_ROWS
    found = rows.page(start, PAGE_ROWS)
    ids = list(range(start, start + len(found)))
    return rows_table(found, ids, f"Page {number} of {pages:,}")


def rejected_table(store: Store, corpus: Corpus) -> Markup:
    """The refused rows with their reasons."""
    if corpus.examples is None or not corpus.rejected:
        return Markup("No row was refused.")
    found = Rows(store.home.corpus(corpus.id)).rejected()[:200]
    rows: list[list[object]] = [[r.row, r.source, r.reason] for r in found]
    return cards.table(
        ["Row", "File", "Reason"],
        rows,
        caption=f"{corpus.rejected:,} refused rows, the first {len(found)}",
        numbers=[0],
    )


def cluster_report(store: Store, clustering: Clustering | None) -> Markup:
    """The clusters with size, words and a typical example, and what they say about experts."""
    if clustering is None:
        return cards.empty(
            "Not clustered yet",
            "Press “Cluster”: it shows what kinds of text there are and how many experts they suggest.",
        )
    if clustering.result is None:
        return job_state(clustering.job)
    result = clustering.result
    rows_of = Rows(store.home.corpus(clustering.corpus_id))
    rows: list[list[object]] = []
    for index, size in enumerate(result["sizes"]):
        typical = rows_of.take(result["typical"][index][:1])
        text = typical[0].text() if typical else ""
        rows.append(
            [
                cards.dot(cluster_colour(index), cluster_name(index)),
                f"{size:,}",
                cards.words(result["words"][index]),
                cards.long_text(text, 300),
            ]
        )
    nmi = result["nmi"]
    label = "" if nmi is None else f" They agree with the corpus' own labels to {nmi:.2f} of 1 (NMI)."
    advice = cards.note(
        "good",
        f"Suggested number of experts: {result['suggested_k']}",
        f"{result['reason']}{label} Clusters only suggest the number; they never reach the router.",
    )
    return cards.join(
        advice,
        cards.table(
            ["Cluster", "Examples", "Words", "Typical example"],
            rows,
            caption=f"{result['k']} clusters, seed {result['seed']}",
            numbers=[1],
        ),
    )


def picked_rows(store: Store, corpus_id: int, points: list[dict[str, Any]]) -> Markup:
    """The examples inside a loop drawn on the map; ids come from the browser and are checked."""
    rows = Rows(store.home.corpus(corpus_id))
    given = [p.get("id") for p in points]
    ids = [i for i in given if isinstance(i, int) and 0 <= i < len(rows)]
    if not ids:
        return Markup("")
    return rows_table(
        rows.take(ids[:LASSO_ROWS]),
        ids[:LASSO_ROWS],
        f"{len(ids):,} examples in the loop, the first {min(len(ids), LASSO_ROWS)}",
    )


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    gr.HTML(cards.head("Corpora", LEAD))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = gr.File(
                label="Files of one corpus",
                file_count="multiple",
                file_types=FILE_TYPES,
                height=130,
                elem_id="corpus-files",
            )
            name = gr.Textbox(label="Name", placeholder="taken from the file when left empty", max_lines=1)
            add = gr.Button("Add corpus", variant="primary", elem_id="add-corpus")
        with gr.Column(scale=1, min_width=240):
            sample = gr.Dropdown(
                list(GENERATORS),
                value="four-trades",
                label="Sample corpora",
                info="Small corpora that come with the studio.",
            )
            use = gr.Button("Use this sample")
    opened = gr.Textbox(visible=False)
    stamp = gr.Textbox(visible=False)
    table = gr.HTML()
    with gr.Column(visible=False) as detail:
        title = gr.HTML()
        about = gr.HTML()
        with gr.Accordion("Rows", open=True):
            with gr.Row():
                number = gr.Number(1, label="Page", precision=0, minimum=1, min_width=90, scale=0)
                back, forth = (
                    gr.Button("◂ Previous", scale=0, min_width=130),
                    gr.Button("Next ▸", scale=0, min_width=110),
                )
            rows = gr.HTML()
        with gr.Accordion("Clusters: what kinds of text are there?", open=True):
            with gr.Row():
                auto = gr.Checkbox(True, label="Suggest the number", min_width=160, scale=0)
                k = gr.Slider(1, 24, 4, step=1, label="Clusters k", interactive=False, min_width=180)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90, scale=0)
                cluster = gr.Button("Cluster", variant="primary", min_width=120, scale=0, elem_id="cluster")
                train = gr.Button("Train on this corpus", min_width=200, scale=0)
            report = gr.HTML()
            with gr.Row():
                with gr.Column(min_width=320):
                    chart = FigurePanel(height=300, elem_id="elbow")
                with gr.Column(min_width=320):
                    plane = FigurePanel(height=460, elem_id="corpus-map")
            picked = gr.HTML()
        with gr.Accordion("Refused rows", open=False):
            refused = gr.HTML()
        with gr.Accordion("Correct the columns' roles", open=False):
            gr.HTML(
                Markup(
                    "<p>The roles were guessed from names and contents. Choose others and the file is read again.</p>"
                )
            )
            with gr.Row():
                prompt = gr.Dropdown([], multiselect=True, label="Prompt (joined in this order)", min_width=200)
                one = {role: gr.Dropdown([], label=role.capitalize(), min_width=130) for role in ONE_ROLE}
            again = gr.Button("Read the file again with these roles")
        with gr.Accordion("Rename or delete", open=False), gr.Row():
            new_name = gr.Textbox(label="New name", max_lines=1, min_width=200)
            rename = gr.Button("Rename", scale=0, min_width=110)
            sure = gr.Checkbox(False, label="Yes, delete it for good", min_width=170, scale=0)
            delete = gr.Button("Delete corpus", variant="stop", scale=0, min_width=130)

    live = [table, detail, title, about, stamp]
    body = [rows, report, chart, plane, refused, prompt, *one.values()]

    def chosen(request: gr.Request) -> Corpus | None:
        corpus_id = address_id(request, "corpus")
        if corpus_id is None:
            return None
        try:
            return store.corpus(corpus_id)
        except UserError:
            return None

    def state_of(corpus: Corpus) -> str:
        clustering = store.latest_clustering(corpus.id)
        parts = [
            corpus.id,
            corpus.name,
            corpus.job and (corpus.job.id, corpus.job.status, round(corpus.job.progress, 2)),
        ]
        job = clustering and clustering.job
        return repr((*parts, job and (job.id, job.status, round(job.progress, 2), job.progress_text)))

    def draw(request: gr.Request, known: str = "") -> tuple[Any, ...]:
        corpus = chosen(request)
        listing = corpora_table(store, corpus.id if corpus else None)
        if corpus is None:
            missing = address_id(request, "corpus")
            note = (
                cards.note("warn", f"Corpus {missing} does not exist.", "It may have been deleted.")
                if missing
                else Markup("")
            )
            return cards.join(note, listing), gr.Column(visible=False), "", "", ""
        now = state_of(corpus)
        if now == known:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return (
            listing,
            gr.Column(visible=True),
            cards.head(corpus.name, f"Corpus {corpus.id}, added {moment(corpus.created_at)}"),
            facts(store, corpus),
            now,
        )

    def fill(request: gr.Request) -> tuple[Any, ...]:
        corpus = chosen(request)
        if corpus is None or corpus.examples is None:
            blank = figure(None, "The map appears after clustering.")
            return ("", "", blank, blank, "", *[gr.skip()] * (1 + len(one)))
        clustering = store.latest_clustering(corpus.id)
        done = store.latest_clustering(corpus.id, finished=True)
        src = f"/ui/figures/clusterings/{done.id}" if done else None
        manifest = Rows(store.home.corpus(corpus.id)).manifest
        columns, roles = ["", *manifest["columns"]], manifest["roles"]
        return (
            page_of_rows(store, corpus.id, 1), cluster_report(store, clustering),
            figure(src and f"{src}/elbow", "The choice of k appears after clustering."),
            figure(src and f"{src}/map", "The map appears after clustering."), rejected_table(store, corpus),
            gr.Dropdown(choices=manifest["columns"], value=list(roles["prompt"])),
            *[gr.Dropdown(choices=columns, value=roles[role]) for role in one],
        )  # fmt: skip

    page.load(draw, None, live, **TICK)
    stamp.change(fill, None, body, **TICK)
    gr.Timer(LIVE_SECONDS).tick(draw, stamp, live, **TICK)

    @shows_errors
    def add_files(uploaded: list[str] | None, given: str) -> tuple[str, None, str]:
        paths = [Path(path) for path in uploaded or []]
        name_ = given.strip() or (paths[0].name.split(".")[0] if paths else "")
        return str(store.add_corpus(name_ or "corpus", paths, keep_files=False).id), None, ""

    @shows_errors
    def use_sample(which: str) -> str:
        if which not in GENERATORS:
            raise UserError("That sample does not exist.")
        return str(add_sample(store, which))

    @shows_errors
    def turn(request: gr.Request, number_: float, by: int) -> tuple[int, Markup]:
        corpus = store.ready_corpus(address_id(request, "corpus") or 0)
        pages = -(-(corpus.examples or 1) // PAGE_ROWS)
        target = min(max(int(number_ or 1) + by, 1), pages)
        return target, page_of_rows(store, corpus.id, target)

    @shows_errors
    def start_clustering(request: gr.Request, suggest: bool, k_: float, seed_: float) -> str:
        store.add_clustering(address_id(request, "corpus") or 0, None if suggest else int(k_), int(seed_ or 0))
        return ""

    @shows_errors
    def select(request: gr.Request, event: gr.EventData) -> Markup:
        points = event._data.get("points") if isinstance(event._data, dict) else None
        return picked_rows(store, address_id(request, "corpus") or 0, points if isinstance(points, list) else [])

    @shows_errors
    def read_again(request: gr.Request, prompts: list[str], *values: str) -> str:
        roles = {"prompt": prompts, **{role: value or "" for role, value in zip(one, values, strict=True)}}
        store.import_again(address_id(request, "corpus") or 0, roles)
        return ""

    @shows_errors
    def rename_corpus(request: gr.Request, value: str) -> str:
        store.rename_corpus(address_id(request, "corpus") or 0, value)
        return ""

    @shows_errors
    def delete_corpus(request: gr.Request, is_sure: bool) -> None:
        if not is_sure:
            raise UserError("Tick “Yes, delete it for good” first.")
        store.delete_corpus(address_id(request, "corpus") or 0)

    open_corpus = go_to("/corpora", "corpus")
    add.click(add_files, [files, name], [opened, files, name], **EVENT).success(None, opened, None, js=open_corpus)
    use.click(use_sample, sample, opened, **EVENT).success(None, opened, None, js=open_corpus)

    def forward(request: gr.Request, n: float) -> tuple[int, Markup]:
        return turn(request, n, 1)

    def backward(request: gr.Request, n: float) -> tuple[int, Markup]:
        return turn(request, n, -1)

    def same(request: gr.Request, n: float) -> tuple[int, Markup]:
        return turn(request, n, 0)

    forth.click(forward, number, [number, rows], **EVENT)
    back.click(backward, number, [number, rows], **EVENT)
    number.change(same, number, [number, rows], **TICK)
    auto.change(lambda on: gr.Slider(interactive=not on), auto, k, **TICK)
    cluster.click(start_clustering, [auto, k, seed], stamp, **EVENT)
    train.click(
        None,
        None,
        None,
        js="() => { const u = new URL(location); location.assign('/new-run?corpus=' + u.searchParams.get('corpus')); }",
    )
    plane.select(select, None, picked, **TICK)
    again.click(read_again, [prompt, *one.values()], stamp, **EVENT)
    rename.click(rename_corpus, new_name, stamp, **EVENT)
    delete.click(delete_corpus, sure, None, **EVENT).success(None, None, None, js="() => location.assign('/corpora')")
