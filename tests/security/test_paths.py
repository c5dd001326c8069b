"""What a page or an address says of the machine it runs on: nothing, whatever its folders are called."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from hydralora.bases.folder import STARTER
from hydralora.plain import hide_place, without_paths
from jobs.home import Home
from jobs.runner.child import Job as Child
from jobs.store.store import Store
from tests.security.hostile import fill, refusing_worker
from tests.security.studio_client import events_of, make_client, send_event
from tests.security.test_fuzz import addresses

VIEWS = ("loss", "routing", "weights", "jsonl")
SECRET = "Ann's Secret Things"  # a name with blanks and a quote, as people give folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such file: '/home/ann/hydra/studio.db'", "No such file: '…/studio.db'"),
        ("/etc/passwd and /proc/self/environ", "…/passwd and …/environ"),
        (
            "see http://127.0.0.1:7860/ui/runs/1 or /runs, and/or 3/4/5",
            "see http://127.0.0.1:7860/ui/runs/1 or /runs, and/or 3/4/5",
        ),
        ("owner/name is a hub id", "owner/name is a hub id"),
        ("No such file: '/srv/Secret Things/a b.txt'", "No such file: '…/a b.txt'"),
        ('No such file: "/srv/Ann\'s Things/a b.txt"', 'No such file: "…/a b.txt"'),
        ("cannot open sqlite:////srv/secret/studio.db, nor file:///srv/secret/x", "cannot open …/studio.db, nor …/x"),
        ("'/a' and '/b'", "'/a' and '/b'"),
    ],
)
def test_a_message_on_a_page_names_no_path_of_the_machine(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_a_known_folder_is_hidden_wherever_it_stands(tmp_path: Path) -> None:
    place = tmp_path / "Ann Secret"
    hide_place(place)
    assert without_paths(f"{place}/runs/3 holds no adapter: {place}.") == "…/runs/3 holds no adapter: …."
    assert str(tmp_path.name) in without_paths(f"x{place}x")  # a longer word is another thing


@pytest.mark.parametrize("place", ["~", "", ".", "/", "relative"])
def test_a_place_that_is_none_hides_nothing(place: str) -> None:  # as the home of an account that has none
    hide_place(Path(place))
    assert without_paths("a / b ~ c . relative/x") == "a / b ~ c . relative/x"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A studio whose every job has failed on a path, with a base of its own in a folder elsewhere."""
    place = tmp_path_factory.mktemp("machine") / SECRET
    model = place / "models" / "tiny model"
    shutil.copytree(STARTER, model)
    filled = fill(Home(place / "studio"))
    base = filled.bases.add(model, name="tiny")
    said = f"[Errno 13] Permission denied: {str(model)!r}, and {filled.home.root}/runs/1 is gone; see file:{model}/x"
    with filled.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET error = :said"), {"said": said})
        connection.execute(text("UPDATE messages SET error = :said, state = 'failed'"), {"said": said})
        connection.execute(text("UPDATE runs SET config = json_set(config, '$.base', :base)"), {"base": base.folder})
    with refusing_worker(filled):
        yield filled


@pytest.fixture(params=["succeeded", "failed", "lost"])
def client(request: pytest.FixtureRequest, store: Store) -> Iterator[TestClient]:
    """The studio while all its jobs are in one state."""
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = :status"), {"status": request.param})
    with make_client(store.home) as opened:
        yield opened


def test_no_page_and_no_address_names_a_folder_of_the_machine(client: TestClient) -> None:
    told: list[tuple[str, str]] = []
    for number, event in events_of(client).items():
        if not event.queue:  # what pages draw by themselves, when they are opened or something has changed
            values = [None if type(part).__name__ in ("Dropdown", "Radio") else part.value for part in event.inputs]
            answer = send_event(client, number, event, values, query="?corpus=1&run=1")
            told.append((event.fn.__qualname__, json.dumps(answer, ensure_ascii=False)))
    for method, path, _ in addresses(client):
        for view in VIEWS if method == "get" else ():
            place = re.sub(r"\{(view|name)\}", view, re.sub(r"\{\w+_id\}|\{position\}", "1", path))
            told.append((place, client.get(f"{place}?of=all").text))
    assert len(told) > 60
    hits = [(where, words, words.find(name)) for where, words in told for name in ("Secret", str(STARTER.parent))]
    assert [(where, words[place - 60 : place + 40]) for where, words, place in hits if place >= 0] == []


def test_what_a_job_says_it_is_doing_names_no_folder_either(tmp_path: Path) -> None:
    job = Child(tmp_path, {"kind": "ingest", "payload": {}, "home": str(tmp_path / SECRET)})
    job.report(0.5, f"Reading {job.home.root}/uploads/1 and '/srv/{SECRET.replace(chr(39), '')}/x.csv'")
    assert json.loads((tmp_path / "progress.json").read_text())["text"] == "Reading …/uploads/1 and '…/x.csv'"
