"""Import Gradio without the stubs it writes for type checkers.

For every component class Gradio parses the class' own source and writes a ``.pyi`` file beside it, at each
import: two of five seconds until the first page, and files in a source tree that nobody asked for. It asks
``inspect.getfile`` where the source is and gives up on an ``OSError``
(gradio 6.31, ``component_meta.create_or_modify_pyi``), so that is what it gets while it is imported.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

_getfile = inspect.getfile


def _no_stubs(thing: Any) -> str:
    if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
        raise OSError("no stub is wanted")
    return _getfile(thing)


inspect.getfile = _no_stubs  # type: ignore[assignment]
