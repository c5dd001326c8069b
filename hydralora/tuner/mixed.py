"""A batch whose examples have adapters of their own: PEFT's ``adapter_names``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from hydralora.errors import AdapterError
from hydralora.tuner.passes import watch
from hydralora.tuner.register import register_when_ready

if TYPE_CHECKING:
    from hydralora.tuner.layer import HydraLoraLinear

BASE = "__base__"  # PEFT's name for no adapter


@contextmanager
def mixed_batch(model: nn.Module, known: set[str], names: list[str], beams: int = 1) -> Iterator[None]:
    """Inside, example b of every batch is answered by the adapter ``names[b]``.

    Args:
        model: What the adapters are in.
        known: The adapters there are.
        names: One for each example; ``__base__`` is none of them.
        beams: How many rows each example has in beam search.

    Raises:
        AdapterError: While training, for an adapter that is not there, or one that needs to see the whole batch.
    """
    if model.training:
        raise AdapterError("`adapter_names` is for answering only, and the model is training. Call `eval()` first.")
    unknown = sorted(set(names) - known - {BASE})
    if unknown:
        raise AdapterError(f"There is no adapter '{unknown[0]}'. Known: {', '.join(sorted(known))}.")
    now = watch(model)
    hooks = [
        module.register_forward_pre_hook(partial(_name_each, names), with_kwargs=True)
        for module in model.modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
    ]
    now.mixed, now.beams = list(names), beams
    try:
        yield
    finally:
        now.mixed = None
        for hook in hooks:
            hook.remove()


def _name_each(names: list[str], wrapper: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Tell a layer that PEFT trains whole whose copy each row takes; adapters without a copy take the base's."""
    times = len(args[0]) // len(names)
    own = [name if name in wrapper._adapters else BASE for name in names]
    return args, {**kwargs, "adapter_names": [name for name in own for _ in range(times)]}


def add_updates(layer: HydraLoraLinear, x: Tensor, result: Tensor, names: list[str]) -> Tensor:
    """``result`` ``(rows, ..., out)`` plus the update of each example's own adapter; rows are whole examples' in turn.

    Raises:
        AdapterError: Where the layer is merged, its gates are watched or changed, or a router pools over tokens.
    """
    if layer.merged:
        raise AdapterError("An adapter is merged into the base, so examples cannot have others. Unmerge it first.")
    if layer.capture or layer.change is not None:
        raise AdapterError("Gates cannot be read or changed in a batch of several adapters. Leave `adapter_names` out.")
    if len(x) % len(names):
        raise AdapterError(
            f"Layer '{layer.name}' sees {len(x)} rows, which are no examples of {len(names)} `adapter_names`."
        )
    owners = torch.arange(len(names), device=x.device).repeat_interleave(len(x) // len(names))  # (rows,)
    for name in dict.fromkeys(names):
        if name not in layer.hydralora_A:
            continue
        if layer.options[name].routes and layer.options[name].router_input == "pooled":
            raise AdapterError(
                f"Adapter '{name}' pools over tokens, and cannot share a batch. Leave `adapter_names` out."
            )
        own = torch.tensor([other == name for other in names], device=x.device)
        rows = own[owners].nonzero().squeeze(1)
        result = result.index_add(0, rows, layer.update_of(x[rows], name, result.dtype))
    return result


register_when_ready()
