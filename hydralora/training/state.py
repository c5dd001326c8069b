"""The whole trainable state of a model, written into a checkpoint so that training goes on exactly.

What PEFT saves is enough to *use* an adapter, not to go on training every one of them: it saves the
output of P-tuning's network instead of the network, and AdaLoRA's weights without the pruned ranks
and without the running importance by which it prunes. So a checkpoint also holds ``STATE``: every
trainable weight by its name, and AdaLoRA's importance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hydralora.errors import AdapterError

STATE = "trainable.safetensors"
PATTERN = "rank_pattern"  # key of the file's metadata: AdaLoRA's kept ranks
IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of AdaLoRA's allocator: name -> tensor


def save_state(model: nn.Module, folder: Path) -> None:
    """Write every trainable weight, once, and AdaLoRA's importance."""
    tensors = {f"weight/{name}": w.detach().cpu().contiguous() for name, w in _trainable(model).items()}
    for kind, values in _importance(model).items():
        tensors |= {f"{kind}/{name}": value.detach().cpu().contiguous() for name, value in values.items()}
    pattern = getattr(_config(model), PATTERN, None)
    save_file(tensors, folder / STATE, metadata={PATTERN: json.dumps(pattern)} if _importance(model) else None)


@torch.no_grad()
def load_state(model: nn.Module, folder: Path) -> None:
    """Put a saved state back.

    Raises:
        AdapterError: When it was written by a model with other trainable weights.
    """
    tensors, weights = load_file(folder / STATE), _trainable(model)
    saved = {key.partition("/")[2] for key in tensors if key.startswith("weight/")}
    if saved != set(weights):
        odd = sorted(saved ^ set(weights))[0]
        raise AdapterError(
            f"The checkpoint {folder.name} does not fit: weight '{odd}' is not in both. Start a new run."
        )
    for name, weight in weights.items():
        weight.copy_(tensors[f"weight/{name}"])
    device = next(iter(weights.values())).device
    for kind, values in _importance(model).items():
        for key, value in tensors.items():
            if key.startswith(f"{kind}/"):
                values[key.partition("/")[2]] = value.to(device)
    with safe_open(folder / STATE, framework="pt") as file:
        pattern = json.loads((file.metadata() or {}).get(PATTERN, "null"))
    if pattern:
        _config(model).rank_pattern = pattern


def has_state(folder: Path) -> bool:
    """Whether a checkpoint holds such a state."""
    return (folder / STATE).exists()


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    """Trainable weights by name; tied ones once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _importance(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """AdaLoRA's running importance by kind and weight, each of the weight's own shape; nothing for other methods."""
    allocator = getattr(getattr(model, "base_model", None), "rankallocator", None)
    return {kind: getattr(allocator, kind) for kind in IMPORTANCE} if allocator is not None else {}


def _config(model: nn.Module) -> Any:
    return getattr(model, "active_peft_config", None)
