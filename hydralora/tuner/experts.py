"""Heads beside the experts of a mixture that are stacked into parameters: ``target_parameters``.

Transformers keeps the experts of Mixtral, Qwen3-MoE, OLMoE, GPT-OSS, DeepSeek-V3 and others as parameters
``(experts, out, in)``, or ``(experts, in, out)``, and multiplies them by one of several kernels. None of these can add
an update that differs from token to token, so here each expert computes its tokens in torch's own operations:
``W_e x + s sum_i g_i(h) B_ie A_e x``.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn
from torch.nn import functional

from hydralora.errors import AdapterError
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.passes import Pass
from hydralora.tuner.register import register_when_ready
from hydralora.tuner.routed import RoutedLayer

# What transformers' `use_experts_implementation` says of a module of experts, all of which a forward pass asks for.
ASKED = ("num_experts", "has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "_apply_gate")
INSIDE = ("gate_up_proj", "up_proj", "down_proj")  # the parameters that an expert multiplies with


class HydraLoraExperts(RoutedLayer):
    """A frozen module of experts, and heads beside one or several of its parameters.

    Every expert e has matrices of its own; the gates are one set for all of them. The router reads what enters the
    module, ``h`` ``(tokens, hidden)``, also for heads beside the expert's second product, and knows nothing of which
    experts the base's own router chose. Stored per adapter:

    - ``hydralora_A``: for each parameter ``(E, r, in)``, or ``(E, N r, in)`` where each head has its own A;
    - ``hydralora_B``: for each parameter ``(E, out, N r)``;
    - ``hydralora_router``: ``(N, hidden)``, where a router decides.
    """

    adapter_layer_names = ("hydralora_A", "hydralora_B", "hydralora_router")
    other_param_names = ("r", "num_experts", "scaling", "options", "blocks", "hydralora_dropout")

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        name: str,
        config: HydraLoraConfig,
        parameters: list[str],
        now: Pass,
    ) -> None:
        super().__init__(base_layer, name, now)
        check_experts(base_layer, name)
        self.r: dict[str, dict[str, int]] = {}  # by adapter and parameter
        self.scaling: dict[str, dict[str, float]] = {}
        up = "gate_up_proj" if base_layer.has_gate else "up_proj"
        self.in_features = self._sizes(up)[0]
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config, parameters)

    def _sizes(self, parameter: str) -> tuple[int, int]:
        """Numbers that go into and come out of an expert's product."""
        _, out, wide = self.get_base_layer().get_parameter(parameter).shape
        return (out, wide) if self.get_base_layer().is_transposed else (wide, out)

    def update_layer(self, adapter_name: str, config: HydraLoraConfig, parameters: list[str], **kwargs: Any) -> None:
        """Add the matrices of one adapter."""
        self._check(config, parameters)
        base, heads = self.get_base_layer(), config.num_experts
        ranks = {each: config.rank(f"{self.name}.{each}") for each in parameters}
        self.r[adapter_name], self.num_experts[adapter_name], self.options[adapter_name] = ranks, heads, config
        self.scaling[adapter_name] = {each: config.scaling(f"{self.name}.{each}", ranks[each]) for each in parameters}
        dropout = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        self.hydralora_dropout[adapter_name] = dropout
        a, b = nn.ParameterDict(), nn.ParameterDict()
        for each, rank in ranks.items():
            wide, out = self._sizes(each)
            a[each] = nn.Parameter(torch.empty(base.num_experts, rank if config.shared_a else rank * heads, wide))
            b[each] = nn.Parameter(torch.empty(base.num_experts, out, heads * rank))
        self.hydralora_A[adapter_name], self.hydralora_B[adapter_name] = a, b
        self._make_router(adapter_name, config, self.in_features)
        self.reset_adapter(adapter_name)
        weight = base.get_parameter(parameters[0])
        for part in (self.hydralora_A, self.hydralora_B, self.hydralora_router):
            if adapter_name in part and not weight.is_meta and not a[parameters[0]].is_meta:
                part[adapter_name].to(device=weight.device, dtype=weight.dtype)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _check(self, config: HydraLoraConfig, parameters: list[str]) -> None:
        odd = [each for each in parameters if each not in INSIDE]
        if odd:
            raise AdapterError(
                f"`target_parameters` matches '{self.name}.{odd[0]}', which no expert multiplies with. Name "
                f"{', '.join(each for each in INSIDE if hasattr(self.get_base_layer(), each))}."
            )
        wrong = None
        if config.routes and config.router_input != "x":
            wrong = ("router_input", config.router_input, "its A x is another for every expert; use x")
        elif config.head_init == "offset":
            wrong = ("head_init", "offset", "a start for every expert is not kept; use centred or zero")
        elif config.head_mask and config.head_compensation == "cosine":
            wrong = ("head_compensation", "cosine", "outputs of heads differ from expert to expert; use share")
        if wrong is not None:
            raise AdapterError(f"Layer '{self.name}': `{wrong[0]}` {wrong[1]} is not for stacked experts: {wrong[2]}.")

    @torch.no_grad()
    def reset_adapter(self, adapter_name: str) -> None:
        """Draw the starting values of one adapter."""
        config, count = self.options[adapter_name], self.num_experts[adapter_name]
        self._draw_router(adapter_name)
        for each, a in self.hydralora_A[adapter_name].items():
            b = self.hydralora_B[adapter_name][each]
            nn.init.uniform_(a, -(a.shape[-1] ** -0.5), a.shape[-1] ** -0.5)
            if not config.init_weights:
                nn.init.uniform_(b, -(b.shape[-1] ** -0.5), b.shape[-1] ** -0.5)
            elif config.head_init == "zero":
                nn.init.zeros_(b)
            else:
                scale = b.shape[1] ** 0.25 / config.head_init_gamma**0.5
                nn.init.normal_(a, std=scale / math.sqrt(a.shape[-1]))
                nn.init.normal_(b, std=scale / math.sqrt(b.shape[1]))
                heads = b.unflatten(-1, (count, -1))
                b -= heads.mean(-2, keepdim=True).expand_as(heads).flatten(-2)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the base's experts make of their tokens, with the heads of the adapters at work.

        Raises:
            AdapterError: Where experts are spread over devices, or examples have adapters of their own.
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        plain = self.disable_adapters or self.merged
        names = [] if plain else [name for name in self.active_adapters if name in self.hydralora_A]
        if self.now.mixed and not plain:
            raise AdapterError(
                f"Layer '{self.name}' sees tokens and not examples, so `adapter_names` cannot be told apart in it. "
                "Leave `adapter_names` out."
            )
        base = self.get_base_layer()
        if not names:
            return self.base_layer(*args, **kwargs)
        if getattr(base, "_is_expert_parallel", False):
            raise AdapterError(f"Layer '{self.name}' is spread over devices by expert. Load the base without that.")
        hidden, index, weights = inspect.signature(type(base).forward).bind(base, *args, **kwargs).args[1:4]
        return self._mixed(hidden.reshape(-1, hidden.shape[-1]), index, weights, names).view(hidden.shape)

    def _mixed(self, hidden: Tensor, index: Tensor, weights: Tensor, names: list[str]) -> Tensor:
        """Output ``(tokens, hidden)``; ``index`` and ``weights`` ``(tokens, k)`` are the base router's choice."""
        gates = {name: self._gates(self._cast_input_dtype(hidden, self._type(name)), None, name) for name in names}
        order = index.reshape(-1).argsort(stable=True)  # (tokens k), by expert
        counts = torch.bincount(index.reshape(-1), minlength=self.get_base_layer().num_experts).tolist()
        tokens = (order // index.shape[-1]).split(counts)
        parts = [self._expert(e, hidden[own], own, gates) for e, own in enumerate(tokens) if len(own)]
        outputs = torch.cat(parts) * weights.reshape(-1)[order].unsqueeze(-1)
        return outputs[order.argsort()].view(*index.shape, -1).sum(1).to(hidden.dtype)

    def _type(self, name: str) -> torch.dtype:
        return next(iter(self.hydralora_B[name].values())).dtype

    def _expert(self, e: int, x: Tensor, own: Tensor, gates: dict[str, Tensor | None]) -> Tensor:
        """Output ``(own tokens, hidden)`` of expert e for its tokens, whose numbers are ``own``."""
        base = self.get_base_layer()
        gates = {name: None if all_gates is None else all_gates[own] for name, all_gates in gates.items()}
        if base.has_gate:
            x = base._apply_gate(self._product("gate_up_proj", e, x, gates))
        else:
            x = base.act_fn(self._product("up_proj", e, x, gates))
        x = self._product("down_proj", e, x, gates)
        return base.post_expert_norm(x) if base.has_post_expert_norm else x

    def _product(self, parameter: str, e: int, x: Tensor, gates: dict[str, Tensor | None]) -> Tensor:
        base = self.get_base_layer()
        weight = getattr(base, parameter)[e]
        bias = getattr(base, f"{parameter}_bias")[e] if base.has_bias else None
        y = functional.linear(x, weight.t() if base.is_transposed else weight, bias)
        for name, own in gates.items():
            if parameter in self.hydralora_A[name]:
                y = y + self._update(name, parameter, e, x, own).to(y.dtype)
        return y

    def _update(self, name: str, parameter: str, e: int, x: Tensor, gates: Tensor | None) -> Tensor:
        """``s B_e (g (x) A_e x)`` ``(tokens, out)``."""
        config, count, dropout = self.options[name], self.num_experts[name], self.hydralora_dropout[name]
        a, b = self.hydralora_A[name][parameter][e], self.hydralora_B[name][parameter][e]
        x = self._cast_input_dtype(x, b.dtype)
        if config.dropout_place == "input_per_head":
            rows = [a] * count if config.shared_a else a.chunk(count)
            narrow = torch.stack([functional.linear(dropout(x), own) for own in rows], -2)  # (tokens, N, r)
        else:
            per_head = config.dropout_place == "heads"
            narrow = functional.linear(x if per_head else dropout(x), a)
            narrow = narrow.unsqueeze(-2) if config.shared_a else narrow.unflatten(-1, (count, -1))
            narrow = narrow.expand(-1, count, -1)
            narrow = dropout(narrow) if per_head else narrow
        if gates is not None:
            narrow = narrow * gates.to(narrow.dtype).unsqueeze(-1)
        return functional.linear(narrow.flatten(-2), b) * self.scaling[name][parameter]

    def get_delta(self, name: str, parameter: str) -> Tensor:
        """``s sum_i g_i B_ie A_ie`` ``(E, out, in)`` of an adapter whose gates are fixed, as the base stores it.

        Raises:
            AdapterError: When a router decides per token, or an example's task; no single matrix equals that.
        """
        gates = self.check_fixed(name)
        a, b, count = self.hydralora_A[name][parameter], self.hydralora_B[name][parameter], self.num_experts[name]
        stacked = a.repeat(1, count, 1) if self.options[name].shared_a else a
        shares = torch.tensor(gates, dtype=b.dtype, device=b.device).repeat_interleave(self.r[name][parameter])
        delta = self.scaling[name][parameter] * torch.bmm(b * shares, stacked)
        return delta.transpose(1, 2) if self.get_base_layer().is_transposed else delta

    def check_merges(self, name: str) -> None:
        """Refuse what cannot be merged, before any weight is touched.

        Raises:
            AdapterError: When a router decides per token, or an example's task.
        """
        self.check_fixed(name)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the fixed updates of the adapters to the experts.

        Raises:
            AdapterError: When a router decides per token.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.hydralora_A:
                deltas = {each: self.get_delta(name, each) for each in self.hydralora_A[name]}
                if safe_merge and not all(torch.isfinite(delta).all() for delta in deltas.values()):
                    raise AdapterError(
                        f"Layer '{self.name}': NaNs detected in the merged weights. The adapter {name} seems to be "
                        "broken."
                    )
                for each, delta in deltas.items():
                    weight = self.get_base_layer().get_parameter(each)
                    weight.data += delta.to(weight.dtype)
                self.merged_adapters.append(name)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take merged updates off again."""
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            for each in self.hydralora_A[name]:
                weight = self.get_base_layer().get_parameter(each)
                weight.data -= self.get_delta(name, each).to(weight.dtype)

    def __repr__(self) -> str:
        return f"hydralora.{super().__repr__()}"


def check_experts(base: nn.Module, name: str) -> None:
    """Refuse a module whose parameters are not those of stacked experts that can be computed one by one.

    Raises:
        AdapterError: Naming the module, its kind and what it lacks.
    """
    missing = [asked for asked in ASKED if not hasattr(base, asked)]
    if missing:
        raise AdapterError(
            f"`target_parameters` matches parameters of '{name}', a {type(base).__name__}, which transformers does not "
            f"describe as stacked experts (no `{missing[0]}`), so heads cannot be put beside them. Name linear "
            "`target_modules`, or use PEFT's LoRA."
        )
    for each, weight in base.named_parameters(recurse=False):
        if each in INSIDE and (weight.dim() != 3 or not weight.is_floating_point()):
            raise AdapterError(
                f"'{name}.{each}' is {weight.dtype} of shape {tuple(weight.shape)}, and heads go beside experts kept "
                "as numbers, (experts, out, in). Load the base unquantised."
            )


register_when_ready()
