"""The list of base models that the page may use: nothing else is a base, whatever folder exists.

A base is ``starter``; a folder on the list; or, where hub ids are allowed, ``owner/name``. Folders come onto the list
by ``python -m studio bases add`` (with ``--copy`` as a checked copy of the studio's own), by being named at the start
(``HYDRA_STUDIO_BASES``), and once, when a home is first opened with a list, by the runs that used them. The list is a
file of the home, so that the worker and the model server ask the same one without a database.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydralora.bases.folder import STARTER, check_folder, is_hub_id, local_folder, shown_base, weight_files
from hydralora.errors import BaseModelError, UserError
from hydralora.files import write_json
from hydralora.plain import hide_place
from jobs.home import Home

BASES_VARIABLE = "HYDRA_STUDIO_BASES"  # folders, separated like those of PATH
HUB_VARIABLE = "HYDRA_STUDIO_HUB"  # 0 or no: hub ids are refused
NO = ("0", "no", "off", "false")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MOST_SHOWN = 100  # characters of a refused base in a sentence
SPARE_DISK = 2**30  # bytes left free: the database must be able to write
PIECE = 2**22  # bytes copied at once
# What a copy takes along beside the weights; nothing else of the folder is read.
COPIED = (
    "README.md",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
COMMAND, COPY, START, RUN = "command", "copy", "start", "run"  # how a folder came onto the list


@dataclass(frozen=True)
class Base:
    """A folder on the list: the name it is chosen by, where it lies, and how it came here."""

    name: str
    folder: str
    origin: str


def is_hub_allowed() -> bool:
    """Whether hub ids may be named, which have a model fetched from elsewhere."""
    return os.environ.get(HUB_VARIABLE, "").strip().lower() not in NO


class Bases:
    """The list of one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.path = home.root / "bases.json"

    def all(self) -> list[Base]:
        """Folders on the list, as they came."""
        try:
            values = json.loads(self.path.read_text("utf-8"))["bases"]
            found = [Base(str(item["name"]), str(item["folder"]), str(item["origin"])) for item in values]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path.name} of the studio's folder cannot be read ({error}). Put a copy back."
            ) from error
        found = [self._as_it_lies(base) for base in found]
        for base in found:
            hide_place(Path(base.folder).parent)
        return [base for base in found if self._may_be_base(Path(base.folder))]

    def resolve(self, given: str) -> str:
        """The base that a name means, as runs store it: ``starter``, the folder of one on the list, or a hub id.

        Looks into no folder, so that the answer tells nothing of what exists.

        Raises:
            BaseModelError: When it is none of these; the same sentence whatever was named.
        """
        given = given.strip()
        if given in ("starter", str(STARTER)):
            return "starter"
        for base in self.all():
            if given == base.name or self._is_named(base, given):
                return base.folder
        if is_hub_id(given) and is_hub_allowed():
            return given
        shown = re.sub(
            r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "?", given[:MOST_SHOWN]
        )
        hub = ", a hub id such as 'owner/name'," if is_hub_allowed() else ""
        raise BaseModelError(
            f"Base model '{shown}' is unknown. Choose 'starter'{hub} or one of the list, onto which whoever runs this "
            "studio brings folders with `python -m studio bases add`."
        )

    def look(self, given: str) -> str:
        """``resolve``, and the files of a folder are checked.

        Raises:
            BaseModelError: When it is not on the list, or its files may not be loaded.
        """
        found = self.resolve(given)
        if Path(found).is_absolute():
            if not Path(found).is_dir():
                raise BaseModelError(
                    f"The folder of base model '{self.name_of(found)}' is gone. Put it back, or remove it."
                )
            check_folder(Path(found), self.name_of(found))
        elif found == "starter":
            check_folder(STARTER, "starter")
        return found

    def name_of(self, stored: str) -> str:
        """The name by which a stored base is chosen; where it has none, itself, and of a folder the last part."""
        return next((base.name for base in self.all() if self._is_named(base, stored)), shown_base(stored))

    def _as_it_lies(self, base: Base) -> Base:
        """A base of the list where it is now: copies of the studio's own move with the home."""
        return replace(base, folder=str(self.home.bases / Path(base.folder).name)) if base.origin == COPY else base

    def _is_named(self, base: Base, folder: str) -> bool:
        """Whether a folder that a run has stored is this base, also where the home was elsewhere then."""
        own, named = Path(base.folder), Path(folder)
        is_copy = base.origin == COPY and (named.parent.name, named.name) == (own.parent.name, own.name)
        return folder == base.folder or (is_copy and named.is_absolute())

    def add(self, folder: Path, *, name: str = "", copy: bool = False, origin: str = COMMAND) -> Base:
        """Bring a folder onto the list, checked; one that is there already stays as it is.

        Raises:
            UserError: When the folder is no base, lies within the studio's own folder, or the name is taken or none.
        """
        place = _real(folder)
        if name:
            _check_name(name)
        self._refuse_own(place)
        if not copy:
            check_folder(place, str(folder))
        with self._changing() as bases:
            known = next((base for base in bases if base.folder == str(place)), None)
            if known is not None and not copy and name in ("", known.name):
                return known
            if any(base.name == name for base in bases):
                raise UserError(f"There is a base called '{name}' already. Choose another name.")
            chosen = name or _free_name(place.name, {base.name for base in bases})
            where = self._copy(place, chosen) if copy else place
            base = Base(chosen, str(where), COPY if copy else origin)
            bases[:] = [other for other in bases if other.folder != base.folder] + [base]
        return base

    def free_name(self, wanted: str, promised: Iterable[str] = (), *, exact: bool = False) -> str:
        """A name for a base to come: one like ``wanted`` that nobody has or was ``promised``, or exactly that.

        Raises:
            UserError: When exactly that is no name, or taken.
        """
        taken = {base.name for base in self.all()} | set(promised)
        if not exact:
            return _free_name(wanted, taken)
        _check_name(wanted)
        if wanted in taken:
            raise UserError(f"There is a base called '{wanted}' already. Choose another name.")
        return wanted

    def keep(self, folder: Path) -> Base:
        """Bring a folder that a job has made among the studio's own onto the list, under its own name.

        Raises:
            UserError: When it is no base, or its name was taken meanwhile by another folder, which stays.
        """
        check_folder(folder, folder.name)
        base = Base(folder.name, str(folder), COPY)
        with self._changing() as bases:
            if any(other.name == base.name and other.folder != base.folder for other in bases):
                raise UserError(f"There is a base called '{base.name}' already. Choose another name.")
            bases[:] = [other for other in bases if other.name != base.name] + [base]
        return base

    def remove(self, name: str) -> Base:
        """Take a base off the list, by its name or folder; the studio's own copy is deleted, other folders stay.

        Raises:
            UserError: When there is none of this name.
        """
        with self._changing() as bases:
            found = next((base for base in bases if name in (base.name, base.folder)), None)
            if found is None:
                raise UserError(
                    f"There is no base called '{name[:MOST_SHOWN]}'. `python -m studio bases list` names them."
                )
            bases.remove(found)
        if found.origin == COPY and Path(found.folder).parent == self.home.bases:
            shutil.rmtree(found.folder, ignore_errors=True)
        return found

    def name_at_start(self, folders: Iterable[str]) -> None:
        """Have exactly these folders on the list as those named at the start; who came otherwise stays.

        They are not looked into: one that is missing or no base is told when somebody chooses it.
        """
        named = [str(_real(Path(folder))) for folder in folders if folder.strip()]
        for folder in named:
            self._refuse_own(Path(folder))
        if [base.folder for base in self.all() if base.origin == START] == list(dict.fromkeys(named)):
            return
        with self._changing() as bases:
            bases[:] = [base for base in bases if base.origin != START]
            _append(bases, named, START)

    def begin(self, of_runs: Callable[[], Iterable[str]]) -> None:
        """Make the list where there is none yet, from the folders that the runs of an older home use."""
        if not self.path.exists():
            with self._changing() as bases:
                if not self.path.exists():
                    _append(bases, [folder for folder in of_runs() if self._may_be_base(Path(folder))], RUN)
        named = os.environ.get(BASES_VARIABLE)
        if named is not None:
            self.name_at_start(named.split(os.pathsep))

    def _refuse_own(self, folder: Path) -> None:
        if not self._may_be_base(folder):
            raise BaseModelError(
                f"{folder} cannot be a base: it is not an absolute path, or the studio's own files lie there."
            )

    def _may_be_base(self, folder: Path) -> bool:
        """Nothing in the home is a base (uploads are there) but the copies the studio made itself."""
        root = self.home.root.resolve()
        inside = folder.is_relative_to(root) or folder.is_relative_to(self.home.root)
        return folder.is_absolute() and (not inside or folder.parent in (self.home.bases, root / "bases"))

    @contextmanager
    def _changing(self) -> Iterator[list[Base]]:
        """The list, to be changed by one process at a time; written when nothing was raised."""
        with (self.home.root / "bases.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            bases = self.all()
            yield bases
            write_json(self.path, {"bases": [asdict(base) for base in bases]})

    def _copy(self, source: Path, name: str) -> Path:
        """A checked copy below ``bases``, whole or not at all."""
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.home.bases))
        place = self.home.bases / name
        try:
            for file in _files_of(source):
                _copy_file(file, aside / file.name)
            check_folder(aside, source.name)  # the copy, since the source may change while it is read
            _sync(aside)
            shutil.rmtree(place, ignore_errors=True)  # left by a process that ended before it was on the list
            os.replace(aside, place)
            _sync(self.home.bases)
        except OSError as error:
            raise UserError(f"{source.name} cannot be copied: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return place


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name == "starter":
        raise UserError(f"`{name[:MOST_SHOWN]}` cannot name a base. Use a-z, 0-9, dots, _ and -; 'starter' is taken.")


def _real(folder: Path) -> Path:
    return (local_folder(str(folder)) or folder).expanduser().resolve()


def _append(bases: list[Base], folders: Iterable[str], origin: str) -> None:
    """Add folders under names of their own, those that are there already left out."""
    for folder in dict.fromkeys(folders):
        if all(base.folder != folder for base in bases):
            bases.append(Base(_free_name(Path(folder).name, {base.name for base in bases}), folder, origin))


def _free_name(wanted: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:56] or "base"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 4))]
    return next(name for name in names if name not in {*taken, "starter"})


def _files_of(source: Path) -> list[Path]:
    """What is copied: the known small files that are there, and the weights that are loaded."""
    try:
        weights = weight_files(source)
    except (ValueError, OSError) as error:
        raise BaseModelError(f"Base model '{source.name}': the index of its weights {error}.") from error
    return [*(source / name for name in COPIED if os.path.lexists(source / name)), *weights]


def _copy_file(source: Path, target: Path) -> None:
    """Copy an ordinary file and flush it to disk; a link is not followed.

    Raises:
        UserError: When it is a link, or the disk would be full.
        OSError: When it cannot be read or written.
    """
    if source.is_symlink() or not source.is_file():
        raise UserError(
            f"{source.name} is a link or no ordinary file, which is not copied. Add the folder without --copy."
        )
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as reader, target.open("xb") as writer:
        while piece := reader.read(PIECE):
            if shutil.disk_usage(target.parent).free < SPARE_DISK:
                raise UserError(f"The disk has no room for {source.name}. Free some space first.")
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def base_view(base: Base) -> dict[str, Any]:
    """A base as an answer, with what is wrong with it now."""
    try:
        check_folder(Path(base.folder), base.name)
        problem = None
    except UserError as error:
        problem = str(error)
    return {**asdict(base), "problem": problem}
