"""What waits in a home for its artefact store is sent in the background, again and again."""

from __future__ import annotations

import fcntl
import logging
import threading
import time

from hydralora.errors import UserError
from hydralora.plain import one_line
from jobs.artefacts.address import KEY, StoreError
from jobs.artefacts.notes import FOLDER
from jobs.kinds import KINDS
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # between two looks at what waits
SETTING_SECONDS = 5.0  # between two looks at the setting
ARRIVAL_SECONDS = 20.0  # for which what another machine has made is waited for
RETRY_SECONDS = 15.0  # after a store that could not be used


def send_what_waits(store: Store) -> int:
    """Send and delete what waits in a home, unless another process of it does; how many are done.

    Raises:
        StoreError: When the artefact store cannot be used.
    """
    artefacts = store.home.artefacts
    if not artefacts.waiting():
        return 0
    with (store.home.root / FOLDER / "sender.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        return artefacts.settle()


def keep_sending(store: Store) -> None:
    """The same for as long as this process lives; where a home has or had a store, its address is looked up now and
    then. Runs in a thread."""
    looked = time.monotonic()
    while True:
        pause = LOOK_SECONDS
        try:
            is_due = time.monotonic() - looked > SETTING_SECONDS
            if is_due and (store.home.root / FOLDER).exists():
                looked = time.monotonic()
                store.home.use_artefacts((store.settings.get(KEY) or {}).get("url", ""))
            send_what_waits(store)
        except (UserError, OSError) as error:
            log.warning("%s", one_line(str(error)))
            pause = RETRY_SECONDS
        except Exception as error:  # the database, for a moment; the thread must not end by it
            log.warning("What waits for the artefact store was not sent: %s", type(error).__name__)
            pause = RETRY_SECONDS
        time.sleep(pause)


def wait_for_artefacts(store: Store, job: Job) -> None:
    """Wait a while until what a job has made on another machine can be had here: it is sent once the job has ended."""
    artefacts = store.home.artefacts
    if not artefacts.is_on or job.kind not in KINDS or job.status != JobStatus.SUCCEEDED:
        return
    deadline = time.monotonic() + ARRIVAL_SECONDS
    for folder in KINDS[job.kind].artefacts_of(store.home.near, job.payload):
        while time.monotonic() < deadline:
            try:
                artefacts.need(folder)
                break
            except StoreError:  # whoever opens it then is told so
                time.sleep(LOOK_SECONDS)


def start_sending(store: Store) -> None:
    """Begin ``keep_sending`` in the background."""
    threading.Thread(target=keep_sending, args=(store,), daemon=True).start()
