"""The tray of jobs: what each is for, its place, why it failed; and what stops it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from jobs.kinds import KINDS
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.tray import MOST_ENDED, ended, place_of, tray
from tests.studio.stored import Stored


def titles(store: Store, part: str) -> list[object]:
    return [job["title"] for job in tray(store)[part]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_job_has_a_word(stored: Stored, kind: str) -> None:
    job = stored.store.queue.submit(kind)
    rows = {row["id"]: row for row in tray(stored.store)["waiting"]}
    assert rows[job.id]["title"] == KINDS[kind].title


def test_a_job_of_a_kind_that_is_not_known_here_is_shown_by_its_name(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.store.queue.submit("map")
    monkeypatch.delitem(KINDS, "map")
    assert "map" in titles(stored.store, "waiting")


def test_jobs_that_wait_have_places_within_their_lane_in_the_order_they_begin(stored: Stored) -> None:
    corpus = stored.corpus("Doors")
    first, second = (stored.run(corpus, name, finished=False) for name in ("One", "Two"))
    looks = stored.store.queue.submit("cluster", corpus_id=corpus.id)
    places = {row["title"]: row["place"] for row in tray(stored.store)["waiting"]}
    assert places == {"Training: One": 1, "Training: Two": 2, "Clustering: Doors": 1}
    assert first.job and second.job and place_of(stored.store, second.job) == 2 and place_of(stored.store, looks) == 1
    rows = {row["title"]: row for row in tray(stored.store)["waiting"]}
    assert (
        rows["Training: One"]["about"] == "HydraLoRA on Doors"
        and rows["Training: One"]["href"] == f"/run?run={first.id}"
    )


def test_a_job_that_failed_tells_why_and_one_that_was_stopped_is_not_among_the_failed(stored: Stored) -> None:
    corpus = stored.corpus()
    failed = stored.run(corpus, "Failed", finished=False)
    stored.end(failed.job, status=JobStatus.FAILED, error="Out of memory at /home/me/x. Make it smaller.")
    stopped = stored.run(corpus, "Stopped", finished=False)
    stored.store.runs.stop(stopped.id)
    rows = {row["title"]: row for row in tray(stored.store)["failed"]}
    assert "Out of memory" in str(rows["Training: Failed"]["error"]) and "/home/me" not in str(rows)
    assert "Training: Stopped" not in rows


def test_what_a_job_worked_on_may_be_deleted_meanwhile(stored: Stored) -> None:
    run = stored.run(stored.corpus(), "Gone", finished=False)
    stored.end(run.job, status=JobStatus.FAILED, error="No.")
    stored.store.runs.delete(run.id)
    assert "Training" in titles(stored.store, "failed")


def test_a_job_is_cancelled_from_the_tray_once(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus(), "Cancelled", finished=False)
    assert run.job is not None
    assert "Training: Cancelled" in [job["title"] for job in client.get("/ui/jobs").json()["waiting"]]
    assert client.post(f"/ui/jobs/{run.job.id}/stop").json() == {"status": "stopped"}
    again = client.post(f"/ui/jobs/{run.job.id}/stop")
    assert again.status_code == 400 and "already finished" in again.json()["detail"]


def test_waiting_jobs_are_moved_held_and_released_from_the_tray(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    jobs = [stored.run(corpus, name, finished=False).job for name in ("First", "Second")]
    assert jobs[1] is not None

    def waiting() -> list[tuple[str, bool]]:
        rows = client.get("/ui/jobs").json()["waiting"]
        return [(row["title"], row["held"]) for row in rows if row["title"] in ("Training: First", "Training: Second")]

    assert waiting() == [("Training: First", False), ("Training: Second", False)]
    assert client.post(f"/ui/jobs/{jobs[1].id}/place/up").status_code == 200
    assert client.post(f"/ui/jobs/{jobs[1].id}/hold").json() == {"held": True}
    assert waiting() == [("Training: Second", True), ("Training: First", False)]
    assert client.post(f"/ui/jobs/{jobs[1].id}/release").json() == {"held": False}
    assert waiting() == [("Training: Second", False), ("Training: First", False)]


@pytest.mark.parametrize("place", ["sideways", "..", "9"])
def test_there_are_four_places_to_go_to(client: TestClient, stored: Stored, place: str) -> None:
    job = stored.run(stored.corpus(), finished=False).job
    assert job is not None
    assert client.post(f"/ui/jobs/{job.id}/place/{place}").status_code in (404, 405, 422)


@pytest.mark.parametrize("job", ["0", "999999", "-1", "abc", "9" * 30])
def test_a_job_that_there_is_not_cannot_be_stopped(client: TestClient, job: str) -> None:
    assert client.post(f"/ui/jobs/{job}/stop").status_code in (400, 404, 422)


def words_of(store: Store, told: int | None) -> list[str]:
    return [end["words"] for end in ended(store, told)["ended"]]  # type: ignore[attr-defined,index]


def test_what_has_ended_is_told_from_where_a_page_was_told_last_and_nothing_of_before_it_came(stored: Stored) -> None:
    before = ended(stored.store, None)["newest"]
    run = stored.run(stored.corpus(), "First")
    assert words_of(stored.store, None) == []
    assert f'Training of run {run.id} "First" is finished.' in words_of(stored.store, before)  # type: ignore[arg-type]
    now = ended(stored.store, None)["newest"]
    assert isinstance(now, int) and words_of(stored.store, now) == []
    failed = stored.run(stored.corpus(), "Second", finished=False)
    stored.end(failed.job, status=JobStatus.FAILED, error="Full at /home/me/x. Make room.")
    assert [word for word in words_of(stored.store, now) if "Second" in word] == [
        f'Training of run {failed.id} "Second" has failed. Full at …/x. Make room.'
    ]


def test_of_much_that_has_ended_the_last_ones_are_told_and_nothing_twice(stored: Stored) -> None:
    corpus, told = stored.corpus(), ended(stored.store, None)["newest"]
    for number in range(MOST_ENDED + 3):
        stored.end(stored.run(corpus, f"Run {number}", finished=False).job)
    seen = words_of(stored.store, told)  # type: ignore[arg-type]
    assert len(seen) == MOST_ENDED and f'"Run {MOST_ENDED + 2}"' in seen[-1] and '"Run 3"' in seen[0]
    assert words_of(stored.store, ended(stored.store, told)["newest"]) == []  # type: ignore[arg-type]


def test_a_page_that_knew_another_home_is_told_from_now_on(stored: Stored) -> None:
    stored.run(stored.corpus(), "First")
    newest = ended(stored.store, None)["newest"]
    assert ended(stored.store, 10**9) == {"newest": newest, "ended": []}


@pytest.mark.parametrize("kind", ["serve", "preview", "render", "fetch", "speed"])
def test_servers_and_glances_are_no_news(stored: Stored, kind: str) -> None:
    told = ended(stored.store, None)["newest"]
    stored.end(stored.store.queue.submit(kind), status=JobStatus.FAILED, error="No.")
    assert words_of(stored.store, told) == []  # type: ignore[arg-type]
