"""Bases come from the list only: no path typed into the page is one, and no answer tells which folders exist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from hydralora.adapters.build import add_adapter
from hydralora.bases.folder import STARTER
from hydralora.bases.load import load_base
from hydralora.config import parse_config
from hydralora.errors import UserError
from hydralora.files import CONFIG, WEIGHTS
from jobs.chat.server import Load, Server
from jobs.home import Home
from jobs.runner.child import Job
from jobs.store.bases import BASES_VARIABLE, HUB_VARIABLE, Bases
from jobs.store.store import Store
from jobs.store.tables import RunRow
from jobs.tasks import import_, known_base, train
from studio.cli.bases import base_of_command
from studio.cli.main import app
from studio.estimate import Place, like
from studio.pages.common import known_bases
from tests.hydralora.conftest import make_llama, make_tokenizer
from tests.jobs.test_store import ready_corpus

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that would load."""
    place, tokenizer = tmp_path_factory.mktemp("outside") / "little", make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture
def ways(store: Store, tmp_path: Path) -> dict[str, Callable[[str], Any]]:
    """The ways by which a base reaches the store from the page."""
    corpus, files = ready_corpus(store, tmp_path), [tmp_path / CONFIG, tmp_path / WEIGHTS]
    for file in files:
        file.write_text("{}", "utf-8")
    return {
        "run": lambda base: store.runs.start(corpus, {"base": base}),
        "import": lambda base: store.runs.import_adapter(files, base=base),
        "chat": lambda base: Server(store.home).load(Load(base=base)),
    }


def refusal(ask: Callable[[str], Any], base: str) -> str:
    """What is said to a base, with its name taken out."""
    with pytest.raises(UserError) as error:
        ask(base)
    return str(error.value).replace(f"'{base}'", "BASE")


def job_in(home: Home, kind: str, payload: dict[str, Any]) -> Job:
    folder = home.job(1, 1)
    folder.mkdir(parents=True, exist_ok=True)
    return Job(folder, {"kind": kind, "payload": payload, "home": str(home.root)})


def adapter_naming(base: str, folder: Path, place: Path) -> list[Path]:
    """An adapter that fits ``folder`` and whose own file names ``base``."""
    model = add_adapter(load_base(str(folder), device="cpu")[0], "lora", {"r": 2})
    model.save_pretrained(place)
    values = json.loads((place / CONFIG).read_text("utf-8"))
    (place / CONFIG).write_text(json.dumps({**values, "base_model_name_or_path": base}), "utf-8")
    return [place / CONFIG, place / WEIGHTS]


