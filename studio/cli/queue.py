"""The commands `queue ...`: what waits and works, and its order."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_ID
from jobs.kinds import title_of
from jobs.runner.service import start_worker
from jobs.store.order import PLACES
from jobs.store.records import Job
from jobs.store.status import ACTIVE
from jobs.store.store import Store
from studio.cli.terminal import AsJson, Studio, out, print_table, show
from studio.silence import words_of

queue_app = typer.Typer(no_args_is_help=True, help="The queue: list, move, hold, release, after, cancel.")
JobId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the job")]
LANES = ("heavy", "light", "network", "server")


@queue_app.command("list")
def list_queue(as_json: AsJson = False) -> None:
    """List the jobs that are worked on, then those that wait, in the order in which they begin."""
    _tell(Studio.true_store(), as_json)


@queue_app.command("move")
def move_job(
    job_id: JobId,
    place: Annotated[str, typer.Argument(help=", ".join(PLACES))],
    as_json: AsJson = False,
) -> None:
    """Change when a waiting job begins, among those of its lane."""
    store = Studio.store()
    store.order.move(job_id, place)
    _tell(store, as_json)


@queue_app.command("hold")
def hold_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Keep a waiting job from beginning until it is released."""
    store = Studio.store()
    store.order.hold(job_id)
    _tell(store, as_json)


@queue_app.command("release")
def release_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Let a job that was held begin when its turn comes."""
    store = Studio.store()
    store.order.hold(job_id, held=False)
    start_worker(store.home)
    _tell(store, as_json)


@queue_app.command("after")
def put_job_after(
    job_id: JobId,
    others: Annotated[list[int], typer.Argument(min=0, max=LARGEST_ID, help="Ids of jobs that must succeed first")],
    as_json: AsJson = False,
) -> None:
    """Let a waiting job begin only once others have succeeded."""
    store = Studio.store()
    store.order.put_after(job_id, others)
    _tell(store, as_json)


@queue_app.command("cancel")
def cancel_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job: a waiting one at once; one that works saves its state first."""
    store = Studio.true_store()
    if not store.queue.stop(job_id).is_finished:
        start_worker(store.home)  # where none lives, nobody would end it
    _tell(store, as_json)


def queue_view(store: Store) -> list[dict[str, Any]]:
    """Every open job as an answer: those that are worked on first."""
    jobs = sorted(store.queue.jobs(statuses=ACTIVE, limit=1000), key=lambda job: job.id)
    jobs += [job for lane in LANES for job in store.order.waiting(lane)]
    after = store.order.after([job.id for job in jobs])
    return [_view(job, after.get(job.id, [])) for job in jobs]


def _view(job: Job, after: list[int]) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "kind": job.kind,
        "lane": job.lane,
        "status": job.status,
        "run_id": job.run_id,
        "corpus_id": job.corpus_id,
        "progress": job.progress,
        "text": words_of(job),
        "priority": job.priority,
        "held": job.held,
        "after": after,
    }


def _tell(store: Store, as_json: bool) -> None:
    answer = queue_view(store)

    def lines() -> None:
        if not answer:
            out.print("Nothing waits, and nothing is worked on.")
            return
        print_table(["id", "job", "of", "status", "says"], [_row(one) for one in answer])

    show(answer, as_json, lines)


def _row(one: dict[str, Any]) -> list[object]:
    of = f"run {one['run_id']}" if one["run_id"] else f"corpus {one['corpus_id']}" if one["corpus_id"] else ""
    waits = f"after {', '.join(map(str, one['after']))}" if one["after"] else ""
    says = "; ".join(filter(None, ["held" if one["held"] else "", waits, one["text"]]))
    return [one["job_id"], title_of(one["kind"]), of, one["status"], says]
