"""What stands above the tabs of a run: the list of runs, what came of this one in a sentence, and how far it is."""

from __future__ import annotations

import re

from hydralora.bases.folder import shown_base
from hydralora.methods import METHODS
from hydralora.plain import without_paths
from hydralora.results import TrainingSet
from jobs.store.records import Analysis, Job, Run, Step
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import eta, job_state
from studio.pages.run.verdict import find_verdict, waits_for_verdict
from studio.pages.run.views import planned, training_seconds
from studio.silence import silence, words_of
from studio.tray import place_of, seconds_left
from studio.verdict import Verdict

MOST_LISTED = 60  # runs at the left; all of them have a page
SHARE = re.compile(r"\b\d+%")
SILENT = (
    "What it works with, and who looked after it, are gone or cut off. What it had stored is kept, and it goes on by "
    "itself once a worker runs: `python -m studio worker start`."
)
ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}


def runs_list(store: Store, chosen: Run | None) -> Markup:
    """The newest runs that are not archived, and the chosen one whatever it is, each with how far it is."""
    runs = store.runs.listed(MOST_LISTED)
    if chosen is not None and all(run.id != chosen.id for run in runs):
        runs = [*runs, chosen]
    if not runs:
        return Markup("<p class='hy-quiet'>No runs yet.</p>")
    links = [(f"/run?run={run.id}", run.name, list_words(run)) for run in runs]
    return cards.side_list("Runs", links, f"/run?run={chosen.id}" if chosen else "")


def list_words(run: Run) -> str:
    """One line on a run: how far it is, or how well it does."""
    if run.job and run.job.silent_since is not None:
        return silence(run.job.silent_since)
    if run.job and run.job.is_active:
        return f"{run.job.progress:.0%}{', ' * bool(eta(run.job))}{eta(run.job)}"
    if run.summary is None:
        return cards.STATUS_WORDS[run.status]
    loss = run.summary.held_out_loss
    method = METHODS[run.method].title
    return method if loss is None else f"held-out loss {loss:.3f}, {method}"


def headline(store: Store, run: Run, newest: Step | None, answers: Analysis | None, *, is_small: bool) -> Markup:
    """Who it is in a small line, then what came of it as the largest thing of the page, and what to do next."""
    verdict = _verdict(store, run, answers)
    weight, title, body, following = _said(store, run, newest, answers, verdict)
    parts = [] if is_small else [cards.paragraph(body), cards.paragraph(following, lead="Next:")]
    if verdict is not None and not is_small:
        parts.append(cards.what_is_this("exact match", "held out", "sign test"))
    size = " small" if is_small else ""
    compare = f"<a class='hy-btn' href='/compare?runs={run.id}'>Compare with others</a>" * (not is_small)
    coloured = Markup(SHARE.sub(r"<em>\g<0></em>", str(cards.text(title)), count=1)) if weight != "open" else title
    return Markup(
        f"<section class='hy-outcome {weight}{size}' aria-label='Verdict'>"
        f"<p class='who'><span>{_who(store, run)}</span>{compare}</p>"
        f"<h1>{cards.text(coloured)}</h1>{cards.join(*parts)}</section>"
    )


def _who(store: Store, run: Run) -> Markup:
    """Name, method, corpus, base and time of a run."""
    what = f"external adapter, {METHODS[run.method].title}" if run.is_imported else METHODS[run.method].title
    where: object = ", without a corpus"
    name = Markup(f"<b>{cards.text(run.name)}</b> ")
    if run.corpus_id is not None:
        corpus = store.corpora.get(run.corpus_id)
        if run.name == f"{what} on {corpus.name}":  # as it is named by itself, which is what follows
            name = Markup()
        where = cards.join(" on ", cards.link(f"/corpora?corpus={corpus.id}", corpus.name))
    base = f", base {shown_base(run.base)}" if run.summary or not run.is_imported else ""
    spent = training_seconds(store.runs.events(run.id))
    took = f", trained in {cards.duration(spent)}" if spent and run.summary and not run.is_imported else ""
    return cards.join(name, what, where, f"{base}, {cards.moment(run.created_at)}{took}")


def _verdict(store: Store, run: Run, answers: Analysis | None) -> Verdict | None:
    """The verdict of a run whose job has succeeded."""
    is_over = run.job is None or run.job.status == JobStatus.SUCCEEDED
    return find_verdict(store, run, answers) if is_over else None


