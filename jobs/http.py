"""What both of our HTTP servers do before anything is parsed: bounds on bodies, on time, on half-sent requests.

Pure ASGI, so that it stands in front of every framework, and streams pass through untouched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from secrets import compare_digest
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY = 2**20  # bytes of a request that is no upload
BODY_SECONDS = 20.0  # for such a body to arrive whole
PIECE_SECONDS = 30.0  # between two pieces of an upload
HEAD_SECONDS = 15.0  # for the head of a request to arrive whole
MOST_CONNECTIONS = 1_000  # at a time; a further one is answered with 503


class Refused(Exception):
    """A request that is answered by us and goes no further.

    Args:
        status: HTTP status.
        sentence: What the caller reads.
        headers: Further headers, by name.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}

    async def answer(self, send: Send) -> None:
        """Send the refusal as JSON with its sentence in ``detail``; the connection ends with it."""
        body = json.dumps({"detail": self.sentence}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in {**headers, **self.headers}.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: str) -> str:
    """The first value of a request header, or an empty text."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def declared_length(scope: Scope) -> int | None:
    """``Content-Length`` in bytes, or None where there is none.

    Raises:
        Refused: When it is no number.
    """
    text = header(scope, "content-length")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise Refused(400, "The Content-Length of this request is no number.")
    return int(text)


async def read_body(scope: Scope, receive: Receive, most: int = MOST_BODY, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body of a request.

    Raises:
        Refused: When it is longer than ``most`` bytes, declared or sent, or is not there within ``seconds``.
    """
    too_long = Refused(413, f"This request is longer than {most:,} bytes, the most that is read.")
    if (declared_length(scope) or 0) > most:
        raise too_long
    pieces, size, more = [], 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request ended before its body did.")
                pieces.append(message.get("body", b""))
                size, more = size + len(pieces[-1]), message.get("more_body", False)
                if size > most:
                    raise too_long
    except TimeoutError:
        raise Refused(408, f"The body of this request did not arrive within {seconds:.0f} seconds.") from None
    return b"".join(pieces)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` first, and after it what the connection says (that the reader has left)."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


class BoundedBody:
    """Middleware that reads bodies up to a bound before the application sees the request.

    Args:
        streams: Whether a request's body is left to the application, which then bounds it by itself.
        most: Bytes of a body.
        seconds: For it to arrive whole.
    """

    def __init__(
        self,
        app: App,
        streams: Callable[[Scope], bool] = lambda scope: False,
        most: int = MOST_BODY,
        seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.streams, self.most, self.seconds = app, streams, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.streams(scope):
            try:
                receive = replay(await read_body(scope, receive, self.most, self.seconds), receive)
            except Refused as refusal:
                await refusal.answer(send)
                return
        await self.app(scope, receive, send)


class BearerOnly:
    """Middleware that lets nobody in without ``Authorization: Bearer <token>``; asked before a body is read."""

    def __init__(self, app: App, token: str) -> None:
        self.app, self.expected = app, f"Bearer {token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not compare_digest(
            header(scope, "authorization").encode("latin-1"), self.expected.encode()
        ):
            await Refused(401, "The token is wrong.").answer(send)
            return
        await self.app(scope, receive, send)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP with a bound on how long a request's head may take; its own holds between requests only."""

    head_seconds = HEAD_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection opens: its first request is waited for."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.head_seconds, self._end_without_request)

    def data_received(self, data: bytes) -> None:
        """Bytes arrive; between two requests a half-sent head is waited for no longer than the first one."""
        between = self.cycle is not None and self.cycle.response_complete
        if between and self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(self.head_seconds, self._end_without_request)
        earlier = self.cycle
        super().data_received(data)
        if self.cycle is not earlier:
            self._head_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _end_without_request(self) -> None:
        self._head_timer.cancel()
        if not self.transport.is_closing():
            self.transport.close()
