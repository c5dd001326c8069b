"""Auxiliary losses of a router, each a scalar of what it decided for the tokens that are not padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hydralora.tuner.gating import softmax_gate


class LossWeights(NamedTuple):
    """How much each loss of one adapter counts; 0 leaves it out."""

    balance: float = 0.0
    z: float = 0.0
    kind: str = "square"  # of the balance loss
    temperature: float = 1.0  # of the gates, which the Switch loss computes anew

    @property
    def any(self) -> bool:
        """Whether there is a loss at all."""
        return bool(self.balance or self.z)


def balance_loss(gates: Tensor) -> Tensor:
    """``N sum_i mean(g_i)^2 - 1`` of gates ``(tokens, N)``: 0 where the experts are used equally, N - 1 at most."""
    return gates.shape[-1] * gates.mean(0).square().sum() - 1.0


def switch_loss(shares: Tensor) -> Tensor:
    """``N sum_i f_i P_i``: 1 where the experts are used equally, N where one takes all.

    ``f_i`` is the share of tokens whose largest share is that of expert i, ``P_i`` the mean of its ``shares``
    ``(tokens, N)``, which alone pass a gradient. Fedus et al. 2021, eq. 4-6, https://arxiv.org/abs/2101.03961.
    """
    count = shares.shape[-1]
    first = functional.one_hot(shares.argmax(-1), count).to(shares.dtype).mean(0)
    return count * (first * shares.mean(0)).sum()


def z_loss(logits: Tensor) -> Tensor:
    """``mean(log(sum_i exp(logit_i))^2)`` of ``logits`` ``(tokens, N)``: keeps the router's logits small.

    Zoph et al. 2022, eq. 5, https://arxiv.org/abs/2202.08906.
    """
    return logits.logsumexp(-1).square().mean()


BALANCES = ("square", "switch")


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
    weights, count = call.weights, call.gates.shape[-1]
    gates, logits = call.gates.reshape(-1, count), call.logits.reshape(-1, count).to(call.gates.dtype)
    if call.real is not None:
        real = call.real.reshape(-1).to(gates.device)
        gates, logits = gates[real], logits[real]
    if not len(gates):
        return None
    loss = gates.new_zeros(())
    if weights.balance and weights.kind == "switch":
        loss = loss + weights.balance * switch_loss(softmax_gate(logits / weights.temperature))
    elif weights.balance:
        loss = loss + weights.balance * balance_loss(gates)
    return loss + weights.z * z_loss(logits) if weights.z else loss
