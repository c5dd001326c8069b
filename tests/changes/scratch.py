"""A scratch copy of the sources to make a change in, as a contributor would who follows the table of CONTRIBUTING."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
COPIED = ("hydralora", "jobs", "studio", "tests", "docs", "app.py", "CONTRIBUTING.md")
ROW = re.compile(r"^\| (?P<task>[^|]+) \| (?P<places>[^|]+) \|$", re.MULTILINE)
MOST_PLACES = 5


class Scratch:
    """The copy; every file that is touched is remembered as a place."""

    def __init__(self, root: Path) -> None:
        self.root, self.places = root, list[str]()
        ignored = shutil.ignore_patterns("__pycache__", "screenshots", "homes", "*.egg-info")
        for name in COPIED:
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, root / name, **({"ignore": ignored} if source.is_dir() else {}))
        (root / "data").symlink_to(PROJECT / "data")

    def write(self, path: str, text: str) -> None:
        """A new file."""
        assert not (self.root / path).exists(), path
        (self.root / path).write_text(text, "utf-8")
        self._touched(path)

    def put(self, path: str, after: str, text: str) -> None:
        """Put ``text`` behind the one place in a file that says ``after``."""
        before = (self.root / path).read_text("utf-8")
        assert before.count(after) == 1, f"{path} says {after!r} {before.count(after)} times"
        (self.root / path).write_text(before.replace(after, after + text), "utf-8")
        self._touched(path)

    def _touched(self, path: str) -> None:
        if path not in self.places:
            self.places.append(path)

    def run(self, code: str) -> str:
        """What a script prints that imports the changed copy.

        Raises:
            AssertionError: When it fails, with what it said.
        """
        environment = {**os.environ, "PYTHONPATH": str(self.root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-4_000:]
        return done.stdout


def table() -> dict[str, list[str]]:
    """The tasks that CONTRIBUTING names, each with the files of its row; NAME stands for a name of one's own."""
    text = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
    rows = {row["task"].strip(): re.findall(r"`([\w./-]+\.\w+)`", row["places"]) for row in ROW.finditer(text)}
    return {task: list(dict.fromkeys(places)) for task, places in rows.items() if places}


def follows(task: str, scratch: Scratch) -> bool:
    """Whether every file that was touched is one that the row of a task names."""
    patterns = [re.compile(re.escape(place).replace("NAME", r"\w+")) for place in table()[task]]
    return all(any(pattern.fullmatch(place) for pattern in patterns) for place in scratch.places)
