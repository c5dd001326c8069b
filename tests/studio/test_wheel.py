"""The wheels: built from the sources, installed away from them, and started there."""

from __future__ import annotations

import json
import re
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.javascript.node import STATIC
from tests.studio.commands import ENVIRONMENT, PROJECT

SOURCES = (
    "hydralora",
    "jobs",
    "studio",
    "data",
    "pyproject.toml",
    "README.md",
    "requirements.txt",
    "requirements-library.txt",
)


SCRIPTS = [f"/ui/static/{path.relative_to(STATIC)}" for path in sorted(STATIC.rglob("*.*"))]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels by name, built from a copy of what is in the repository."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        source = PROJECT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy / name)
    for folder in (copy / "hydralora", copy):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out)]
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheels, and sees the packages that they need."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    (packages / "needed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def started(python: Path, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The installed studio over an empty folder: its address, and what opens it."""
    script = "import sys; from studio.cli.serve import start; sys.exit(start())"  # what `hydra-studio` runs
    line = [str(python), "-c", script, "--port", "0", "--no-worker", "--home", str(tmp_path / "home")]
    process = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"(http://\S+:\d+)/\?token=(\S+)", process.stdout.readline())
    assert found
    yield found[1], {"Authorization": f"Bearer {found[2]}"}
    process.kill()
    process.wait()


def run(python: Path, folder: Path, code: str) -> str:
    done = subprocess.run([str(python), "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_studio_serves_every_page_and_its_scripts(started: tuple[str, dict[str, str]]) -> None:
    address, headers = started
    paths = ("/", "/corpora", "/chat", *SCRIPTS, "/ui/sign-in")
    found = {path: httpx.get(address + path, headers=headers, timeout=60).status_code for path in paths}
    assert found == {**dict.fromkeys(paths, 200), "/ui/sign-in": 303}


def test_the_installed_studio_brings_starter_and_samples(python: Path, tmp_path: Path) -> None:
    code = (
        "import json, hydralora.files as f\nfrom hydralora.bases.folder import find_base\n"
        "from hydralora import samples\n"
        "print(json.dumps([find_base('starter'), str(samples.CORPORA), f.__file__]))"
    )
    starter, corpora, module = json.loads(run(python, tmp_path, code))
    assert str(PROJECT) not in starter + corpora + module
    assert (Path(corpora) / "four-trades" / "four-trades.jsonl").exists()


def test_the_installed_commands_work(python: Path, tmp_path: Path) -> None:
    line = [str(python), "-m", "studio", "--home", str(tmp_path / "home"), "corpora", "list", "--json"]
    done = subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr


def test_the_library_comes_without_the_studio(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["hydralora"]) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hydralora"}
    assert not re.search(r"(?im)^Requires-Dist: (gradio|sqlalchemy|alembic|fastapi|plotly)", metadata)


def test_the_studio_needs_the_library(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["hydra_studio"]) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"jobs", "studio", "hydra_studio"}
    assert re.search(r"(?m)^Requires-Dist: hydralora", metadata)


def test_the_library_says_its_version(wheels: dict[str, Path], python: Path, tmp_path: Path) -> None:
    assert run(python, tmp_path, "import hydralora; print(hydralora.__version__)").strip() in wheels["hydralora"].name
