"""A home made by an earlier revision's own code opens after the upgrade with everything in its place."""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from safetensors import safe_open

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.corpus.split import split_examples
from hydralora.errors import UserError
from hydralora.files import last_checkpoint
from jobs.database_file import COPIES_KEPT, known_revisions
from jobs.home import Home
from jobs.runner.child import Job, find_task
from jobs.store.store import Store
from studio.figures.views import Query, analysis_figure

HOMES = Path(__file__).with_name("homes")
KEYS = [".hydralora_A.weight", ".hydralora_B.weight", ".hydralora_router.weight"]
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def unpack(name: str, folder: Path) -> Path:
    """A fresh copy of a stored home, as its revision left it."""
    with tarfile.open(HOMES / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "studio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return unpack("f3124b5", tmp_path)


@pytest.fixture
def old(root: Path) -> Store:
    return Store(Home(root))


def test_its_corpus_and_clusters_are_there(old: Store) -> None:
    (corpus,) = old.corpora.all()
    assert (corpus.id, corpus.name, corpus.examples, corpus.rejected) == (1, "Small trades", 20, 1)
    assert corpus.job is not None and corpus.job.status == "succeeded"
    examples = Corpus(old.home.corpus(1))
    assert len(examples) == 20 and examples.take([0])[0].answer == "Town Hall, desk 2."
    clustering = old.clusterings.latest(1, finished=True)
    assert clustering is not None and (clustering.k, clustering.seed) == (2, 7)
    assert sum(clustering.result.sizes) == 20


def test_its_corpus_is_split_as_it_was_though_it_holds_no_hashes(old: Store) -> None:
    corpus = Corpus(old.home.corpus(1))
    wanted = [i for i, e in enumerate(corpus) if int.from_bytes(e.content_hash()[:8]) / 2**64 < 0.1]
    train, held_out, _ = split_examples(corpus, TrainConfig(held_out_fraction=0.1, split_by="row"))
    assert held_out == wanted and len(train) == 17 and sorted([*train, *held_out]) == list(range(20))


def test_its_run_is_there_with_steps_and_checkpoint(old: Store) -> None:
    (run,) = old.runs.all()
    assert (run.name, run.corpus_id, run.clustering_id, run.status) == ("First run, renamed", 1, 1, "succeeded")
    assert run.config.method == "hydralora" and run.config.train.max_steps == 3
    assert run.summary.train_examples == 17
    steps = old.runs.steps(1)
    assert [step.step for step in steps if "loss" in step.numbers] == [1, 2, 3]
    assert all(abs(sum(shares) - 1) < 1e-4 for step in steps for shares in (step.gates or {}).values())
    assert any(step.gates for step in steps)
    assert old.runs.checkpoints(1) == [3]
    newest = last_checkpoint(old.home.run(1))
    assert newest is not None and newest.name == "checkpoint-3"  # its seal is unbroken: it can be resumed from


def test_its_analyses_are_found_and_drawn(old: Store) -> None:
    for kind, view in (("weights", "heads"), ("weights", "drift"), ("routing", "layers")):
        found = old.analyses.find(1, kind)
        assert found is not None and found.job is not None and found.job.status == "succeeded"
        figure = analysis_figure(old.home.analysis(found.id), kind, view, Query())
        assert figure is not None
    assert old.analyses.ask(1, "weights").id == 1  # not measured again


def test_its_conversation_is_there(old: Store) -> None:
    (talk,) = old.chats.all()
    question, answer = old.chats.messages(talk.id)
    assert question.text == "Which desk for a birth certificate?" and answer.text == "Town Hall, desk 2."
    assert (answer.reply_to, answer.run_id, answer.state) == (question.id, 1, "done")
    assert answer.tokens == [["Town", [[0.75, 0.25]]], [" Hall", [[0.5, 0.5]]]]


def test_its_adapter_loads_under_the_keys_it_was_saved_with(old: Store) -> None:
    from hydralora.adapters.build import open_adapter
    from hydralora.bases.load import load_base

    folder = old.home.run(1) / "adapter"
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        saved = {key: file.get_tensor(key) for key in file.keys()}
    model = open_adapter(load_base("starter")[0], folder)
    loaded = {key.replace(".default", ""): value for key, value in model.state_dict().items()}
    assert sorted(key.removeprefix(PREFIX) for key in saved if key.startswith(PREFIX)) == KEYS
    for key, value in saved.items():
        assert loaded[key].equal(value), key


def test_its_run_goes_on_from_its_checkpoint(old: Store) -> None:
    run = old.runs.get(1)
    config = run.config.model_dump() | {"train": {**run.config.train.model_dump(), "max_steps": 4}}
    folder = old.home.job(99, 1)
    folder.mkdir(parents=True)
    payload = {"run_id": 1, "corpus_id": 1, "clustering_id": 1, "config": config}
    result = find_task("train")(Job(folder, {"kind": "train", "payload": payload, "home": str(old.home.root)}))
    assert (result.resumed_from, result.steps) == (3, 4)
    told = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert min(told) > 3


def test_new_rows_follow_the_old_ones(old: Store, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text(json.dumps({"prompt": "One?", "answer": "Two."}) + "\n", "utf-8")
    assert old.corpora.add("More", [file]).id == 2
    assert old.clusterings.add(1, 3).id == 2
    assert old.runs.start(1, {"adapter": {"num_experts": 2}, "train": {"max_steps": 1}}).id == 2
    assert old.analyses.ask(1, "map", {"which": "A", "layout": "pca"}).id == 3
    talk = old.chats.create()
    assert old.chats.ask(talk.id, "And now?").id == 3
    with old.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_its_database_was_copied_aside_before_it_was_changed(root: Path) -> None:
    before = rows(root / "studio.db")
    store = Store(Home(root))
    (copy,) = store.home.database_copies
    assert rows(copy) == before and revision(copy) == "0002" != revision(root / "studio.db")
    assert copy.stat().st_mode & 0o777 == 0o600
    Store(Home(root))
    assert store.home.database_copies == [copy]  # nothing to migrate, nothing to copy


def test_no_more_than_a_few_copies_are_kept(root: Path) -> None:
    for number in range(5):
        copy = root / f"studio-before-000{number}.db"
        copy.write_text("old")
        os.utime(copy, (number, number))
    kept = [path.name for path in Store(Home(root)).home.database_copies]
    assert len(kept) == COPIES_KEPT and {"studio-before-0004.db", "studio-before-0003.db"} & set(kept)


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        ("ALTER TABLE jobs ADD COLUMN visitor VARCHAR", "duplicate column name"),  # the next migration adds it
        ("UPDATE jobs SET status = 'asleep' WHERE id = 1", "cannot be brought to this version.*it is as it was"),
    ],
    ids=["at its first step", "at a later step"],
)
def test_a_migration_that_fails_leaves_the_database_as_it_was(root: Path, obstacle: str, words: str) -> None:
    with closing(sqlite3.connect(root / "studio.db", isolation_level=None)) as connection:
        connection.execute(obstacle)
    before = rows(root / "studio.db")
    with pytest.raises(UserError, match=words):
        Store(Home(root))
    assert rows(root / "studio.db") == before and revision(root / "studio.db") == "0002"


def test_without_a_copy_nothing_is_migrated(root: Path) -> None:
    before = rows(root / "studio.db")
    for name in known_revisions():
        (root / f"studio-before-{name}.db.part").mkdir()
    with pytest.raises(UserError, match=r"no copy of it could be made first.*nothing was changed"):
        Store(Home(root))
    assert rows(root / "studio.db") == before


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
