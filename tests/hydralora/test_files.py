"""What is written aside appears whole or not at all; progress is handed on to the parts of a work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hydralora.errors import StoppedError
from hydralora.files import write_json, written_aside
from hydralora.progress import SILENT, Progress


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), written_aside(tmp_path / "kept.txt") as aside:
        aside.write_text("half of the new")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"kept.txt": "old"}


def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), written_aside(tmp_path / "kept") as aside:
        aside.mkdir()
        (aside / "a").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept" / "a").read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").write_text("old")
    with written_aside(tmp_path / "kept") as aside:
        (aside / "inner").mkdir(parents=True)
        (aside / "inner" / "new").write_text("new")
        assert (tmp_path / "kept" / "old").exists()  # a reader still sees the old one
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert [path.name for path in (tmp_path / "kept").rglob("*")] == ["inner", "new"]


def test_what_a_killed_process_has_left_aside_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.json.part").mkdir()
    (tmp_path / "a.json.part" / "half").write_text("half")
    write_json(tmp_path / "a.json", {"whole": True})
    assert json.loads((tmp_path / "a.json").read_text()) == {"whole": True} and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_for_its_owner_only_never_was_anybody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_json(tmp_path / "secret.json", {}, mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "secret.json").stat().st_mode & 0o777 == 0o600


def test_the_shares_of_a_part_lie_within_the_whole() -> None:
    said: list[tuple[float, str]] = []
    part = Progress(lambda share, text: said.append((share, text))).part(0.5, 0.75, "Tuned: ")
    part.report(0.0, "begun")
    part.part(0.0, 0.5).report(1.0, "half")
    assert said == [(0.5, "Tuned: begun"), (0.625, "Tuned: half")]


def test_a_stop_that_was_asked_for_ends_the_part_too() -> None:
    asked = Progress(should_stop=lambda: True)
    with pytest.raises(StoppedError, match="The export was stopped; nothing was kept"):
        asked.part(0.0, 1.0).step(0.5, "half", "The export")
    SILENT.step(0.5, "half")