def _said(
    store: Store, run: Run, newest: Step | None, answers: Analysis | None, verdict: Verdict | None
) -> tuple[str, str, str, str]:
    """Weight, title, what stands behind it, and what to do next."""
    job = run.job
    if job is not None and not job.is_finished:
        return _under_way(store, run, job, newest)
    if job is not None and job.status != JobStatus.SUCCEEDED:
        return _broken_off(store, run, job, newest)
    if verdict is not None:
        return verdict.weight, verdict.title, verdict.body, verdict.next
    return _finished(run, answers)


def _under_way(store: Store, run: Run, job: Job, newest: Step | None) -> tuple[str, str, str, str]:
    if job.status == JobStatus.QUEUED:
        place = place_of(store, job)
        words = "Next in the queue" if place <= 1 else f"{ORDINALS.get(place, f'{place}th')} in the queue"
        again = f" {job.progress_text}" if job.attempt else ""
        return "open", f"{words}: it has not begun.{again}", "", ""
    if job.silent_since is not None:
        return "warn", f"{silence(job.silent_since)}.", SILENT, ""
    if run.is_imported or job.kind == "import":
        return "open", "Its files are being read.", "", ""
    if job.status == JobStatus.STOPPING:
        return "open", "Stopping: it saves its state.", "", ""
    losses = [
        step.numbers["eval_loss"]
        for step in store.runs.steps(run.id, most=50, gates=False)
        if step.numbers.get("eval_loss") is not None
    ]
    if len(losses) > 1:
        way = "fell" if losses[-1] < losses[0] else "rose"
        return "open", f"Still learning: the held-out loss {way} from {losses[0]:.2f} to {losses[-1]:.2f}.", "", ""
    step = f"step {newest.step:,}" if newest else job.progress_text or "it loads its base"
    return "open", f"Learning: {step}.", "", ""


def _broken_off(store: Store, run: Run, job: Job, newest: Step | None) -> tuple[str, str, str, str]:
    kept = store.runs.checkpoints(run.id)
    at = f" at step {newest.step:,}" if newest else ""
    saved = f"Step {kept[-1]:,} is kept." if kept else "No step was kept."
    if run.is_imported or job.kind == "import":
        saved = ""
    if job.status == JobStatus.STOPPED:
        return "warn", f"Stopped{at}. {saved}", "", "Resume it: it goes on from there." if kept else ""
    error = without_paths(job.error or "")
    first, _, rest = error.partition(". ")
    said = f"{first.rstrip('.')}." if error else "It failed."
    return "bad", f"{said} {saved}".strip(), rest, ""


def _finished(run: Run, answers: Analysis | None) -> tuple[str, str, str, str]:
    if run.is_imported:
        return "open", "An external adapter: measured here, not trained.", "", ""
    summary = run.summary
    title = "Trained."
    if summary and summary.held_out_loss is not None:
        before = summary.held_out_loss_before
        was = f", was {before:.2f}" if before is not None else ""
        title = f"Trained: the held-out loss is {summary.held_out_loss:.2f}{was}."
    return "open", title, waits_for_verdict(answers), ""


def progress_sheet(store: Store, run: Run, newest: Step | None, training_set: TrainingSet | None) -> Markup:
    """How far a run is: the bar, the steps, the time so far and the time left; empty where it does not work."""
    job = run.job
    if job is None or job.status not in ACTIVE:
        return Markup("")
    if job.kind == "import":
        return job_state(job)
    left, spent = seconds_left(job), training_seconds([*store.runs.events(run.id)])
    at = f"Step {newest.step:,} of {planned(run, training_set):,}" if newest else words_of(job)
    so_far = f"{cards.duration(spent)} before the pause" if spent else ""
    remains = f"about {cards.about_span(left)} left" if left is not None else ""
    return Markup(
        f"<div class='hy-now'><p><b>{cards.text(at)}</b> <span>{cards.text(so_far)}</span>"
        f"<b class='left'>{cards.text(remains)}</b></p>{cards.progress(job.progress, '')}</div>"
    )


def no_run(problem: str) -> Markup:
    """What the page says where its address names no run."""
    return cards.join(
        Markup("<h1 class='visually-hidden'>Run</h1>"),
        cards.empty(
            problem or "No run is chosen",
            cards.join("Open one of the list, or start a ", cards.link("/new-run", "new run"), "."),
        ),
    )
