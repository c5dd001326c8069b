"""What a reader does where no worker lives: it makes the states of jobs true before it tells them."""

from __future__ import annotations

import logging
import secrets

from hydralora.errors import UserError
from hydralora.plain import one_line
from jobs.runner.service import hold_lock
from jobs.store.status import ACTIVE
from jobs.store.store import Store

log = logging.getLogger(__name__)


def reconcile(store: Store) -> None:
    """Look once after the jobs that are called running, in place of a worker that has died; nothing is started.

    What has ended is stored, what vanished waits again, and what lives is left alone. Nothing is done where a worker
    lives, or where the database cannot be written now.
    """
    try:
        if not store.queue.jobs(statuses=ACTIVE, limit=1):
            return
        lock = hold_lock(store.home)
        if lock is None:
            return
        from jobs.runner.worker import Worker

        with lock:
            worker = Worker(store.home, store=store)
            worker.me.name += f":{secrets.token_hex(4)}"  # each look is another one's, so that the next adopts again
            worker.reconcile()
    except (UserError, OSError) as error:
        log.warning("The states of jobs could not be looked after: %s", one_line(str(error)))
