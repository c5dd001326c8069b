"""The store: what appears together, what is refused, what names may be."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from hydralora.bases.folder import STARTER
from hydralora.config import parse_config
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.imports import import_corpus
from hydralora.errors import UserError
from jobs.breakdown import find_breakdown, start_breakdown
from jobs.home import Home
from jobs.kinds import KINDS
from jobs.store.analyses import OWN
from jobs.store.intake import safe_file_name
from jobs.store.records import Run
from jobs.store.rows import clean_name
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import JobRow

pytestmark = pytest.mark.databases


def write_csv(folder: Path, rows: int = 20) -> Path:
    path = folder / "talk.csv"
    path.write_text("question,answer\n" + "".join(f"what is {i}?,it is {i}\n" for i in range(rows)), "utf-8")
    return path


def ready_corpus(store: Store, folder: Path) -> int:
    """A corpus imported here, without a worker."""
    file = write_csv(folder)
    corpus = store.corpora.add("talk", [file])
    report = import_corpus([file], store.home.corpus(corpus.id))
    finish(store, "ingest", {"examples": report.examples, "rejected": 0, "format": "csv"})
    return corpus.id


def finish(store: Store, kind: str, result: dict[str, object]) -> None:
    job = store.attempts.claim("w", "here", KINDS[kind].lane)
    assert job is not None and job.kind == kind
    assert store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result=result)


def finished_run(store: Store, folder: Path) -> int:
    run = store.runs.start(ready_corpus(store, folder), {"train": {"max_steps": 3}})
    finish(store, "train", {"steps": 3, "held_out_loss": 1.0})
    return run.id


def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(store: Store) -> None:
    count = select(func.count()).select_from(JobRow)
    with store.queue._rows.reading() as session:
        assert session.scalar(count) == 0
        store.queue.submit("map")
        assert session.scalar(count) == 0
    with store.queue._rows.reading() as session:
        assert session.scalar(count) == 1


def test_a_corpus_and_its_import_appear_together(store: Store, tmp_path: Path) -> None:
    corpus = store.corpora.add("talk", [write_csv(tmp_path)])
    assert corpus.job is not None and corpus.job.status == JobStatus.QUEUED
    assert [c.id for c in store.corpora.all()] == [corpus.id]


def test_a_file_that_is_not_there_leaves_no_corpus_and_no_job(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        store.corpora.add("talk", [tmp_path / "nothing.csv"])
    assert store.corpora.all() == [] and store.queue.jobs() == []
    assert list(store.home.uploads.iterdir()) == []


def test_a_folder_is_copied_whole_and_one_with_a_link_out_of_it_not_at_all(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.csv").write_text("q,a\nx,y\n")
    corpus = store.corpora.add("set", [folder])
    assert corpus.job is not None
    kept = store.home.uploads / corpus.job.payload["files"][0]
    assert (kept / "data" / "train.csv").read_text() == "q,a\nx,y\n"
    (folder / "link.csv").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"set: link.csv is a link that leads out of it"):
        store.corpora.add("set", [folder])
    assert len(list(store.home.uploads.iterdir())) == 1


def test_the_users_own_file_stays_where_it_is(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path)
    store.corpora.add("talk", [file])
    assert file.exists()


def test_a_corpus_that_is_not_imported_yet_cannot_be_trained_on(store: Store, tmp_path: Path) -> None:
    corpus = store.corpora.add("talk", [write_csv(tmp_path)])
    with pytest.raises(UserError, match="not ready"):
        store.runs.start(corpus.id, {})


def test_a_wrong_setting_leaves_no_run(store: Store, tmp_path: Path) -> None:
    corpus = ready_corpus(store, tmp_path)
    with pytest.raises(UserError, match="max_steps"):
        store.runs.start(corpus, {"train": {"max_steps": 0}})
    with pytest.raises(UserError, match="unknown"):
        store.runs.start(corpus, {"base": "nowhere"})
    assert store.runs.all() == []


def test_a_corpus_in_use_is_not_deleted(store: Store, tmp_path: Path) -> None:
    run = finished_run(store, tmp_path)
    corpus = store.runs.get(run).corpus_id
    with pytest.raises(UserError, match="used by 1 run"):
        store.corpora.delete(corpus)
    store.runs.delete(run)
    store.corpora.delete(corpus)
    assert store.corpora.all() == [] and not store.home.corpus(corpus).exists()


def test_a_run_that_is_worked_on_is_not_deleted(store: Store, tmp_path: Path) -> None:
    run = store.runs.start(ready_corpus(store, tmp_path), {})
    with pytest.raises(UserError, match="in use by job"):
        store.runs.delete(run.id)


def test_a_finished_run_has_nothing_to_resume(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finished all its steps"):
        store.runs.resume(finished_run(store, tmp_path))


def test_the_same_analysis_is_computed_once(store: Store, tmp_path: Path) -> None:
    run = finished_run(store, tmp_path)
    first = store.analyses.ask(run, "map", {"which": "B", "layout": "pca", "seed": 0})
    again = store.analyses.ask(run, "map", {"seed": 0, "layout": "pca", "which": "B"})
    other = store.analyses.ask(run, "map", {"which": "A", "layout": "pca", "seed": 0})
    assert first.id == again.id != other.id


def test_another_corpus_is_another_question(store: Store, tmp_path: Path) -> None:
    run, other = finished_run(store, tmp_path), ready_corpus(store, tmp_path)
    own = store.analyses.ask(run, "routing")
    elsewhere = store.analyses.ask(run, "routing", {"corpus_id": other, "clustering_id": None})
    assert own.id != elsewhere.id and elsewhere.job is not None
    assert elsewhere.job.payload["corpus_id"] == other == elsewhere.job.corpus_id


def test_what_an_older_version_has_measured_is_measured_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(store, tmp_path)
    old = store.analyses.ask(run, "weights")
    finish(store, "weights", {"sentence": "Done."})
    weights = KINDS["weights"]
    monkeypatch.setitem(KINDS, "weights", replace(weights, version=(weights.version or 0) + 1))
    assert store.analyses.find(run, "weights") is None
    assert store.analyses.ask(run, "weights").id != old.id


def imported(store: Store, folder: Path, **more: Any) -> Run:
    files = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    for file in files:
        file.write_text("{}", "utf-8")
    return store.runs.import_adapter(files, **more)


def test_an_imported_adapter_takes_its_settings_from_its_files(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path, name="From afar")
    config = {**run.config.model_dump(), "method": "hydralora", "base": "somebody/model"}
    finish(store, "import", {"config": config, "summary": {"imported": True, "trainable": 1}})
    done = store.runs.get(run.id)
    assert done.is_imported and done.config == parse_config(config) and done.corpus_id is None
    assert not (store.home.uploads / f"run-{run.id}").exists()


def test_a_failed_import_keeps_its_files_and_is_tried_again(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    held = store.attempts.claim("w", "here", "light")
    assert held is not None and store.attempts.finish(held, JobStatus.FAILED, time.time(), error="no")
    again = store.runs.resume(run.id)
    assert again.job is not None and again.job.kind == "import" and again.job.id != held.id
    assert all((store.home.uploads / name).exists() for name in again.job.payload["files"])


def test_an_adapter_without_a_corpus_is_measured_on_none(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config.model_dump(), "summary": {"imported": True}})
    assert store.analyses.ask(run.id, "weights").id
    with pytest.raises(UserError, match="no corpus of its own"):
        store.analyses.ask(run.id, "routing")


def test_a_deleted_import_leaves_no_file(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    assert run.job is not None
    store.queue.stop(run.job.id)
    store.runs.delete(run.id)
    assert not (store.home.uploads / f"run-{run.id}").exists() and store.runs.all() == []


def test_an_import_for_a_base_that_is_none_leaves_no_run(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Base model 'nowhere' is unknown"):
        imported(store, tmp_path, base="nowhere")
    assert store.runs.all() == []


def test_a_base_chosen_by_its_name_is_found_from_anywhere(store: Store, tmp_path: Path) -> None:
    shutil.copytree(STARTER, tmp_path / "little")
    store.bases.add(tmp_path / "little")
    run = imported(store, tmp_path, base="little")
    assert run.job is not None and run.job.payload["base"] == str(tmp_path / "little")


def test_an_import_without_files_leaves_no_run(store: Store, tmp_path: Path) -> None:
    for files in ([], [tmp_path / "nothing.zip"], [tmp_path / "readme.md"], [tmp_path / "adapter_model.bin"]):
        with pytest.raises(UserError, match=r"No file was given|No such file|There is no adapter_model|is pickled"):
            store.runs.import_adapter(files)
    assert store.runs.all() == [] and not list(store.home.uploads.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe", "pipe is a device or a pipe, not a file. Choose"),
        ("set", "set: again is a link to a folder. Copy what"),
    ],
)
def test_what_is_no_plain_file_is_not_taken_in(name: str, said: str, store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    with pytest.raises(UserError, match=said):
        store.corpora.add("talk", [tmp_path / name])
    assert not list(store.home.uploads.iterdir())


def test_other_files_of_a_folder_are_not_taken_in(store: Store, tmp_path: Path) -> None:
    names = ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "README.md")
    for name in names:
        (tmp_path / name).write_text("{}", "utf-8")
    run = store.runs.import_adapter([tmp_path / name for name in names])
    assert run.job is not None and len(run.job.payload["files"]) == 2


def test_a_corpus_that_is_read_anew_forgets_what_was_measured_on_it(store: Store, tmp_path: Path) -> None:
    run, other = finished_run(store, tmp_path), ready_corpus(store, tmp_path)
    looks = {"corpus_id": other, "clustering_id": None}
    store.analyses.ask(run, "routing", looks)
    finish(store, "routing", {"sentence": "Done."})
    own = store.analyses.ask(run, "routing")
    store.corpora.import_again(other, {})
    assert store.analyses.find(run, "routing", looks) is None
    assert store.analyses.get(own.id).run_id == run


def test_an_imported_adapter_gets_a_corpus_once(store: Store, tmp_path: Path) -> None:
    run, corpus = imported(store, tmp_path), ready_corpus_after(store, tmp_path)
    assert store.analyses.measured_on(store.runs.get(run.id), OWN) is None
    assert store.runs.use_corpus(run.id, corpus).corpus_id == corpus
    assert store.analyses.measured_on(store.runs.get(run.id), OWN) == {}
    with pytest.raises(UserError, match="has corpus"):
        store.runs.use_corpus(run.id, corpus)


def ready_corpus_after(store: Store, folder: Path) -> int:
    """A corpus imported behind the import of an adapter."""
    finish(
        store, "import", {"config": store.runs.all()[0].config.model_dump(), "summary": {"base_problem": "not there"}}
    )
    return ready_corpus(store, folder)


def test_a_base_that_was_not_there_is_looked_for_again(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config.model_dump(), "summary": {"base_problem": "not there"}})
    again = store.runs.resume(run.id)
    assert again.job is not None and again.job.payload["files"] == []
    finish(store, "import", {"config": run.config.model_dump(), "summary": {"base_problem": None}})
    with pytest.raises(UserError, match="finished all its steps"):
        store.runs.resume(run.id)


def test_another_run_never_meets_the_corpus_of_the_one_before(store: Store, tmp_path: Path) -> None:
    first, second = (finished_run(store, tmp_path) for _ in range(2))
    for run in (first, second):
        assert store.analyses.measured_on(store.runs.get(run), OWN) == {}
    other = store.runs.get(second).corpus_id
    assert store.analyses.measured_on(store.runs.get(first), other) == {"corpus_id": other, "clustering_id": None}
    assert store.analyses.measured_on(store.runs.get(first), 10_000) == {}  # deleted meanwhile


def test_an_imported_adapter_is_no_part_of_a_breakdown(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config.model_dump(), "summary": {"base_problem": None}})
    assert find_breakdown(store, store.runs.get(run.id)) == []
    with pytest.raises(UserError, match="was not trained here"):
        start_breakdown(store, run.id)


def test_an_unfinished_run_cannot_be_looked_into(store: Store, tmp_path: Path) -> None:
    run = store.runs.start(ready_corpus(store, tmp_path), {})
    with pytest.raises(UserError, match="not finished"):
        store.analyses.ask(run.id, "weights")


def test_more_clusters_than_examples_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="between 1 and 20"):
        store.clusterings.add(ready_corpus(store, tmp_path), 21)


def test_what_is_given_out_cannot_be_changed(store: Store, tmp_path: Path) -> None:
    corpus = store.corpora.add("talk", [write_csv(tmp_path)])
    with pytest.raises(FrozenInstanceError):
        corpus.name = "other"  # type: ignore[misc]


def test_steps_of_a_dead_attempt_are_not_taken(store: Store, tmp_path: Path) -> None:
    run = store.runs.start(ready_corpus(store, tmp_path), {})
    job = store.attempts.claim("w", "here", "heavy")
    assert job is not None
    store.attempts.adopt(job, "other")
    store.runs.add_steps(job, [{"run_id": run.id, "step": 1, "values": {"loss": 1.0}}], 10)
    assert store.runs.steps(run.id) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\secret\\a.csv", "a.csv"),
        ("a\x00b.csv", "a_b.csv"),
        ("..", "file"),
        (".hidden", "hidden"),
        ("", "file"),
    ],
)
def test_an_uploaded_name_is_never_a_path(given: str, kept: str) -> None:
    assert safe_file_name(given) == kept


def test_a_very_long_name_keeps_its_ending() -> None:
    assert safe_file_name("a" * 500 + ".jsonl").endswith(".jsonl")
    assert len(safe_file_name("a" * 500 + ".jsonl")) <= 100


@pytest.mark.parametrize("name", ["", "   ", "\x00\x01", "\u202e"])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="name is empty"):
        clean_name(name)


def test_a_page_of_a_large_corpus_reads_only_the_batches_it_lies_in(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_text("question,answer\n" + "".join(f"what is {i}?,it is {i}\n" for i in range(100_000)), "utf-8")
    import_corpus([file], home.corpus(1))
    rows, read = Rows(home.corpus(1)), []
    inner = rows._reader

    class Watched:
        def get_batch(self, number: int) -> object:
            read.append(number)
            return inner.get_batch(number)

    rows._reader = Watched()  # type: ignore[assignment]
    page = rows.page(77_770, 10)
    assert [example.answer for example in page] == [f"it is {i}" for i in range(77_770, 77_780)]
    assert len(read) <= 2


def test_preferences_without_pairs_are_refused_before_anything_is_queued(store: Store, tmp_path: Path) -> None:
    corpus = ready_corpus(store, tmp_path)
    with pytest.raises(UserError, match="this corpus holds no pairs of a better and a worse answer"):
        store.runs.start(corpus, {"train": {"objective": "dpo"}})
    assert not store.runs.all()
