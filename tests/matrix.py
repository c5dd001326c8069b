"""The library's tests at both ends of the ranges it declares: `python -m tests.matrix --json FILE` (`make matrix`).

Each row is an environment of its own that sees the packages of this one, with other versions of PEFT and transformers
in front of them. ``lowest`` takes the first versions that ``hydralora/pyproject.toml`` allows, ``newest`` the last
ones that pip finds, ``here`` adds nothing: on a machine with a GPU, `HYDRA_TEST_DEVICE=cuda python -m tests.matrix
--rows here` runs the same tests there with the torch it has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
VARIED = ("transformers", "peft")
TOLD = ("torch", "transformers", "peft", "numpy", "safetensors")
VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps([version(name) for name in sys.argv[1:]]))"
)


def ranges() -> dict[str, str]:
    """The declared range of every package that is varied, such as ``transformers>=5.20,<6``."""
    declared = tomllib.loads((PROJECT / "hydralora" / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return {name: line for line in declared for name in VARIED if line.startswith(f"{name}>")}


def lowest(requirement: str) -> str:
    """``peft>=0.20,<0.22`` as ``peft==0.20.*``: the first version with its mends, as pip resolves it."""
    name, version = re.fullmatch(r"(\w+)>=([0-9.]+),.*", requirement).groups()  # type: ignore[union-attr]
    return f"{name}=={version}" if version.count(".") > 1 else f"{name}=={version}.0"


def wanted(row: str) -> list[str]:
    """What pip is asked to put in front for a row."""
    if row == "here":
        return []
    return [lowest(line) if row == "lowest" else line for line in ranges().values()]


def make_environment(folder: Path, packages: list[str]) -> Path:
    """The interpreter of an environment with ``packages``, over what is installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "over.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    if packages:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        subprocess.run([*pip, "--upgrade-strategy", "only-if-needed", *packages], check=True)
    return python


def run(row: str, folder: Path, chosen: list[str]) -> dict[str, Any]:
    """One row: the versions, and how many tests passed, failed and were skipped."""
    python = make_environment(folder, wanted(row))
    told = subprocess.run([str(python), "-c", VERSIONS, *TOLD], check=True, capture_output=True, text=True).stdout
    began = time.perf_counter()
    tests = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", *(chosen or ["tests/hydralora"])]
    done = subprocess.run(tests, cwd=PROJECT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return {
        "row": row,
        "versions": dict(zip(TOLD, json.loads(told), strict=True)),
        "device": os.environ.get("HYDRA_TEST_DEVICE", "cpu"),
        **counts,
        "failures": failed,
        "seconds": round(time.perf_counter() - began),
    }


def main() -> int:
    """Run the rows and print one line of JSON for each; 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", default=["lowest", "newest"], choices=["lowest", "newest", "here"])
    parser.add_argument("--json", type=Path, default=None, help="also write all rows there")
    parser.add_argument("tests", nargs="*", help="tests to run; those of the library where none is named")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in options.rows:
            rows.append(run(row, Path(folder) / row, options.tests))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        about = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", "utf-8")
    return int(any(row.get("failed") or row.get("error") or not row.get("passed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
