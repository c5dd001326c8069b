"""Choosing an artefact store, for good; what is here already waits to be sent to it."""

from __future__ import annotations

import os
from pathlib import Path

from hydralora.errors import UserError
from jobs.artefacts.address import KEY, VARIABLE, checked_url
from jobs.artefacts.artefacts import Artefacts
from jobs.artefacts.notes import FOLDER
from jobs.runner.service import end_worker, is_running, start_worker
from jobs.store.store import Store


def choose_artefacts(store: Store, url: str) -> int:
    """Keep artefacts there from now on, or in the home alone where ``url`` is empty or ``none``; a worker that runs is
    replaced. How many folders wait to be sent.

    Raises:
        UserError: When the store cannot be used, or the environment names another; nothing has changed then.
    """
    url = checked_url(url)
    named = checked_url(store.home.artefacts.url)
    if os.environ.get(VARIABLE) and named != url:
        raise UserError(f"The artefact store is {named}, by {VARIABLE}. Change it there, or take the variable away.")
    if url:
        check_artefacts(store.home.root, url)
    (store.home.root / FOLDER).mkdir(mode=0o700, exist_ok=True)  # by which a page that is open sees it
    store.settings.set(KEY, {"url": url})
    store.home.use_artefacts(url)
    for folder in folders_of(store) if url else ():
        store.home.artefacts.pend(folder)
    if is_running(store.home):
        end_worker(store.home)
        start_worker(store.home)
    return len(store.home.artefacts.waiting())


def check_artefacts(root: Path, url: str) -> None:
    """See whether a store can be used.

    Raises:
        UserError: When it cannot.
    """
    place = url.removeprefix("file://") if url.startswith("file:") else ""
    if place and (Path(place) == root or root in Path(place).parents or Path(place) in root.parents):
        raise UserError(f"The artefact store {url} and the home {root} lie in each other. Choose a folder apart.")
    Artefacts(root, url).remote.check()


def folders_of(store: Store) -> list[Path]:
    """Every folder of the home that is an artefact."""
    root = store.home.root
    found = [place for name in ("corpora", "clusterings", "analyses", "runs") for place in (root / name).glob("*")]
    found += [*(root / "runs").glob("*/adapter"), *(root / "runs").glob("*/checkpoints/checkpoint-*")]
    found = [place for place in found if place.is_dir() and place.suffix not in (".part", ".old")]
    return sorted(place for place in found if place.parent.name != "checkpoints" or (place / "complete.json").exists())
