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
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from hydralora.tuner import fused
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.merging import Merges
from hydralora.tuner.mixed import add_updates
from hydralora.tuner.passes import Pass
from hydralora.tuner.register import register_when_ready
from hydralora.tuner.routed import RoutedLayer


class Start(nn.Module):
    """What an adapter amounted to at its start, at equal gates: ``x`` ``(..., in)`` to ``B_0 A_0 x`` ``(..., out)``.

    R-LoRA takes it off the base's weight (Liu et al. 2025, https://arxiv.org/abs/2502.15455). Here it stays beside the
    adapter, in float32, is saved with it, and is never trained; the base is as it was.
    """

    def __init__(self, rows: int, wide: int, out: int) -> None:
        super().__init__()
        self.register_buffer("first_a", torch.zeros(rows, wide))
        self.register_buffer("first_b", torch.zeros(out, rows))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        narrow = functional.linear(x, self.first_a.to(x.dtype))
        return functional.linear(narrow, self.first_b.to(x.dtype))


class HydraLoraLinear(RoutedLayer, Merges):
    """``y = W0 x + s * sum_i g_i(x) B_i A x``, gates per token.

    Stored per adapter, as ``nn.Linear`` without bias:

    - ``hydralora_A``: ``(r, in)``, or ``(N r, in)`` where each head has its own A;
    - ``hydralora_B``: ``(out, N r)``, head i is ``weight.view(out, N, r)[:, i]``;
    - ``hydralora_router``: ``(N, in)`` or ``(N, r)``; absent for N = 1 and fixed combinations, and where an earlier
      layer of the block has the router that they share;
    - ``hydralora_start``: where ``head_init`` is ``offset``, the update at the start, which is taken off.

    Leading shape of the input is free; gates are a softmax in float32 (float64 where all is). Inputs keep float32 or
    bfloat16; the adapter computes in its own weights' type, in the fused function under a bfloat16 base in that.
    """

    adapter_layer_names = ("hydralora_A", "hydralora_B", "hydralora_router")
    other_param_names = (
        *("r", "num_experts", "scaling", "options", "plans", "blocks", "hydralora_dropout"),
        "hydralora_start",
    )

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        name: str,
        config: HydraLoraConfig,
        now: Pass | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(base_layer, name, now)
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.plans: dict[str, fused.Plan | None] = {}  # what `fused` computes of an adapter, if it can
        self.hydralora_start = nn.ModuleDict()
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
        self._make_router(adapter_name, config, self.in_features if config.router_input == "x" else rows)
        if config.head_init == "offset":
            self.hydralora_start[adapter_name] = Start(rows, self.in_features, self.out_features)
        self.reset_adapter(adapter_name)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self._keep_start(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def reset_adapter(self, adapter_name: str) -> None:
        """Draw the starting values of one adapter."""
        config = self.options[adapter_name]
        a, b = self.hydralora_A[adapter_name].weight, self.hydralora_B[adapter_name].weight
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self._draw_router(adapter_name)
        if not config.init_weights:
            nn.init.kaiming_uniform_(b, a=math.sqrt(5))
        elif config.head_init == "zero":
            nn.init.zeros_(b)
        else:
            # R-LoRA's scale: A ~ c N(0, 1/in), B_i ~ c N(0, 1/out), c = out^(1/4) / sqrt(gamma).
            scale = self.out_features**0.25 / config.head_init_gamma**0.5
            nn.init.normal_(a, std=scale / self.in_features**0.5)
            nn.init.normal_(b, std=scale / self.out_features**0.5)
            if config.head_init == "centred":
                heads = b.view(self.out_features, self.num_experts[adapter_name], -1)
                heads -= heads.mean(1, keepdim=True)
        self._keep_start(adapter_name)

    @torch.no_grad()
    def _keep_start(self, name: str) -> None:
        """Keep what the heads amount to now, at equal gates, so that it can be taken off."""
        if name not in self.hydralora_start:
            return
        config, start, count = self.options[name], self.hydralora_start[name], self.num_experts[name]
        start.to(device=self.get_base_layer().weight.device, dtype=torch.float32)
        b = self.hydralora_B[name].weight.float()  # (out, N r)
        if b.is_meta or not config.init_weights:
            return  # what is kept comes from a file, or heads are not to begin at the base
        share = (self.fixed_gates(name) or [1.0 / count])[0]
        b = share * b if not config.shared_a else share * b.view(len(b), count, -1).sum(1)
        start.first_a.copy_(self.hydralora_A[name].weight)
        start.first_b.copy_(b)

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
        x = self._cast_input_dtype(x, heads.weight.dtype)
        update = heads(self._gated(x, name))
        if name in self.hydralora_start:
            update = update - self.hydralora_start[name](x)
        return (update * self.scaling[name]).to(dtype)

    def _gated(self, x: Tensor, name: str) -> Tensor:
        """``u = g (x) A x`` ``(..., N r)``: every head's share of the narrow product."""
        config, count, dropout = self.options[name], self.num_experts[name], self.hydralora_dropout[name]
        place = config.dropout_place if self.training and config.lora_dropout else "input"
        hidden = None
        if place != "input_per_head" or (config.routes and config.router_input != "x"):
            hidden = self.hydralora_A[name](dropout(x) if place == "input" else x)  # (..., r) or (..., N r)
        gates = self._gates(x, hidden, name)
        if place == "input_per_head" or hidden is None:
            hidden = self._masked_apart(x, name)
        else:
            hidden = hidden.unsqueeze(-2) if config.shared_a else hidden.unflatten(-1, (count, -1))
        if place == "heads":
            hidden = dropout(hidden.expand(*hidden.shape[:-2], count, -1))
        if gates is None:
            return hidden.expand(*hidden.shape[:-2], count, -1).flatten(-2)
        return (gates.to(hidden.dtype).unsqueeze(-1) * hidden).flatten(-2)

    def _masked_apart(self, x: Tensor, name: str) -> Tensor:
        """``A_i drop_i(x)`` ``(..., N, r)``: a mask of ``x`` for every head, as the authors' loop draws them."""
        a, count = self.hydralora_A[name].weight, self.num_experts[name]
        rows = [a] * count if self.options[name].shared_a else a.chunk(count)
        dropout = self.hydralora_dropout[name]
        return torch.stack([functional.linear(dropout(x), own) for own in rows], -2)

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
