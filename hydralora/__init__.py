"""Hydra Studio's adapter library: HydraLoRA and its siblings as PEFT methods.

``import hydralora`` makes PEFT know the methods, whichever of the two is imported first, and
loads no torch by itself: the heavy names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydralora.tuner.register import register_when_peft_loads

__version__ = "0.1.0"

_WHERE = {
    "HydraLoraConfig": "hydralora.tuner.config",
    "HydraLoraModel": "hydralora.tuner.model",
    "HydraLoraLinear": "hydralora.tuner.layer",
    "METHODS": "hydralora.methods",
    "add_adapter": "hydralora.adapters.build",
    "count_parameters": "hydralora.adapters.build",
    "find_targets": "hydralora.adapters.build",
    "GateCapture": "hydralora.tuner.gates",
    "override_experts": "hydralora.tuner.gates",
    "choose_heads": "hydralora.tuner.gates",
    "swap_adapter": "hydralora.tuner.swap",
    "scale_adapters": "hydralora.tuner.swap",
    "lora_fa_optimizer": "hydralora.tuner.swap",
    "train_adapter": "hydralora.training.train",
    "ChatModel": "hydralora.generate",
}

__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hydralora' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


register_when_peft_loads()
