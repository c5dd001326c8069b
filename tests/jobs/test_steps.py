"""Steps: what is recorded is read again, thinned evenly and by index, and kept small."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.database_file import VERSIONS
from jobs.home import Home
from jobs.store.gates import pack, unpack
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import JobRow, RunRow, StepRow
from tests.postgresql import on_sqlite

pytestmark = pytest.mark.databases

GATES = {"model.layers.0.q_proj": [0.7, 0.2, 0.1], "model.layers.1.q_proj": [1 / 3, 1 / 3, 1 / 3]}


@pytest.fixture
def job(store: Store) -> Job:
    """A training job of run 1, held by a worker."""
    with Session(store.engine) as session, session.begin():
        session.add(RunRow(name="run", config={}))
        session.add(JobRow(kind="train", lane="heavy", status="running", run_id=1, worker="w", attempt=1))
    return store.queue.get(1)


def add(store: Store, job: Job, steps: dict[int, dict[str, Any]]) -> None:
    store.runs.add_steps(job, [{"run_id": 1, "step": step, "values": each} for step, each in steps.items()], 1)


def many(store: Store, count: int, every: int = 1, measured: int = 0) -> None:
    """Losses of ``count`` steps of run 1, ``every`` apart; held-out losses every ``measured`` steps."""
    rows = [
        {"run_id": 1, "step": step, "loss": float(step), "eval_loss": 1.0 if measured and not step % measured else None}
        for step in range(every, count * every + 1, every)
    ]
    with store.engine.begin() as connection:
        connection.execute(insert(StepRow), rows)


def test_what_was_recorded_is_read_again(store: Store, job: Job) -> None:
    add(store, job, {1: {"loss": 2.5, "learning_rate": 1e-3, "gates": GATES}, 2: {"loss": 2.25, "eval_loss": 3.0}})
    first, second = store.runs.steps(1)
    assert first.numbers == {"loss": 2.5, "learning_rate": 1e-3} and second.numbers == {"loss": 2.25, "eval_loss": 3.0}
    assert second.gates is None and list(first.gates or ()) == list(GATES)
    for name, shares in GATES.items():
        assert (first.gates or {})[name] == pytest.approx(shares, abs=2e-5)


def test_a_step_written_twice_is_one_with_the_newer_values(store: Store, job: Job) -> None:
    add(store, job, {3: {"loss": 2.0, "grad_norm": 1.0, "gates": GATES}})
    add(store, job, {3: {"eval_loss": 4.0}})
    add(store, job, {3: {"loss": 1.0}})
    (step,) = store.runs.steps(1)
    assert step.numbers == {"loss": 1.0, "eval_loss": 4.0, "grad_norm": 1.0} and step.gates is not None


def test_a_number_that_has_no_column_needs_no_migration(store: Store, job: Job) -> None:
    add(store, job, {1: {"loss": 1.0, "rank_left": 12, "note": "warm"}})
    add(store, job, {1: {"rank_left": 11, "entropy": 0.5}})
    (step,) = store.runs.steps(1)
    assert step.numbers == {"loss": 1.0, "rank_left": 11, "note": "warm", "entropy": 0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "much"])
def test_what_is_no_number_is_not_recorded_as_one(store: Store, job: Job, value: object) -> None:
    add(store, job, {1: {"loss": 1.0, "grad_norm": value}})
    assert store.runs.steps(1)[0].numbers == {"loss": 1.0}


def test_layers_that_change_within_a_run_are_read_as_they_were(store: Store, job: Job) -> None:
    other = {"lm_head": [0.25, 0.75]}
    add(store, job, {1: {"gates": GATES}, 2: {"gates": other}, 3: {"gates": GATES}})
    assert [list(step.gates or ()) for step in store.runs.steps(1)] == [list(GATES), ["lm_head"], list(GATES)]
    newest = store.runs.newest(1)
    assert newest is not None and list(newest.gates or ()) == list(GATES)


@pytest.mark.parametrize("experts", [1, 2, 7, 64])
def test_packed_shares_come_back_within_their_precision(experts: int) -> None:
    rng = np.random.default_rng(0)
    gates = {f"layer {i}": rng.dirichlet(np.ones(experts)).tolist() for i in range(5)}
    layers, data = pack(gates)
    assert len(data) == 2 * 5 * (experts - 1)
    for name, row in unpack(data, layers).items():
        assert row == pytest.approx(gates[name], abs=8e-6 * max(1, experts - 1)) and sum(row) == pytest.approx(1.0)


@pytest.mark.parametrize("row", [[0.9, 0.8], [2.0, -1.0], [float("nan"), 0.5], []], ids=str)
def test_weights_that_are_no_shares_come_back_too(row: list[float]) -> None:
    gates = {"a": [0.5, 0.5], "b": row}
    layers, data = pack(gates)
    found = unpack(data, layers)
    assert found["a"] == [0.5, 0.5] and np.allclose(found["b"], row, equal_nan=True, atol=1e-7)


def test_damaged_weights_are_refused_with_their_size() -> None:
    with pytest.raises(UserError, match="2 layers are damaged: they have 3 bytes"):
        unpack(b"abc", [["a", 2], ["b", 3]])


def test_thinned_steps_are_even_and_have_both_ends(store: Store, job: Job) -> None:
    many(store, 10_000)
    steps = [step.step for step in store.runs.steps(1, most=100)]
    assert (steps[0], steps[-1]) == (1, 10_000) and 100 <= len(steps) <= 102
    assert set(np.diff(steps[:-1])) == {100}


def test_thinned_steps_are_as_many_where_only_some_are_recorded(store: Store, job: Job) -> None:
    many(store, 1_000, every=7)
    steps = [step.step for step in store.runs.steps(1, most=100)]
    assert (steps[0], steps[-1]) == (7, 7_000) and 95 <= len(steps) <= 102 and all(step % 7 == 0 for step in steps)


def test_thinned_steps_keep_those_with_a_held_out_loss(store: Store, job: Job) -> None:
    many(store, 5_000, measured=317)
    steps = store.runs.steps(1, most=50)
    measured = [step.step for step in steps if "eval_loss" in step.numbers]
    assert measured == list(range(317, 5_001, 317)) and len(steps) <= 52 + len(measured)


def test_however_many_are_measured_not_more_are_given_than_asked_for(store: Store, job: Job) -> None:
    many(store, 5_000, measured=1)
    assert len(store.runs.steps(1, most=50)) <= 102


def test_few_steps_are_all_given(store: Store, job: Job) -> None:
    many(store, 30)
    assert [step.step for step in store.runs.steps(1, most=50)] == list(range(1, 31))


def test_steps_after_one_are_those_beyond_it(store: Store, job: Job) -> None:
    many(store, 1_000)
    assert [step.step for step in store.runs.steps(1, after=997)] == [998, 999, 1_000]
    late = [step.step for step in store.runs.steps(1, after=500, most=10)]
    assert (late[0], late[-1]) == (501, 1_000) and len(late) <= 12
    assert store.runs.steps(1, after=1_000, most=10) == []


def test_routed_steps_are_thinned_among_themselves(store: Store, job: Job) -> None:
    add(store, job, {step: {"loss": 1.0, **({"gates": GATES} if step % 5 == 0 else {})} for step in range(1, 1_001)})
    steps = store.runs.routed_steps(1, 20)
    assert (steps[0].step, steps[-1].step) == (5, 1_000) and 20 <= len(steps) <= 22
    assert all(step.gates for step in steps)


def test_the_newest_of_each_number_is_found_wherever_it_was_written(store: Store, job: Job) -> None:
    assert store.runs.newest(1) is None
    add(
        store,
        job,
        {1: {"loss": 3.0, "gates": GATES}, 2: {"eval_loss": 2.5}, 9: {"loss": 1.0, "tokens_per_second": 7.0}},
    )
    add(store, job, {11: {"rank_left": 3}})
    newest = store.runs.newest(1)
    assert newest is not None and newest.step == 11 and list(newest.gates or ()) == list(GATES)
    assert newest.numbers == {"loss": 1.0, "eval_loss": 2.5, "tokens_per_second": 7.0}


def instructions(store: Store, read: Callable[[], object]) -> int:
    """Hundreds of instructions that SQLite takes for a read: of its machine, the same on every computer."""
    spent = 0

    def count() -> int:
        nonlocal spent
        spent += 1
        return 0

    read()
    with store.engine.connect() as connection:  # the pool's one connection, which the read is given as well
        connection.connection.dbapi_connection.set_progress_handler(count, 100)  # type: ignore[union-attr]
    read()
    with store.engine.connect() as connection:
        connection.connection.dbapi_connection.set_progress_handler(None, 0)  # type: ignore[union-attr]
    return spent


@pytest.mark.parametrize("name", ["newest", "thinned", "routed"])
@on_sqlite
def test_a_look_at_a_run_takes_no_longer_when_it_is_ten_times_as_long(store: Store, job: Job, name: str) -> None:
    reads: dict[str, Callable[[], object]] = {
        "newest": lambda: store.runs.newest(1),
        "thinned": lambda: store.runs.steps(1, most=50, gates=False),
        "routed": lambda: store.runs.routed_steps(1, 50),
    }
    whole: list[int] = []
    spent: list[int] = []
    for begin, end in ((1, 2_001), (2_001, 20_001)):
        gates = {"gates": GATES}
        add(store, job, {n: {"loss": 1.0, **(gates if n % 5 == 0 else {})} for n in range(begin, end)})
        spent.append(instructions(store, reads[name]))
        whole.append(instructions(store, lambda: store.runs.steps(1)))
    assert whole[1] > 8 * whole[0] > 0
    assert spent[1] < 2 * spent[0] + 5


def test_a_run_that_is_deleted_leaves_no_step_and_no_folder_of_its_jobs(store: Store, job: Job) -> None:
    add(store, job, {1: {"loss": 1.0, "gates": GATES}})
    folder = store.home.job(job.id, 1)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("said")
    store.attempts.give_back(store.queue.get(job.id), "gone")
    store.queue.stop(job.id)
    store.runs.delete(1)
    with store.engine.connect() as connection:
        for table in ("steps", "gates", "gate_layers"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    assert not folder.parent.exists()


def test_a_corpus_that_is_deleted_leaves_no_folder_of_its_jobs(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n")
    corpus = store.corpora.add("short", [file])
    assert corpus.job is not None
    folder = store.home.job(corpus.job.id, 1)
    folder.mkdir(parents=True)
    store.queue.stop(corpus.job.id)
    store.corpora.delete(corpus.id)
    assert not folder.parent.exists()


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "with a line that is not stored"])
def test_numbers_of_a_job_that_has_ended_are_not_kept_twice(store: Store, job: Job, stored: bool) -> None:
    folder = store.home.job(job.id, 1)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("said")
    (folder / "metrics.jsonl").write_text("x" * 50)
    store.runs.add_steps(job, [{"run_id": 1, "step": 1, "values": {"loss": 1.0}}], 50 if stored else 20)
    assert (folder / "metrics.jsonl").exists()
    assert store.attempts.finish(job, JobStatus.FAILED, 1.0)
    assert (folder / "metrics.jsonl").exists() == (not stored) and (folder / "log.txt").exists()


@on_sqlite
def test_every_number_of_an_earlier_version_is_there_after_the_upgrade_and_back(home: Home) -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    config.attributes["url"] = home.database_url
    command.upgrade(config, "0004")
    gates = '{"a": [0.25, 0.75], "b": [0.5, 0.5]}'
    other = '{"c": [0.9, 0.9]}'
    with sqlite3.connect(home.root / "studio.db") as connection:
        for run in (1, 2):
            connection.execute(
                "INSERT INTO runs (id, name, config, is_sample, created_at) VALUES (?, 'r', '{}', 0, 1)", (run,)
            )
        rows = [
            (1, step, f'{{"loss": {step}.5, "extra": {step}}}', gates if step % 3 else None) for step in range(1, 2_501)
        ]
        rows += [(2, 0, '{"eval_loss": 1.5}', "null"), (2, 1, "{}", other)]
        connection.executemany("INSERT INTO metrics (run_id, step, numbers, gates) VALUES (?, ?, ?, ?)", rows)
    store = Store(home)
    steps = store.runs.steps(1)
    assert [step.step for step in steps] == list(range(1, 2_501))
    assert all(step.numbers == {"loss": step.step + 0.5, "extra": step.step} for step in steps)
    assert all((step.gates is None) == (step.step % 3 == 0) for step in steps)
    assert (steps[0].gates or {})["a"] == pytest.approx([0.25, 0.75], abs=1e-5)
    first, second = store.runs.steps(2)
    assert first.numbers == {"eval_loss": 1.5} and second.gates == {"c": pytest.approx([0.9, 0.9])}
    store.engine.dispose()
    command.downgrade(config, "0004")
    command.upgrade(config, "head")
    assert Store(home).runs.steps(1) == steps
