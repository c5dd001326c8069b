"""Homes whose names mean something else in addresses, patterns and formats, and homes that were moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hydralora.bases.folder import STARTER
from hydralora.errors import UserError
from jobs.home import NAME, Home
from jobs.runner.lease import Held, Lease
from jobs.runner.running import write_spec
from jobs.store.database import shown_url
from jobs.store.logs import page
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import Workshop, end_home
from tests.jobs.test_old_home import revision, unpack

NAMES = [
    "my home",
    "what?mode=ro&x=1",
    "100%",
    "%41 %2F %s %(name)s",
    "#1",
    "[a-z]*",
    "{0}",
    "a@b:c",
    "ünï cöde",
    "semi;colon 'quoted' \"twice\"",
    "new\nline",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_home_of_any_name_keeps_its_rows_in_its_own_folder(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    store = Store(home)
    store.queue.submit("map")
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and Lease(write_spec(home, job, None)).renew() == Held.OURS
    assert Store(Home(tmp_path / name)).queue.get(job.id).status == JobStatus.RUNNING
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name / NAME).stat().st_size


def test_a_home_whose_name_is_no_text_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be used.*surrogates not allowed.*Choose another"):
        Home(tmp_path / "bytes \udcff")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES[:5])
def test_a_home_of_any_name_is_brought_to_this_version_and_copied_first(tmp_path: Path, name: str) -> None:
    root = unpack("f3124b5", tmp_path).rename(tmp_path / name)
    store = Store(Home(root))
    (copy,) = store.home.database_copies
    assert copy.parent == root and revision(copy) == "0002" < revision(root / NAME)
    assert len(store.corpora.all()) == 1


@pytest.mark.parametrize("name", NAMES[:5])
def test_a_message_names_a_home_as_it_is_called(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    assert shown_url(home.database_url) == f"sqlite:///{home.root / NAME}"
    (home.root / NAME).write_bytes(b"this is no database at all" * 100)
    with pytest.raises(UserError) as error:
        Store(home)
    assert str(home.root / NAME) in str(error.value)


def test_jobs_run_in_a_home_of_any_name(tmp_path: Path) -> None:
    home = Home(tmp_path / "odd ?mode=ro #1 %41 100% [x]*")
    workshop = Workshop(home, Store(home))
    try:
        workshop.start()
        job = workshop.ended(workshop.submit("nothing"))
        assert job.status == JobStatus.SUCCEEDED and page(workshop.home, job).text
    finally:
        end_home(home)


def test_a_home_that_was_moved_finds_its_own_bases_by_the_names_its_runs_have_stored(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "before"))
    base = store.bases.add(STARTER, name="mine", copy=True)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(STARTER, elsewhere)
    other = store.bases.add(elsewhere, name="other")
    for place in ("after", "after that ?"):
        store.home.root.rename(tmp_path / place)
        store = Store(Home(tmp_path / place))
        now = str(tmp_path / place / "bases" / "mine")
        assert [one.folder for one in store.bases.all()] == [now, other.folder]
        assert store.bases.look(base.folder) == now == store.bases.look("mine")
        assert store.bases.name_of(base.folder) == "mine" and store.bases.look(other.folder) == other.folder
        with pytest.raises(UserError, match="is unknown"):
            store.bases.resolve(str(tmp_path / "before" / "bases" / "nobody's"))
        store.bases.add(elsewhere, name="other")  # writes the list anew
