"""The light side of the chat: ask the model server, starting it where needed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx

from hydralora.errors import ContextError, UserError
from jobs.home import is_shared
from jobs.runner.processes import host_name
from jobs.runner.service import start_worker
from jobs.store.records import Run
from jobs.store.status import FINISHED, JobStatus
from jobs.store.store import Store

START_SECONDS = 90.0  # importing torch on a busy laptop takes its time
SILENCE_SECONDS = 600.0


class ServerGone(UserError):
    """The model server ended while it was needed; asking again starts a new one."""


class ServerBusy(UserError):
    """More questions wait than the model server takes; later it answers again."""


KINDS: dict[str, type[UserError]] = {"busy": ServerBusy, "context": ContextError}  # of errors that the server tells


def base_of(run: Run) -> dict[str, str]:
    """The base of a run and the type it was trained on, as a question names them."""
    return {"base": run.base, "dtype": run.config.train.dtype}


class ChatClient:
    """Streams answers. ``ask`` gives the server's lines as dictionaries."""

    def __init__(self, store: Store) -> None:
        self.store, self.home = store, store.home

    def ask(self, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Send a question (the fields of ``model_server.Ask``) and yield what comes.

        Raises:
            ServerGone: When the server dies in mid-answer.
            ServerBusy: When too many questions wait.
            ContextError: When the question does not fit the model's context.
            UserError: When it cannot be started, or refuses the question.
        """
        where = self._address()
        if where is None:
            yield {"state": "Starting the model server"}
            where = self._start()
        try:
            with httpx.stream(
                "POST",
                f"{where[0]}/answer",
                json=question,
                headers=where[1],
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=5),
            ) as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise UserError(f"The question was refused: {_detail(reply)}")
                for line in reply.iter_lines():
                    item = json.loads(line)
                    if "error" in item:
                        raise KINDS.get(item.get("kind", ""), UserError)(item["error"])
                    yield item
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise ServerGone(
                "The model server ended in mid-answer (it may have run out of memory). What was said "
                "so far is kept; ask again and a new one is started."
            ) from error

    def warm(self, wanted: dict[str, Any]) -> None:
        """Have the server running and the adapter in memory before the first question (the fields of ``server.Load``).

        Raises:
            UserError: When it cannot be started, or the adapter is not there.
        """
        where = self._address() or self._start()
        reply = httpx.post(
            f"{where[0]}/load",
            json=wanted,
            headers=where[1],
            timeout=SILENCE_SECONDS,
        )
        if reply.status_code != 200:
            raise UserError(_detail(reply))

    @property
    def state(self) -> dict[str, Any] | None:
        """What the server says of itself, or None while it rests."""
        where = self._address()
        if where is None:
            return None
        try:
            found: dict[str, Any] = httpx.get(f"{where[0]}/health", headers=where[1], timeout=5).json()
        except httpx.TransportError:
            return None
        return found

    def score(self, question: dict[str, Any]) -> list[float]:
        """Probabilities of given tokens as the answer (the fields of ``server.Score``).

        Raises:
            ServerGone: When no server runs; scoring is no reason to start one.
            UserError: When it refuses.
        """
        where = self._address()
        if where is None:
            raise ServerGone("The model server has ended. Ask again and a new one is started.")
        try:
            reply = httpx.post(f"{where[0]}/score", json=question, headers=where[1], timeout=SILENCE_SECONDS)
        except httpx.TransportError as error:
            raise ServerGone("The model server has ended. Ask again and a new one is started.") from error
        if reply.status_code != 200:
            raise UserError(f"The words could not be scored: {_detail(reply)}")
        found: list[float] = reply.json()["probabilities"]
        return found

    def stop(self, request_id: str) -> None:
        """Ask the server to end an answer; nothing happens when it has ended already."""
        where = self._address()
        if where is not None:
            with suppress(httpx.TransportError):  # it ended meanwhile
                httpx.post(f"{where[0]}/stop/{request_id}", headers=where[1], timeout=5)

    def _address(self) -> tuple[str, dict[str, str]] | None:
        path = self.home.server / "server.json"
        try:
            found = json.loads(path.read_text("utf-8"))
            address, headers = f"http://127.0.0.1:{found['port']}", {"Authorization": f"Bearer {found['token']}"}
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None  # no server, or not one of ours
        try:
            reply = httpx.get(f"{address}/health", headers=headers, timeout=5)
        except httpx.TransportError:
            return None
        return (address, headers) if reply.status_code == 200 else None

    def _start(self) -> tuple[str, dict[str, str]]:
        start_worker(self.home)
        machine = host_name().partition("/")[0] if is_shared() else ""  # it answers on this machine only
        job = self.store.queue.only("serve", machine=machine, max_attempts=1)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            where = self._address()
            if where is not None:
                return where
            job = self.store.queue.get(job.id)
            if JobStatus(job.status) in FINISHED:
                raise ServerGone(f"The model server could not start: {job.error or job.status}. Ask again.")
            time.sleep(0.15)
        raise UserError("The model server did not start in time. Is the machine very busy? Ask again in a minute.")


def _detail(reply: httpx.Response) -> str:
    try:
        detail = reply.json().get("detail")
    except json.JSONDecodeError:
        return f"status {reply.status_code}"
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, d['loc'][1:]))}: {d['msg']}" for d in detail)
    return str(detail)
