"""Overview: what there is, what is running, and where to begin."""

from __future__ import annotations

import gradio as gr

from jobs.status import FINISHED, JobStatus
from jobs.store import Store
from jobs.tour import add_sample
from studio import cards
from studio.cards import Markup
from studio.pages import tour
from studio.pages.common import EVENT, LIVE_SECONDS, TICK, eta, go_to, moment, shows_errors

JOB_WORDS = {"ingest": "Import of a corpus", "import": "Import of an adapter", "cluster": "Clustering", "train": "Training",
             "speed": "Timing", "routing": "Gates", "weights": "Heads", "map": "Map", "answers": "Answers", "experts": "Experts",
             "compare": "Comparison of runs", "export": "Export", "serve": "Model server"}  # fmt: skip
LEAD = "Upload a corpus, see its clusters, train with one click, and see which expert speaks."


def summary(store: Store) -> Markup:
    """The counts at the top."""
    corpora, runs, counts = store.corpora(), store.runs(), store.queue.counts()
    examples = sum(corpus.examples or 0 for corpus in corpora)
    done = sum(run.status == JobStatus.SUCCEEDED for run in runs)
    alive = bool(store.queue.workers())
    return cards.cards([
        cards.card("Corpora", len(corpora), f"{examples:,} examples"),
        cards.card("Runs", len(runs), f"{done} done"),
        cards.card("Jobs", counts["running"], f"{counts['queued']} waiting"),
        cards.card("Worker", "ready" if alive else "starting", "runs jobs in the background" if alive else "a few seconds, please"),
    ])  # fmt: skip


def runs_table(store: Store) -> Markup:
    """All runs, newest first."""
    runs = store.runs()
    if not runs:
        return cards.empty(
            "No runs yet",
            cards.join("Begin with a corpus on the ", cards.link("/corpora", "Corpora"), " page, or try the sample."),
        )
    rows: list[list[object]] = []
    for run in runs[:100]:
        loss = (run.summary or {}).get("held_out_loss")
        about = [cards.status(run.status)]
        if run.job and run.job.is_active:
            about.append(Markup(f" {run.job.progress:.0%} {eta(run.job)}"))
        links = [cards.link(f"/run?run={run.id}", "open")]
        if run.summary:
            links += [
                Markup(" · "),
                cards.link(f"/inspect?run={run.id}", "inspect"),
                Markup(" · "),
                cards.link(f"/chat?run={run.id}", "chat"),
            ]
        method = f"{run.config['method']} (imported)" if run.is_imported else run.config["method"]
        rows.append([cards.link(f"/run?run={run.id}", run.name), method, cards.join(*about),
                     cards.number(loss), moment(run.created_at), cards.join(*links)])  # fmt: skip
    return cards.table(["Run", "Method", "Status", "Held-out loss", "Created", ""], rows, caption="Runs", numbers=[3])


def jobs_table(store: Store) -> Markup:
    """Jobs that wait or work."""
    jobs = store.queue.jobs(statuses=[s for s in JobStatus if s not in FINISHED], limit=20)
    if not jobs:
        return Markup("")
    rows: list[list[object]] = []
    for job in jobs:
        ends = job.kind != "serve"  # the model server works until nobody asks any more
        rows.append([f"{JOB_WORDS[job.kind]} (job {job.id})", cards.status(job.status), f"{job.progress:.0%}" if ends else "",
                     job.progress_text, eta(job) if ends else ""])  # fmt: skip
    return cards.table(["Job", "Status", "Progress", "Doing", "Time"], rows, caption="At work")


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    gr.HTML(cards.head("Hydra Studio", LEAD))
    top = gr.HTML()
    tour.build(page, store)
    with gr.Row():
        sample = gr.Button("Open the sample corpus", elem_id="use-sample")
        gr.Button("Upload my own corpus", link="/corpora")
        gr.Button("New run", link="/new-run")
    opened = gr.Textbox(visible=False)
    working = gr.HTML()
    table = gr.HTML()

    def draw() -> tuple[Markup, Markup, Markup]:
        return summary(store), jobs_table(store), runs_table(store)

    page.load(draw, None, [top, working, table], **TICK)
    gr.Timer(LIVE_SECONDS).tick(draw, None, [top, working, table], **TICK)

    @shows_errors
    def open_sample() -> str:
        return str(add_sample(store))

    sample.click(open_sample, None, opened, **EVENT).then(None, opened, None, js=go_to("/corpora", "corpus"))
