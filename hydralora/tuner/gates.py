"""Read gate weights of a forward pass, and change them: mute, scale or force experts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hydralora.errors import AdapterError
from hydralora.tuner.layer import HydraLoraLinear


def gate_layers(model: nn.Module) -> dict[str, HydraLoraLinear]:
    """The layers of the active adapter whose gates are not fixed (a router, or heads by task), in model order."""
    return {
        module.name: module
        for module in model.modules()
        if isinstance(module, HydraLoraLinear)
        and any(module.fixed_gates(name) is None for name in module.active_adapters if name in module.hydralora_A)
    }


def can_cache(model: nn.Module) -> bool:
    """Whether ``generate`` may keep keys and values: not where a router pools over all earlier tokens."""
    pools = getattr(getattr(model, "base_model", None), "pools", None)
    return not (callable(pools) and pools())


def choose_heads(model: nn.Module, heads: Tensor | None) -> None:
    """Let head ``heads[b]`` ``(batch,)`` alone speak for example b, from now on; -1 or None chooses none.

    For adapters with ``combine="hard"``; others are left as they are.
    """
    for module in model.modules():
        if isinstance(module, HydraLoraLinear):
            module.choice = heads


class GateCapture:
    """Context in which every routed layer keeps the gate weights of its last forward pass.

    The layer writes the gates it has just used into a buffer, so nothing is computed twice and
    what is shown is what was used.
    """

    def __init__(self, model: nn.Module, enabled: bool = True) -> None:
        self.layers = gate_layers(model) if enabled else {}
        self.names = list(self.layers)
        self.rows: Tensor | None = None  # (layers, 1, experts), of `reserve`

    def __enter__(self) -> GateCapture:
        for layer in self.layers.values():
            layer.capture = True
        self.forget()
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self.layers.values():
            layer.capture, layer.gate_row = False, None
        self.forget()
        self.rows = None

    def forget(self) -> None:
        """Drop what earlier passes left."""
        for layer in self.layers.values():
            layer.kept_gates.clear()

    def reserve(self, rows: Tensor | None = None) -> Tensor | None:
        """Let passes over one token write their gates into one buffer that stays in place, as a CUDA graph needs it.

        From then on ``take`` gives the buffer's content where no longer pass came last. ``rows`` is the buffer
        ``(layers, 1, experts)`` of an earlier capture of the same layers. None comes back where nothing is routed.
        """
        layers = list(self.layers.values())
        if not layers:
            return None
        if rows is None:
            counts = [max(layer.num_experts[name] for name in layer.active_adapters) for layer in layers]
            rows = torch.zeros(len(layers), 1, max(counts), device=next(layers[0].hydralora_B.parameters()).device)
        self.rows = rows
        for layer, row in zip(layers, rows, strict=True):
            layer.gate_row = row
        return rows

    def take(self) -> Tensor:
        """Gates of the last forward pass, ``(layers, batch, tokens, experts)``, and forget them.

        Raises:
            AdapterError: When no forward pass has happened since the last call.
        """
        kept = [layer.kept_gates for layer in self.layers.values()]
        if self.rows is not None and not any(kept):
            return self.rows.unsqueeze(1).clone()
        if not kept or not all(kept):
            raise AdapterError("No gate weights were captured. Run the model inside the context first.")
        found = [gates.pop() for gates in kept]
        return torch.stack([gates.unsqueeze(0) if gates.dim() == 2 else gates for gates in found])


@contextmanager
def override_experts(
    model: nn.Module,
    factors: dict[int, float] | dict[str, dict[int, float]],
    force: int | dict[str, int] | None = None,
) -> Iterator[None]:
    """Multiply gate weights of experts inside the context: 0 mutes, 1 leaves, 2 doubles.

    Gates are not renormalised, so muting an expert equals deleting its head.

    Args:
        factors: ``{expert: factor}`` for every layer, or ``{layer name: {expert: factor}}``.
        force: Let this expert alone speak, with gate weight 1, in every layer (or in the layers
            named in ``factors``); or ``{layer name: expert}``.

    Raises:
        AdapterError: When an expert or a layer does not exist.
    """
    layers = gate_layers(model)
    plan = _plan(layers, factors)
    if isinstance(force, dict):
        plan = {**{name: {} for name in _known(layers, force)}, **plan}
    try:
        for name, changes in plan.items():
            layer = layers[name]
            count = max(layer.num_experts[key] for key in layer.active_adapters)
            forced = force.get(name) if isinstance(force, dict) else force
            _check_experts([*changes, *([] if forced is None else [forced])], count)
            row = torch.ones(count)
            for expert, factor in changes.items():
                row[expert] = factor
            layer.factors = row.to(next(layer.hydralora_B[layer.active_adapters[0]].parameters()).device)
            layer.forced = forced
            layer.change = _as_change(layer.factors, forced)
        yield
    finally:
        for layer in layers.values():
            layer.factors, layer.forced, layer.change = None, None, None


def _as_change(factors: Tensor, forced: int | None) -> Tensor:
    """``(2, N)``: the factor and the summand of every gate that mute, scale and force experts."""
    if forced is None:
        return torch.stack((factors, torch.zeros_like(factors)))
    alone = torch.zeros_like(factors)
    alone[forced] = factors[forced]
    return torch.stack((torch.zeros_like(factors), alone))


def _plan(layers: dict[str, Any], factors: Any) -> dict[str, dict[int, float]]:
    if not layers:
        raise AdapterError("This adapter has no router, so no expert can be muted or forced.")
    if not any(isinstance(value, dict) for value in factors.values()):
        return {name: dict(factors) for name in layers}
    return {name: factors[name] for name in _known(layers, factors)}


def _known(layers: dict[str, Any], names: Iterable[str]) -> list[str]:
    unknown = [name for name in names if name not in layers]
    if unknown:
        raise AdapterError(f"Layer '{unknown[0]}' has no experts here. Known: {', '.join(layers)}.")
    return list(names)


def _check_experts(experts: list[int], count: int) -> None:
    wrong = [expert for expert in experts if not 0 <= expert < count]
    if wrong:
        raise AdapterError(f"`expert` must be between 0 and {count - 1}, got {wrong[0]}.")
