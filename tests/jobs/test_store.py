"""The store: what appears together, what is refused, what names may be."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus import Corpus as Rows
from hydralora.corpus import import_corpus
from hydralora.errors import UserError
from jobs.analyses import ANALYSES, OWN
from jobs.breakdown import find_breakdown, start_breakdown
from jobs.home import Home
from jobs.queue import LANES
from jobs.records import Run
from jobs.rows import clean_name, safe_file_name
from jobs.status import JobStatus
from jobs.store import Store


def write_csv(folder: Path, rows: int = 20) -> Path:
    path = folder / "talk.csv"
    path.write_text("question,answer\n" + "".join(f"what is {i}?,it is {i}\n" for i in range(rows)), "utf-8")
    return path


def ready_corpus(store: Store, folder: Path) -> int:
    """A corpus imported here, without a worker."""
    file = write_csv(folder)
    corpus = store.add_corpus("talk", [file])
    report = import_corpus([file], store.home.corpus(corpus.id))
    finish(store, "ingest", {"examples": report.examples, "rejected": 0, "format": "csv"})
    return corpus.id


def finish(store: Store, kind: str, result: dict[str, object]) -> None:
    job = store.queue.claim("w", "here", LANES[kind])
    assert job is not None and job.kind == kind
    assert store.finish(job, JobStatus.SUCCEEDED, time.time(), result=result)


def finished_run(store: Store, folder: Path) -> int:
    run = store.start_run(ready_corpus(store, folder), {"train": {"max_steps": 3}})
    finish(store, "train", {"steps": 3, "held_out_loss": 1.0})
    return run.id


def test_a_corpus_and_its_import_appear_together(store: Store, tmp_path: Path) -> None:
    corpus = store.add_corpus("talk", [write_csv(tmp_path)])
    assert corpus.job is not None and corpus.job.status == JobStatus.QUEUED
    assert [c.id for c in store.corpora()] == [corpus.id]


def test_a_file_that_is_not_there_leaves_no_corpus_and_no_job(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        store.add_corpus("talk", [tmp_path / "nothing.csv"])
    assert store.corpora() == [] and store.queue.jobs() == []
    assert list(store.home.uploads.iterdir()) == []


def test_the_users_own_file_stays_where_it_is(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path)
    store.add_corpus("talk", [file])
    assert file.exists()


def test_a_corpus_that_is_not_imported_yet_cannot_be_trained_on(store: Store, tmp_path: Path) -> None:
    corpus = store.add_corpus("talk", [write_csv(tmp_path)])
    with pytest.raises(UserError, match="not ready"):
        store.start_run(corpus.id, {})


def test_a_wrong_setting_leaves_no_run(store: Store, tmp_path: Path) -> None:
    corpus = ready_corpus(store, tmp_path)
    with pytest.raises(UserError, match="max_steps"):
        store.start_run(corpus, {"train": {"max_steps": 0}})
    with pytest.raises(UserError, match="unknown"):
        store.start_run(corpus, {"base": "nowhere"})
    assert store.runs() == []


def test_a_corpus_in_use_is_not_deleted(store: Store, tmp_path: Path) -> None:
    run = finished_run(store, tmp_path)
    corpus = store.run(run).corpus_id
    with pytest.raises(UserError, match="used by 1 run"):
        store.delete_corpus(corpus)
    store.delete_run(run)
    store.delete_corpus(corpus)
    assert store.corpora() == [] and not store.home.corpus(corpus).exists()


def test_a_run_that_is_worked_on_is_not_deleted(store: Store, tmp_path: Path) -> None:
    run = store.start_run(ready_corpus(store, tmp_path), {})
    with pytest.raises(UserError, match="in use by job"):
        store.delete_run(run.id)


def test_a_finished_run_has_nothing_to_resume(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finished all its steps"):
        store.resume_run(finished_run(store, tmp_path))


def test_the_same_analysis_is_computed_once(store: Store, tmp_path: Path) -> None:
    run = finished_run(store, tmp_path)
    first = store.analyse(run, "map", {"which": "B", "layout": "pca", "seed": 0})
    again = store.analyse(run, "map", {"seed": 0, "layout": "pca", "which": "B"})
    other = store.analyse(run, "map", {"which": "A", "layout": "pca", "seed": 0})
    assert first.id == again.id != other.id


def test_another_corpus_is_another_question(store: Store, tmp_path: Path) -> None:
    run, other = finished_run(store, tmp_path), ready_corpus(store, tmp_path)
    own = store.analyse(run, "routing")
    elsewhere = store.analyse(run, "routing", {"corpus_id": other, "clustering_id": None})
    assert own.id != elsewhere.id and elsewhere.job is not None
    assert elsewhere.job.payload["corpus_id"] == other == elsewhere.job.corpus_id


def test_what_an_older_version_has_measured_is_measured_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(store, tmp_path)
    old = store.analyse(run, "weights")
    finish(store, "weights", {"sentence": "Done."})
    monkeypatch.setitem(ANALYSES, "weights", ANALYSES["weights"] + 1)
    assert store.find_analysis(run, "weights") is None
    assert store.analyse(run, "weights").id != old.id


def imported(store: Store, folder: Path, **more: Any) -> Run:
    files = [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    for file in files:
        file.write_text("{}", "utf-8")
    return store.import_run(files, **more)


def test_an_imported_adapter_takes_its_settings_from_its_files(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path, name="From afar")
    config = {**run.config, "method": "hydralora", "base": "somebody/model"}
    finish(store, "import", {"config": config, "summary": {"imported": True, "trainable": 1}})
    done = store.run(run.id)
    assert done.is_imported and done.config == config and done.corpus_id is None
    assert not (store.home.uploads / f"run-{run.id}").exists()


def test_a_failed_import_keeps_its_files_and_is_tried_again(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    held = store.queue.claim("w", "here", "light")
    assert held is not None and store.finish(held, JobStatus.FAILED, time.time(), error="no")
    again = store.resume_run(run.id)
    assert again.job is not None and again.job.kind == "import" and again.job.id != held.id
    assert all((store.home.uploads / name).exists() for name in again.job.payload["files"])


def test_an_adapter_without_a_corpus_is_measured_on_none(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config, "summary": {"imported": True}})
    assert store.analyse(run.id, "weights").id
    with pytest.raises(UserError, match="no corpus of its own"):
        store.analyse(run.id, "routing")


def test_a_deleted_import_leaves_no_file(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    assert run.job is not None
    store.queue.stop(run.job.id)
    store.delete_run(run.id)
    assert not (store.home.uploads / f"run-{run.id}").exists() and store.runs() == []


def test_an_import_for_a_base_that_is_none_leaves_no_run(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Base model 'nowhere' is unknown"):
        imported(store, tmp_path, base="nowhere")
    assert store.runs() == []


def test_a_base_named_by_a_relative_folder_is_found_from_anywhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "little").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "little" / name).write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    run = imported(store, tmp_path, base="little")
    assert run.job is not None and run.job.payload["base"] == str(tmp_path / "little")


def test_an_import_without_files_leaves_no_run(store: Store, tmp_path: Path) -> None:
    for files in ([], [tmp_path / "nothing.zip"], [tmp_path / "readme.md"], [tmp_path / "adapter_model.bin"]):
        with pytest.raises(UserError, match=r"No file was given|No such file|There is no adapter_model|is pickled"):
            store.import_run(files)
    assert store.runs() == [] and not list(store.home.uploads.iterdir())


def test_other_files_of_a_folder_are_not_taken_in(store: Store, tmp_path: Path) -> None:
    names = ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "README.md")
    for name in names:
        (tmp_path / name).write_text("{}", "utf-8")
    run = store.import_run([tmp_path / name for name in names])
    assert run.job is not None and len(run.job.payload["files"]) == 2


def test_a_corpus_that_is_read_anew_forgets_what_was_measured_on_it(store: Store, tmp_path: Path) -> None:
    run, other = finished_run(store, tmp_path), ready_corpus(store, tmp_path)
    looks = {"corpus_id": other, "clustering_id": None}
    store.analyse(run, "routing", looks)
    finish(store, "routing", {"sentence": "Done."})
    own = store.analyse(run, "routing")
    store.import_again(other, {})
    assert store.find_analysis(run, "routing", looks) is None
    assert store.analysis(own.id).run_id == run


def test_an_imported_adapter_gets_a_corpus_once(store: Store, tmp_path: Path) -> None:
    run, corpus = imported(store, tmp_path), ready_corpus_after(store, tmp_path)
    assert store.measured_on(store.run(run.id), OWN) is None
    assert store.use_corpus(run.id, corpus).corpus_id == corpus
    assert store.measured_on(store.run(run.id), OWN) == {}
    with pytest.raises(UserError, match="has corpus"):
        store.use_corpus(run.id, corpus)


def ready_corpus_after(store: Store, folder: Path) -> int:
    """A corpus imported behind the import of an adapter."""
    finish(store, "import", {"config": store.runs()[0].config, "summary": {"base_problem": "not there"}})
    return ready_corpus(store, folder)


def test_a_base_that_was_not_there_is_looked_for_again(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config, "summary": {"base_problem": "not there"}})
    again = store.resume_run(run.id)
    assert again.job is not None and again.job.payload["files"] == []
    finish(store, "import", {"config": run.config, "summary": {"base_problem": None}})
    with pytest.raises(UserError, match="finished all its steps"):
        store.resume_run(run.id)


def test_another_run_never_meets_the_corpus_of_the_one_before(store: Store, tmp_path: Path) -> None:
    first, second = (finished_run(store, tmp_path) for _ in range(2))
    for run in (first, second):
        assert store.measured_on(store.run(run), OWN) == {}
    other = store.run(second).corpus_id
    assert store.measured_on(store.run(first), other) == {"corpus_id": other, "clustering_id": None}
    assert store.measured_on(store.run(first), 10_000) == {}  # deleted meanwhile


def test_an_imported_adapter_is_no_part_of_a_breakdown(store: Store, tmp_path: Path) -> None:
    run = imported(store, tmp_path)
    finish(store, "import", {"config": run.config, "summary": {"base_problem": None}})
    assert find_breakdown(store, store.run(run.id)) == []
    with pytest.raises(UserError, match="was not trained here"):
        start_breakdown(store, run.id)


def test_an_unfinished_run_cannot_be_looked_into(store: Store, tmp_path: Path) -> None:
    run = store.start_run(ready_corpus(store, tmp_path), {})
    with pytest.raises(UserError, match="not finished"):
        store.analyse(run.id, "weights")


def test_more_clusters_than_examples_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="between 1 and 20"):
        store.add_clustering(ready_corpus(store, tmp_path), 21)


def test_what_is_given_out_cannot_be_changed(store: Store, tmp_path: Path) -> None:
    corpus = store.add_corpus("talk", [write_csv(tmp_path)])
    with pytest.raises(FrozenInstanceError):
        corpus.name = "other"  # type: ignore[misc]


def test_steps_of_a_dead_attempt_are_not_taken(store: Store, tmp_path: Path) -> None:
    run = store.start_run(ready_corpus(store, tmp_path), {})
    job = store.queue.claim("w", "here", "heavy")
    assert job is not None
    store.queue.adopt(job, "other")
    store.add_steps(job, [{"run_id": run.id, "step": 1, "values": {"loss": 1.0}}], 10)
    assert store.steps(run.id) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\secret\\a.csv", "a.csv"), ("a\x00b.csv", "a_b.csv"), ("..", "file"),
     (".hidden", "hidden"), ("", "file")],
)  # fmt: skip
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
