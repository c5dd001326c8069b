"""Finished folders in a store that machines with homes of their own reach: a folder, and a server that speaks S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hydralora.errors import UserError
from hydralora.files import file_hash, list_checkpoints
from jobs.artefact_choice import check_artefacts, choose_artefacts
from jobs.artefacts.address import KEY, VARIABLE, StoreError, checked_url
from jobs.artefacts.artefacts import Artefacts
from jobs.home import DATABASE_VARIABLE, Home, sqlite_url
from jobs.runner.environment import job_environment
from jobs.runner.outcome import Retry, outcome_of
from jobs.runner.running import RunningJob, write_spec
from jobs.sending import send_what_waits, wait_for_artefacts
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import RunRow
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
from tests.jobs.conftest import PROJECT, wait_for
from tests.jobs.test_worker import make_run

SENT = "tests.jobs.sent_training"
HAS_S3 = find_spec("moto") is not None and find_spec("s3fs") is not None
NO_S3 = "moto and s3fs are not installed: pip install 'moto[s3,server]' '.[objects]'"
KILLED = """
import os, signal, sys
from pathlib import Path
from jobs.artefacts.artefacts import Artefacts
from jobs.artefacts.remote import Remote
Remote.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the data is there, the manifest is not
home = Path(sys.argv[1])
Artefacts(home, sys.argv[2]).send(home / "runs" / "7" / "adapter")
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server on this machine that speaks S3, by its address."""
    if not HAS_S3:
        pytest.skip(NO_S3)
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty artefact store."""
    if request.param == "file":
        return f"file://{tmp_path / 'shared'}"
    for name, value in {
        "AWS_ENDPOINT_URL": request.getfixturevalue("s3"),
        "AWS_ACCESS_KEY_ID": "studio",
        "AWS_SECRET_ACCESS_KEY": "never-told",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    bucket = f"studio-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/of/ours"


def make_adapter(home: Path) -> Path:
    folder = home / "runs" / "7" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "weights").write_bytes(os.urandom(300_000))
    return folder


def data_of(artefacts: Artefacts, key: str) -> list[str]:
    """Addresses of the files of an artefact in the store, by their size."""
    remote = artefacts.remote
    found = remote._fs.ls(remote._at(key, "data"), detail=True)
    return [one["name"] for one in sorted(found, key=lambda one: one["size"])]


def test_a_folder_is_the_same_on_another_machine(url: str, tmp_path: Path) -> None:
    made = make_adapter(tmp_path / "a")
    check_artefacts(tmp_path / "a", url)
    Artefacts(tmp_path / "a", url).publish(made)
    there = tmp_path / "b" / "runs" / "7" / "adapter"
    Artefacts(tmp_path / "b", url).fetch(there)
    assert file_hash(there) == file_hash(made)
    assert Artefacts(tmp_path / "b", url).waiting() == []


def test_an_upload_that_is_killed_before_its_manifest_is_nothing_and_goes_on(url: str, tmp_path: Path) -> None:
    made, there = make_adapter(tmp_path / "a"), tmp_path / "b" / "runs" / "7" / "adapter"
    words = [sys.executable, "-c", KILLED, str(tmp_path / "a"), url]
    assert subprocess.run(words, cwd=PROJECT, timeout=60).returncode == -9
    sender, other = Artefacts(tmp_path / "a", url), Artefacts(tmp_path / "b", url)
    assert len(data_of(sender, "runs/7/adapter")) == 2
    other.fetch(there)
    assert not there.exists()
    sender.send(made)
    Artefacts(tmp_path / "b", url).fetch(there)
    assert file_hash(there) == file_hash(made)


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_file_that_is_not_what_was_sent_is_told_and_sent_again(url: str, tmp_path: Path, harm: str) -> None:
    made, there = make_adapter(tmp_path / "a"), tmp_path / "b" / "runs" / "7" / "adapter"
    sender = Artefacts(tmp_path / "a", url)
    sender.send(made)
    weights = data_of(sender, "runs/7/adapter")[-1]
    if harm == "missing":
        sender.remote._fs.rm_file(weights)
    else:
        sender.remote._fs.pipe_file(weights, b"x" * 300_000)
    with pytest.raises(StoreError, match=f"weights of runs/7/adapter is {harm} in the artefact store.*send"):
        Artefacts(tmp_path / "b", url).fetch(there)
    assert not there.exists() and list(there.parent.glob("*")) == []
    sender.send(made, again=True)
    Artefacts(tmp_path / "b", url).fetch(there)
    assert file_hash(there) == file_hash(made)


