"""Hydra Studio's adapter library: HydraLoRA and its siblings as PEFT methods.

``import hydralora`` makes PEFT know the methods, whichever of the two is imported first, and
loads no torch by itself: the heavy names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydralora.register import register_when_peft_loads

_WHERE = {
    "HydraLoraConfig": "hydralora.hydra_config",
    "HydraLoraModel": "hydralora.tuner",
    "HydraLoraLinear": "hydralora.layer",
    "METHODS": "hydralora.methods",
    "add_adapter": "hydralora.adapt",
    "count_parameters": "hydralora.adapt",
    "find_targets": "hydralora.adapt",
    "GateCapture": "hydralora.gates",
    "override_experts": "hydralora.gates",
    "train_adapter": "hydralora.train",
    "ChatModel": "hydralora.generate",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hydralora' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


register_when_peft_loads()
