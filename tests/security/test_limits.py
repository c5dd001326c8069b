"""Jobs run within limits and without secrets; one that meets a limit fails in a sentence and leaves nothing."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hydralora.errors import UserError
from jobs.home import Home
from jobs.kind_limits import GIB, Limits
from jobs.kinds import KINDS
from jobs.runner.environment import job_environment
from jobs.runner.limits import limits_of, sentence
from jobs.runner.service import start_worker
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import end_home, wait_for

HUNGRY = "tests.security.hungry_tasks"
Run = Callable[..., Job]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    end_home(home)


@pytest.fixture
def run(home: Home) -> Run:
    """Start a worker with the environment as it is then, and run one task to its end."""

    def run_to_its_end(kind: str, do: str, **payload: Any) -> Job:
        store = Store(home)
        job = store.queue.submit(kind, {"do": do, **payload}, max_attempts=3)
        start_worker(home, "--tasks", HUNGRY, "--executor", "spawn")
        wait_for(lambda: store.queue.get(job.id).is_finished, 90)
        return store.queue.get(job.id)

    return run_to_its_end


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("do", "variable", "value", "words"),
    [
        ("memory", "HYDRA_STUDIO_LIMIT_INGEST_MEMORY_GIB", "0.5", "0.5 GiB of memory"),
        ("spin", "HYDRA_STUDIO_LIMIT_INGEST_CPU_MINUTES", "0.05", "0.05 minutes of processor time"),
        ("wait", "HYDRA_STUDIO_LIMIT_INGEST_WALL_MINUTES", "0.05", "0.05 minutes"),
        ("write", "HYDRA_STUDIO_LIMIT_INGEST_FILE_GIB", "0.03125", "0.03125 GiB in one file"),
    ],
)
def test_a_job_that_meets_a_limit_fails_in_a_sentence_and_is_not_tried_again(
    do: str, variable: str, value: str, words: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    job = run("ingest", do, corpus_id=1)
    assert (job.status, job.error_kind, job.attempt) == (JobStatus.FAILED, "limit", 1)
    assert f"took more than {words}, the limit for `ingest` jobs" in (job.error or "") and variable in (job.error or "")


def test_a_job_that_is_killed_for_its_time_leaves_nothing_half_stored_and_no_process(
    home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_LIMIT_IMPORT_WALL_MINUTES", "0.05")
    job = run("import", "deaf", run_id=7, aside="runs/7/adapter.part")
    assert (job.status, job.error_kind) == (JobStatus.FAILED, "limit")
    assert list(home.run(7).iterdir()) == []
    assert not alive(int((home.job(job.id, 1) / "grandchild").read_text()))


@pytest.mark.parametrize(
    ("kind", "payload", "aside"),
    [
        ("ingest", {"corpus_id": 3}, "corpora/3.part"),
        ("cluster", {"clustering_id": 4}, "clusterings/4.part"),
        ("import", {"run_id": 5}, "runs/5/given"),
    ],
)
def test_a_library_that_gives_up_is_not_tried_again_and_leaves_nothing(
    kind: str, payload: dict[str, int], aside: str, home: Home, run: Run
) -> None:
    job = run(kind, "abort", aside=aside, **payload)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert "A library crashed" in (job.error or "") and "GiB of memory it was given" in (job.error or "")
    assert not (home.root / aside).exists()
    unpacked = Path((home.job(job.id, 1) / "unpacked").read_text())
    assert unpacked.is_relative_to(home.root) and not unpacked.exists()


def test_an_import_that_needs_too_much_memory_ends_in_a_sentence_without_a_corpus(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_LIMIT_INGEST_MEMORY_GIB", "0.25")
    (tmp_path / "large.json").write_text(json.dumps([{"prompt": f"{i}", "answer": "é" * 20} for i in range(900_000)]))
    store = Store(home)
    corpus = store.corpora.add("large", [tmp_path / "large.json"])
    start_worker(home)
    wait_for(lambda: store.corpora.get(corpus.id).job.is_finished, 90)
    job = store.corpora.get(corpus.id).job
    assert (job.status, job.error_kind) == (JobStatus.FAILED, "limit")
    assert "0.25 GiB of memory" in (job.error or "")
    assert list((home.root / "corpora").iterdir()) == []


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_PROFILE": "s",
    "GITHUB_TOKEN": "s",
    "OPENAI_API_KEY": "s",
    "DATABASE_URL": "s",
    "PGPASSWORD": "s",
    "HYDRA_STUDIO_PASSWORD": "s",
    "HYDRA_STUDIO_TOKEN": "s",
    "MY_OWN_THING": "s",
    "HF_ENDPOINT": "https://me:secret@mirror.example",
    "SSH_AUTH_SOCK": "s",
    "GOOGLE_APPLICATION_CREDENTIALS": "s",
}


@pytest.mark.parametrize(("kind", "hub"), [("ingest", False), ("map", False), ("train", True), ("import", True)])
def test_a_job_sees_no_secret_and_no_database_but_what_it_needs(
    kind: str, hub: bool, home: Home, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_TOKEN", "hf")
    monkeypatch.setenv("HYDRA_STUDIO_HOME", str(home.root))
    monkeypatch.setenv("HYDRA_STUDIO_DATABASE", f"sqlite:///{tmp_path / 'elsewhere.db'}")  # the worker still has it
    monkeypatch.setenv("HYDRA_STUDIO_SERVER_IDLE_SECONDS", "9")
    seen = (run(kind, "tell", run_id=1, corpus_id=1).result or {})["environment"]
    assert set(seen) & {*SECRETS, "HYDRA_STUDIO_DATABASE"} == ({"HF_ENDPOINT"} if hub else set())
    assert seen.get("HF_TOKEN") == ("hf" if hub else None)
    assert seen["HYDRA_STUDIO_SERVER_IDLE_SECONDS"] == "9" and seen["HYDRA_STUDIO_HOME"] == str(home.root)


def test_a_job_of_any_kind_dumps_no_core_and_writes_private_files(run: Run) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))  # the worker would let its jobs dump theirs
    try:
        found = run("train", "tell").result or {}
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert (found["umask"], found["core"]) == (0o077, 0)


def test_a_limit_that_is_no_number_is_a_sentence_that_names_its_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_LIMIT_TRAIN_MEMORY_GIB", "much")
    job = run("train", "tell")
    assert (job.status, job.error_kind) == (JobStatus.FAILED, "user")
    assert (
        job.error
        == "HYDRA_STUDIO_LIMIT_TRAIN_MEMORY_GIB must be a number above 0 and below 1,000,000, or `none`; got 'much'."
    )


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e9", "8G", "１２ x"])
def test_a_limit_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a number above 0"):
        limits_of("ingest", {"HYDRA_STUDIO_LIMIT_INGEST_WALL_MINUTES": text})


def test_limits_scale_with_the_memory_and_can_be_taken_away_or_given() -> None:
    assert [KINDS["ingest"].limits(n * GIB).memory for n in (4, 16, 512)] == [2 * GIB, 4 * GIB, 8 * GIB]
    assert limits_of("ingest", {"HYDRA_STUDIO_LIMIT_INGEST_MEMORY_GIB": "none"}).memory is None
    assert limits_of("train", {"HYDRA_STUDIO_LIMIT_TRAIN_WALL_MINUTES": "90"}).wall == 5400


def test_every_kind_of_job_has_a_limit_of_memory_and_all_that_end_one_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.kind_limits.has_gpu", lambda: False)
    limits = {name: kind.limits(8 * GIB) for name, kind in KINDS.items()}
    assert {name for name, found in limits.items() if found.memory is None} == set()
    assert {name for name, found in limits.items() if found.wall is None} == {"serve"}
    assert max(found.memory or 0 for found in limits.values()) == 8 * GIB  # all there is


def test_a_gpu_takes_the_limit_of_memory_from_the_kinds_that_load_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.kind_limits.has_gpu", lambda: True)
    unlimited = {name for name, kind in KINDS.items() if kind.limits(8 * GIB).memory is None}
    assert unlimited == {name for name, kind in KINDS.items() if kind.uses_gpu}
    assert all(KINDS[name].uses_hub for name in unlimited)


def test_what_is_allowed_by_name_goes_on_and_what_is_named_besides() -> None:
    given = {
        "OMP_NUM_THREADS": "2",
        "TOKENIZERS_PARALLELISM": "x",
        "PATH": "/bin",
        "MY_OWN": "1",
        "HYDRA_STUDIO_PASS_ENVIRONMENT": "MY_OWN, OTHER",
    }
    found = job_environment("cluster", given)
    assert (found["OMP_NUM_THREADS"], found["PATH"], found["MY_OWN"]) == ("2", "/bin", "1")


@pytest.mark.parametrize("name", ["memory", "cpu", "wall", "file"])
def test_every_limit_has_a_sentence_with_its_value_and_the_way_out(name: str) -> None:
    said = sentence("cluster", name, Limits(memory=3 * GIB, cpu=180, wall=180, file=3 * GIB))
    assert "than 3 " in said and "HYDRA_STUDIO_LIMIT_CLUSTER_" in said and said.endswith(".")