def test_what_two_machines_add_to_a_corpus_is_kept_of_both(url: str, tmp_path: Path) -> None:
    a, b = (Artefacts(tmp_path / name, url) for name in "ab")
    here, there = (tmp_path / name / "corpora" / "1" for name in "ab")
    here.mkdir(parents=True)
    (here / "rows").write_text("rows")
    a.send(here)
    b.fetch(there)
    (here / "of a").write_text("a")
    (there / "of b").write_text("b")
    a.send(here)
    b.send(there)
    for artefacts, folder in ((Artefacts(tmp_path / "a", url), here), (Artefacts(tmp_path / "b", url), there)):
        artefacts.fetch(folder)
        assert sorted(file.name for file in folder.iterdir()) == ["of a", "of b", "rows"]


def test_what_is_deleted_goes_from_the_store_with_all_below_it(url: str, tmp_path: Path) -> None:
    made = make_adapter(tmp_path / "a")
    sender = Artefacts(tmp_path / "a", url)
    sender.send(made)
    sender.forget(made.parent)
    assert not made.parent.exists() and sender.settle() == 1
    assert sender.remote._fs.find(sender.remote._at("runs")) == []


def test_a_store_that_cannot_be_reached_loses_nothing(tmp_path: Path) -> None:
    made, wall = make_adapter(tmp_path / "a"), tmp_path / "shared"
    wall.write_text("no folder")
    artefacts = Artefacts(tmp_path / "a", f"file://{wall}")
    artefacts.publish(made)
    assert made.is_dir() and artefacts.waiting() == [("send", made)]
    artefacts.fetch(made)
    with pytest.raises(StoreError, match="cannot be used now"):
        Artefacts(tmp_path / "b", artefacts.url).fetch(tmp_path / "b" / "runs" / "7" / "adapter")
    wall.unlink()
    assert artefacts.settle() == 1 and artefacts.waiting() == []


def test_a_job_whose_files_are_not_there_yet_is_tried_again(home: Home, store: Store) -> None:
    job = store.queue.submit("map", {"run_id": 1})
    folder = home.job(job.id, 1)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"status": "failed", "error_kind": "store", "error": "Not yet."}))
    found = outcome_of(RunningJob(job, folder, {}))
    assert isinstance(found, Retry) and (found.why, found.interrupted) == ("Not yet.", True)


@pytest.mark.parametrize(
    "given", ["s3://key:never-told@bucket/x", "s3://never-told@bucket", "s3://b/x?secret=never-told"]
)
def test_an_address_with_a_secret_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY") as refused:
        checked_url(given)
    assert "never-told" not in str(refused.value)


@pytest.mark.parametrize("given", ["bucket", "s3:nowhere", "memory://x", "https://host/x", "s3://", "/srv/shared"])
def test_what_is_no_shared_store_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="file:///a/shared/folder"):
        checked_url(given)


