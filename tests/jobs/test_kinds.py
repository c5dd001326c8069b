"""Kinds of job: each says everything about itself, and one that is added works everywhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hydralora.errors import UserError
from hydralora.results import MatrixMap
from jobs.home import Home
from jobs.kinds import KINDS, grace_seconds, looks, title_of
from jobs.runner.child import Job, find_task
from jobs.runner.environment import job_environment
from jobs.runner.leftovers import remove_leftovers
from jobs.runner.limits import limits_of
from jobs.runner.service import start_worker
from jobs.runner.worker import SLOTS
from jobs.store.analyses import question_of
from jobs.store.store import Store
from studio.cli.main import main
from studio.tray import tray
from tests.jobs.conftest import PROJECT, end_home, wait_for
from tests.jobs.test_old_home import unpack

SCRATCH = "tests.jobs.scratch_kind"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A home with a finished run, in a process that knows the further kind."""
    from tests.jobs.scratch_kind import LENGTHS

    KINDS.pop("lengths", None)
    monkeypatch.setitem(KINDS, "lengths", LENGTHS)
    store = Store(Home(unpack("f3124b5", tmp_path)))
    yield store
    end_home(store.home)


def test_an_added_kind_goes_through_queue_tray_worker_and_command(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.home.uploads / "lengths").mkdir()
    analysis = store.analyses.ask(1, "lengths")
    assert analysis.job is not None and analysis.job.lane == "light"
    titles = {job["id"]: str(job["title"]) for job in tray(store)["waiting"]}
    assert titles[analysis.job.id].startswith("Lengths of files: ")
    start_worker(store.home, "--tasks", SCRATCH, "--executor", "spawn")
    wait_for(lambda: store.analyses.get(analysis.id).job.is_finished)  # type: ignore[union-attr]
    done = store.queue.get(analysis.job.id)
    assert done.status == "succeeded", done.error
    assert (done.result or {})["sentence"].startswith("The adapter has")
    assert store.runs.get(1).name == (done.result or {})["sentence"]  # its writer was asked, in the same transaction
    assert not (store.home.uploads / "lengths").exists()
    assert store.analyses.ask(1, "lengths").id == analysis.id  # answered once
    spec = json.loads((store.home.job(done.id, 1) / "spec.json").read_text("utf-8"))
    assert spec["limits"]["wall"] == 77
    for name, kind in looks().items():
        monkeypatch.setitem(KINDS, name, kind if name == "lengths" else replace(kind, look=None))
    with pytest.raises(SystemExit) as ended:
        main(["--home", str(store.home.root), "inspect", "1", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["lengths"]["files"]["adapter_config.json"] > 0


def test_an_added_kind_leaves_nothing_half_written_and_has_its_own_grace(store: Store) -> None:
    analysis = store.analyses.ask(1, "lengths")
    assert analysis.job is not None
    store.home.analysis(analysis.id).mkdir(parents=True)
    remove_leftovers(store.home, analysis.job)
    assert not store.home.analysis(analysis.id).exists()
    assert grace_seconds("lengths") == 1.5 and limits_of("lengths").wall == 77


def test_only_kinds_that_load_models_or_send_one_are_given_the_hubs_token() -> None:
    with_token = {name for name in KINDS if "HF_TOKEN" in job_environment(name, {"HF_TOKEN": "secret"})}
    assert with_token == {
        "check",
        "base_check",
        "shorten",
        "render",
        "fetch",
        "import",
        "train",
        "speed",
        "routing",
        "experts",
        "answers",
        "export",
        "push",
        "serve",
    }


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_lane_that_a_worker_serves_and_a_title(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name and kind.lane in SLOTS and kind.title and (kind.version is None) == (kind.result is None)


def test_the_task_of_every_kind_can_be_loaded() -> None:
    # In a process of its own, since a test may have made other kinds known.
    code = "from jobs.kinds import KINDS; [kind.load() for kind in KINDS.values()]"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_kind_that_is_not_known_here_is_told_in_a_sentence(home: Home) -> None:
    store = Store(home)
    with pytest.raises(UserError, match="no kind of job called 'juggle'"):
        store.queue.submit("juggle")
    assert title_of("juggle") == "juggle" and grace_seconds("juggle") == 8.0


def test_what_was_stored_under_a_parameters_earlier_name_is_found_by_its_new_one() -> None:
    asked = {"which": "B", "layout": "pca", "seed": 0}
    stored = json.dumps(["map", 1, {**asked, "likeness": "cosine"}], sort_keys=True, separators=(",", ":"))
    assert question_of("map", {**asked, "similarity": "cosine"}) == hashlib.sha256(stored.encode()).hexdigest()


def test_a_map_that_was_queued_under_the_earlier_name_is_still_drawn(tmp_path: Path) -> None:
    home = Home(unpack("f3124b5", tmp_path))
    (folder := home.job(99, 1)).mkdir(parents=True)
    payload = {"analysis_id": 9, "run_id": 1, "which": "B", "layout": "pca", "seed": 0, "likeness": "subspace"}
    found = find_task("map")(Job(folder, {"kind": "map", "payload": payload, "home": str(home.root)}))
    assert isinstance(found, MatrixMap) and found.similarity == "subspace"


def test_a_role_that_is_no_column_is_refused_in_a_sentence(home: Home) -> None:
    (folder := home.job(1, 1)).mkdir(parents=True)
    payload = {"corpus_id": 1, "files": [], "roles": {"prompt": ["question"], "answer": ["a", "b"]}}
    with pytest.raises(UserError, match=r"`roles\.answer`: input should be a valid string"):
        find_task("ingest")(Job(folder, {"kind": "ingest", "payload": payload, "home": str(home.root)}))
