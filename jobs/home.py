"""The one folder in which everything the studio keeps lives."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from copy import copy
from functools import cached_property
from pathlib import Path

from platformdirs import user_data_path

from hydralora.errors import UserError
from hydralora.files import list_checkpoints, step_of
from hydralora.plain import hide_place
from jobs.artefacts.address import VARIABLE, checked_url
from jobs.artefacts.artefacts import Artefacts
from jobs.artefacts.notes import FOLDER as ARTEFACTS
from jobs.database_file import COPY, NAME, check_database

HOME_VARIABLE = "HYDRA_STUDIO_HOME"
DATABASE_VARIABLE = "HYDRA_STUDIO_DATABASE"
# Everything the studio puts into its folder; what is not named here is somebody else's and is left as it is.
FOLDERS = ("corpora", "clusterings", "runs", "analyses", "jobs", "uploads", "server", "browser-uploads", "bases", "ray")
FILES = (
    NAME,
    "bases.json",
    "bases.lock",
    f"{NAME}-wal",
    f"{NAME}-shm",
    f"{NAME}-journal",
    "worker.log",
    "worker.lock",
    "no-worker",
    "make-room",
)
MACHINES = "machines"  # a folder for each machine that works over one shared home
MENDED = ".private"  # there once the modes of everything below have been mended


def is_ours(name: str) -> bool:
    """Whether the studio puts something of this name right below its folder: a folder, a file, a copied database."""
    return name in (*FOLDERS, *FILES, MACHINES, MENDED, ARTEFACTS) or COPY.fullmatch(name) is not None


def private_files() -> None:
    """From now on nobody else can read what this process, or one that it starts, writes."""
    os.umask(0o077)


def root_of(named: Path | str | None) -> Path:
    """The folder of a home, there or not: the one that is named, else by the environment, else this account's own."""
    found = named or os.environ.get(HOME_VARIABLE) or user_data_path("hydra-studio")
    return Path(found).expanduser().absolute()


class Home:
    """Paths by id under one private folder: folders 0700, files 0600. Ids are integers, so no name is a path.

    Opening one makes this process write private files only, and mends what an earlier version has left open. One
    whose database cannot be used is refused first, as it is.

    A home with a database of its own belongs to one machine. Where the database is elsewhere, several may share the
    folder, and ``machine`` holds what is each one's own: who works, its log, how its model server is reached.

    With an artefact store the folder is this machine's own, and a path that is asked for here has been fetched from the
    store before, where that has another one; what is finished and in neither yet is refused as that (`StoreError`).
    ``near`` gives the bare paths, to write or to delete.

    Args:
        machine: That folder, for a process that knows no database and need not look at it.
    """

    def __init__(self, root: Path | str | None = None, *, machine: Path | str | None = None) -> None:
        self.root = root_of(root)
        own = self.root / MACHINES / machine_name() if is_shared() else self.root
        self.machine = Path(machine) if machine else own
        self.artefacts = Artefacts(self.root, checked_url(os.environ.get(VARIABLE, "")))
        hide_place(self.root)
        private_files()
        try:
            str(self.root).encode()  # a name that is no text goes into no file and no address
            if machine is None and not os.environ.get(DATABASE_VARIABLE):
                check_database(self.root / NAME, used=_is_used(self.root))
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in FOLDERS:
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
            self.server.mkdir(parents=True, exist_ok=True, mode=0o700)
            mend_modes(self.root)
        except UserError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise UserError(
                f"The folder {self.root} cannot be used ({getattr(error, 'strerror', error)}). "
                f"Choose another with --home or {HOME_VARIABLE}."
            ) from error

    def use_artefacts(self, url: str) -> None:
        """Have another artefact store, or none where it is empty; what the environment names goes before."""
        if not os.environ.get(VARIABLE) and url != self.artefacts.url:
            self.artefacts = Artefacts(self.root, url)
            self.__dict__.pop("near", None)

    @cached_property
    def near(self) -> Home:
        """The same folder without a store: paths as they are here, to write or to delete."""
        near = copy(self)
        near.artefacts = Artefacts(self.root)
        return near

    @property
    def database_url(self) -> str:
        """URL of the database: SQLite in this folder, or what the environment names."""
        return os.environ.get(DATABASE_VARIABLE) or sqlite_url(self.root / NAME)

    @property
    def database_copies(self) -> list[Path]:
        """Copies of the database, each from before an upgrade."""
        return sorted(path for path in self.root.iterdir() if COPY.fullmatch(path.name))

    def corpus(self, corpus_id: int) -> Path:
        """Folder of an imported corpus."""
        return self.artefacts.need(self.root / "corpora" / str(int(corpus_id)))

    def clustering(self, clustering_id: int) -> Path:
        """Folder of a clustering."""
        return self.artefacts.need(self.root / "clusterings" / str(int(clustering_id)))

    def run(self, run_id: int) -> Path:
        """Folder of a run: checkpoints and the finished adapter."""
        folder = self.root / "runs" / str(int(run_id))
        self.artefacts.fetch(folder)
        return folder

    def adapter(self, run_id: int) -> Path:
        """Folder of a run's finished adapter.

        Raises:
            UserError: When the run's files are gone, though the database knows the run, or cannot be fetched.
        """
        folder = self.run(run_id) / "adapter"
        self.artefacts.need(folder)
        if not folder.is_dir():
            raise UserError(
                f"The files of run {int(run_id)} are gone: {self.run(run_id)} holds no adapter. "
                "Put the folder back from a copy of yours, or delete the run."
            )
        return folder

    def analysis(self, analysis_id: int) -> Path:
        """Folder of an analysis' results."""
        return self.artefacts.need(self.root / "analyses" / str(int(analysis_id)))

    def checkpoints(self, run_id: int) -> list[int]:
        """Steps of the complete checkpoints of a run, in order, those that only the artefact store has among them."""
        folder = self.run(run_id)
        there = [step_of(Path(name)) for name in self.artefacts.below(folder / "checkpoints")]
        return sorted({*list_checkpoints(folder), *there})

    def attempts(self, job_id: int) -> Path:
        """Folder of all attempts at a job."""
        return self.root / "jobs" / str(int(job_id))

    def job(self, job_id: int, attempt: int) -> Path:
        """Folder of one attempt at a job: spec, log, metrics, result."""
        return self.attempts(job_id) / str(int(attempt))

    @property
    def bases(self) -> Path:
        """Base models that the studio has copied for itself."""
        return self.root / "bases"

    @property
    def uploads(self) -> Path:
        """Where uploaded files wait until they are imported."""
        return self.root / "uploads"

    @property
    def no_worker(self) -> Path:
        """There while somebody wants no worker to start by itself on this machine."""
        return self.machine / "no-worker"

    @property
    def make_room(self) -> Path:
        """There while a training run needs this machine's GPU; the model server then gives it back."""
        return self.machine / "make-room"

    @property
    def server(self) -> Path:
        """Where this machine's model server says how it is reached."""
        return self.machine / "server"