def run_job(home: Home, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own, where the worker would start it."""
    place = home.job(99, 1)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "spec.json").write_text(json.dumps({"kind": kind, "payload": payload, "home": str(home.root)}), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-m", "jobs.runner.child", str(place)],
        cwd=home.root,
        env=environment,
        check=False,
        capture_output=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads((place / "result.json").read_text("utf-8"))
    return found


def test_a_typed_path_is_refused_alike_whether_the_folder_exists_or_not(
    ways: dict[str, Callable[[str], Any]], folder: Path
) -> None:
    there = [str(folder), "/", "/etc", str(folder / "config.json"), "../outside/little", ".", "~", "~root"]
    missing = [str(folder / "nothing"), "/nothing-of-this-name", "../nothing", "~nobody-at-all", "nothing", "a\x00b"]
    for ask in ways.values():
        assert len({refusal(ask, base) for base in [*there, *missing[:-1]]}) == 1
        assert str(folder.parent) not in refusal(ask, "nothing") and "\x00" not in refusal(ask, missing[-1])


def test_the_estimate_tells_nothing_of_a_folder_either(store: Store, folder: Path) -> None:
    assert (
        like(store, Place(None, str(folder), "lora"))
        is None
        is like(store, Place(None, "/nothing-of-this-name", "lora"))
    )
    assert like(store, Place(None, "starter", "lora")) is not None


def test_a_registered_folder_is_a_base_by_name_and_by_folder(
    store: Store, ways: dict[str, Callable[[str], Any]], folder: Path
) -> None:
    store.bases.add(folder)
    assert ways["run"]("little").base == ways["run"](str(folder)).base == str(folder)
    assert ways["import"]("little").job.payload["base"] == str(folder)
    assert ways["chat"](str(folder)).base_name == str(folder)


def test_a_base_that_is_removed_is_none_any_more(
    store: Store, ways: dict[str, Callable[[str], Any]], folder: Path
) -> None:
    store.bases.add(folder, name="mine")
    store.bases.remove("mine")
    assert all("unknown" in refusal(ask, base) for ask in ways.values() for base in ("mine", str(folder)))
    assert folder.is_dir()


@pytest.mark.parametrize("place", ["browser-uploads/0a1b", "uploads/run-1/0", "runs/1", "bases/a/b", "."])
def test_nothing_that_was_uploaded_becomes_a_base(place: str, store: Store, folder: Path) -> None:
    inside = store.home.root / place
    shutil.copytree(folder, inside, dirs_exist_ok=True)
    with pytest.raises(UserError, match="the studio's own files lie there"):
        store.bases.add(inside)
    listed = {"bases": [{"name": "evil", "folder": str(inside), "origin": "command"}]}
    store.bases.path.write_text(json.dumps(listed), "utf-8")
    assert store.bases.all() == [] and "unknown" in refusal(store.bases.resolve, "evil")


def test_a_link_to_what_was_uploaded_is_no_base(store: Store, folder: Path, tmp_path: Path) -> None:
    inside = store.home.uploads / "evil"
    shutil.copytree(folder, inside)
    (tmp_path / "link").symlink_to(inside)
    with pytest.raises(UserError, match="the studio's own files lie there"):
        store.bases.add(tmp_path / "link")


def test_a_hub_id_never_names_a_folder_below_the_home(store: Store, folder: Path, tmp_path: Path) -> None:
    """``owner/name`` is a relative path too, and jobs once stood in the home."""
    shutil.copytree(folder, store.home.root / "browser-uploads" / "0a1b")
    files = adapter_naming("browser-uploads/0a1b", folder, tmp_path / "adapter")
    run = store.runs.import_adapter(files)
    assert run.job is not None
    result = run_job(store.home, "import", run.job.payload)
    assert result["status"] == "succeeded", result
    assert "browser-uploads/0a1b" in result["result"]["summary"]["base_problem"]


def test_an_adapter_that_names_a_folder_as_its_base_finds_out_nothing(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    said = set()
    for number, base in enumerate((str(folder), "/nothing-of-this-name")):
        run = store.runs.import_adapter(adapter_naming(base, folder, tmp_path / f"adapter-{number}"))
        assert run.job is not None
        job = job_in(store.home, "import", run.job.payload)
        said.add(import_(job).summary.base_problem.replace(base, "BASE"))
        with pytest.raises(UserError, match="unknown"):  # nor is it loaded to be measured
            known_base(job, base)
    assert len(said) == 1 and "unknown" in said.pop()


def test_a_queued_run_whose_base_was_taken_off_is_not_trained(store: Store, folder: Path, tmp_path: Path) -> None:
    store.bases.add(folder)
    run = store.runs.start(ready_corpus(store, tmp_path), {"base": "little"})
    store.bases.remove("little")
    assert run.job is not None
    with pytest.raises(UserError, match="unknown"):
        train(job_in(store.home, "train", run.job.payload))


def test_runs_of_an_older_home_keep_their_base(home: Home, folder: Path) -> None:
    old = Store(home)
    uploaded = home.uploads / "evil"
    shutil.copytree(folder, uploaded)
    named = {"base_problem": "is not there"}
    rows = [(str(folder), None), (str(uploaded), None), ("/home/somebody/model", named), ("owner/name", None)]
    with Session(old.engine) as session, session.begin():
        for base, summary in rows:
            config = parse_config({"base": base, "method": "lora"}).model_dump()
            session.add(RunRow(name="old", config=config, summary=summary))
    old.bases.path.unlink()  # as a home was before there was a list
    new = Store(home)
    assert [base.folder for base in new.bases.all()] == [str(folder)]
    assert Server(home).load(Load(base=str(folder))).base_name == str(folder)
    assert known_base(job_in(home, "train", {}), str(folder)) == str(folder)


def test_runs_are_asked_for_bases_only_once(home: Home) -> None:
    store = Store(home)
    config = parse_config({"base": "/home/somebody/model", "method": "lora"}).model_dump()
    with Session(store.engine) as session, session.begin():
        session.add(RunRow(name="an import that named it", config=config))
    assert Store(home).bases.all() == []


def test_folders_named_at_the_start_are_bases_until_they_are_not_named(
    home: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bases(home).add(shutil.copytree(folder, tmp_path / "other"))
    monkeypatch.setenv(BASES_VARIABLE, os.pathsep.join([str(folder), ""]))
    assert {base.name for base in Store(home).bases.all()} == {"other", "little"}
    monkeypatch.delenv(BASES_VARIABLE)
    assert Store(home).bases.look("little") == str(folder)  # a command in another shell changes nothing
    monkeypatch.setenv(BASES_VARIABLE, "")
    assert [base.name for base in Store(home).bases.all()] == ["other"]


def test_hub_ids_are_refused_where_they_are_not_allowed(
    store: Store, ways: dict[str, Callable[[str], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ways["run"]("owner/name").base == "owner/name"
    for word in ("0", "no", "OFF"):
        monkeypatch.setenv(HUB_VARIABLE, word)
        assert all("unknown" in refusal(ask, "owner/name") for ask in ways.values())
    assert known_bases(store) == ["starter"]


def test_the_page_offers_exactly_the_list(store: Store, folder: Path, tmp_path: Path) -> None:
    store.bases.add(folder)
    corpus = ready_corpus(store, tmp_path)
    for base in ("owner/name", "little"):
        store.runs.start(corpus, {"base": base})
    assert known_bases(store) == ["starter", "little", "owner/name"]


@pytest.mark.parametrize("name", ["starter", "a/b", "../x", "", "A b", "x" * 65, "-x"])
def test_a_name_on_the_list_is_a_plain_word(name: str, store: Store, folder: Path) -> None:
    if not name:
        assert store.bases.add(folder).name == "little"
        return
    with pytest.raises(UserError, match="cannot name a base"):
        store.bases.add(folder, name=name)
    assert store.bases.all() == []


def test_a_copy_holds_the_checked_files_and_outlives_its_source(store: Store, folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    for name in ("pytorch_model.bin", "modeling.py", ".hidden", "other.safetensors"):
        (source / name).write_bytes(b"not wanted")
    base = store.bases.add(source, name="kept", copy=True)
    shutil.rmtree(source)
    place = store.home.bases / "kept"
    assert base.folder == str(place) and load_base(store.bases.look("kept"), device="cpu")
    assert {file.name for file in place.iterdir()} <= {file.name for file in folder.iterdir()}
    store.bases.remove("kept")
    assert list(store.home.bases.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_copy_follows_no_link(name: str, store: Store, folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    (source / name).unlink()
    (source / name).symlink_to(folder / name)
    with pytest.raises(UserError, match=f"{name} is a link"):
        store.bases.add(source, copy=True)
    assert store.bases.all() == [] and list(store.home.bases.iterdir()) == []


def test_a_copy_of_what_is_no_base_leaves_nothing(store: Store, folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    (source / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}', "utf-8")
    with pytest.raises(UserError, match="asks to run its own code"):
        store.bases.add(source, copy=True)
    assert store.bases.all() == [] and list(store.home.bases.iterdir()) == []


def test_a_folder_given_on_the_command_line_is_registered_and_said(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert base_of_command(store, str(folder)) == str(folder)
    assert "is on the list of bases now, as 'little'" in capsys.readouterr().err
    assert base_of_command(store, str(folder)) == str(folder) and not capsys.readouterr().err
    assert base_of_command(store, "little") == "little" and base_of_command(store, str(STARTER)) == "starter"
    assert store.bases.look("little") == str(folder)


def test_the_list_is_kept_by_commands(folder: Path, tmp_path: Path) -> None:
    def call(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "bases", *words, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert call("add", str(folder), "--name", "mine")["problem"] is None
    listed = call("list")
    assert [base["name"] for base in listed["bases"]] == ["starter", "mine"] and listed["hub_ids"] is True
    assert call("remove", "mine", "--yes") == {"name": "mine", "runs": []}
    assert len(call("list")["bases"]) == 1
