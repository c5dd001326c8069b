"""A data set of the hub becomes a draft, and then a corpus: by a job, by the page, and by a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from huggingface_hub import constants

from hydralora.errors import StoppedError, UserError
from hydralora.results import Preview
from jobs.home import Home
from jobs.runner.child import Job, find_task
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.pages.corpora.page import CorporaPage
from tests.hydralora.little_hub import little_hub
from tests.hydralora.test_hub import FILES
from tests.jobs.conftest import end_home
from tests.jobs.test_reading_again import work
from tests.studio.commands import Commands


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub on this machine, in the place of the usual one."""
    with little_hub(FILES) as address:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HUGGINGFACE_CO_URL_TEMPLATE", "ENDPOINT"):  # read when the package was imported
            monkeypatch.setattr(constants, name, getattr(constants, name).replace(constants.ENDPOINT, address))
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield address


def fetch(store: Store) -> object:
    """Do the download that waits, in this process."""
    return work(store, "fetch", "network")


def test_a_data_set_is_a_draft_with_its_preview_until_it_is_imported(hub: str, store: Store) -> None:
    corpus = store.corpora.draft_of_hub("somebody/faq/main")
    found = fetch(store)
    assert isinstance(found, Preview) and found.tables[0].examples == 6 and not found.base_problem
    assert store.corpora.get(corpus.id).is_draft and store.corpora.reading(corpus.id).preview == found
    store.corpora.import_again(corpus.id)
    work(store, "ingest")
    assert store.corpora.get(corpus.id).examples == 12 and corpus.name == "faq-main"


def test_files_that_were_fetched_are_read_without_the_hubs_token(
    hub: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, "hf_secret")
    store.corpora.draft_of_hub("somebody/faq/main")
    assert isinstance(fetch(store), Preview)
    assert "hf_secret" not in os.environ.values()


def test_its_columns_can_be_chosen_otherwise_without_fetching_it_again(hub: str, store: Store) -> None:
    corpus = store.corpora.draft_of_hub("somebody/faq/main")
    fetch(store)
    store.corpora.preview(corpus.id, {"text": "answer"})
    work(store, "preview")
    assert store.corpora.reading(corpus.id).preview.roles.text == "answer"  # type: ignore[union-attr]


def test_nothing_is_read_while_files_are_fetched(store: Store) -> None:
    corpus = store.corpora.draft_of_hub("somebody/faq")
    with pytest.raises(UserError, match="still being fetched"):
        store.corpora.import_again(corpus.id)


def test_a_data_set_that_is_not_there_is_told_and_can_be_deleted(hub: str, store: Store, home: Home) -> None:
    corpus = store.corpora.draft_of_hub("somebody/else")
    assert "no data set somebody/else" in str(fetch(store))
    job = store.corpora.get(corpus.id).job
    assert job is not None and job.status == JobStatus.FAILED and job.error_kind == "user"
    store.corpora.delete(corpus.id)
    assert not store.corpora.all() and not list(home.uploads.iterdir())


def test_a_download_of_a_corpus_that_is_deleted_meanwhile_leaves_nothing(hub: str, store: Store, home: Home) -> None:
    corpus = store.corpora.draft_of_hub("somebody/faq")
    job = store.attempts.claim("w", "here", "network")
    assert job is not None
    store.corpora.delete(corpus.id)
    (folder := home.job(job.id, 1)).mkdir(parents=True)
    running = Job(folder, {"kind": "fetch", "payload": job.payload, "home": str(home.root)})
    running.request_stop()
    with pytest.raises(StoppedError):
        find_task("fetch")(running)
    assert not list(home.uploads.iterdir())


def test_a_studio_that_fetches_nothing_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "0")
    with pytest.raises(UserError, match="fetches nothing from the hub"):
        store.corpora.draft_of_hub("somebody/faq")
    with gr.Blocks() as blocks:
        assert not CorporaPage(blocks, store).dataset.visible


def test_the_page_takes_files_or_a_data_set_and_not_both(store: Store, tmp_path: Path) -> None:
    with gr.Blocks() as blocks:
        page = CorporaPage(blocks, store)
    opened = page.add_files(None, "", " somebody/faq ")[page.opened]
    assert store.corpora.get(int(opened)).name == "faq"
    with pytest.raises(UserError, match="Take one of them"):
        page.add_files([str(tmp_path / "a.csv")], "", "somebody/faq")


@pytest.mark.long
def test_a_command_fetches_and_imports_it(hub: str, home: Home) -> None:
    run = Commands(home.root)
    try:
        added = run.json("corpora", "add", "hub:somebody/faq/main", "--text", "answer")
    finally:
        end_home(home)
    assert added["examples"] == 12 and added["roles"]["text"] == "answer" and added["name"] == "faq-main"
