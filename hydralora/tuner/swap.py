"""What PEFT's helpers do for its own LoRA layers alone, for routed ones: weights swapped in place, another scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights
from torch import nn

from hydralora.errors import AdapterError
from hydralora.plain import shown
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.layer import HydraLoraLinear
from hydralora.tuner.routed import RoutedLayer

# Fields that say nothing of what the weights that are there compute.
UNLIKE = {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version", "task_type"}


def swap_adapter(model: PeftModel, folder: Path | str, name: str = "default") -> None:
    """Give the adapter ``name`` the weights of the saved one in ``folder``, in place: nothing is compiled anew.

    PEFT's ``hotswap_adapter`` does so for LoRA alone.

    Raises:
        AdapterError: When the two differ in a setting or a shape, or the adapter is merged; nothing is changed then.
    """
    config, own = PeftConfig.from_pretrained(str(folder)), model.peft_config[name]
    if not isinstance(config, HydraLoraConfig) or not isinstance(own, HydraLoraConfig):
        kind = own if isinstance(config, HydraLoraConfig) else config
        raise AdapterError(f"Only routed adapters are swapped here, and one is a {kind.peft_type}. Use `load_adapter`.")
    for field in fields(HydraLoraConfig):
        before, after = getattr(own, field.name), getattr(config, field.name)
        if field.name not in UNLIKE and before != after:
            raise AdapterError(
                f"`{field.name}` of '{name}' is {shown(before)}, and of the adapter to swap in {shown(after)}. Load it "
                "beside the other with `load_adapter`."
            )
    if any(name in layer.merged_adapters for layer in model.modules() if isinstance(layer, RoutedLayer)):
        raise AdapterError(f"Adapter '{name}' is merged into the base. Call `unmerge_adapter()` first.")
    weights, there = load_peft_weights(str(folder), device="cpu"), get_peft_model_state_dict(model, adapter_name=name)
    for key in {**there, **weights}:
        shapes = [tuple(part[key].shape) if key in part else "missing" for part in (there, weights)]
        if shapes[0] != shapes[1]:
            raise AdapterError(
                f"'{key}' is {shapes[0]} in '{name}' and {shapes[1]} in the file. Load it beside with `load_adapter`."
            )
    set_peft_model_state_dict(model, weights, adapter_name=name)


@contextmanager
def scale_adapters(model: nn.Module, factor: float) -> Iterator[None]:
    """Inside, the update of every routed adapter is ``factor`` times what it is.

    PEFT's ``rescale_adapter_scale`` does so for its LoRA layers alone.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, RoutedLayer)]
    if not layers:
        raise AdapterError("This model has no routed adapter to scale. Use PEFT's `rescale_adapter_scale` for a LoRA.")
    before = [layer.scaling for layer in layers]
    for layer in layers:
        layer.scaling = {name: _times(scale, factor) for name, scale in layer.scaling.items()}
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling = scaling


def _times(scale: Any, factor: float) -> Any:
    """A scale, or those of several parameters, times a factor."""
    return {each: one * factor for each, one in scale.items()} if isinstance(scale, dict) else scale * factor


def lora_fa_optimizer(
    model: nn.Module, lr: float = 1e-3, weight_decay: float = 0.0, **options: Any
) -> torch.optim.AdamW:
    """LoRA-FA for routed adapters: A stays as it was drawn, and B's gradient is the one that changes ``s B A`` best.

    ``dB_i = (1 / s^2) g_i (A A^T)^-1`` solves ``min |s dB_i A - G_i|`` for the gradient ``G_i`` of the head's whole
    update (Zhang et al. 2023, https://arxiv.org/abs/2308.03303; the projection as in PEFT's optimizer, which pairs
    weights by the letters ``lora`` in their names and so takes ours for others). Routers learn by AdamW as they are.

    Raises:
        AdapterError: When there is no routed linear layer, or an adapter stands beside stacked experts.
    """
    layers = [module for module in model.modules() if isinstance(module, RoutedLayer)]
    other = next((layer for layer in layers if not isinstance(layer, HydraLoraLinear)), None)
    if other is not None or not layers:
        what = f"'{other.name}' stands beside stacked experts" if other is not None else "this model has none"
        raise AdapterError(f"LoRA-FA is for routed linear layers, and {what}. Use AdamW.")
    pairs = [(layer, name) for layer in layers for name in layer.active_adapters if name in layer.hydralora_A]
    for layer, name in pairs:
        layer.hydralora_A[name].requires_grad_(False)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, **options)
    raw: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def project(*_: Any) -> None:
        for layer, name in pairs:
            b = layer.hydralora_B[name].weight
            if b.grad is not None:
                raw.append((b, b.grad))
                b.grad = projected(layer, name)

    def put_back(*_: Any) -> None:  # who steps twice without clearing gradients projects the same ones
        for weight, grad in raw:
            weight.grad = grad
        raw.clear()

    optimizer.register_step_pre_hook(project)
    optimizer.register_step_post_hook(put_back)
    return optimizer


@torch.no_grad()
def projected(layer: Any, name: str) -> torch.Tensor:
    """LoRA-FA's gradient of B ``(out, N r)``."""
    a, b, count = layer.hydralora_A[name].weight.float(), layer.hydralora_B[name].weight, layer.num_experts[name]
    each = a.unsqueeze(0).expand(count, -1, -1) if layer.options[name].shared_a else a.view(count, -1, a.shape[1])
    gram = each @ each.transpose(1, 2)  # (N, r, r)
    inverse = torch.linalg.pinv(gram + 1e-8 * torch.eye(gram.shape[-1], device=a.device))
    grad = b.grad.float().view(len(b), count, -1).transpose(0, 1)  # (N, out, r)
    found = (grad @ inverse) / layer.scaling[name] ** 2
    return found.transpose(0, 1).reshape(b.shape).to(b.dtype)
