"""The routed layer behind the family: a frozen linear layer, A, N heads and a router.

No loop over experts: with ``h = A x`` ``(..., r)`` and gates ``g`` ``(..., N)``,
``u = (g (x) h)`` ``(..., N r)`` is narrow, and one product with the stacked heads
``B = [B_1 | ... | B_N]`` ``(out, N r)`` gives ``sum_i g_i B_i h``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hydralora.errors import AdapterError
from hydralora.tuner import fused
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.gating import GATES, keep_largest
from hydralora.tuner.merging import Merges
from hydralora.tuner.mixed import add_updates
from hydralora.tuner.passes import Pass, Routed
from hydralora.tuner.register import register_when_ready


class HydraLoraLinear(nn.Module, Merges):
    """``y = W0 x + s * sum_i g_i(x) B_i A x``, gates per token.

    Stored per adapter, as ``nn.Linear`` without bias:

    - ``hydralora_A``: ``(r, in)``, or ``(N r, in)`` where each head has its own A;
    - ``hydralora_B``: ``(out, N r)``, head i is ``weight.view(out, N, r)[:, i]``;
    - ``hydralora_router``: ``(N, in)`` or ``(N, r)``; absent for N = 1 and fixed combinations.

    Leading shape of the input is free; gates are a softmax in float32 (float64 where all is). Inputs keep float32 or
    bfloat16; the adapter computes in its own weights' type.
    """

    adapter_layer_names = ("hydralora_A", "hydralora_B", "hydralora_router")
    other_param_names = ("r", "num_experts", "scaling", "options", "plans", "hydralora_dropout")

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        name: str,
        config: HydraLoraConfig,
        now: Pass | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.now = now or Pass()  # what the layers of a model share about the pass that is going on
        self.base_layer = base_layer
        self.name = name
        self.r: dict[str, int] = {}
        self.num_experts: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.options: dict[str, HydraLoraConfig] = {}
        self.plans: dict[str, fused.Plan | None] = {}  # what `fused` computes of an adapter, if it can
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
        self.choice: Tensor | None = None  # (batch,) head of each example, -1 for none; of `choose_heads`
        base = self.get_base_layer()
        if isinstance(base, Conv1D):
            self.in_features, self.out_features = base.weight.shape
        else:
            self.in_features, self.out_features = base.in_features, base.out_features
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: HydraLoraConfig, **kwargs: Any) -> None:
        """Add the matrices of one adapter."""
        rank, heads = config.rank(self.name), config.num_experts
        self.r[adapter_name], self.num_experts[adapter_name] = rank, heads
        self.scaling[adapter_name] = config.scaling(self.name, rank)
        self.options[adapter_name] = config
        self.plans[adapter_name] = fused.make_plan(config, rank, self.scaling[adapter_name])
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        self.hydralora_dropout[adapter_name] = dropout
        rows = rank if config.shared_a else rank * heads
        self.hydralora_A[adapter_name] = nn.Linear(self.in_features, rows, bias=False)
        self.hydralora_B[adapter_name] = nn.Linear(heads * rank, self.out_features, bias=False)
        if config.routes:
            width = self.in_features if config.router_input == "x" else rows
            self.hydralora_router[adapter_name] = nn.Linear(width, heads, bias=False)
        self.reset_adapter(adapter_name)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def reset_adapter(self, adapter_name: str) -> None:
        """Draw the starting values of one adapter."""
        config = self.options[adapter_name]
        a, b = self.hydralora_A[adapter_name].weight, self.hydralora_B[adapter_name].weight
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        if adapter_name in self.hydralora_router:
            router = self.hydralora_router[adapter_name].weight
            if config.router_init == "kaiming":
                nn.init.kaiming_uniform_(router, a=math.sqrt(5))
            else:
                nn.init.normal_(router, std=0.01 if config.router_init == "normal" else 0.0)
        if not config.init_weights:
            nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        elif config.head_init == "zero":
            nn.init.zeros_(b)
        else:
            # R-LoRA's scale: A ~ c N(0, 1/in), B_i ~ c N(0, 1/out), c = out^(1/4) / sqrt(gamma).
            scale = self.out_features**0.25 / config.head_init_gamma**0.5
            nn.init.normal_(a, std=scale / self.in_features**0.5)
            nn.init.normal_(b, std=scale / self.out_features**0.5)
            heads = b.view(self.out_features, self.num_experts[adapter_name], -1)
            heads -= heads.mean(1, keepdim=True)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        plain = not (self.disable_adapters or self.merged)
        mixed = None if self.disable_adapters else self.now.mixed
        names = [name for name in self.active_adapters if name in self.hydralora_A] if plain and not mixed else []
        plan = fused.usable(self, x, names[0]) if len(names) == 1 and not (args or kwargs) else None
        if plan is not None and fused.is_frozen(self.base_layer, fused.type_of(x)):
            return fused.run(self, x, names[0], plan, None)
        result = self.base_layer(x, *args, **kwargs)
        if plan is not None and result.dtype == fused.type_of(x):
            return fused.run(self, x, names[0], plan, result)
        if mixed:
            return add_updates(self, x, result, mixed)
        for name in names:
            result = result + self.update_of(x, name, result.dtype)
        return result

    def update_of(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        """``s B (g (x) A x)`` ``(..., out)`` of one adapter, in the type asked for."""
        heads = self.hydralora_B[name]
        narrow = self._gated(self._cast_input_dtype(x, heads.weight.dtype), name)
        return (heads(narrow) * self.scaling[name]).to(dtype)

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
        names = [] if self.disable_adapters else self.active_adapters
        return any(name in self.hydralora_router and self.options[name].router_input == "pooled" for name in names)

    def _gated(self, x: Tensor, name: str) -> Tensor:
        """``u = g (x) A x`` ``(..., N r)``: every head's share of the narrow product."""
        config, count = self.options[name], self.num_experts[name]
        dropout = self.hydralora_dropout[name]
        per_head = config.dropout_place == "heads"
        hidden = self.hydralora_A[name](x if per_head else dropout(x))  # (..., r) or (..., N r)
        gates = self._gates(x, hidden, name)
        if count == 1:
            hidden = dropout(hidden) if per_head else hidden
            return hidden if gates is None else hidden * gates
        if config.shared_a:
            hidden = hidden.unsqueeze(-2)  # (..., 1, r)
            if per_head and self.training:
                hidden = dropout(hidden.expand(*hidden.shape[:-2], count, -1))
        else:
            hidden = hidden.unflatten(-1, (count, -1))  # (..., N, r)
            hidden = dropout(hidden) if per_head else hidden
        if gates is None:  # sum
            gates = torch.ones(count, dtype=hidden.dtype, device=hidden.device)
        return (gates.unsqueeze(-1) * hidden).flatten(-2)

    def _gates(self, x: Tensor, hidden: Tensor, name: str) -> Tensor | None:
        """Gate weights ``(..., N)`` in the adapter's type, or None where every gate is one."""
        config, count = self.options[name], self.num_experts[name]
        router = self.hydralora_router[name] if name in self.hydralora_router else None
        if router is not None:
            seen = self._pooled(hidden) if config.router_input == "pooled" else hidden
            logits = router(x if config.router_input == "x" else seen)
            scores = logits if config.temperature == 1.0 else logits / config.temperature
            gates = GATES[config.gate](keep_largest(scores, config.top_k) if config.top_k else scores)
            if self.training and config.losses.any:
                self.now.record(Routed(name, logits, gates, self.now.real(self.name, x.shape[:-1]), config.losses))
        elif config.combine == "hard" and count > 1:
            gates = self._chosen(x, count)
        elif config.combine == "mean" or (config.combine == "router" and count > 1):
            wide = torch.promote_types(hidden.dtype, torch.float32)
            gates = torch.full((*x.shape[:-1], count), 1.0 / count, dtype=wide, device=x.device)
        elif self.capture or self.factors is not None or self.forced is not None:
            gates = torch.ones((*x.shape[:-1], count), device=x.device)
        else:
            return None
        if config.head_mask and not self.training:
            gates = self._silence(gates, hidden, name)
        changes = self.changed in (None, name)
        if self.forced is not None and changes:
            gates = torch.zeros_like(gates).index_fill(-1, torch.tensor(self.forced, device=x.device), 1.0)
        if self.factors is not None and changes:
            gates = gates * self.factors.to(gates)
        if self.keeps(name):
            self.keep_gates(gates.detach())
        return gates.to(hidden.dtype)

    def _chosen(self, x: Tensor, count: int) -> Tensor:
        """Gates ``(..., N)`` of heads chosen by example: all of one head, or equal shares for none."""
        equal = torch.full((*x.shape[:-1], count), 1.0 / count, device=x.device)
        if self.choice is None:
            return equal
        shape = self.now.shape(self.name) if x.dim() == 2 else tuple(x.shape[:2])  # some models flatten their tokens
        if shape is None or shape[0] != len(self.choice) or x.shape[:-1].numel() % len(self.choice):
            raise AdapterError(
                f"Layer '{self.name}': heads were chosen for {len(self.choice)} examples, but the input has shape "
                f"{tuple(x.shape)}. Choose one head for each example of the batch, or none."
            )
        choice = self.choice.to(x.device)
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

    def _head_cosines(self, hidden: Tensor, name: str) -> Tensor:
        """``cos(B_i h_i, B_j h_j)`` ``(..., N, N)`` by the Gram matrix of the heads, never ``(..., N, out)``."""
        count, rank = self.num_experts[name], self.r[name]
        stacked = self.hydralora_B[name].weight.to(hidden.dtype)
        gram = (stacked.T @ stacked).view(count, rank, count, rank)
        h = (
            hidden.unflatten(-1, (count, rank))
            if not self.options[name].shared_a
            else hidden.unsqueeze(-2).expand(*hidden.shape[:-1], count, rank)
        )
        products = torch.einsum("...ir,irjs,...js->...ij", h, gram, h)
        length = products.diagonal(dim1=-2, dim2=-1).clamp(min=1e-20).sqrt()
        return products / (length.unsqueeze(-1) * length.unsqueeze(-2))

    def __repr__(self) -> str:
        return f"hydralora.{super().__repr__()}"


register_when_ready()
