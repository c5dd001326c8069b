"""Comparisons that were asked for lately: the figures and tables of one page read the same runs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from jobs.store.store import Store
from studio.comparison.groups import Compared, compare

KEPT = 8  # comparisons
TOPICS = ("runs", "corpora")  # what changes one

Key = tuple[tuple[int, ...], str, str]


class Desk:
    """Gives comparisons, read anew where something of them has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[Key, Compared] = OrderedDict()
        self._lock = threading.Lock()

    def compared(self, run_ids: Sequence[int], by: str) -> Compared:
        """Runs in groups; ids that do not exist are named as missing.

        Raises:
            UserError: When they cannot be grouped by that.
        """
        key = (tuple(run_ids), by, self._store.changes.stamp(TOPICS))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        lines = self._store.run_list.lines(run_ids)
        there = {line.id for line in lines}
        found = compare(lines, by, [run_id for run_id in run_ids if run_id not in there])
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found
