"""Data sets of a hub: which files are fetched, and what is said where none can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from hydralora import limits
from hydralora.corpus.hub import HubDataset
from hydralora.corpus.hub_files import fetch_dataset
from hydralora.corpus.imports import import_corpus
from hydralora.errors import CorpusError, StoppedError
from hydralora.progress import Progress
from tests.hydralora.little_hub import little_hub

ROWS = "".join(json.dumps({"prompt": f"Question {i}?", "answer": f"Answer {i}."}) + "\n" for i in range(6)).encode()
FILES = {
    "README.md": b"# FAQ",
    "main/train.jsonl": ROWS,
    "main/test.jsonl": ROWS.replace(b"Question", b"Request"),
    "other/train.csv": b"prompt,answer\na,b\nc,d\n",
    "make.py": b"raise SystemExit('never run')",
    ".gitattributes": b"",
    "main/model.pkl": b"never fetched",
}


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests ask no hub elsewhere; the one here may be asked."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def fetched(tmp_path: Path, text: str, files: dict[str, bytes] = FILES, **more: object) -> list[str]:
    with little_hub(files, **more) as address:  # type: ignore[arg-type]
        return fetch_dataset(HubDataset.of(text), tmp_path / "there", endpoint=address)


def test_the_files_of_rows_and_no_others_are_fetched(tmp_path: Path) -> None:
    assert fetched(tmp_path, "somebody/faq") == ["main/train.jsonl", "main/test.jsonl", "other/train.csv"]
    files = [path.relative_to(tmp_path / "there").as_posix() for path in (tmp_path / "there").rglob("*")]
    assert sorted(files) == ["main", "main/test.jsonl", "main/train.jsonl", "other", "other/train.csv"]


def test_one_folder_of_a_data_set_becomes_a_corpus(tmp_path: Path) -> None:
    fetched(tmp_path, "hub:somebody/faq/main")
    assert import_corpus([tmp_path / "there"], tmp_path / "corpus").examples == 12


@pytest.mark.parametrize(
    ("text", "repository", "folder"),
    [
        ("openai/gsm8k", "openai/gsm8k", ""),
        ("hub:openai/gsm8k/", "openai/gsm8k", ""),
        (" a/b/c/d ", "a/b", "c/d"),
    ],
)
def test_a_name_is_read_with_and_without_its_folder(text: str, repository: str, folder: str) -> None:
    assert HubDataset.of(text) == HubDataset(repository, folder)


@pytest.mark.parametrize(
    "text", ["", "gsm8k", "a/../b", "a/b/../../c", "https://x/a/b", "a/b\nc", "a/b/\x00", "/etc/passwd"]
)
def test_what_is_no_name_of_a_data_set_is_refused(text: str) -> None:
    with pytest.raises(CorpusError, match="is no data set of the hub"):
        HubDataset.of(text)


@pytest.mark.parametrize(
    ("text", "files", "more", "sentence"),
    [
        ("somebody/else", FILES, {}, "no data set somebody/else, or it is private"),
        ("some--body/faq", FILES, {}, "no data set some--body/faq"),
        ("somebody/faq", FILES, {"gated": True}, "only to those who agreed to its terms"),
        ("somebody/faq/none", FILES, {}, "no folder 'none'. It has: main, other"),
        ("somebody/faq", {"faq.py": b"", "README.md": b""}, {}, "programs of others never run here"),
        ("somebody/faq", {"../../out.jsonl": ROWS, "/a.jsonl": ROWS}, {}, "holds no files of rows"),
        ("somebody/faq", FILES, {"sizes": {"main/train.jsonl": limits.MAX_BYTES + 1}}, "of one file are read"),
        ("somebody/faq", FILES, {"sizes": {f: limits.MAX_BYTES for f in FILES} | {"x": 0}}, "there is room for"),
    ],
)
def test_what_cannot_be_fetched_is_told_and_leaves_nothing(
    text: str,
    files: dict[str, bytes],
    more: dict[str, object],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_ARCHIVE_BYTES", 2 * limits.MAX_BYTES)
    with pytest.raises(CorpusError, match=sentence):
        fetched(tmp_path, text, files, **more)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"The hub could not be reached for somebody/faq.*upload them"):
        fetch_dataset(HubDataset.of("somebody/faq"), tmp_path / "there", endpoint="http://127.0.0.1:9")


def test_a_download_that_is_stopped_keeps_nothing(tmp_path: Path) -> None:
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 2  # after the first file

    with little_hub(FILES) as address, pytest.raises(StoppedError):
        stopping = Progress(should_stop=should_stop)
        fetch_dataset(HubDataset.of("somebody/faq"), tmp_path / "there", endpoint=address, progress=stopping)
    assert not list(tmp_path.iterdir())
