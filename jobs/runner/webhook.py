"""A notice of every job that has ended, sent to an address of the owner's: `worker notify https://...`.

What was told last is a number of the events table, so nothing is missed while no worker lives. It is noted before each
notice, so that several workers do not send the same one; what a worker was sending when it died is lost. The body is
JSON; its ``text`` is what Slack, Mattermost and others show of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from hydralora.errors import UserError
from jobs.endings import is_told, name_of_run, reason, sentence
from jobs.store.records import Event, Job
from jobs.store.store import Store

log = logging.getLogger(__name__)
KEY = "webhook"  # of the setting: ``address``, and ``told``, the last event that was
PAUSES = (0.0, 1.0, 5.0)  # seconds before each try; then that notice is given up
ANSWER_SECONDS = 10.0
MOST_AT_ONCE = 20


def notify(store: Store, address: str) -> None:
    """From now on tell this address of every job that ends; an empty one tells nobody.

    Raises:
        UserError: When it is no address of a web server.
    """
    parts = _parts(address)
    if address and (parts is None or parts.scheme not in ("http", "https") or not parts.hostname):
        raise UserError("A webhook is an address that begins with http:// or https:// and names a server.")
    store.settings.set(KEY, {"address": address, "told": store.queue.newest_event()})


def told_host(store: Store) -> str | None:
    """The server that is told, without what may be secret in its address."""
    parts = _parts((store.settings.get(KEY) or {}).get("address", ""))
    return parts.hostname if parts else None


def _parts(address: str) -> Any:
    try:
        return urlsplit(address)
    except ValueError:
        return None


class Webhook:
    """Sends what there is to tell, one notice after the other, beside the worker's rounds."""

    def __init__(self, store: Store) -> None:
        self._store, self._thread = store, threading.Thread()

    def advance(self) -> None:
        """Begin to send what has ended since; nothing while something is still being sent."""
        chosen = self._store.settings.get(KEY) or {}
        if not chosen.get("address") or self._thread.is_alive():
            return
        ended = self._store.queue.ended_after(chosen["told"], MOST_AT_ONCE)
        if ended:
            self._thread = threading.Thread(target=self._send, args=(chosen["address"], ended), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Until everything that was begun is sent."""
        if self._thread.is_alive():
            self._thread.join()

    def _send(self, address: str, ended: list[tuple[int, Event, Job]]) -> None:
        for number, event, job in ended:
            chosen = self._store.settings.get(KEY) or {}
            if chosen.get("address") != address:  # it was changed meanwhile
                return
            if chosen["told"] >= number:  # by another worker
                continue
            self._store.settings.set(KEY, {"address": address, "told": number})
            if is_told(job):
                _post(address, notice(event, job, name_of_run(self._store, job)))


def notice(event: Event, job: Job, run: str | None) -> dict[str, Any]:
    """What is told of a job that has ended, as JSON."""
    text = sentence(event, job, run)
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # which call people, or lead elsewhere
        text = text.replace(sign, written)
    return {
        "text": text,
        "job": job.id,
        "kind": job.kind,
        "status": event.after,
        "run_id": job.run_id,
        "run": run,
        "error": reason(job) or None,
        "at": event.at,
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A notice goes where it was addressed to, or nowhere."""

    def redirect_request(self, *words: Any, **more: Any) -> None:
        """Follow none."""


def _post(address: str, body: dict[str, Any]) -> bool:
    """Send a notice; whether it was taken."""
    opener = urllib.request.build_opener(_NoRedirects)
    headers = {"Content-Type": "application/json", "User-Agent": "hydra-studio"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
    why = ""
    for pause in PAUSES:
        time.sleep(pause)
        try:
            with opener.open(request, timeout=ANSWER_SECONDS):
                return True
        except urllib.error.HTTPError as error:
            why = f"it answers {error.code}"
        except (OSError, ValueError) as error:  # an URLError is one
            why = type(error).__name__
    log.warning("Job %d: the webhook at %s takes no notice: %s.", body["job"], urlsplit(address).hostname, why)
    return False