def test_a_store_that_cannot_be_used_is_not_chosen(home: Home, store: Store, tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("no folder")
    for wrong, why in ((f"file://{tmp_path}/wall", "cannot be used now"), (f"file://{home.root}/x", "in each other")):
        with pytest.raises(UserError, match=why):
            choose_artefacts(store, wrong)
    assert store.settings.get(KEY) is None and not home.artefacts.is_on


def test_a_store_is_remembered_and_what_was_here_already_is_sent(home: Home, store: Store, tmp_path: Path) -> None:
    make_adapter(home.root)
    url = f"file://{tmp_path / 'shared'}"
    assert choose_artefacts(store, url) == 2
    again = Store(Home(home.root))
    assert again.home.artefacts.url == url and send_what_waits(again) == 2
    assert (tmp_path / "shared" / "runs" / "7" / "adapter" / "manifest.json").exists()
    choose_artefacts(again, "none")
    assert not Store(Home(home.root)).home.artefacts.is_on


def test_a_home_without_a_store_loads_and_writes_nothing_for_it(tmp_path: Path) -> None:
    code = "import sys; from jobs.home import Home; from jobs.store.store import Store; s = Store(Home(sys.argv[1])); "
    code += "s.home.run(1); s.runs.all(); assert not {'fsspec', 's3fs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], cwd=PROJECT, check=True, timeout=60)
    assert not (tmp_path / "home" / "artefacts").exists()


def test_credentials_go_to_jobs_only_where_there_is_a_store() -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "never-told", "PATH": "/bin"}
    assert "AWS_SECRET_ACCESS_KEY" not in job_environment("train", given)
    assert job_environment("train", {**given, VARIABLE: "s3://b/x"})["AWS_SECRET_ACCESS_KEY"] == "never-told"
    assert "AWS_SECRET_ACCESS_KEY" not in job_environment("train", {**given, VARIABLE: "file:///x"})


