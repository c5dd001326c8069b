"""Attempts forked from a process that has loaded torch end, die, stop and keep apart as those begun from nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.home import Home
from jobs.runner.executors.local import LocalExecutor
from jobs.runner.forkserver import STARTED, _announce, _read_identity
from jobs.runner.processes import Identity, family, identity, is_alive
from jobs.runner.running import RunningJob, write_spec
from jobs.store.store import Store
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
from tests.jobs.conftest import LITTLE, end_home, wait_for

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux forks what has loaded torch")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    end_home(home)


@pytest.fixture(scope="module", autouse=True)
def without_gpu() -> Iterator[None]:
    """Nothing is forked where a GPU is seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def executor(home: Home, without_gpu: None) -> LocalExecutor:
    """One whose server is ready."""
    executor = LocalExecutor()
    wait_for(lambda: executor.is_ready("train", home.root), 120)
    return executor


class Attempt:
    """One attempt, started."""

    def __init__(
        self, home: Home, executor: LocalExecutor, kind: str, payload: dict[str, Any], tasks: str | None
    ) -> None:
        job = Store(home).queue.submit(kind, payload)
        self.folder = write_spec(home, job, tasks)
        self.executor = executor
        self.handle: Identity = executor.start(kind, self.folder, home.root)
        self.running = RunningJob(job, self.folder, self.handle)

    def ended(self) -> dict[str, Any]:
        """Its exit, once it has ended."""
        wait_for(lambda: not self.executor.is_alive(self.handle))
        found = self.running.exit()
        assert found is not None
        return found

    def under_way(self) -> None:
        wait_for(lambda: self.running.new_progress().get("text") == "under way")


def attempt(home: Home, executor: LocalExecutor, do: str) -> Attempt:
    return Attempt(home, executor, "map", {"do": do}, LITTLE)


def was_forked(one: Attempt) -> bool:
    return any("jobs.runner.forkserver" in word for word in psutil.Process(one.handle["pid"]).cmdline())


def test_an_attempt_is_forked_and_leaves_result_exit_and_log(home: Home, executor: LocalExecutor) -> None:
    one = attempt(home, executor, "wait")
    one.under_way()
    assert was_forked(one)
    one.running.ask_to_stop()
    assert one.ended()["code"] == 0
    assert (one.running.result() or {})["status"] == "stopped"
    assert "under way" in (one.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("do", "code"), [("nothing", 0), ("bug", 2), ("die", -signal.SIGKILL), ("crash", -signal.SIGSEGV)]
)
def test_the_end_of_a_forked_process_is_told_as_it_was(home: Home, executor: LocalExecutor, do: str, code: int) -> None:
    assert attempt(home, executor, do).ended()["code"] == code


def test_term_reaches_the_whole_group(home: Home, executor: LocalExecutor) -> None:
    one = attempt(home, executor, "wait")
    one.under_way()
    executor.stop(one.handle)
    assert one.ended()["code"] == 0 and (one.running.result() or {})["status"] == "interrupted"


def test_a_deaf_one_is_killed_with_its_children_and_the_server_stays(home: Home, executor: LocalExecutor) -> None:
    one = attempt(home, executor, "parent")
    wait_for((one.folder / "grandchild").exists)
    members = family(one.handle)
    assert len(members) == 3
    executor.stop(one.handle, at_once=True)
    assert not any(is_alive(member) for member in members)
    assert attempt(home, executor, "nothing").ended()["code"] == 0


