"""Asks the model server for many callers: in threads of its own, and no longer than somebody listens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request

from hydralora.errors import UserError
from jobs.chat.client import ChatClient
from studio.web.endpoint.problems import Problem, busy

MOST_ANSWERS = 16  # asked for at a time; the model server writes one after the other
Done = TypeVar("Done")


class Left(Exception):
    """Whoever asked has gone."""


class Desk:
    """One for each web process."""

    def __init__(self, client: ChatClient) -> None:
        self.client, self.open = client, 0
        self._threads: CapacityLimiter | None = None

    async def lines(self, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The model server's lines; when the reader leaves, the answer is ended.

        Raises:
            Problem: When the question is refused, or too many are being answered.
        """
        if self.open >= MOST_ANSWERS:
            raise busy(f"{self.open} requests are being answered, the most at a time. Try again in a moment.")
        self._threads = self._threads or CapacityLimiter(2 * MOST_ANSWERS)
        self.open += 1
        request_id, is_whole = f"v1-{secrets.token_hex(12)}", False
        answer = self.client.ask({"request_id": request_id, **question})
        try:
            while True:
                ask = partial(next, answer, None)
                line = await run_sync(ask, abandon_on_cancel=True, limiter=self._threads)
                if line is None:
                    is_whole = True
                    return
                yield line
        except UserError as error:
            is_whole = True
            raise Problem.of(error) from error
        finally:
            self.open -= 1
            if not is_whole:  # the generator, which a thread may be waiting in, closes when that thread lets go of it
                with CancelScope(shield=True):
                    await run_sync(self.client.stop, request_id, limiter=self._threads)


async def unless_left(request: Request, work: Coroutine[Any, Any, Done]) -> Done:
    """What ``work`` gives; it is given up when whoever asked goes away.

    Raises:
        Left: When they went.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Left
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
