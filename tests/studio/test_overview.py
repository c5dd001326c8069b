"""Overview: what is at work has a name for people."""

from __future__ import annotations

from jobs.queue import LANES
from studio.pages.overview import JOB_WORDS, jobs_table
from tests.studio.stored import Stored


def test_every_kind_of_job_has_a_word() -> None:
    assert set(JOB_WORDS) == set(LANES)


def test_a_comparison_at_work_does_not_break_the_page(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    stored.store.analyse(run.id, "compare", {"other_runs": [run.id]})
    assert "Comparison of runs" in jobs_table(stored.store)
