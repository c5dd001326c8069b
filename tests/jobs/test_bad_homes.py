"""Homes that cannot be used as they are: one plain sentence each, and nothing on disk is changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hydralora.errors import UserError
from jobs.home import Home
from jobs.runner.child import Job, find_task
from jobs.store.store import Store
from studio.figures.views import Query, analysis_figure
from tests.jobs.test_old_home import unpack

NOBODY = 65_534


def picture(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and hash of everything below a folder."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return unpack("f3124b5", tmp_path)


def truncate(root: Path) -> None:
    with (root / "studio.db").open("r+b") as file:
        file.truncate(40_000)


def cut_into_the_header(root: Path) -> None:
    (root / "studio.db").write_bytes((root / "studio.db").read_bytes()[:50])


def empty(root: Path) -> None:
    (root / "studio.db").write_bytes(b"")


def remove(root: Path) -> None:
    (root / "studio.db").unlink()


def overwrite_pages(root: Path) -> None:
    whole = (root / "studio.db").read_bytes()
    (root / "studio.db").write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


def put_notes_there(root: Path) -> None:
    (root / "studio.db").write_text("this is no database, but somebody's notes" * 100)


def put_another_program_there(root: Path) -> None:
    (root / "studio.db").unlink()
    with closing(sqlite3.connect(root / "studio.db")) as connection:
        connection.execute("CREATE TABLE bookmarks (address TEXT)")


def make_newer(root: Path) -> None:
    with closing(sqlite3.connect(root / "studio.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (truncate, "is damaged: it has 40,000 bytes of"),
    (cut_into_the_header, "is damaged: it has only 50 bytes"),
    (empty, "is gone or empty, while its folder holds corpora or runs"),
    (remove, "is gone or empty, while its folder holds corpora or runs"),
    (overwrite_pages, "is damaged"),
    (put_notes_there, "is not a database of the studio"),
    (put_another_program_there, "is not a database of the studio"),
    (make_newer, "was made by a newer version of the studio"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_a_database_that_cannot_be_used_is_refused_and_left_as_it_is(
    root: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(root)
    before = picture(root)
    with pytest.raises(UserError, match=words) as told:
        Store(Home(root))
    assert "--home" in str(told.value) and "\n" not in str(told.value)
    assert picture(root) == before


def test_a_new_home_may_be_opened_by_two_at_once_before_there_is_a_database(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "home"), Home(tmp_path / "home")
    Store(first).chats.create()
    assert len(Store(second).chats.all()) == 1


@contextmanager
def as_nobody(root: Path) -> Iterator[None]:
    """Without the rights of root, whom no mode stops; the folder is then nobody's own."""
    if os.geteuid() != 0:
        yield
        return
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def make_read_only(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        path.chmod(0o500 if path.is_dir() else 0o400)


@pytest.mark.parametrize("upgraded", [False, True], ids=["of an earlier version", "of this version"])
def test_a_home_that_cannot_be_written_is_refused_and_left_as_it_is(root: Path, upgraded: bool) -> None:
    if upgraded:
        Store(Home(root)).engine.dispose()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are closed to others
        os.chmod(place, 0o711)
        home = Path(shutil.copytree(root, Path(place) / "home"))
        make_read_only(home)
        with as_nobody(home):
            before = picture(home)
            with pytest.raises(UserError, match="cannot be") as told:
                Store(Home(home))
            assert picture(home) == before
            for path in (home, *home.rglob("*")):
                path.chmod(0o700)
    assert "\n" not in str(told.value)


KINDS = ("routing", "weights", "map", "answers", "experts", "compare", "export")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_files_are_gone_is_told_so_by_every_look(root: Path, kind: str) -> None:
    store = Store(Home(root))
    shutil.rmtree(store.home.run(1))
    folder = store.home.job(99, 1)
    folder.mkdir(parents=True)
    payload = {"run_id": 1, "corpus_id": 1, "analysis_id": 9, "clustering_id": 1, "which": "A", "layout": "pca"}
    job = Job(folder, {"kind": kind, "payload": {**payload, "how": "uniform"}, "home": str(root)})
    before = picture(root)
    with pytest.raises(UserError, match=r"The files of run 1 are gone.*delete the run"):
        find_task(kind)(job)
    assert picture(root) == before
    assert (
        store.runs.checkpoints(1) == [] and store.runs.get(1).name == "First run, renamed"
    )  # its rows are still there
    store.runs.delete(1)
    assert store.runs.all() == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{", "utf-8")], ids=["gone", "cut short"])
def test_a_result_whose_file_is_gone_or_damaged_is_told_in_a_sentence(
    root: Path, damage: Callable[[Path], object]
) -> None:
    store = Store(Home(root))
    damage(store.home.analysis(1) / "weights.json")
    with pytest.raises(UserError, match=r"weights.json of analyses/1 is gone or damaged\. Put that folder"):
        analysis_figure(store.home.analysis(1), "weights", "heads", Query())
