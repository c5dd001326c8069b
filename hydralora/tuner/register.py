"""Make PEFT know our method, without importing PEFT (and torch) where nobody else does.

PEFT has no discovery of outside methods: its ``PeftType`` enum must gain a member and
``register_peft_method`` must be called before a saved adapter is loaded. Where PEFT is loaded
already that happens at once; otherwise a finder waits for ``import peft`` and registers right
after PEFT's own code has run.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "hydralora"
# What registering needs. Whichever of these is imported first asks for PEFT while half loaded itself.
NEEDED = {
    "hydralora.tuner.config": "HydraLoraConfig",
    "hydralora.tuner.layer": "HydraLoraLinear",
    "hydralora.tuner.model": "HydraLoraModel",
    "hydralora.tuner.merging": "Merges",
    "hydralora.tuner.mixed": "add_updates",
    "hydralora.tuner.routed": "RoutedLayer",
    "hydralora.tuner.experts": "HydraLoraExperts",
}


def register() -> None:
    """Add ``HYDRALORA`` to ``PeftType`` and register configuration and tuner; idempotent.

    Raises:
        RuntimeError: When this version of PEFT ships a method of the same name.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import register_peft_method
    from peft.utils.peft_types import PeftType

    from hydralora.tuner.config import HydraLoraConfig
    from hydralora.tuner.model import HydraLoraModel

    known = PeftType.__members__.get(NAME.upper())
    if known is not None and known in PEFT_TYPE_TO_CONFIG_MAPPING:
        if PEFT_TYPE_TO_CONFIG_MAPPING[known] is HydraLoraConfig:
            return
        raise RuntimeError(
            "This version of PEFT has a method named 'hydralora' of its own. "
            "Use peft>=0.21.2,<0.22, with which this library was tested."
        )
    _extend_enum(PeftType, NAME.upper())
    register_peft_method(name=NAME, config_cls=HydraLoraConfig, model_cls=HydraLoraModel, prefix=f"{NAME}_")


def _extend_enum(enum: Any, name: str) -> None:
    """A new member of a string enum: its private maps, and the class attribute (Python >= 3.12)."""
    if name in enum.__members__:
        return
    member = str.__new__(enum, name)
    member._name_ = member._value_ = name
    member.__objclass__ = enum
    member._sort_order_ = len(enum._member_names_)
    enum._member_names_.append(name)
    enum._member_map_[name] = member
    enum._value2member_map_[name] = member
    type.__setattr__(enum, name, member)


class _AfterPeft(MetaPathFinder, Loader):
    """Loads ``peft`` with its own loader, then registers."""

    def __init__(self) -> None:
        self.inner: Any = None
        self.looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        # Others ask for the spec without loading (is PEFT installed?), so this may be asked often.
        if name != "peft" or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec("peft")
        finally:
            self.looking = False
        if spec is None or spec.loader is None:
            return None
        self.inner, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        sys.meta_path.remove(self)
        register_when_ready()


def register_when_ready() -> None:
    """Register unless one of ``NEEDED`` is half loaded; each of them calls this as its last line."""
    loaded = {name: sys.modules[name] for name in NEEDED if name in sys.modules}
    if "peft" in sys.modules and all(hasattr(module, NEEDED[name]) for name, module in loaded.items()):
        register()


def register_when_peft_loads() -> None:
    """Register now when PEFT is loaded, else as soon as it is."""
    if "peft" in sys.modules:
        register_when_ready()
    elif not any(isinstance(finder, _AfterPeft) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPeft())
