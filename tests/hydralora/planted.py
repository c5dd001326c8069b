"""Adapters on disk with planted matrices, as `save_pretrained` lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

LAYERS, EXPERTS, OUT, RANK, WIDE = 6, 4, 40, 4, 32


def write_adapter(folder: Path, heads: dict[str, Tensor], a: dict[str, Tensor] | None = None, seed: int = 0) -> Path:
    """Heads ``(N, out, r)`` and A ``(r, in)`` (random where not given) by layer name."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed + 1000)
    weights = {}
    for name, stack in heads.items():
        count, out, rank = stack.shape
        own = (a or {}).get(name)
        own = torch.randn(rank, WIDE, generator=generator) if own is None else own
        stem = f"base_model.model.{name}.hydralora_"
        weights[f"{stem}A.weight"] = own.contiguous().clone()
        weights[f"{stem}B.weight"] = stack.permute(1, 0, 2).reshape(out, count * rank).contiguous()
    save_file(weights, folder / "adapter_model.safetensors")
    experts = next(iter(heads.values())).shape[0]
    (folder / "adapter_config.json").write_text(json.dumps({"num_experts": experts}))
    return folder


def random_heads(seed: int, by_layer: float = 0.0, by_expert: float = 0.0) -> dict[str, Tensor]:
    """Gaussian heads of six layers, plus a part shared within each layer or along each expert."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    along = draw(EXPERTS, OUT, RANK)
    return {
        f"model.layers.{layer}.self_attn.q_proj": draw(EXPERTS, OUT, RANK)
        + by_layer * draw(1, OUT, RANK)
        + by_expert * along
        for layer in range(LAYERS)
    }
