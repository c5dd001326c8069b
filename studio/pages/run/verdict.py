"""The verdict on top of a finished run: how many unseen questions it answers right, where it is weak, what next."""

from __future__ import annotations

from hydralora.errors import UserError
from hydralora.plain import without_paths
from hydralora.results import Answers
from jobs.store.records import Analysis, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import job_state
from studio.pages.inspect.tab import ask, result_of
from studio.verdict import verdict_of

ASKING = "What it answers to questions that it has not seen is being measured."
WORDS = {"good": "It works", "warn": "Look closer", "bad": "It does not work yet"}


def asked_answers(store: Store, run: Run) -> Analysis | None:
    """The answers of a finished run to held-out questions, queued where they were never asked for."""
    ended = run.job is not None and run.job.status == JobStatus.SUCCEEDED
    if (
        run.summary is None
        or not ended
        or run.is_imported
        or run.corpus_id is None
        or not run.summary.held_out_examples
    ):
        return None
    try:
        return ask(store, (run.id, "answers", {}))
    except UserError:  # the queue is full, or the corpus is being read again: the rest of the page is shown without
        return None


def verdict_view(store: Store, run: Run, answers: Analysis | None) -> Markup:
    """The verdict, or how far the answers are that it is made of."""
    if answers is None or run.summary is None or run.corpus_id is None:
        return Markup("")
    found = result_of(store, answers, Answers)
    if found is None:
        job = answers.job
        if job is not None and job.status == JobStatus.FAILED and job.error_kind == "user":  # no question to ask
            return cards.note("info", "There is no verdict.", without_paths(job.error or ""))
        asking = Markup(f"<p class='hy-quiet'>{ASKING}</p>") if job is None or not job.is_finished else ""
        return cards.join(asking, job_state(job))
    is_small = run.base == "starter" and not store.corpora.get(run.corpus_id).is_sample
    verdict = verdict_of(found, run.summary, is_small_world=is_small)
    return Markup(
        f"<section class='hy-outcome {verdict.weight}' aria-label='Verdict'><span class='hy-weight'>"
        f"{WORDS[verdict.weight]}</span><h2>{cards.text(verdict.title)}</h2>"
        f"<p>{cards.text(verdict.body)}</p><p><b>Next:</b> {cards.text(verdict.next)}</p></section>"
    )
