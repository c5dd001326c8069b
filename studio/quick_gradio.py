"""Gradio is imported without what the studio never uses of it.

- For every component class Gradio parses the class' own source and writes a ``.pyi`` file beside it, at each import:
  two of five seconds until the first page, and files in a source tree that nobody asked for. It asks
  ``inspect.getfile`` where the source is and gives up on an ``OSError`` (gradio 6.31,
  ``component_meta.create_or_modify_pyi``), which is what it gets.
- It imports pandas for its tables and its cache of functions: 35 MB. Here it is loaded when something of it is used.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PANDAS = "pandas"
_getfile = inspect.getfile


def _no_stubs(thing: Any) -> str:
    if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
        raise OSError("no stub is wanted")
    return _getfile(thing)


class _Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # who imports asks for these
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _WithoutPandas(Loader):
    """Runs Gradio's own code with a pandas that is loaded later; others who look whether it is there find none."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def exec_module(self, module: ModuleType) -> None:
        """Run it as its own loader does, which stands in its place afterwards."""
        module.__loader__ = self.own
        if module.__spec__ is not None:
            module.__spec__.loader = self.own
        later = sys.modules.setdefault(PANDAS, _Later(PANDAS))
        try:
            self.own.exec_module(module)
        finally:
            if isinstance(later, _Later) and sys.modules.get(PANDAS) is later:
                del sys.modules[PANDAS]


class _Finder(MetaPathFinder):
    """Finds Gradio, once."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Where Gradio is."""
        if name != "gradio":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithoutPandas(spec.loader)
        return spec


inspect.getfile = _no_stubs  # type: ignore[assignment]
sys.meta_path.insert(0, _Finder())
