"""Fetch PEFT's tests and run them: `python -m tests.peft_suite [--source FOLDER] [--json FILE] [-- PYTEST OPTIONS]`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from tests.peft_suite.cases import listed_line, table_row
from tests.peft_suite.plugin import LISTS, PACKAGE

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build" / "peft-suite"


def fetch(build: Path) -> Path:
    """The unpacked source distribution of the PEFT that is installed."""
    name = f"peft-{version('peft')}"
    if not (build / name / "tests").is_dir():
        build.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        wanted = ["--no-binary", "peft", f"peft=={version('peft')}", "--dest", str(build)]
        subprocess.run([*command, *wanted], check=True)
        with tarfile.open(build / f"{name}.tar.gz") as archive:
            archive.extractall(build, filter="data")
    return build / name


def prepare(source: Path, build: Path) -> Path:
    """The tests as a package of another name than our own."""
    if not (source / "tests" / "testing_common.py").is_file():
        raise SystemExit(f"There are no tests of PEFT in {source}. Give the folder of a checkout of it by --source.")
    package = build / PACKAGE
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(source / "tests", package)
    (package / "conftest.py").unlink(missing_ok=True)
    (package / "__init__.py").touch()
    return package


def run(package: Path, report: Path, options: list[str]) -> int:
    """Run the tests in a process of their own; its exit status."""
    folder = package.parent
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    files = [str(package / f"{name}.py") for name in LISTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.peft_suite.plugin", "-p", "no:cacheprovider"]
    settings = ["-c", str(folder / "pytest.ini"), "--rootdir", str(folder), "--tb=short", *options]
    paths = os.pathsep.join((str(PROJECT), str(folder)))
    hidden = {"PYTHONPATH": paths, "PEFT_SUITE_REPORT": str(report), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *settings, *files], env={**os.environ, **hidden}, cwd=folder).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="folder of a checkout of PEFT; without it pip downloads the source")
    parser.add_argument("--json", type=Path, default=BUILD / "report.json", help="where the counts go")
    arguments, options = parser.parse_known_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    report = arguments.json.resolve()
    status = run(prepare(arguments.source or fetch(BUILD), BUILD), report, [o for o in options if o != "--"])
    found = json.loads(report.read_text("utf-8"))
    print(*(table_row(row, counts) for row, counts in found["counts"].items()), sep="\n")
    print(*(listed_line(why, number) for why, number in found["listed"].items()), sep="\n")
    if found["failed"]:
        print(*found["failed"][:50], sep="\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
