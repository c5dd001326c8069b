"""Read gate weights of a forward pass, and change them: mute, scale or force experts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hydralora.errors import AdapterError
from hydralora.tuner.routed import RoutedLayer


def gate_layers(model: nn.Module, adapter: str | None = None) -> dict[str, RoutedLayer]:
    """The layers whose gates are not fixed (a router, or heads by task), in model order.

    Args:
        adapter: The adapter that is meant; without it the one that is at work.

    Raises:
        AdapterError: When several routed adapters are at work and none was named, or the one named is not at work.
    """
    layers = [module for module in model.modules() if isinstance(module, RoutedLayer)]
    by_adapter: dict[str, dict[str, RoutedLayer]] = {}
    for layer in layers:
        for name in layer.active_adapters:
            if name in layer.hydralora_A and layer.fixed_gates(name) is None:
                by_adapter.setdefault(name, {})[layer.name] = layer
    if adapter is not None and layers and not any(adapter in layer.active_adapters for layer in layers):
        working = ", ".join(sorted({name for layer in layers for name in layer.active_adapters})) or "none"
        raise AdapterError(f"Adapter '{adapter}' is not at work; at work: {working}. Call `set_adapter` first.")
    if adapter is None and len(by_adapter) > 1:
        raise AdapterError(
            f"{len(by_adapter)} adapters with gates are at work: {', '.join(by_adapter)}. Say which one is meant by "
            "`adapter`."
        )
    return by_adapter.get(adapter, {}) if adapter is not None else next(iter(by_adapter.values()), {})


def whose(layer: RoutedLayer, adapter: str | None = None) -> str:
    """The adapter of a layer of ``gate_layers`` whose gates are meant."""
    routed = [name for name in layer.active_adapters if name in layer.hydralora_A]
    return adapter or next(name for name in routed if layer.fixed_gates(name) is None)


def can_cache(model: nn.Module) -> bool:
    """Whether ``generate`` may keep keys and values: not where a router pools over all earlier tokens."""
    pools = getattr(getattr(model, "base_model", None), "pools", None)
    return not (callable(pools) and pools())


def choose_heads(model: nn.Module, heads: Tensor | None) -> None:
    """Say the task ``heads[b]`` ``(batch,)`` of example b, from now on; -1 or None is none.

    With ``combine="hard"`` the head of the example's task alone speaks. The losses that ask for tasks (``task_weight``,
    ``balance_loss`` groups) take it from here too. Other adapters are left as they are.

    Raises:
        AdapterError: When a layer knows fewer tasks.
    """
    layers = [module for module in model.modules() if isinstance(module, RoutedLayer)]
    most = int(heads.max()) if heads is not None and len(heads) else -1
    for layer in layers if most >= 0 else []:
        for name in layer.active_adapters:
            known = layer.options[name].most_tasks if name in layer.options else None
            if known is not None and most >= known:
                raise AdapterError(
                    f"Layer '{layer.name}' knows {known} tasks, 0 to {known - 1}, but an example is of task {most}. "
                    "Raise `num_experts` (or name its group in `task_groups`), or use fewer tasks."
                )
    for layer in layers:
        layer.choice = heads


class GateCapture:
    """Context in which every routed layer keeps the gate weights of its last forward pass.

    The layer writes the gates it has just used into a buffer, so nothing is computed twice and
    what is shown is what was used.

    Args:
        model: A model with an adapter.
        enabled: False records nothing.
        adapter: Whose gates; needed where several routed adapters are at work.

    Raises:
        AdapterError: When it is not told whose gates are meant, and there are several.
    """

    def __init__(self, model: nn.Module, enabled: bool = True, adapter: str | None = None) -> None:
        self.layers = gate_layers(model, adapter) if enabled else {}
        self.names = list(self.layers)
        self.adapter = adapter
        self.rows: Tensor | None = None  # (layers, 1, experts), of `reserve`

    def __enter__(self) -> GateCapture:
        for layer in self.layers.values():
            layer.capture, layer.captured = True, whose(layer, self.adapter)
        self.forget()
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self.layers.values():
            layer.capture, layer.captured, layer.gate_row = False, None, None
        self.forget()
        self.rows = None

    def forget(self) -> None:
        """Drop what earlier passes left."""
        for layer in self.layers.values():
            layer.kept_gates.clear()
            layer.kept_real = None

    def reserve(self, rows: Tensor | None = None) -> Tensor | None:
        """Let passes over one token write their gates into one buffer that stays in place, as a CUDA graph needs it.

        From then on ``take`` gives the buffer's content where no longer pass came last. ``rows`` is the buffer
        ``(layers, 1, experts)`` of an earlier capture of the same layers. None comes back where nothing is routed.
        """
        layers = list(self.layers.values())
        if not layers:
            return None
        if rows is None:
            counts = [layer.num_experts[whose(layer, self.adapter)] for layer in layers]
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
        if self.rows is not None and not any(layer.kept_gates for layer in self.layers.values()):
            return self.rows.unsqueeze(1).clone()
        found = self.take_each()
        shapes = {tuple(gates.shape) for gates in found.values()}
        if len(shapes) > 1:
            raise AdapterError(
                f"Gates of the layers have different shapes ({', '.join(map(str, sorted(shapes)))}), as where a model "
                "reads one text and writes another. Take them one by one with `take_each`."
            )
        return torch.stack(list(found.values()))

    def take_each(self) -> dict[str, Tensor]:
        """Gates of the last forward pass by layer, each ``(batch, tokens, experts)``, and forget them.

        Raises:
            AdapterError: When no forward pass has happened since the last call.
        """
        if not self.layers or not all(layer.kept_gates for layer in self.layers.values()):
            raise AdapterError("No gate weights were captured. Run the model inside the context first.")
        found = {name: layer.kept_gates.pop() for name, layer in self.layers.items()}
        return {name: gates.unsqueeze(0) if gates.dim() == 2 else gates for name, gates in found.items()}

    def take_means(self) -> dict[str, list[float]]:
        """Mean gates of every layer over the tokens of the last pass that are not padding, and forget them.

        Raises:
            AdapterError: When no forward pass has happened since the last call.
        """
        masks = {name: layer.kept_real for name, layer in self.layers.items()}
        means = []
        for name, gates in self.take_each().items():
            real = masks[name]
            tokens = gates.flatten(0, -2) if real is None else gates[real.view(gates.shape[:-1])]  # (tokens, experts)
            means.append(tokens.mean(0))
        return {name: mean.tolist() for name, mean in zip(self.names, torch.stack(means).cpu(), strict=True)}


@contextmanager
def override_experts(
    model: nn.Module,
    factors: dict[int, float] | dict[str, dict[int, float]],
    force: int | dict[str, int] | None = None,
    adapter: str | None = None,
) -> Iterator[None]:
    """Multiply gate weights of experts inside the context: 0 mutes, 1 leaves, 2 doubles.

    Gates are not renormalised, so muting an expert equals deleting its head.

    Args:
        factors: ``{expert: factor}`` for every layer, or ``{layer name: {expert: factor}}``.
        force: Let this expert alone speak, with gate weight 1, in every layer (or in the layers
            named in ``factors``); or ``{layer name: expert}``.
        adapter: Whose experts; needed where several routed adapters are at work.

    Raises:
        AdapterError: When an expert or a layer does not exist, or it is not told whose experts are meant.
    """
    layers = gate_layers(model, adapter)
    plan = _plan(layers, factors)
    if isinstance(force, dict):
        plan = {**{name: {} for name in _known(layers, force)}, **plan}
    try:
        for name, changes in plan.items():
            layer = layers[name]
            layer.changed = whose(layer, adapter)
            count = layer.num_experts[layer.changed]
            forced = force.get(name) if isinstance(force, dict) else force
            _check_experts([*changes, *([] if forced is None else [forced])], count)
            row = torch.ones(count)
            for expert, factor in changes.items():
                row[expert] = factor
            layer.factors = row.to(next(layer.hydralora_B[layer.changed].parameters()).device)
            layer.forced = forced
            layer.change = _as_change(layer.factors, forced)
        yield
    finally:
        for layer in layers.values():
            layer.factors, layer.forced, layer.change, layer.changed = None, None, None, None


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
