"""Auxiliary losses of a router, each a scalar of what it decided for the tokens that are not padding."""

from __future__ import annotations

import warnings
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
    task: float = 0.0
    delta: float = 0.1  # of the balance by groups
    groups: int = 2
    task_groups: tuple[int, ...] | None = None

    @property
    def any(self) -> bool:
        """Whether there is a loss at all."""
        return bool(self.balance or self.z or self.task)

    @property
    def by_group(self) -> bool:
        """Whether experts are balanced by groups of tasks."""
        return bool(self.balance) and self.kind == "groups"

    @property
    def reads_tasks(self) -> bool:
        """Whether a loss asks for the tasks of the examples."""
        return bool(self.task) or self.by_group


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


def group_loss(gates: Tensor, tasks: Tensor, weights: LossWeights) -> Tensor:
    """Localized balance, ``Var(Z) / mean(Z)^2`` with ``Z_nm = I_nm Q_nm``.

    ``Q_nm`` is the importance of expert n for example m, its gates summed over the example's tokens; ``I_nm`` is
    ``1 + delta`` where the expert's group is that of the example's task, else ``1 - delta``, so that experts share
    evenly the work of their own group and more of the load is asked of no one. Dou et al. 2023, section 3.3,
    https://arxiv.org/abs/2312.09979, whose text divides by ``mean(Z)``, so that the loss grows with the length of a
    batch; the released code, as here, by its square:
    https://github.com/Ablustrund/LoRAMoE/blob/1177288/peft/tuners/lora.py#L315-L328.

    Args:
        gates: ``(examples, tokens, N)``, zero where a token is padding.
        tasks: ``(examples,)``, none negative.
        weights: Which experts and tasks are a group.
    """
    count = gates.shape[-1]
    importance = gates.sum(1)  # (examples, N)
    of_expert = torch.arange(count, device=gates.device) * weights.groups // count
    if weights.task_groups is None:
        of_task = tasks % weights.groups
    else:
        of_task = torch.tensor(weights.task_groups, device=gates.device)[tasks]
    own = of_task.unsqueeze(1) == of_expert
    z = importance * torch.where(own, 1.0 + weights.delta, 1.0 - weights.delta).to(gates)
    return z.var() / (z.mean().square() + 1e-10)


def task_loss(logits: Tensor, tasks: Tensor) -> Tensor:
    """``-mean(log softmax(logits)_task)`` of ``logits`` ``(tokens, N)`` and the task ``(tokens,)`` of each.

    A router that is supervised: head t is to take task t, a cluster or a label. No task is negative.
    """
    return functional.cross_entropy(logits, tasks)


BALANCES = ("square", "switch", "groups")


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
    real = torch.ones(len(gates), dtype=torch.bool, device=gates.device)
    if call.real is not None:
        real = call.real.reshape(-1).to(gates.device)
    if not len(gates if call.real is None else gates[real]):  # a sum of `real` would be a branch on its numbers
        return None
    loss = _loss_of_tasks(gates, logits, real, call) if weights.reads_tasks else gates.new_zeros(())
    if call.real is not None:
        gates, logits = gates[real], logits[real]
    if weights.balance and weights.kind == "switch":
        loss = loss + weights.balance * switch_loss(softmax_gate(logits / weights.temperature))
    elif weights.balance and weights.kind == "square":
        loss = loss + weights.balance * balance_loss(gates)
    return loss + weights.z * z_loss(logits) if weights.z else loss


def _loss_of_tasks(gates: Tensor, logits: Tensor, real: Tensor, call: Any) -> Tensor:
    """The losses that ask for tasks; nothing where no example of the batch has one."""
    weights, loss = call.weights, gates.new_zeros(())
    if call.tasks is None:
        _say_no_tasks()
        return loss
    known = call.tasks >= 0  # (examples,)
    apart = (len(known), -1, gates.shape[-1])
    real = real.view(len(known), -1)[known]
    if weights.by_group and real.any():
        masked = gates.view(apart)[known] * real.unsqueeze(-1)
        loss = loss + weights.balance * group_loss(masked, call.tasks[known], weights)
    if weights.task and real.any():
        tasks = call.tasks[known].unsqueeze(1).expand(real.shape)[real]
        loss = loss + weights.task * task_loss(logits.view(apart)[known][real] / weights.temperature, tasks)
    return loss


def _say_no_tasks() -> None:
    warnings.warn(
        "A loss of the routers asks for the task of each example (`task_weight`, or `balance_loss` groups), and nobody "
        "has told them: it is zero. Call `hydralora.choose_heads(model, tasks)` before each pass.",
        stacklevel=6,
    )
