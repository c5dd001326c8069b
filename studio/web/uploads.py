"""Uploaded files until they are imported: who sent them, how much there may be, and for how long they stay.

Gradio streams each upload into a folder of its own; we bound what comes in, remember for whom, and sweep.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from jobs.http import PIECE_SECONDS, App, Message, Receive, Refused, Scope, Send, declared_length, header

UPLOAD = "/gradio_api/upload"
MOST_FILE = 2 * 2**30  # bytes of one file
MOST_TOTAL = 8 * 2**30  # bytes of everything that waits to be imported
MOST_FILES = 10_000  # remembered with their visitor
SPARE_DISK = 2**30  # bytes left free: the database must be able to write
KEPT_SECONDS = 3_600.0  # after this an upload that nobody imported is deleted
SWEEP_SECONDS = 300.0
BOUNDARY = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,68}[\x21-\x7e])?")  # RFC 2046, 5.1.1
UNREAD = "This upload could not be taken in; send files as a form does. The studio's log holds the details."
MOST_REPLY = 2**20  # bytes of Gradio's answer to an upload, a list of paths

log = logging.getLogger(__name__)


class Uploads:
    """The files in one folder, and the visitors who sent them."""

    def __init__(self, folder: Path, *, most_total: int = MOST_TOTAL, kept_seconds: float = KEPT_SECONDS) -> None:
        self.folder, self.most_total, self.kept_seconds = folder, most_total, kept_seconds
        self._sent: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._expected = 0
        self._guard = threading.Lock()

    def note(self, session: str, path: str) -> None:
        """Remember that this visitor uploaded this file."""
        with self._guard:
            self._sent[session, path] = time.time()
            while len(self._sent) > MOST_FILES:
                self._sent.popitem(last=False)

    def has_sent(self, session: str, path: object) -> bool:
        """Whether this visitor uploaded exactly this file, and it is still a plain file in our folder."""
        if not isinstance(path, str):
            return False
        with self._guard:
            if (session, path) not in self._sent:
                return False
        file = Path(path)
        return file.is_file() and not file.is_symlink() and file.resolve().is_relative_to(self.folder.resolve())

    def reserve(self, length: int) -> None:
        """Hold room for an upload of ``length`` bytes.

        Raises:
            Refused: When there is no room for it.
        """
        if length > MOST_FILE:
            raise Refused(413, f"This upload has {length:,} bytes; the most is {MOST_FILE:,}. Send it in parts.")
        with self._guard:
            waiting = size_of(self.folder) + self._expected
            if waiting + length > self.most_total:
                raise Refused(
                    413,
                    f"{waiting:,} bytes of uploads wait to be imported, and {self.most_total:,} is the most. "
                    f"Import them, or wait: what nobody imports is deleted after {self.kept_seconds / 60:.0f} minutes.",
                )
            if shutil.disk_usage(self.folder).free - self._expected - length < SPARE_DISK:
                raise Refused(507, "The disk of the studio has no room for this file. Free some space first.")
            self._expected += length

    def release(self, length: int) -> None:
        """An upload has ended."""
        with self._guard:
            self._expected -= length

    def sweep(self) -> int:
        """Delete what lies here longer than it may; gives the number of files."""
        limit, deleted = time.time() - self.kept_seconds, 0
        for path in sorted(self.folder.rglob("*"), reverse=True):
            try:
                if path.is_dir() and not path.is_symlink():
                    if not any(path.iterdir()) and path.stat().st_mtime < limit:
                        path.rmdir()
                elif path.lstat().st_mtime < limit:
                    path.unlink()
                    deleted += 1
            except FileNotFoundError:
                continue  # imported or deleted in this moment
        with self._guard:
            for key in [key for key, sent in self._sent.items() if sent < limit]:
                del self._sent[key]
        return deleted

    def keep_sweeping(self) -> None:
        """Sweep for as long as the process lives; a sweep that fails is tried again."""
        while True:
            try:
                self.sweep()
            except OSError as error:
                log.warning("uploads could not be swept: %s", error.strerror)
            time.sleep(SWEEP_SECONDS)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def is_upload(scope: Scope) -> bool:
    """Whether a request brings files; its body is streamed to the disk."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/") == UPLOAD


def check_form(content_type: str) -> None:
    """Refuse what cannot be a form with files, before its parts are looked at.

    Raises:
        Refused: When its kind, its boundary or its encoding is none.
    """
    try:
        kind, options = parse_options_header(content_type)
    except (ValueError, LookupError):
        kind, options = b"", {}
    charset = options.get(b"charset", b"utf-8").lower()
    if (
        kind != b"multipart/form-data"
        or not BOUNDARY.fullmatch(options.get(b"boundary", b""))
        or charset not in (b"utf-8", b"utf8")
    ):
        raise Refused(400, "This is no form with files. Send it as multipart/form-data in UTF-8.")


class UploadMiddleware:
    """Bounds uploads by what they declare and by what they send, and remembers who sent what."""

    def __init__(self, app: App, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_upload(scope):
            await self.app(scope, receive, send)
            return
        try:
            length = declared_length(scope)
            if length is None:
                raise Refused(411, "An upload has to say its length (Content-Length).")
            check_form(header(scope, "content-type"))
            await run_in_threadpool(self.uploads.reserve, length)
        except Refused as refusal:
            await refusal.answer(send)
            return
        try:
            await _Stream(self.app, self.uploads, length).run(scope, receive, send)
        finally:
            self.uploads.release(length)


class _Stream:
    """One upload on its way to the disk."""

    def __init__(self, app: App, uploads: Uploads, length: int) -> None:
        self.app, self.uploads, self.length = app, uploads, length
        self.refusal: Refused | None = None
        self.has_body = False
        self.reply = bytearray()
        self.status = 0

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def bounded() -> Message:
            nonlocal received
            if self.has_body:
                return await receive()
            try:
                async with asyncio.timeout(PIECE_SECONDS):
                    message = await receive()
            except TimeoutError:
                self._refuse(408, f"Nothing of this upload arrived for {PIECE_SECONDS:.0f} seconds.")
            received += len(message.get("body", b""))
            self.has_body = not message.get("more_body", False)
            if received > self.length:
                self._refuse(413, "This upload is longer than it said.")
            return message

        async def watched(message: Message) -> None:
            if self.refusal is not None:
                return  # whatever the application makes of it, the refusal is what is answered
            if message.get("status", 0) >= 500:
                self.refusal = Refused(400, UNREAD)  # such as a text where a file is meant, which Gradio fails on
                return
            self._watch(message)
            await send(message)

        try:
            await self.app(scope, bounded, watched)
        except Refused:
            pass
        except Exception:  # Gradio's, which has answered before it raises
            log.exception("an upload could not be taken in")
            if self.status:
                raise
            self.refusal = self.refusal or Refused(400, UNREAD)
        if self.refusal is not None:
            await self.refusal.answer(send)
            return
        self._remember(scope["state"]["visitor"].session)

    def _refuse(self, status: int, sentence: str) -> None:
        self.refusal = Refused(status, sentence)
        raise self.refusal

    def _watch(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif len(self.reply) < MOST_REPLY:
            self.reply += message.get("body", b"")

    def _remember(self, session: str) -> None:
        """Gradio answers an upload with the paths it gave the files."""
        paths: Any = json.loads(self.reply) if self.status == 200 else []
        for path in paths:
            self.uploads.note(session, str(path))
