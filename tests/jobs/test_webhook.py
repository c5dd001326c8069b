"""A notice of each job that ended, at an address of one's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hydralora.errors import UserError
from jobs.runner import webhook
from jobs.runner.webhook import Webhook, notify, told_host
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.cli.worker import worker_view
from tests.jobs.conftest import wait_for
from tests.jobs.test_worker import make_run

pytestmark = pytest.mark.databases
PATH = "/hooks/open-sesame"


class Listener:
    """A web server that takes notices; ``answers`` are the codes of the next ones."""

    def __init__(self) -> None:
        self.notices: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.paths: list[str] = []
        self.pause = 0.0  # seconds before an answer
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = listener.answers.pop(0) if listener.answers else 200
                listener.paths.append(self.path)
                time.sleep(listener.pause)
                if code == 200:
                    listener.notices.append(json.loads(body))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *words: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}{PATH}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0, 0.0))
    made = Listener()
    yield made
    made.server.shutdown()


def end(store: Store, kind: str = "train", status: JobStatus = JobStatus.SUCCEEDED, **values: Any) -> Job:
    run = make_run(store)
    job = store.queue.submit(kind, {"run_id": run}, run_id=run)
    claimed = store.attempts.claim("w", "here", job.lane)
    assert claimed is not None
    if status == JobStatus.SUCCEEDED:
        status, values = JobStatus.STOPPED, {"progress_text": "Stopped."}
    store.attempts.finish(claimed, status, time.time(), **values)
    return store.queue.get(job.id)


def send(store: Store) -> None:
    told = Webhook(store)
    told.advance()
    told.wait()


def test_what_ended_since_is_told_once_and_what_ended_before_is_not(store: Store, listener: Listener) -> None:
    end(store)
    notify(store, listener.address)
    job = end(store, status=JobStatus.FAILED, error="No room <!channel>.\nMore in /root/secret.")
    send(store)
    send(store)
    (told,) = listener.notices
    assert (told["job"], told["status"], told["run_id"]) == (job.id, "failed", job.run_id)
    assert told["text"].startswith("Training of run") and told["text"].endswith("has failed. No room &lt;!channel&gt;.")


def test_a_server_that_fails_is_asked_again_and_then_left_alone(store: Store, listener: Listener) -> None:
    notify(store, listener.address)
    listener.answers = [500, 503, 200, 500, 500, 500]
    first, _lost, third = end(store), end(store), end(store)
    send(store)
    assert [told["job"] for told in listener.notices] == [first.id, third.id]


def test_two_workers_do_not_send_the_same_notice(store: Store, listener: Listener) -> None:
    notify(store, listener.address)
    jobs = [end(store).id for _ in range(3)]
    first, second = Webhook(store), Webhook(store)
    listener.pause = 0.3
    first.advance()
    wait_for(lambda: (store.settings.get("webhook") or {})["told"] > 0 and listener.paths)
    second.advance()
    first.wait()
    second.wait()
    assert sorted(told["job"] for told in listener.notices) == jobs


def test_a_notice_follows_no_redirect(store: Store, listener: Listener) -> None:
    notify(store, listener.address)
    listener.answers = [302, 302, 302]
    end(store)
    send(store)
    assert set(listener.paths) == {PATH} and listener.notices == []


def test_the_model_server_and_previews_are_not_told(store: Store, listener: Listener) -> None:
    notify(store, listener.address)
    end(store, "serve", JobStatus.STOPPED)
    end(store, "preview", JobStatus.FAILED, error="no")
    send(store)
    assert listener.paths == [] and store.queue.ended_after(0, 10)
    assert (store.settings.get("webhook") or {})["told"] == store.queue.newest_event()


def test_nobody_is_told_any_more_after_none(store: Store, listener: Listener) -> None:
    notify(store, listener.address)
    notify(store, "")
    end(store)
    send(store)
    assert listener.paths == [] and told_host(store) is None


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://a", "http://", "studio", "http://[", "javascript:1"])
def test_what_is_no_address_of_a_server_is_refused(store: Store, address: str) -> None:
    with pytest.raises(UserError, match="begins with http"):
        notify(store, address)
    assert store.settings.get("webhook") is None


def test_only_the_host_is_ever_named(
    store: Store, tmp_path: Path, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    notify(store, listener.address)
    listener.answers = [500] * 3
    end(store)
    send(store)
    assert "127.0.0.1" in caplog.text and "open-sesame" not in caplog.text
    view = worker_view(store)
    assert view["told"] == "127.0.0.1" and "open-sesame" not in json.dumps(view)
