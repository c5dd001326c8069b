"""The frozen layer and its routed update as one function with a gradient of its own.

``y = W0 x + s B (g (x) A x)``. The update is added into the function's own output, the input's gradient of the
update into that of the frozen layer, and the gated ``u = g (x) A x`` ``(tokens, N r)`` is computed again in the
backward pass instead of being kept. Between the passes stay ``x``, the weights and the narrow ``h = [A x | logits]``
``(tokens, rows + N)``. ``HydraLoraLinear`` in plain torch operations is the reference: the same numbers, but for
the order of additions.
"""

from __future__ import annotations

import logging
from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from hydralora.tuner import routing, wide
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.routing import Plan

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hydralora.tuner.layer import HydraLoraLinear

# Options that a plan holds, that `usable` looks at, or that say nothing of what a layer computes.
UNDERSTOOD = frozenset(
    "r num_experts lora_alpha use_rslora rank_pattern alpha_pattern shared_a combine router_input "
    "lora_dropout dropout_place balance_weight balance_loss balance_delta balance_groups task_groups task_weight "
    "z_weight head_mask head_compensation compensation_top_k compensation_beta gate temperature "
    "router_init head_init head_init_gamma init_weights bias fan_in_fan_out "
    "target_modules exclude_modules modules_to_save layers_to_transform layers_pattern "
    "trainable_token_indices target_parameters "
    "task_type peft_type auto_mapping peft_version base_model_name_or_path revision inference_mode".split()
)


# A base of this type has its layers compute in it, whatever wider type the adapter is kept in: as under autocast.
# Not so float16, whose gradients would need scaling.
NARROW = torch.bfloat16


def make_plan(config: HydraLoraConfig, rank: int, scale: float) -> Plan | None:
    """What the function computes for an adapter of rank r and scale s; None where an option is not one of its own."""
    heads = config.num_experts
    unknown = []
    for option in fields(config):
        default = option.default if option.default_factory is MISSING else option.default_factory()
        if option.name not in UNDERSTOOD and getattr(config, option.name) != default:
            unknown.append(option.name)
    if config.gate not in ("softmax", "uniform"):
        unknown.append("gate")
    if config.head_init == "offset":
        unknown.append("head_init")
    if heads > 1 and (config.combine == "hard" or (config.routes and config.router_input == "pooled")):
        unknown.append("combine" if config.combine == "hard" else "router_input")
    if unknown:
        _say_slower(", ".join(f"`{name}` {getattr(config, name)!r}" for name in unknown))
        return None
    router_input = config.router_input if config.routes else ""
    share = 1.0 if config.combine == "sum" else 1.0 / heads
    return Plan(heads, rank, config.shared_a, router_input, share, scale)


@cache
def _say_slower(options: str) -> None:
    log.warning("With %s layers are computed by torch's own operations, which are slower.", options)


def usable(layer: HydraLoraLinear, x: Tensor, name: str) -> Plan | None:
    """The plan of the adapter ``name`` where nothing at work now needs the layer's torch operations, else None.

    Those remain for dropout and balance loss in training, silent heads, gradients of overridden ones, an input wider
    than the weights, what cannot follow the function (``_is_followed``), and weights that others wrap or gather.
    """
    plan, options = layer.plans[name], layer.options[name]
    if plan is None or (layer.change is not None and (torch.is_grad_enabled() or not plan.router_input)):
        return None
    if (options.lora_dropout or options.losses.any) if layer.training else options.head_mask:
        return None
    if layer.capture and not plan.router_input:
        return None
    if not _is_followed():
        return None
    is_cast = torch.is_autocast_enabled(x.device.type) or x.dtype == NARROW
    for module in _linears(layer, name):
        if module is not None and not (is_plain(module) and (is_cast or module._parameters["weight"].dtype == x.dtype)):
            return None
    scale = layer.scaling[name]
    return plan if plan.scale == scale else plan._replace(scale=scale)


def _linears(layer: HydraLoraLinear, name: str) -> tuple[nn.Linear, nn.Linear | None, nn.Linear]:
    """A, router and B of an adapter. By the dictionaries behind the names, which are ten times as fast to ask."""
    parts: Any = layer._modules
    return (
        parts["hydralora_A"]._modules[name],
        parts["hydralora_router"]._modules.get(name),
        parts["hydralora_B"]._modules[name],
    )


