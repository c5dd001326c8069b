"""Overview: what is at work has a name for people."""

from __future__ import annotations

import pytest

from jobs.kinds import KINDS
from studio.pages.overview.views import jobs_table
from tests.studio.stored import Stored


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_job_has_a_word(stored: Stored, kind: str) -> None:
    job = stored.store.queue.submit(kind)
    assert f"{KINDS[kind].title} (job {job.id})" in jobs_table(stored.store)


def test_a_job_of_a_kind_that_is_not_known_here_does_not_break_the_page(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stored.store.queue.submit("map")
    monkeypatch.delitem(KINDS, "map")
    assert f"map (job {job.id})" in jobs_table(stored.store)


def test_a_comparison_at_work_does_not_break_the_page(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    stored.store.analyses.ask(run.id, "compare", {"other_runs": [run.id]})
    assert "Comparison of runs" in jobs_table(stored.store)
