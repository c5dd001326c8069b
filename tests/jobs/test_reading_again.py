"""A wrong guess can be corrected at any time, from the files that were kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hydralora.corpus.folder import Corpus
from hydralora.errors import UserError
from hydralora.results import Part, Preview
from jobs.home import Home
from jobs.runner.child import Job, find_task
from jobs.store.status import JobStatus
from jobs.store.store import Store


def sizes(folder: Path) -> Path:
    """A table whose columns say nothing."""
    path = folder / "sizes.csv"
    path.write_text("width,height\n" + "".join(f"{i},{i * i}\n" for i in range(9)))
    return path


def work(store: Store, kind: str, lane: str = "light") -> object:
    """Do the next job in this process, and end it as the worker does."""
    job = store.attempts.claim("w", "here", lane)
    assert job is not None and job.kind == kind
    (folder := store.home.job(job.id, 1)).mkdir(parents=True)
    try:
        found = find_task(kind)(Job(folder, {"kind": kind, "payload": job.payload, "home": str(store.home.root)}))
    except UserError as error:
        store.attempts.finish(job, JobStatus.FAILED, time.time(), error=str(error), error_kind="user")
        return error
    assert isinstance(found, Part)
    store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result=found.row())
    return found


def test_an_import_that_failed_is_read_again_with_the_columns_named(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    corpus = store.corpora.add("Sizes", [sizes(tmp_path)])
    assert "found: width, height" in str(work(store, "ingest"))
    store.corpora.import_again(corpus.id, {"prompt": ["width"], "answer": "height"})
    work(store, "ingest")
    assert store.corpora.get(corpus.id).examples == 9
    store.corpora.import_again(corpus.id, {"text": "width"})
    work(store, "ingest")
    assert Corpus(home.corpus(corpus.id)).manifest.roles.text == "width"


def test_options_stay_when_roles_are_corrected(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    corpus = store.corpora.add("Sizes", [sizes(tmp_path)], roles={"text": "width"}, options={"answers": "each"})
    work(store, "ingest")
    store.corpora.import_again(corpus.id, {"text": "height"})
    work(store, "ingest")
    assert Corpus(home.corpus(corpus.id)).manifest.options.answers == "each"


def test_roles_and_the_other_options_stay_when_one_option_is_corrected(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    corpus = store.corpora.add("Sizes", [sizes(tmp_path)], roles={"text": "width"}, options={"answers": "each"})
    work(store, "ingest")
    store.corpora.import_again(corpus.id, options={"encoding": "cp1251"})
    work(store, "ingest")
    manifest = Corpus(home.corpus(corpus.id)).manifest
    assert (manifest.options.answers, manifest.options.encoding) == ("each", "cp1251")
    assert manifest.roles.text == "width"


def test_the_kept_files_are_looked_at_without_being_read_again(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    corpus = store.corpora.add("Sizes", [sizes(tmp_path)])
    work(store, "ingest")
    store.corpora.preview(corpus.id, {"prompt": ["width"], "answer": "height"}, base="starter")
    found = work(store, "preview")
    assert isinstance(found, Preview) and found.examples[2].pieces[-1].text == "4"
    rendered = work(store, "render")
    assert isinstance(rendered, Preview) and rendered.examples[2].pieces[-1].text == "4<|end|>"
    assert store.corpora.get(corpus.id).examples is None


def test_files_that_were_not_kept_are_missed_in_a_sentence(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    corpus = store.corpora.add("Sizes", [sizes(tmp_path)])
    work(store, "ingest")
    for file in (home.uploads / f"corpus-{corpus.id}").rglob("*.csv"):
        file.unlink()
    with pytest.raises(UserError, match=r"The files of corpus 'Sizes' were not kept\. Add them again\."):
        store.corpora.import_again(corpus.id, {"text": "width"})


@pytest.mark.parametrize("options", [{"answers": "some"}, {"file_names": "perhaps"}])
def test_an_option_that_is_none_is_refused(options: dict[str, object], home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`options"):
        Store(home).corpora.add("Sizes", [sizes(tmp_path)], options=options)


# A draft: taken in, looked at, not imported


def test_a_draft_is_looked_at_and_imported_when_that_is_asked_for(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    draft = store.corpora.draft("Sizes", [sizes(tmp_path)])
    assert draft.is_draft and store.corpora.reading(draft.id).preview is None
    work(store, "preview")
    assert store.corpora.get(draft.id).is_draft and store.corpora.all()[0].is_draft
    store.corpora.preview(draft.id, {"prompt": ["width"], "answer": "height"})
    work(store, "preview")
    asked = store.corpora.reading(draft.id)
    assert asked.roles.answer == "height" and asked.files == ["sizes.csv"]
    store.corpora.import_again(draft.id, asked.given, asked.options.dump())
    assert not store.corpora.get(draft.id).is_draft
    work(store, "ingest")
    assert store.corpora.get(draft.id).examples == 9
    assert store.corpora.reading(draft.id).preview is not None, "what was decided stays to be seen"


def test_a_draft_cannot_be_used_before_its_import(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    draft = store.corpora.draft("Sizes", [sizes(tmp_path)])
    with pytest.raises(UserError, match=r"not imported yet\. Open it on the page Corpora"):
        store.corpora.ready(draft.id)


def test_only_the_newest_choice_is_looked_at(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    draft = store.corpora.draft("Sizes", [sizes(tmp_path)], base="starter")
    work(store, "preview")
    for column in ("width", "height", "width", "height"):
        store.corpora.preview(draft.id, {"text": column}, base="starter")
    waiting = store.queue.jobs(statuses=[JobStatus.QUEUED])
    assert [job.payload["roles"] for job in waiting] == [{"text": "height"}] * 2
    assert store.corpora.reading(draft.id).preview is not None, "the last result stays until there is a newer one"


def test_a_draft_is_deleted_with_its_files_and_looks(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    draft = store.corpora.draft("Sizes", [sizes(tmp_path)])
    work(store, "preview")
    store.corpora.preview(draft.id, {"text": "width"})
    store.corpora.delete(draft.id)
    assert store.corpora.all() == [] and store.queue.jobs() == []
    assert not (home.uploads / f"corpus-{draft.id}").exists()


def test_a_look_of_other_roles_is_forgotten_when_a_command_reads_the_files_again(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    draft = store.corpora.draft("Sizes", [sizes(tmp_path)])
    work(store, "preview")
    store.corpora.import_again(draft.id, {"text": "width"})
    assert store.corpora.reading(draft.id).preview is None
    assert store.corpora.reading(draft.id).roles.text == "width"


def test_a_file_that_is_no_table_leaves_a_draft_that_says_why(home: Home, tmp_path: Path) -> None:
    store = Store(home)
    (file := tmp_path / "empty.csv").write_bytes(b"")
    draft = store.corpora.draft("Empty", [file])
    assert "empty" in str(work(store, "preview"))
    draft = store.corpora.get(draft.id)
    assert draft.is_draft and draft.job is not None and draft.job.status == JobStatus.FAILED