def _is_followed() -> bool:
    """Whether what runs this pass follows our function: no ``torch.func``, forward derivative, trace or export.

    Compiled passes go through torch's operations: Inductor cannot look into the function, and with it as an opaque
    operator a compiled layer cost 1.06 to 1.18 of LoRA's on an H200 (docs/gpu.json).
    """
    if torch.compiler.is_compiling():
        return False
    transformed = torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    return not (transformed or torch.jit.is_tracing())


def is_plain(module: nn.Module) -> bool:
    """Whether calling this linear layer is its product and nothing else: no hook, no wrapper, a whole plain weight."""
    if type(module) not in (nn.Linear, wide.WideLinear) or "forward" in module.__dict__ or _has_any_global_hook():
        return False
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    weight: Any = module._parameters["weight"]
    return type(weight) is nn.Parameter and weight.is_contiguous()  # kernels read row after row


def is_frozen(base: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the base layer's product can be computed here: a plain frozen linear layer of this type."""
    if not is_plain(base):
        return False
    return not any(w is not None and (w.requires_grad or w.dtype != dtype) for w in base._parameters.values())


def type_of(x: Tensor) -> torch.dtype:
    """What a linear layer computes in: autocast's type where it is on, the input's otherwise."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def run(layer: HydraLoraLinear, x: Tensor, name: str, plan: Plan, start: Tensor | None) -> Tensor:
    """Output ``(..., out)`` of a layer; ``start`` is the base layer's where it was called as a module."""
    down, router, up = _linears(layer, name)
    frozen = layer._modules["base_layer"]._parameters if start is None else {}  # type: ignore[union-attr]
    weights = (
        frozen.get("weight"),
        frozen.get("bias"),
        down._parameters["weight"],
        _cooled(router._parameters["weight"], layer.options[name].temperature) if router is not None else None,
        up._parameters["weight"],
    )
    dtype = type_of(x)
    is_narrow = wide.helps(x, dtype)
    is_cast = torch.is_autocast_enabled(x.device.type) or any(
        part is not None and part.dtype != dtype for part in weights
    )
    if not is_narrow and not is_cast:
        return _run(layer, x, name, start, weights, plan)
    # Casts have gradients, so each weight gets its gradient in its own type.
    parts = [None if part is None else part.to(dtype) for part in weights[:2]]
    parts += [None if part is None else part.to(torch.float32 if is_narrow else dtype) for part in weights[2:]]
    with torch.autocast(x.device.type, enabled=False):
        return _run(layer, x.to(dtype), name, start, tuple(parts), plan)


def _cooled(router: Tensor | None, temperature: float) -> Tensor | None:
    """A router ``(N, in)`` whose logits are divided by the temperature."""
    return router if router is None or temperature == 1.0 else router / temperature


def _run(layer: HydraLoraLinear, x: Tensor, name: str, start: Tensor | None, weights: Any, plan: Plan) -> Tensor:
    gates = layer.room_for_gates(x, plan.heads) if layer.keeps(name) else None
    if torch.is_grad_enabled():
        return RoutedLinear.apply(x, start, *weights, plan, gates)
    weight, bias, a, router, b = weights
    return compute(x, start, weight, bias, a, router, b, plan, gates, layer.change, keep=False)[0]


def compute(
    x: Tensor,
    start: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    plan: Plan,
    gates: Tensor | None,
    change: Tensor | None = None,
    *,
    keep: bool,
) -> tuple[Tensor, Tensor | None]:
    """Output ``(..., out)``, and ``h`` ``(tokens, rows + N)`` where it is to be kept; nothing has a gradient.

    Args:
        x: Input ``(..., in)``.
        start: Output ``(..., out)`` of a base layer that was called as a module; it is not changed.
        weight: ``(out, in)`` of the frozen layer, where it is computed here.
        bias: ``(out,)`` of it.
        a: ``(rows, in)``; rows are r, or N r where each head has an A of its own. What is computed is of its type, and
            the output of that of ``x``.
        router: ``(N, in)`` or ``(N, rows)``.
        b: The stacked heads ``(out, N r)``.
        plan: What is computed.
        gates: ``(tokens, N)`` float32 to be filled, where somebody looks.
        change: ``(2, N)`` float32, what gates are multiplied with and what is added; without a gradient only.
        keep: Whether a backward pass follows.
    """
    dense = x.contiguous().to(a.dtype)
    if start is None:
        y = wide.linear(dense, weight, bias)  # type: ignore[arg-type]
    else:
        y = start.to(a.dtype, copy=True, memory_format=torch.contiguous_format)
    flat, rows = y.view(-1, y.shape[-1]), dense.view(-1, x.shape[-1])
    hidden = routing.update(flat, rows, a, router, b, plan, gates, change, keep)
    return y.to(x.dtype), hidden


def gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    hidden: Tensor,
    plan: Plan,
    *,
    to_x: bool = True,
    to_a: bool = True,
    to_b: bool = True,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``x``; of what met it, ``(rows + N, in)``; of a router on ``A x``; of B ``(out, N r)``.

    ``grad`` is that of the output ``(..., out)``; the others are as in ``compute``.
    """
    rows, flat, many = x.reshape(-1, x.shape[-1]).to(a.dtype), grad.reshape(-1, grad.shape[-1]).to(a.dtype), a.shape[0]
    narrow, scaled = routing.gradients(hidden, flat, b, router, plan)  # (tokens, rows + N), s u (tokens, N r)
    grad_b = both = from_low = None
    if to_b:  # a CPU is faster with the long side last
        grad_b = flat.t() @ scaled if flat.is_cuda else (scaled.t() @ flat).t().contiguous()
    if to_a:
        both = (narrow if plan.router_input == "x" else narrow[:, :many]).t() @ rows
        from_low = narrow[:, many:].t() @ hidden[:, :many] if plan.router_input == "Ax" else None
    if not to_x:
        return None, both, from_low, grad_b
    if weight is None:
        grad_x = routing.through_down(narrow, a, router, plan)
    else:
        grad_x = routing.add_down(wide.times(flat, weight), narrow, a, router, plan)
    return grad_x.view(x.shape).to(x.dtype), both, from_low, grad_b


class RoutedLinear(torch.autograd.Function):
    """``(..., in)`` to ``(..., out)``: the frozen layer and one adapter; see the module."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        start: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        a: Tensor,
        router: Tensor | None,
        b: Tensor,
        plan: Plan,
        gates: Tensor | None,
    ) -> Tensor:
        """Output ``(..., out)``; the arguments are those of ``compute``."""
        y, hidden = compute(x, start, weight, bias, a, router, b, plan, gates, keep=True)
        ctx.save_for_backward(x, weight, bias, a, router, b, hidden)
        ctx.plan = plan
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of ``forward``'s arguments; differentiable themselves where a graph of them is asked for."""
        if torch.is_grad_enabled():
            return _by_torch(ctx, grad)
        x, weight, _, a, router, b, hidden = ctx.saved_tensors
        to_x, to_start, _, _, to_a, to_router, to_b, _, _ = ctx.needs_input_grad
        with wide.without_autocast(grad):
            grad_x, both, from_low, grad_b = gradients(
                grad, x, weight, a, router, b, hidden, ctx.plan, to_x=to_x, to_a=to_a or to_router, to_b=to_b
            )
        many = a.shape[0]
        grad_a = both[:many] if both is not None else None
        grad_router = both[many:] if both is not None and ctx.plan.router_input == "x" else from_low
        return grad_x, grad if to_start else None, None, None, grad_a, grad_router, grad_b, None, None


def _by_torch(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The backward pass as operations that have gradients themselves."""
    x, weight, bias, a, router, b, _ = ctx.saved_tensors
    rows = x.reshape(-1, x.shape[-1]).to(a.dtype)
    y = routing.mix(routing.project(rows, a, router, ctx.plan), ctx.plan) @ b.t() * ctx.plan.scale
    if weight is not None:
        y = y + functional.linear(rows, weight.to(a.dtype), bias if bias is None else bias.to(a.dtype))
    places = [place for place in (0, 4, 5, 6) if ctx.needs_input_grad[place]]
    inputs = {0: x, 4: a, 5: router, 6: b}
    found = torch.autograd.grad(
        y.view(grad.shape).to(grad.dtype), [inputs[place] for place in places], grad, create_graph=True
    )
    result: list[Tensor | None] = [None] * 9
    result[1] = grad if ctx.needs_input_grad[1] else None
    for place, gradient in zip(places, found, strict=True):
        result[place] = gradient
    return tuple(result)