def sqlite_url(file: Path) -> str:
    """URL of a database in a file; what would end or begin something else in a URL is written otherwise."""
    return f"sqlite:///{str(file).replace('%', '%25').replace('?', '%3F')}"


def is_shared() -> bool:
    """Whether the database is one that other machines may reach too."""
    url = os.environ.get(DATABASE_VARIABLE, "")
    return bool(url) and not url.startswith("sqlite")


def machine_name() -> str:
    """This machine among those that share a home, as a folder may be called."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname()).lstrip(".") or "machine"


def _is_used(root: Path) -> bool:
    """Whether a folder holds corpora or runs, and so must have a database with their rows."""
    return any(folder.is_dir() and any(folder.iterdir()) for folder in (root / "corpora", root / "runs"))


def mend_modes(root: Path) -> None:
    """Take from group and others what they may do with the studio's own files; links are never followed.

    The files right below ``root`` are looked at every time. What lies deeper is walked through once, since a home can
    hold a million files and all that are written now are private already.
    """
    names = {entry.name for entry in os.scandir(root)}
    if all(is_ours(name) for name in names):
        _close(root.resolve())  # else it is also somebody's folder of other things, and theirs to decide
    for name in filter(is_ours, names):
        _close(root / name)
    if (root / MENDED).exists():
        return
    for name in FOLDERS:
        for folder, folders, files in os.walk(root / name):  # enters no link
            for entry in (*folders, *files):
                _close(Path(folder) / entry)
    (root / MENDED).touch()


def _close(path: Path) -> None:
    """Mode 0700 or 0600 for a folder or file that is ours; a link, a device and another owner's are left alone."""
    try:
        found = path.lstat()
        if not found.st_mode & 0o077 or found.st_uid != os.geteuid():
            return
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            return
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):  # gone, a link by now, or not even ours to read
            return
        raise
    try:
        os.fchmod(opened, 0o700 if stat.S_ISDIR(os.fstat(opened).st_mode) else 0o600)
    finally:
        os.close(opened)
