"""The folded part of a run's page that takes its adapter elsewhere, with the measured gap."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.methods import EXPORTS, export_ways
from jobs.records import Run
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.exports import EXPORT_HEAD, export_row
from studio.pages.common import EVENT, LIVE_SECONDS, TICK, address_id, corpus_choices, job_state, shows_errors

LEAD = (
    "A plain LoRA works wherever PEFT does, without this studio. Where gates depend on the token it is an "
    "approximation, and how far it is off is measured on held-out examples."
)


def export_view(store: Store, run: Run) -> Markup:
    """Every export of a run: its state, or its gaps in a table and the way to its files."""
    pieces: list[object] = []
    for how, words in EXPORTS.items():
        found = store.find_analysis(run.id, "export", {"how": how}, failed=True)
        if found is None or found.job is None:
            continue
        pieces.append(Markup(f"<h4>{cards.text(words)}</h4>"))
        result = found.job.result if found.job.status == JobStatus.SUCCEEDED else None
        if result is None:
            pieces.append(job_state(found.job))
            continue
        caption = "Nats per answer token; KL is how far the next-token distributions lie from the live adapter's"
        pieces += [cards.note("good", "Ready.", result["sentence"]),
                   cards.table(EXPORT_HEAD, [export_row(part) for part in result["parts"]], caption=caption, numbers=range(1, 7)),
                   Markup("<div class='hy-links'>"), cards.link(f"/ui/analyses/{found.id}/export.zip", "Download"), Markup("</div>")]  # fmt: skip
    return cards.join(*pieces)


def build_export(page: gr.Blocks, store: Store) -> None:
    """Draw the part and connect it."""
    with gr.Accordion("Export", open=False, elem_id="export-run"):
        gr.Markdown(LEAD)
        with gr.Row(visible=False) as without:
            corpus = gr.Dropdown(
                [], label="Corpus of this adapter, to measure the gap on", min_width=260, elem_id="export-corpus"
            )
            use = gr.Button("Use this corpus", scale=0, min_width=150, elem_id="use-corpus")
        with gr.Row():
            how = gr.Dropdown([], label="As", min_width=260, elem_id="export-how")
            start = gr.Button("Export", scale=0, min_width=130, elem_id="start-export")
        shown = gr.HTML()

    def run_of(request: gr.Request) -> Run | None:
        try:
            run = store.run(address_id(request, "run") or 0)
        except UserError:
            return None
        return run if run.summary is not None else None

    def load(request: gr.Request) -> tuple[Any, ...]:
        run = run_of(request)
        ways = export_ways(run.config["method"], run.config["adapter"]) if run else []
        choice = gr.Dropdown([(EXPORTS[way], way) for way in ways], value=ways[0] if ways else None)
        homeless = run is not None and run.corpus_id is None
        return (choice, gr.Button(interactive=bool(ways) and not homeless), look(request, ""),
                gr.update(visible=homeless), gr.Dropdown(choices=corpus_choices(store), value=None))  # fmt: skip

    def look(request: gr.Request, known: str) -> Any:
        run = run_of(request)
        view = str(export_view(store, run)) if run else "It can be exported once it has finished."
        return gr.skip() if view == known else view

    @shows_errors
    def begin(request: gr.Request, way: str | None) -> None:
        if way is None:
            raise UserError("There is nothing to export yet.")
        store.export(address_id(request, "run") or 0, way)

    @shows_errors
    def use_corpus(request: gr.Request, corpus_id: int | None) -> None:
        if corpus_id is None:
            raise UserError("Choose a corpus first.")
        store.use_corpus(address_id(request, "run") or 0, corpus_id)

    shows = [how, start, shown, without, corpus]
    page.load(load, None, shows, **TICK)
    use.click(use_corpus, corpus, None, **EVENT).success(load, None, shows, **TICK)
    gr.Timer(LIVE_SECONDS).tick(look, shown, shown, **TICK)
    start.click(begin, how, None, **EVENT).success(look, shown, shown, **TICK)
