"""Which layers of a base can have heads, and why others cannot."""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from hydralora.errors import AdapterError

ROUTERS = ("gate", "router", "shared_expert_gate")  # what a mixture's own routers are called


def is_base_router(model: nn.Module, name: str) -> bool:
    """Whether the layer called ``name`` is, or is part of, a router between the base's own experts.

    It is called as routers are, and there are experts beside it; adapting it would change which of them a token meets.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part in ROUTERS:
            block = model.get_submodule(".".join(parts[:place]))
            if any("expert" in child and child not in ROUTERS for child, _ in block.named_children()):
                return True
    return False


def check_target(model: nn.Module, name: str, base: nn.Module, parent: nn.Module) -> None:
    """Refuse a layer that cannot be adapted.

    Raises:
        AdapterError: Naming the layer and why.
    """
    if is_base_router(model, name):
        raise AdapterError(
            f"Layer '{name}' is a router between the base's own experts, which an adapter leaves as it is. "
            "Name other target modules."
        )
    if isinstance(parent, nn.MultiheadAttention):
        raise AdapterError(
            f"Layer '{name}' is never called: its attention reads the weight alone, so an adapter in it would do "
            "nothing. Name other target modules."
        )
    if isinstance(base, (nn.Linear, Conv1D)):
        return
    if "expert" in name.rpartition(".")[2] and any(weight.dim() == 3 for weight in base.parameters(recurse=False)):
        raise AdapterError(
            f"Layer '{name}' is a {type(base).__name__}: experts stacked into one parameter, not linear layers. Name "
            "its parameters in `target_parameters`, or linear target modules."
        )
    raise AdapterError(
        f"Layer '{name}' is a {type(base).__name__}; only linear layers can be adapted. Name other target modules."
    )