def test_a_forked_attempt_has_the_environment_and_the_limits_of_its_kind(
    home: Home, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_LIMIT_MAP_CPU_MINUTES", "7")
    one = Attempt(home, executor, "map", {"do": "tell"}, "tests.security.hungry_tasks")
    assert one.ended()["code"] == 0
    told = (one.running.result() or {})["result"]
    assert told["core"] == 0 and told["umask"] == 0o077
    assert (
        "HYDRA_STUDIO_DATABASE" not in told["environment"] and told["environment"]["TOKENIZERS_PARALLELISM"] == "false"
    )


def test_two_environments_have_two_servers(
    home: Home, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job without the hub is forked from has never seen the hub's token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    other = LocalExecutor()
    other.is_ready("train", home.root), other.is_ready("map", home.root)
    tokens = ["HF_TOKEN" in dict(environment) for environment in other._servers]
    assert sorted(tokens) == [False, True]
    for server in other._servers.values():
        server._process.kill()


@pytest.fixture
def quick(home: Home, monkeypatch: pytest.MonkeyPatch) -> LocalExecutor:
    """One of its own, whose server has loaded nothing but torch."""
    monkeypatch.setattr("jobs.runner.forkserver.MODULES", ())
    executor = LocalExecutor()
    wait_for(lambda: executor.is_ready("map", home.root), 120)
    return executor


def test_an_attempt_goes_on_when_what_it_was_forked_from_is_killed(home: Home, quick: LocalExecutor) -> None:
    executor = quick
    one = attempt(home, executor, "wait")
    one.under_way()
    (server,) = executor._servers.values()
    server._process.kill()
    server._process.wait()
    assert executor.is_alive(one.handle)
    next_one = attempt(home, executor, "nothing")  # begun from nothing, at once
    assert not was_forked(next_one) and next_one.ended()["code"] == 0
    one.running.ask_to_stop()
    assert one.ended()["code"] == 0


def test_a_server_that_gives_no_answer_is_given_up_and_the_attempt_runs_once(
    home: Home, quick: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.runner.forkserver.FORK_SECONDS", 0.2)
    (server,) = quick._servers.values()
    server._process.send_signal(signal.SIGSTOP)
    one = attempt(home, quick, "nothing")
    assert one.ended()["code"] == 0 and not server.is_alive()


def test_an_attempt_whose_server_dies_before_it_answers_runs_once(home: Home, quick: LocalExecutor) -> None:
    (server,) = quick._servers.values()
    request = {"cwd": str(home.root), "environment": dict(os.environ)}
    job = Store(home).queue.submit("map", {"do": "wait"})
    folder = write_spec(home, job, LITTLE)
    server._requests.write(json.dumps({**request, "folder": str(folder)}).encode() + b"\n")
    server._requests.flush()
    wait_for((folder / STARTED).exists)
    server._process.kill()
    server._process.wait()
    adopted = _read_identity(folder)
    assert adopted is not None
    wait_for((folder / "progress.json").exists)
    (folder / "stop").touch()
    wait_for(lambda: not is_alive(adopted))
    assert json.loads((folder / "exit.json").read_text())["code"] == 0


def test_a_fork_that_finds_its_server_gone_does_not_begin(home: Home, tmp_path: Path) -> None:
    assert _announce(tmp_path, os.getppid()) and not _announce(tmp_path, os.getppid() + 1)
    assert _read_identity(tmp_path) == identity(os.getpid())


def test_a_dead_server_is_told_and_the_next_attempt_begins_by_itself(home: Home, quick: LocalExecutor) -> None:
    (server,) = quick._servers.values()
    os.kill(server._process.pid, signal.SIGKILL)
    psutil.Process(server._process.pid).wait(10)
    with pytest.raises(OSError):
        server.fork(home.root / "nowhere", home.root, {})
    assert attempt(home, quick, "nothing").ended()["code"] == 0


@pytest.mark.long
def test_training_is_the_same_to_the_bit_forked_or_begun_from_nothing(
    home: Home, executor: LocalExecutor, tmp_path: Path
) -> None:
    from hydralora.corpus.imports import import_corpus

    base, tokenizer = tmp_path / "base", make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    store = Store(home)
    store.bases.add(base)
    import_corpus([write_lines(tmp_path / "easy.jsonl", easy_rows())], home.corpus(1))
    config = {
        "base": str(base),
        "adapter": {"num_experts": 2, "r": 4},
        "train": {"max_steps": 4, "batch_size": 4, "eval_every": 0},
    }
    weights = []
    for run, way in ((101, executor), (102, LocalExecutor(forks=False))):
        payload = {"run_id": run, "corpus_id": 1, "config": config}
        one = Attempt(home, way, "train", payload, None)
        assert one.ended()["code"] == 0, (one.folder / "log.txt").read_text()
        weights.append((one.folder / "out" / "adapter" / "adapter_model.safetensors").read_bytes())  # not published
    assert weights[0] == weights[1]
