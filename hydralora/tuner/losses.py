"""Auxiliary losses of a router, each a scalar of what it decided for the tokens that are not padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class LossWeights(NamedTuple):
    """How much each loss of one adapter counts; 0 leaves it out."""

    balance: float = 0.0

    @property
    def any(self) -> bool:
        """Whether there is a loss at all."""
        return any(self)


def balance_loss(gates: Tensor) -> Tensor:
    """``N sum_i mean(g_i)^2 - 1`` of gates ``(tokens, N)``: 0 where the experts are used equally, N - 1 at most."""
    return gates.shape[-1] * gates.mean(0).square().sum() - 1.0


def auxiliary_loss(routed: Iterable[Any]) -> Tensor | None:
    """The losses of every adapter, each the mean over its routers' calls, added up; None where there is none."""
    by_adapter: dict[str, list[Tensor]] = {}
    for call in routed:
        loss = _loss_of_call(call)
        if loss is not None:
            by_adapter.setdefault(call.adapter, []).append(loss)
    if not by_adapter:
        return None
    sums = [torch.stack([loss.to(losses[0].device) for loss in losses]).mean() for losses in by_adapter.values()]
    return torch.stack([each.to(sums[0].device) for each in sums]).sum()


def _loss_of_call(call: Any) -> Tensor | None:
    count = call.gates.shape[-1]
    gates = call.gates.reshape(-1, count)
    if call.real is not None:
        gates = gates[call.real.reshape(-1).to(gates.device)]
    if not len(gates):
        return None
    return call.weights.balance * balance_loss(gates)
