"""Run: one training, live: progress, loss, gates, log; stop, resume, look inside."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.methods import METHODS
from jobs.records import Job, Run, Step
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.exports import trainable
from studio.figures import short_layer
from studio.pages.common import EVENT, LIVE_SECONDS, TICK, address_id, job_state, moment, shows_errors
from studio.pages.export import build_export
from studio.palette import expert_colour, expert_name
from studio.widgets import FigurePanel, figure

CHARTS = {"loss": "Loss", "gates": "Gate weights", "speed": "Speed", "rate": "Learning rate"}
REDRAWS = 100  # of the charts during a run
WAITING = "The first numbers appear with the first step."


def latest(steps: list[Step], name: str) -> float | None:
    """The newest recorded value of a number."""
    return next((s.numbers[name] for s in reversed(steps) if s.numbers.get(name) is not None), None)


def run_cards(run: Run, steps: list[Step]) -> Markup:
    """The figures of a run so far."""
    if run.is_imported:
        return imported_cards(run)
    train, summary = run.config["train"], run.summary or {}
    before = summary.get("held_out_loss_before")
    after = summary.get("held_out_loss", latest(steps, "eval_loss"))
    note = f"{before:.3f} before training" if before is not None else "on examples never trained on"
    share = trainable(summary).partition(" trainable")[2].lstrip(" ,") if summary else "known at the end"
    return cards.cards([
        cards.card("Step", f"{steps[-1].step if steps else 0:,} of {train['max_steps']:,}", f"batch of {train['batch_size'] * train['accumulation']}"),
        cards.card("Training loss", cards.number(latest(steps, "loss")), "nats per answer token"),
        cards.card("Held-out loss", cards.number(after), note),
        cards.card("Speed", cards.number(latest(steps, "tokens_per_second"), 0), "tokens per second"),
        cards.card("Trainable", f"{summary['trainable']:,}" if summary else "–", share),
    ])  # fmt: skip


def imported_cards(run: Run) -> Markup:
    """What is known of an adapter from elsewhere."""
    if run.summary is None:
        return Markup("")
    adapter, problem = run.config["adapter"], run.summary["base_problem"]
    facts = [
        cards.card("Method", METHODS[run.config["method"]].title, "as its configuration says"),
        cards.card("Trainable", f"{run.summary['trainable']:,}", trainable(run.summary).partition(" trainable")[2].lstrip(" ,")),
        cards.card("Base", "not here" if problem else "fits", run.config["base"]),
    ]  # fmt: skip
    if "num_experts" in adapter:
        facts.insert(1, cards.card("Experts", adapter["num_experts"], f"of rank {adapter['rank']}"))
    if not problem:
        return cards.cards(facts)
    return cards.join(cards.cards(facts), cards.note("warn", "Until its base is there, only its matrices can be seen.", problem))  # fmt: skip


def gates_now(steps: list[Step]) -> Markup:
    """The newest mean share of every expert, in words and colour."""
    gates = next((s.gates for s in reversed(steps) if s.gates), None)
    if not gates:
        return Markup("")
    rows = list(gates.values())
    means = [sum(row[e] for row in rows) / len(rows) for e in range(len(rows[0]))]
    parts = [
        cards.join(cards.dot(expert_colour(e), f"{expert_name(e)} {mean:.0%}"), Markup("&ensp;"))
        for e, mean in enumerate(means)
    ]
    return Markup(f"<p class='hy-gates'>Mean gate weights now: {cards.join(*parts)}</p>")


def settings_table(run: Run) -> Markup:
    """Every setting of the run."""
    config = run.config
    rows: list[list[object]] = [["base", config["base"]], ["method", config["method"]]]
    for part in ("adapter",) if run.is_imported else ("adapter", "train"):
        rows += [
            [f"{part}.{name}", "all linear layers" if value is None else value] for name, value in config[part].items()
        ]
    return cards.table(
        ["Setting", "Value"], rows, caption="Settings; the same configuration and seed give the same run on a CPU"
    )


def time_taken(job: Job) -> str:
    """How long the training took, and what had been estimated before it started."""
    took = (job.finished_at or 0) - (job.started_at or 0)
    told = job.payload.get("estimated_seconds")
    return f"It took {cards.duration(took)}" + (f"; {cards.duration(told)} had been estimated." if told else ".")


def links(run: Run) -> Markup:
    """What can be done with a finished run."""
    found = [] if run.is_imported else [
        cards.link(f"/new-run?again={run.id}", "Run again with changes"),
        cards.link(f"/ui/runs/{run.id}/metrics.csv", "Metrics as CSV"),
    ]  # fmt: skip
    if run.summary is not None:
        found = [cards.link(f"/inspect?run={run.id}", "Inspect the experts"), cards.link(f"/chat?run={run.id}", "Chat with it"),
                 cards.link(f"/ui/runs/{run.id}/adapter.zip", "Download the adapter"), *found]  # fmt: skip
    return Markup(f"<div class='hy-links'>{cards.join(*found)}</div>")


def headline(store: Store, run: Run) -> Markup:
    """Name, corpus, base and method of a run."""
    if run.corpus_id is None:
        where: object = " without a corpus"
    else:
        corpus = store.corpus(run.corpus_id)
        where = cards.join(" on ", cards.link(f"/corpora?corpus={corpus.id}", corpus.name))
    what = "adapter from elsewhere" if run.is_imported else run.config["method"]
    base = f", base {run.config['base']}" if run.summary or not run.is_imported else ""
    return cards.head(run.name, cards.join(f"Run {run.id}: {what}", where, f"{base}, created {moment(run.created_at)}"))


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    title = gr.HTML()
    state = gr.HTML()
    facts = gr.HTML()
    after = gr.HTML()
    stamp = gr.Textbox(visible=False)
    with gr.Column(visible=False) as detail:
        with gr.Row():
            stop = gr.Button("Stop", variant="stop", min_width=120, scale=0, visible=False, elem_id="stop-run")
            resume = gr.Button("Resume", variant="primary", min_width=120, scale=0, visible=False, elem_id="resume-run")
        with gr.Column() as curves:
            with gr.Row():
                with gr.Column(min_width=320):
                    charts = {"loss": FigurePanel(height=300, elem_id="chart-loss")}
                with gr.Column(min_width=320):
                    charts["gates"] = FigurePanel(height=300, elem_id="chart-gates")
                    layer = gr.Dropdown([("mean of all layers", "")], value="", label="Layer", min_width=200)
            with gr.Accordion("Speed and learning rate", open=False), gr.Row():
                with gr.Column(min_width=320):
                    charts["speed"] = FigurePanel(height=260)
                with gr.Column(min_width=320):
                    charts["rate"] = FigurePanel(height=260)
        build_export(page, store)
        with gr.Accordion("Log", open=False):
            log = gr.HTML()
        with gr.Accordion("Settings", open=False):
            settings = gr.HTML()
        with gr.Accordion("Rename or delete", open=False), gr.Row():
            new_name = gr.Textbox(label="New name", max_lines=1, min_width=200)
            rename = gr.Button("Rename", scale=0, min_width=110)
            sure = gr.Checkbox(False, label="Yes, delete it for good", min_width=170, scale=0)
            delete = gr.Button("Delete run", variant="stop", scale=0, min_width=130, elem_id="delete-run")

    live = [title, state, facts, after, detail, curves, stop, resume, log, settings, layer, *charts.values(), stamp]

    def nothing(request: gr.Request) -> tuple[Any, ...]:
        wanted = address_id(request, "run")
        body = cards.empty(f"Run {wanted} does not exist" if wanted else "No run is chosen",
                           cards.join("Open one from the ", cards.link("/", "Overview"), " or start a ", cards.link("/new-run", "new run"), "."))  # fmt: skip
        hidden = gr.update(visible=False)
        return (
            cards.head("Run"),
            body,
            "",
            "",
            hidden,
            gr.skip(),
            hidden,
            hidden,
            "",
            "",
            gr.skip(),
            *[gr.skip()] * len(charts),
            "none",
        )

    def draw(request: gr.Request, layer_: str, known: str) -> tuple[Any, ...]:
        try:
            run = store.run(address_id(request, "run") or 0)
        except UserError:
            return tuple([gr.skip()] * len(live)) if known == "none" else nothing(request)
        steps = store.steps(run.id)
        job = run.job
        last = steps[-1].step if steps else 0
        now = repr(
            (
                (run.name, run.corpus_id),
                job and (job.id, job.status, job.progress, job.progress_text, job.attempt),
                last,
                len(steps),
                layer_,
            )
        )
        if now == known:
            return tuple([gr.skip()] * len(live))
        routed = next((s.gates for s in steps if s.gates), None)
        names = [("mean of all layers", ""), *((short_layer(n), n) for n in routed or ())]
        src = f"/ui/figures/runs/{run.id}"
        # Drawn anew every hundredth of the run, and at its end: a chart of thousands of steps is work for a browser.
        pace = 1 if job and job.is_finished else max(1, run.config["train"]["max_steps"] // REDRAWS)
        query = f"?at={len(steps) // pace}-{last // pace}-{bool(job and job.is_finished):d}"
        values = {view: figure(f"{src}/{view}{query}" if steps else None, WAITING) for view in charts}
        if steps and layer_ in dict((v, k) for k, v in names):
            values["gates"] = figure(f"{src}/gates{query}&layer={layer_}", WAITING)
        active = bool(job and not job.is_finished)
        unsure = bool(run.is_imported and run.summary and run.summary["base_problem"])
        again = bool(job and job.is_finished and (unsure or job.status != JobStatus.SUCCEEDED))
        done = run.summary and run.summary.get("skipped_examples")
        skipped = (
            cards.note("warn", f"{done:,} examples were left out.", "Their prompt alone is longer than `max_length`.")
            if done
            else Markup("")
        )
        succeeded = (
            cards.note("good", "Done.", "" if run.is_imported else time_taken(job))
            if run.summary and job and job.status == JobStatus.SUCCEEDED
            else Markup("")
        )
        return (
            headline(store, run), cards.join(job_state(job), succeeded, skipped), cards.join(run_cards(run, steps), gates_now(steps)), links(run),
            gr.update(visible=True), gr.update(visible=not run.is_imported), gr.Button(visible=active, interactive=bool(job and job.status != JobStatus.STOPPING)),
            gr.Button("Look for its base again" if unsure else "Resume", visible=again), cards.log(store.log_tail(job) if job else ""), settings_table(run),
            gr.Dropdown(choices=names) if known == "" else gr.skip() if routed is None else gr.Dropdown(choices=names),
            *[values[view] for view in charts], now,
        )  # fmt: skip

    page.load(draw, [layer, stamp], live, **TICK)
    gr.Timer(LIVE_SECONDS).tick(draw, [layer, stamp], live, **TICK)
    layer.input(draw, [layer, stamp], live, **TICK)

    @shows_errors
    def stop_run(request: gr.Request) -> str:
        store.stop_run(address_id(request, "run") or 0)
        return ""

    @shows_errors
    def resume_run(request: gr.Request) -> str:
        store.resume_run(address_id(request, "run") or 0)
        return ""

    @shows_errors
    def rename_run(request: gr.Request, value: str) -> str:
        store.rename_run(address_id(request, "run") or 0, value)
        return ""

    @shows_errors
    def delete_run(request: gr.Request, is_sure: bool) -> None:
        if not is_sure:
            raise UserError("Tick “Yes, delete it for good” first.")
        store.delete_run(address_id(request, "run") or 0)

    for button, handler, given in ((stop, stop_run, None), (resume, resume_run, None), (rename, rename_run, new_name)):
        button.click(handler, given, stamp, **EVENT).success(draw, [layer, stamp], live, **TICK)
    delete.click(delete_run, sure, None, **EVENT).success(None, None, None, js="() => location.assign('/')")
