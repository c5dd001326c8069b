"""What changed since: the one address that open tabs ask every two seconds.

``GET /ui/changes?of=run-12,jobs&since=STAMP`` gives 204 and nothing while the stamp of these topics is still the one
that is sent along, else 200 and ``{"stamp": ...}``; a tab that knows none sends none. The topics are those of
``jobs.store.changes``. However many tabs ask, the database is read a few times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as InQuery
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from jobs.store.changes import MOST_TOPICS, checked_topics, stamp_of
from jobs.store.store import Store

FRESH_SECONDS = 0.3  # for which a number that was read is given to everybody
WATCHED_SECONDS = 10.0  # after it was last asked for, a topic is still read along with the others
MOST_WATCHED = 500  # topics that are read at once; each tab watches one or two
LONGEST = MOST_TOPICS * 32  # characters of topics, and of a stamp
NO_STORE = {"Cache-Control": "no-store"}


class Watch:
    """Numbers of topics, read at most once in ``FRESH_SECONDS`` for all who ask.

    Args:
        read: Reads the numbers of some topics; called in a thread, never twice at a time.
        clock: Seconds that only grow.
    """

    def __init__(
        self, read: Callable[[Iterable[str]], dict[str, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._numbers: dict[str, tuple[str, float]] = {}  # by topic: number, when it was read
        self._asked: dict[str, float] = {}  # by topic: when somebody last wanted to know
        self._reading = asyncio.Lock()

    async def stamp(self, topics: tuple[str, ...]) -> str:
        """The stamp of some topics, ``FRESH_SECONDS`` old at most."""
        now = self._clock()
        self._asked.update(dict.fromkeys(topics, now))
        if not self._are_fresh(topics):
            async with self._reading:  # whoever waited here finds what the one before has read
                if not self._are_fresh(topics):
                    await self._refresh(topics)
        return stamp_of(self._numbers[topic][0] for topic in topics)

    def _are_fresh(self, topics: tuple[str, ...]) -> bool:
        since = self._clock() - FRESH_SECONDS
        return all(self._numbers.get(topic, ("", -1.0))[1] >= since for topic in topics)

    async def _refresh(self, topics: tuple[str, ...]) -> None:
        """Read what is asked for, and along with it what others have asked for lately."""
        now = self._clock()
        lately = [topic for topic, asked in self._asked.items() if now - asked < WATCHED_SECONDS]
        newest = sorted(lately, key=self._asked.__getitem__, reverse=True)[:MOST_WATCHED]
        self._asked = {topic: self._asked[topic] for topic in newest}
        numbers = await run_in_threadpool(self._read, {*topics, *newest})
        self._numbers = {topic: (number, now) for topic, number in numbers.items()}


def changes_router(store: Store) -> APIRouter:
    """The address, under ``/ui``."""
    router, watch = APIRouter(prefix="/ui"), Watch(store.changes.numbers)

    @router.get("/changes")
    async def changes(
        of: Annotated[str, InQuery(max_length=LONGEST)], since: Annotated[str, InQuery(max_length=LONGEST)] = ""
    ) -> Response:
        stamp = await watch.stamp(checked_topics(of))
        if stamp == since:
            return Response(status_code=204, headers=NO_STORE)
        return JSONResponse({"stamp": stamp}, headers=NO_STORE)

    return router
