"""The verdict on top of a finished run: how many unseen questions it answers right, where it is weak, what next."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from hydralora.errors import UserError
from hydralora.plain import without_paths
from hydralora.results import Answers, RunSummary
from jobs.store.records import Analysis, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.pages.run.tab import ask, is_done
from studio.verdict import Verdict, verdict_of

MOST_KEPT = 500  # verdicts in memory
ASKING = "What it answers to questions that it has not seen is being measured."


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


@dataclass(frozen=True)
class Judged:
    """The verdict on a run, and the share of unseen questions that it answers exactly right."""

    verdict: Verdict
    share: float


def judge(store: Store, run: Run, answers: Analysis | None, *, is_sample: bool | None = None) -> Judged | None:
    """What its measured answers say of a run; None until they are.

    Args:
        is_sample: Whether its corpus came with the studio, where that is known already.
    """
    if not is_done(answers) or answers is None or run.summary is None or run.corpus_id is None:
        return None
    if run.base == "starter" and is_sample is None:
        is_sample = store.corpora.get(run.corpus_id).is_sample
    is_small = run.base == "starter" and not is_sample
    return _judged(store.home.analysis(answers.id), run.summary.model_dump_json(), is_small)


@functools.lru_cache(maxsize=MOST_KEPT)
def _judged(folder: Path, summary: str, is_small_world: bool) -> Judged:
    """Read once: the answers of a finished analysis never change."""
    found = Answers.read(folder)
    verdict = verdict_of(found, RunSummary.model_validate_json(summary), is_small_world=is_small_world)
    return Judged(verdict, found.scores["tuned"].exact_match)


def find_verdict(store: Store, run: Run, answers: Analysis | None) -> Verdict | None:
    """The verdict on a run, once its answers are measured."""
    judged = judge(store, run, answers)
    return judged.verdict if judged else None


def waits_for_verdict(answers: Analysis | None) -> str:
    """Why there is no verdict yet, or none at all; empty where nobody asked."""
    job = answers.job if answers else None
    if job is None:
        return ""
    return ASKING if not job.is_finished else without_paths(job.error or job.progress_text)
