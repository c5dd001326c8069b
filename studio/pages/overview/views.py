"""What the Overview shows: counts, jobs at work, runs."""

from __future__ import annotations

from jobs.kinds import KINDS, title_of
from jobs.store.status import FINISHED, JobStatus
from jobs.store.store import Store
from jobs.store.totals import Totals
from studio import cards
from studio.cards import Markup
from studio.pages.common import eta

MOST_RUNS = 100  # in the table


def summary(totals: Totals) -> Markup:
    """The counts at the top."""
    return cards.cards(
        [
            cards.card("Corpora", totals.corpora, f"{totals.examples:,} examples"),
            cards.card("Runs", totals.runs, f"{totals.runs_done} done"),
            cards.card("Jobs", totals.jobs_running, f"{totals.jobs_waiting} waiting"),
            cards.card(
                "Worker",
                "ready" if totals.workers else "starting",
                "runs jobs in the background" if totals.workers else "a few seconds, please",
            ),
        ]
    )


def runs_table(store: Store) -> Markup:
    """The newest runs."""
    runs = store.runs.all(MOST_RUNS)
    if not runs:
        return cards.empty(
            "No runs yet",
            cards.join("Begin with a corpus on the ", cards.link("/corpora", "Corpora"), " page, or try the sample."),
        )
    rows: list[list[object]] = []
    for run in runs:
        loss = run.summary.held_out_loss if run.summary else None
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
        method = f"{run.method} (imported)" if run.is_imported else run.method
        rows.append(
            [
                cards.link(f"/run?run={run.id}", run.name),
                method,
                cards.join(*about),
                cards.number(loss),
                cards.moment(run.created_at),
                cards.join(*links),
            ]
        )
    return cards.table(["Run", "Method", "Status", "Held-out loss", "Created", ""], rows, caption="Runs", numbers=[3])


def jobs_table(store: Store) -> Markup:
    """Jobs that wait or work."""
    jobs = store.queue.jobs(statuses=[s for s in JobStatus if s not in FINISHED], limit=20)
    if not jobs:
        return Markup("")
    rows: list[list[object]] = []
    for job in jobs:
        ends = job.kind not in KINDS or KINDS[job.kind].ends
        rows.append(
            [
                f"{title_of(job.kind)} (job {job.id})",
                cards.status(job.status),
                f"{job.progress:.0%}" if ends else "",
                job.progress_text,
                eta(job) if ends else "",
            ]
        )
    return cards.table(["Job", "Status", "Progress", "Doing", "Time"], rows, caption="At work")