class Machine:
    """A machine with a home of its own over a database that others have too; it works on jobs one at a time."""

    def __init__(self, root: Path, url: str, tasks: str | None = None) -> None:
        self.home, self.tasks, self.url = Home(root), tasks, url
        self.store = Store(self.home)
        self.home.use_artefacts(url)

    def begin(self, lane: str = "heavy") -> tuple[Job, subprocess.Popen[bytes]]:
        job = self.store.attempts.claim(f"worker of {self.home.root.name}", self.home.root.name, lane)
        assert job is not None
        folder = write_spec(self.home, job, self.tasks)
        environment = {**os.environ, VARIABLE: self.url, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])}
        words = [sys.executable, "-m", "jobs.runner.child", str(folder)]
        return job, subprocess.Popen(words, cwd=PROJECT, env=environment, stderr=(folder / "log.txt").open("wb"))

    def work(self, lane: str = "heavy") -> Job:
        """Work on the next job to its end, and send what it has made."""
        job, process = self.begin(lane)
        process.wait(timeout=280)
        outcome = outcome_of(RunningJob(self.store.queue.get(job.id), self.home.job(job.id, job.attempt), {}))
        assert not isinstance(outcome, Retry), outcome
        assert self.store.attempts.finish(job, outcome.status, 1.0, **outcome.values)
        send_what_waits(self.store)
        return self.store.queue.get(job.id)

    def lose(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        """Its plug is pulled."""
        process.kill()
        process.wait()

    def take_up(self, job: Job) -> None:
        """Take up a job whose machine has gone, as the worker does."""
        self.home.artefacts.fetch(self.home.job(job.id, job.attempt))
        self.store.attempts.give_back(job, "Its worker has not been heard of.", interrupted=True)
        with self.store._rows.writing() as session:
            from jobs.store.tables import JobRow

            session.get_one(JobRow, job.id).not_before = 0.0


def begin_numbers(machine: Machine, seed: int = 3, steps: int = 40) -> int:
    run = make_run(machine.store)
    job = machine.store.queue.submit("train", {"run_id": run, "seed": seed, "steps": steps}, run_id=run)
    with machine.store._rows.writing() as session:
        row = session.get_one(RunRow, run)
        row.job_id, row.config = job.id, {"method": "lora", "base": "starter"}
    return run


def told(store: Store, run: int) -> list[Any]:
    return [(step.step, step.numbers.get("loss"), step.gates) for step in store.runs.steps(run)]


def test_one_machine_is_lost_while_it_trains_and_the_other_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Machine(tmp_path / "alone", "", SENT)
    undisturbed = begin_numbers(alone)
    assert alone.work().status == JobStatus.SUCCEEDED
    monkeypatch.setenv(DATABASE_VARIABLE, sqlite_url(tmp_path / "both.db"))
    a, b = (Machine(tmp_path / name, url, SENT) for name in "ab")
    run = begin_numbers(a)
    job, process = a.begin()
    wait_for(lambda: b.home.artefacts.below(b.home.near.run(run) / "checkpoints"), 30)
    a.lose(job, process)
    b.take_up(job)
    done = b.work()
    assert done.status == JobStatus.SUCCEEDED and done.attempt == 2
    assert (done.result or {})["resumed_from"] >= 8
    assert told(b.store, run) == told(alone.store, undisturbed)
    made = [machine.home.near.run(one) / "adapter" for machine, one in ((b, run), (alone, undisturbed))]
    assert file_hash(made[0]) == file_hash(made[1])
    assert file_hash(a.home.adapter(run)) == file_hash(made[0])
    assert set(list_checkpoints(b.home.near.run(run))) <= set(a.home.checkpoints(run))
    b.store.runs.delete(run)
    send_what_waits(b.store)
    remote = b.home.artefacts.remote
    assert remote._fs.find(remote._at("runs")) == [] and remote._fs.find(remote._at("jobs")) == []


@pytest.mark.long
def test_a_real_run_trained_on_one_machine_is_opened_and_resumed_on_another_bit_for_bit(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, base = make_tokenizer(), tmp_path / "base"
    make_llama(len(tokenizer), positions=2048).save_pretrained(base)
    tokenizer.save_pretrained(base)
    file = write_lines(tmp_path / "easy.jsonl", easy_rows())
    train = {"batch_size": 8, "max_steps": 40, "save_every": 5, "eval_every": 10, "gate_every": 2, "max_length": 96}
    config = {"base": str(base), "adapter": {"num_experts": 2, "r": 4}, "train": train}

    def start(machine: Machine, importer: Machine) -> int:
        machine.store.bases.add(base)
        corpus = importer.store.corpora.add("easy", [file])
        assert importer.work("light").status == JobStatus.SUCCEEDED
        return machine.store.runs.start(corpus.id, config).id

    alone = Machine(tmp_path / "alone", "")
    undisturbed = start(alone, alone)
    assert alone.work().status == JobStatus.SUCCEEDED
    monkeypatch.setenv(DATABASE_VARIABLE, sqlite_url(tmp_path / "both.db"))
    a, b = (Machine(tmp_path / name, url) for name in "ab")
    run = start(a, b)  # b has read the corpus, which a fetches
    b.store.bases.add(base)
    job, process = a.begin()
    wait_for(lambda: len(b.home.artefacts.below(b.home.near.run(run) / "checkpoints")) > 1, 120)
    a.lose(job, process)
    b.take_up(job)
    done = b.work()
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert (done.result or {})["resumed_from"] >= 5
    assert told(b.store, run) == told(alone.store, undisturbed)
    assert file_hash(a.home.adapter(run) / "adapter_model.safetensors") == file_hash(
        alone.home.adapter(undisturbed) / "adapter_model.safetensors"
    )
    analysis = a.store.analyses.ask(run, "weights")
    assert a.work("light").status == JobStatus.SUCCEEDED
    assert file_hash(b.home.analysis(analysis.id)) == file_hash(a.home.near.analysis(analysis.id))


def test_what_another_machine_has_not_sent_yet_is_waited_for_and_never_told_as_missing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, sqlite_url(tmp_path / "both.db"))
    a, b = (Machine(tmp_path / name, url) for name in "ab")
    corpus = a.store.corpora.add("easy", [write_lines(tmp_path / "easy.jsonl", easy_rows())])
    send_what_waits(a.store)
    monkeypatch.setattr("tests.jobs.test_artefacts.send_what_waits", lambda store: 0)  # of b, which is slow
    done = b.work("light")
    assert done.status == JobStatus.SUCCEEDED
    with pytest.raises(StoreError, match=f"corpora/{corpus.id} is neither in this home nor in the artefact store"):
        a.home.corpus(corpus.id)
    with pytest.raises(StoreError, match="clusterings/7 is neither in this home nor in the artefact store"):
        a.home.clustering(7)
    with pytest.raises(StoreError, match="analyses/7 is neither in this home nor in the artefact store"):
        a.home.analysis(7)
    sending = threading.Timer(1.0, b.home.artefacts.settle)
    sending.start()
    wait_for_artefacts(a.store, done)
    sending.join()
    assert a.home.corpus(corpus.id).is_dir()
