"""Learning rates of their own: B matrices (LoRA+) and routers beside everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter

from hydralora.config import TrainConfig
from hydralora.errors import TrainingError

# Parts of a parameter's name that tell the group it is in, of PEFT's LoRA and of our layer.
PARTS = {"b_rate": (".lora_B.", ".hydralora_B."), "router_rate": (".hydralora_router.",)}


def rate_groups(
    named: Iterable[tuple[str, Parameter]], train: TrainConfig, rate: float, decayed: Iterable[str]
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: ``rate`` times ``b_rate`` for B, times ``router_rate`` for routers.

    LoRA+ (Hayou et al. 2024, https://arxiv.org/abs/2402.12354) takes 16 for B: A and B learn at unlike speeds in wide
    models, where one rate makes B too slow.

    Args:
        named: The parameters by name; those that are not trained are passed over.
        decayed: Names of those that weight decay holds for.

    Raises:
        TrainingError: When a rate is asked for and the method has no such matrices.
    """
    decayed, groups = set(decayed), dict[tuple[str, bool], list[Parameter]]()
    for name, weight in named:
        if weight.requires_grad:
            groups.setdefault((_part(name), name in decayed), []).append(weight)
    factors = {"": 1.0, **{part: float(getattr(train, part)) for part in PARTS}}
    for part, factor in factors.items():
        if factor != 1.0 and not any(found == part for found, _ in groups):
            what = "B matrix" if part == "b_rate" else "router"
            raise TrainingError(f"`{part}` is {factor:g}, but this method trains no {what}. Leave it at 1.")
    return [
        {"params": weights, "lr": rate * factors[part], "weight_decay": train.weight_decay if is_decayed else 0.0}
        for (part, is_decayed), weights in sorted(groups.items(), key=lambda item: item[0])
    ]


def _part(name: str) -> str:
    return next((part for part, names in PARTS.items() if any(piece in name for piece in names)), "")
