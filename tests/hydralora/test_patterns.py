"""No pattern takes time by the square of a text: what a visitor uploads would stop the studio otherwise."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hydralora.corpus
from hydralora.corpus.contents import _begins_page, looks_like
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Row
from hydralora.corpus.shapes.wrapped import FAMILIES
from hydralora.corpus.text_file import TextFile
from hydralora.corpus.text_layout import guess_layout
from hydralora.corpus.text_rows import open_markdown

LENGTH = 30_000
PASSES = 40  # over each letter of a text, in Python: far more than any one look, far less than their square
USED = re.compile(r"\b([A-Z_]{3,})\.(match|fullmatch|search|findall|finditer|sub|split)\b")
PREFIXES = (
    " ",
    "\t",
    "\n",
    "# ",
    "#",
    "-",
    "\\",
    "a",
    "0",
    "a.",
    "[ ",
    "<!---->",
    "<|",
    "=' ",
    't="s" ',
    "<c ",
    "<!-- ",
)
BEGINNINGS = (
    "",
    "# x",
    "# ",
    "[",
    "<meta charset=",
    "?xml encoding=",
    "<html ",
    '<c r="A1" t="s">',
    "sep=",
    "Q ",
    "<c t=",
)


def patterns() -> dict[str, tuple[re.Pattern[Any], set[str]]]:
    """Every pattern that the readers keep, and the ways in which it is looked for."""
    found = {f"the marks of {family.name}": (family.marks, {"search"}) for family in FAMILIES}
    for module in pkgutil.walk_packages(hydralora.corpus.__path__, "hydralora.corpus."):
        if ".clusters" in module.name:
            continue  # no readers, and slow to import
        loaded = importlib.import_module(module.name)
        used = USED.findall(Path(str(loaded.__file__)).read_text("utf-8"))
        for name, value in vars(loaded).items():
            if isinstance(value, re.Pattern):
                found[f"{module.name}.{name}"] = (
                    value,
                    {way if "match" in way else "search" for each, way in used if each == name},
                )
    return found


def spent(call: Callable[[], object]) -> float:
    """Seconds of the processor."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


@pytest.fixture(scope="module")
def bound() -> float:
    text = " " * LENGTH
    return PASSES * max(spent(lambda: [letter.find("x") for letter in text]) for _ in range(3))


def test_no_pattern_takes_time_by_the_square_of_a_text(bound: float) -> None:
    begun = [*(("", prefix) for prefix in PREFIXES), *((begin, " ") for begin in BEGINNINGS)]
    texts = [begin + prefix * (LENGTH // len(prefix)) + "\x00" for begin, prefix in begun]
    slow = []
    for name, (pattern, ways) in patterns().items():
        for text in texts:
            given = text if isinstance(pattern.pattern, str) else text.encode()
            calls = [getattr(pattern, way) for way in ways]
            if any(spent(lambda: call(given)) > bound for call in calls):  # noqa: B023 - called at once
                slow.append((name, text[:20]))
                break
    assert slow == []


@pytest.mark.parametrize(
    ("text", "is_page"),
    [
        ("<!---->" * 9_000, False),
        ("<!---->" * 9_000 + "<html>", True),
        (" <?xml version='1.0'?>\n<!-- a --> <!-- <html> -->\n<!DOCTYPE  html>", True),
        ("<!-- <html>", False),
        ("<!-- a --> words <html>", False),
        ("<htmlish>", False),
    ],
)
def test_comments_before_a_page_are_passed_over(text: str, is_page: bool, bound: float) -> None:
    assert spent(lambda: _begins_page(text)) < bound
    assert _begins_page(text) is is_page


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# One ##\n", "One"),
        ("#  In C#\n", "In C#"),
        ("# " + " " * LENGTH + "x", "x"),
        ("# x" + " " * LENGTH + "y", "x" + " " * 199),
        ("# x" + "# " * (LENGTH // 2) + "x", ("x" + "# " * 100)[:200]),
        ("#\tOne  \n", "One"),
    ],
)
def test_a_heading_is_read_in_one_pass(line: str, heading: str, tmp_path: Path, bound: float) -> None:
    (tmp_path / "a.md").write_text(f"{line.rstrip(chr(10))}\ntext below\n", "utf-8")
    found: list[Row] = []

    def read() -> None:
        table = open_markdown(TextFile(Source(tmp_path / "a.md", "a.md")))
        found.extend(row for row in table.rows if isinstance(row, Row))

    assert spent(read) < bound
    assert found[-1].values["heading"] == heading


def test_a_line_of_spaces_before_a_speaker_is_passed_over_once(bound: float) -> None:
    lines = [f"{' ' * LENGTH}{word}: words" for word in ("Q", "A", "Q", "A", "x")]
    assert guess_layout(lines).speakers == ("q", "a")
    assert spent(lambda: guess_layout([" " * LENGTH + "-" for _ in range(5)])) < bound


def test_a_text_of_comments_is_no_web_page(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("<!---->" * 9_000, "utf-8")
    assert looks_like(TextFile(Source(tmp_path / "a", "a")), "")[0] == ""
