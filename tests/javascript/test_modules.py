"""The unit tests of the scripts, written for node's own runner, as part of the tests of everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.javascript.node import PROJECT, STATIC, node

FOLDER = Path(__file__).parent
MODULES = sorted(STATIC.rglob("*.js"))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.test.js")), ids=lambda file: file.name)
def test_the_scripts_keep_their_promises(file: Path) -> None:
    done = node("--test", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\S+ tests [1-9]", done.stdout, re.MULTILINE), "the file holds no test"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(STATIC)))
def test_a_module_puts_nothing_into_the_window(file: Path) -> None:
    assert not re.search(r"\b(?:window|globalThis)\.\w+\s*=[^=]", file.read_text("utf-8"))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(STATIC)))
def test_a_module_imports_modules_that_are_served(file: Path) -> None:
    for address in re.findall(r"""(?:from|import)\s+["']([^"']+)["']""", file.read_text("utf-8")):
        assert address.startswith("."), address
        assert (file.parent / address).resolve() in MODULES, address


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (PROJECT / "package-lock.json").read_text("utf-8")
