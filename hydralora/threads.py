"""Work on a few threads, in order, with no more in hand than there are threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 2
Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(make: Callable[[Given], Made], parts: Iterable[Given], threads: int = THREADS) -> Iterator[Made]:
    """What ``make`` makes of each part, in order, on ``threads`` threads.

    ``ThreadPoolExecutor.map`` takes all parts at once; here the next one is only taken when an earlier one is done, so
    parts that are read from a file never lie in memory all together.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            waiting.append(pool.submit(make, part))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
