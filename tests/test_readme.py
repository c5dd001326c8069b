"""What README and docs say is so: the example runs, the commands exist, the links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studio.cli.main import app

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text("utf-8")
REAL = Path(os.environ.get("HYDRA_TEST_MODELS", "models")).absolute() / "stories260K"
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/**/*.md")])


def example() -> str:
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("base", ["data/starter", str(REAL)], ids=["starter", "stories260K"])
def test_the_example_of_the_readme_runs_as_it_stands(tmp_path: Path, base: str) -> None:
    if not Path(base).is_absolute():
        base = str(PROJECT / base)
    elif not REAL.exists():
        pytest.skip("stories260K is not on this machine")
    code = example().replace('"data/starter"', repr(base)).replace("build/", f"{tmp_path}/")
    assert len(example().strip().splitlines()) < 40
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "router=" in done.stdout and "torch.Size([" in done.stdout


@pytest.mark.parametrize("line", re.findall(r"^python -m studio (.+?)(?:  +#.*)?$", README, re.MULTILINE))
def test_every_command_of_the_readme_exists_with_its_options(line: str) -> None:
    words = line.split()
    path = words[: 2 if words[0] in ("corpora", "runs") else 1]
    said = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    assert "Usage" in said
    assert all(word in said for word in words if word.startswith("--"))


@pytest.mark.parametrize("group", ["corpora", "runs"])
def test_the_readme_names_every_subcommand(group: str) -> None:
    said = CliRunner().invoke(app, [group, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    named = re.search(rf"`{group}` has `([a-z ]+)`", README)
    assert named
    assert set(named[1].split()) == set(re.findall(r"^│ (\w+) ", said, re.MULTILINE))


def test_the_help_of_corpora_names_every_subcommand() -> None:
    said = CliRunner().invoke(app, ["corpora", "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"}).stdout
    named = re.search(r"Corpora: ([a-z, ]+)\.", said)
    assert named and set(named[1].split(", ")) == set(re.findall(r"^│ (\w+) ", said, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_and_picture_of_a_page_is_there(page: Path) -> None:
    for linked, drawn in re.findall(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)", page.read_text("utf-8")):
        target = linked or drawn
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_kept_picture_is_shown_on_some_page() -> None:
    shown = "".join(page.read_text("utf-8") for page in PAGES)
    kept = [picture.name for picture in (PROJECT / "docs" / "screenshots").iterdir()]
    assert kept and [name for name in kept if f"screenshots/{name}" not in shown] == []


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"`make (\w+)|^make (\w+)", README, re.MULTILINE))
    for target in {first or second for first, second in targets}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
