"""Logs of attempts: read in pieces, searched, and kept within a bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from jobs.runner.logs import KEPT_LOG, LEFT_OUT, MOST_LOG, cap_log
from jobs.store.logs import MOST_FOUND, PAGE, page, search
from jobs.store.records import Job
from jobs.store.store import Store
from studio.web.server import create_app
from tests.studio.commands import Commands
from tests.studio.conftest import ADDRESS, bearer

LINES = 20_000


@pytest.fixture
def job(store: Store) -> Job:
    """A job whose second attempt has printed much."""
    run = store.queue.submit("map")
    for attempt in (1, 2):
        assert store.attempts.claim("w", "here", "light") is not None
        now = store.queue.get(run.id)
        folder = store.home.job(run.id, attempt)
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("".join(f"{attempt}: line {n} ü\n" for n in range(1, LINES + 1)), "utf-8")
        if attempt == 1:
            store.attempts.give_back(now, "again", interrupted=True)
    return store.queue.get(run.id)


def test_pages_of_a_log_put_together_are_the_log(store: Store, job: Job) -> None:
    found, before = [], None
    while before != 0:
        piece = page(store.home, job, before=before)
        assert len(piece.text.encode()) <= PAGE and piece.attempts == (1, 2) and piece.attempt == 2
        found.append(piece.text)
        before = piece.begin
    assert "".join(reversed(found)) == (store.home.job(job.id, 2) / "log.txt").read_text("utf-8")
    assert page(store.home, job, attempt=1).text.endswith(f"1: line {LINES} ü\n")
    assert page(store.home, job, before=10**9).end == page(store.home, job).size


def test_words_are_found_whatever_their_case_and_the_last_lines_are_told(store: Store, job: Job) -> None:
    (one,) = search(store.home, job, "LINE 777 Ü")
    assert (one.number, one.text) == (777, "2: line 777 ü")
    many = search(store.home, job, "line")
    assert len(many) == MOST_FOUND and many[-1].number == LINES


@pytest.mark.parametrize("words", ["", "  ", "x" * 201])
def test_words_that_cannot_be_looked_for_are_refused(store: Store, job: Job, words: str) -> None:
    with pytest.raises(UserError, match="1 to 200"):
        search(store.home, job, words)


def test_a_job_without_a_log_and_an_attempt_that_never_was(store: Store) -> None:
    job = store.queue.submit("map")
    assert page(store.home, job).text == "" and search(store.home, job, "x") == []
    with pytest.raises(UserError, match="no attempt 7"):
        page(store.home, job, attempt=7)


def test_the_same_by_address_and_nothing_of_it_is_markup(store: Store, job: Job) -> None:
    file = store.home.job(job.id, 2) / "log.txt"
    file.write_text("<script>alert(1)</script>\nError in /root/secret/place.py\n")
    app = create_app(store.home, keep_worker=False)
    with TestClient(app, base_url=ADDRESS, headers=bearer(app)) as client:
        whole = client.get(f"/ui/jobs/{job.id}/log")
        assert whole.headers["content-type"] == "application/json" and "/root/secret" not in whole.text
        assert whole.json()["text"].startswith("<script>")
        (line,) = client.get(f"/ui/jobs/{job.id}/log/lines", params={"find": "SCRIPT"}).json()["lines"]
        assert line["number"] == 1
        for bad in ("log?before=-1", "log?attempt=0", "log?attempt=99", "log/lines", f"log/lines?find={'x' * 999}"):
            assert client.get(f"/ui/jobs/{job.id}/{bad}").status_code in (400, 422)


def test_a_log_that_grows_keeps_its_end_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    with file.open("ab", buffering=0) as log:
        while file.stat().st_size <= MOST_LOG:
            log.write(b"x" * 99 + b"\n" + b"y" * 99_999 + b"\n")
        cap_log(file)
        log.write(b"the last line\n")
    text = file.read_bytes()
    assert text.startswith(LEFT_OUT) and text.endswith(b"\nthe last line\n")
    assert KEPT_LOG // 2 < len(text) <= KEPT_LOG + 200 and b"\0" not in text
    before = file.read_bytes()
    cap_log(file)
    assert file.read_bytes() == before


def test_a_command_prints_a_runs_log(store: Store) -> None:
    from tests.jobs.test_worker import make_run

    run = make_run(store)
    done = Commands(store.home.root)("runs", "log", run)
    assert done.returncode and "no log" in done.stderr
