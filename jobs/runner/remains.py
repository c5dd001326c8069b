"""What is left of an attempt whose first process has gone: found wherever it went, and ended.

By the attempt's control group where there is one (``jobs.runner.cgroup``); by a mark in the environment that all
programs take over from those that start them, where there is none.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import psutil

from jobs.runner.cgroup import end_group, name_of
from jobs.runner.ownership import started_in
from jobs.runner.processes import Identity, host_name, identity, kill

log = logging.getLogger(__name__)
MARK = "HYDRA_STUDIO_ATTEMPT"  # in the environment of all that an attempt starts: its folder
ROUNDS = 5  # one may have started another meanwhile


def end_remains(folder: Path) -> None:
    """End everything of an attempt that lives on this machine, once what looks after it has gone."""
    group = group_of(folder)
    if not end_group(group):
        log.warning("The control group %s of an attempt that has ended stays.", group)
    for _ in range(ROUNDS):
        members = marked(folder)
        if not members:
            return
        kill(members)


def group_of(folder: Path) -> Path | None:
    """The control group that an attempt was given on this machine since it was started."""
    started = started_in(folder)
    group = started.get("group")
    found = Path(group) if isinstance(group, str) and started.get("host") == host_name() else None
    return found if found is not None and found.name == name_of(folder) else None  # no folder that a job has named


def marked(folder: Path) -> list[Identity]:
    """Programs that an attempt has started, wherever they went; not one that was forked and became no other program."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                found.append(identity(process.pid))
        except (psutil.Error, OSError):  # it has gone, or is not ours
            continue
    return found
