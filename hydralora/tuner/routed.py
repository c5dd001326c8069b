"""What every routed layer has: gates for each token, by a router, by the example's task, or fixed."""

from __future__ import annotations

import math

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from hydralora.errors import AdapterError
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.gating import GATES, keep_largest
from hydralora.tuner.passes import Pass, Routed
from hydralora.tuner.register import register_when_ready


class RoutedLayer(nn.Module, BaseTunerLayer):
    """A frozen module with heads beside it; what the heads are is up to the layers made of this."""

    in_features: int  # what a router reads

    def __init__(self, base_layer: nn.Module, name: str, now: Pass | None = None) -> None:
        super().__init__()
        self.now = now or Pass()  # what the layers of a model share about the pass that is going on
        self.base_layer = base_layer
        self.name = name
        self.num_experts: dict[str, int] = {}
        self.options: dict[str, HydraLoraConfig] = {}
        self.blocks: dict[str, str] = {}  # whose router an adapter has here, where layers of a block share one
        # In this order: the states of an optimizer belong to parameters by their places, also in checkpoints of before.
        self.hydralora_dropout = nn.ModuleDict()
        self.hydralora_A = nn.ModuleDict()
        self.hydralora_B = nn.ModuleDict()
        self.hydralora_router = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.capture = False
        self.captured: str | None = None  # the adapter whose gates are kept; None for the one at work
        # Gates (..., N) float32 of the last forward; a list, since setting a module's attribute is slow.
        self.kept_gates: list[Tensor] = []
        self.kept_real: Tensor | None = None  # which of their tokens are no padding
        self.gate_row: Tensor | None = None  # (1, N) float32: where one token's gates go, of `GateCapture.reserve`
        self.factors: Tensor | None = None  # (N,) set by `override_experts`
        self.forced: int | None = None
        self.change: Tensor | None = None  # (2, N): both of these as a factor and a summand of every gate
        self.changed: str | None = None  # the adapter whose gates they change; None for all
        self.choice: Tensor | None = None  # (batch,) task of each example, -1 for none; of `choose_heads`

    def room_for_gates(self, x: Tensor, count: int) -> Tensor:
        """Where a forward pass writes its gates, ``(tokens, N)`` in float32 or wider."""
        if self.gate_row is not None and x.numel() == self.in_features:
            return self.gate_row
        wide = torch.promote_types(x.dtype, torch.float32)
        room = torch.empty((*x.shape[:-1], count), dtype=wide, device=x.device)
        self.keep_gates(room)
        return room.view(-1, count)

    def keep_gates(self, gates: Tensor) -> None:
        """Hold the gates ``(..., N)`` of this pass until they are taken."""
        if self.gate_row is not None and gates.numel() == self.gate_row.numel():
            self.gate_row.copy_(gates.view_as(self.gate_row))
        else:
            self.kept_gates.clear()
            self.kept_gates.append(self._by_row(gates))
            self.kept_real = self.now.real(self.name, self.kept_gates[0].shape[:-1])

    def keeps(self, name: str) -> bool:
        """Whether the gates of this adapter are to be kept."""
        return self.capture and self.captured in (None, name)

    def _by_row(self, values: Tensor) -> Tensor:
        """``(batch tokens, ...)`` as ``(batch, tokens, ...)``, where a model flattens its tokens before this layer."""
        shape = self.now.shape(self.name) if values.dim() == 2 else None
        return values.unflatten(0, shape) if shape is not None and shape[0] * shape[1] == len(values) else values

    def pools(self) -> bool:
        """Whether a router at work here reads all earlier tokens."""
        names = [name for name in self.active_adapters if name in self.options] if not self.disable_adapters else []
        return any(self.options[name].routes and self.options[name].router_input == "pooled" for name in names)

    def fixed_gates(self, name: str) -> list[float] | None:
        """The N gate weights where they do not depend on the input, else None."""
        config, count = self.options[name], self.num_experts[name]
        if config.routes or (config.combine == "hard" and count > 1):
            return None
        return [1.0 if config.combine == "sum" or count == 1 else 1.0 / count] * count

    def check_fixed(self, name: str) -> list[float]:
        """The N gate weights of an adapter whose gates are fixed.

        Raises:
            AdapterError: When a router decides per token, or an example's task; no single matrix equals that.
        """
        gates = self.fixed_gates(name)
        if gates is None and self.options[name].combine == "hard":
            raise AdapterError(
                f"Layer '{self.name}' takes the head of an example's task, so no single weight equals it and it "
                "cannot be merged. Export one plain LoRA for each task instead."
            )
        if gates is None:
            raise AdapterError(
                f"Layer '{self.name}' is routed per token, so no single weight equals it and it cannot "
                "be merged. Export a plain-LoRA approximation instead; its gap is measured."
            )
        return gates

    def _make_router(self, name: str, config: HydraLoraConfig, width: int) -> None:
        """The router of an adapter, ``width`` wide, where it has one and no earlier layer of its block has it."""
        if not config.routes:
            return
        if config.router_scope == "block":
            self.blocks[name] = self.now.block_of(self.name)
            if not self.now.routers.is_first(self, name, self.blocks[name]):
                return
        self.hydralora_router[name] = nn.Linear(width, config.num_experts, bias=False)

    def _draw_router(self, name: str) -> None:
        """Starting values of a router that this layer has."""
        if name not in self.hydralora_router:
            return
        config, weight = self.options[name], self.hydralora_router[name].weight
        if config.router_init == "kaiming":
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        else:
            nn.init.normal_(weight, std=0.01 if config.router_init == "normal" else 0.0)

    def _gates(self, x: Tensor, hidden: Tensor | None, name: str) -> Tensor | None:
        """Gate weights ``(..., N)`` in float32 or wider, or None where every gate is one.

        ``x`` is what the layer reads, ``hidden`` its ``A x``.
        """
        config, count = self.options[name], self.num_experts[name]
        if config.routes:
            gates = self._routed(x, hidden, name)
        elif config.combine == "hard" and count > 1:
            gates = self._chosen(x, count)
        elif config.combine == "mean" or (config.combine == "router" and count > 1):
            wide = torch.promote_types(x.dtype, torch.float32)
            gates = torch.full((*x.shape[:-1], count), 1.0 / count, dtype=wide, device=x.device)
        elif self.capture or self.factors is not None or self.forced is not None:
            gates = torch.ones((*x.shape[:-1], count), device=x.device)
        else:
            return None
        if config.head_mask and not self.training:
            gates = self._silence(gates, hidden, name)
        return self._changed_gates(gates, name)

    def _changed_gates(self, gates: Tensor, name: str) -> Tensor:
        """Gates ``(..., N)`` as ``override_experts`` wants them, kept where somebody looks."""
        changes = self.changed in (None, name)
        if self.forced is not None and changes:
            gates = torch.zeros_like(gates).index_fill(-1, torch.tensor(self.forced, device=gates.device), 1.0)
        if self.factors is not None and changes:
            gates = gates * self.factors.to(gates)
        if self.keeps(name):
            self.keep_gates(gates.detach())
        return gates

    def _routed(self, x: Tensor, hidden: Tensor | None, name: str) -> Tensor:
        """Gates ``(..., N)`` of this layer's router, or of the one that its block shares."""
        block = name in self.blocks
        gates = self.now.routers.gates(self, name, x.shape[:-1].numel()) if block else None
        if gates is not None:
            return gates.to(x.device).reshape(*x.shape[:-1], gates.shape[-1])
        config = self.options[name]
        if config.router_input == "pooled":
            seen = self._pooled(hidden)  # type: ignore[arg-type]
        else:
            seen = x if config.router_input == "x" else hidden  # type: ignore[assignment]
        own = None if block else self.hydralora_router[name]
        logits = (own or self.now.routers.router(self, name, seen.shape[-1]))(seen)
        scores = logits if config.temperature == 1.0 else logits / config.temperature
        gates = GATES[config.gate](keep_largest(scores, config.top_k) if config.top_k else scores)
        if self.training and config.losses.any:
            tasks = self._tasks(x) if config.losses.reads_tasks and self.choice is not None else None
            self.now.record(Routed(name, logits, gates, self.now.real(self.name, x.shape[:-1]), config.losses, tasks))
        if block:
            self.now.routers.hold(self, name, gates)
        return gates

    def _tasks(self, x: Tensor) -> Tensor:
        """Task ``(batch,)`` of each example in ``x``, whose rows are whole examples in turn.

        Raises:
            AdapterError: When they are not.
        """
        assert self.choice is not None
        shape = self.now.shape(self.name) if x.dim() == 2 else tuple(x.shape[:2])  # some models flatten their tokens
        if shape is None or shape[0] != len(self.choice) or (x.dim() == 2 and len(x) != shape[0] * shape[1]):
            raise AdapterError(
                f"Layer '{self.name}': heads were chosen for {len(self.choice)} examples, but the input has shape "
                f"{tuple(x.shape)}. Choose one head for each example of the batch, or none."
            )
        return self.choice.to(x.device)

    def _chosen(self, x: Tensor, count: int) -> Tensor:
        """Gates ``(..., N)`` of heads chosen by example: all of one head, or equal shares for none."""
        equal = torch.full((*x.shape[:-1], count), 1.0 / count, device=x.device)
        if self.choice is None:
            return equal
        choice = self._tasks(x)
        if x.dim() == 2:
            choice = choice.repeat_interleave(len(x) // len(choice))
        choice = choice.view(-1, *[1] * (x.dim() - 1))  # (batch, 1, 1)
        return torch.where(choice < 0, equal, (torch.arange(count, device=x.device) == choice).float())

    def _pooled(self, hidden: Tensor) -> Tensor:
        """Mean of ``A x`` over the tokens so far of a token's own sequence, padding left out; shaped as ``hidden``."""
        rows = self._by_row(hidden)  # (batch, tokens, r)
        if rows.dim() != 3:
            raise AdapterError(
                f"Layer '{self.name}': a pooled router needs input (batch, tokens, features) to know where an "
                "example begins, but this model flattens it. Use `router_input` x or Ax."
            )
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        real, starts = self.now.real(self.name, rows.shape[:-1]), self.now.starts(rows.shape[:-1])
        weight = torch.ones_like(wide[..., :1]) if real is None else real.to(wide).unsqueeze(-1)
        wide = wide * weight
        sums, count = wide.cumsum(1), weight.cumsum(1)
        if starts is not None:  # what came before the first token of its sequence is taken off again
            first = starts.unsqueeze(-1)
            sums = sums - (sums - wide).gather(1, first.expand_as(sums))
            count = count - (count - weight).gather(1, first)
        return (sums / count.clamp(min=1.0)).to(hidden.dtype).view_as(hidden)

    def _silence(self, gates: Tensor, hidden: Tensor, name: str) -> Tensor:
        """Gates ``(..., N)`` with masked heads at zero and their share given to the others."""
        config = self.options[name]
        heads = config.head_mask or []
        keep = torch.ones(gates.shape[-1], device=gates.device)
        keep[heads] = 0.0
        kept = gates * keep
        if config.compensation_top_k == 0 and config.head_compensation == "cosine":
            return kept
        if config.head_compensation == "share":
            return kept / kept.sum(-1, keepdim=True).clamp(min=1e-12)
        cosine = self._head_cosines(hidden.to(torch.promote_types(hidden.dtype, torch.float32)), name)  # (..., N, N)
        for head in heads:
            similarity = cosine[..., head].masked_fill(keep == 0, float("-inf"))
            if 0 < config.compensation_top_k < len(keep) - len(heads):
                similarity = keep_largest(similarity, config.compensation_top_k)
            kept = kept + config.compensation_beta * gates[..., head : head + 1] * similarity.softmax(-1)
        return kept


register_when_ready()
