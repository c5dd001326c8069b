"""A routed adapter with constant gates as a plain LoRA, which PEFT alone loads.

With one A, ``B = s sum_i g_i B_i`` of the same rank; with an A for each head, the heads side by side,
``B = s [g_1 B_1 | ... | g_N B_N]``, rank N r. The start that R-LoRA's offset takes off stands beside them. The scaling
is folded into B, so ``lora_alpha = r``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hydralora.errors import AdapterError
from hydralora.files import WEIGHTS
from hydralora.tuner.gates import GateCapture
from hydralora.tuner.layer import HydraLoraLinear

Gates = dict[str, list[float]]  # constant gate weights by layer name, N each


def export_lora(model: Any, folder: Path, gates: Gates) -> None:
    """Save the active routed adapter of ``model`` as a plain LoRA with constant gates.

    Raises:
        AdapterError: When the adapter is none of ours, or trains whole layers too.
    """
    layers = [module for module in model.modules() if isinstance(module, HydraLoraLinear)]
    if not layers:
        raise AdapterError("This adapter has no heads to average. Use its own files, or export it `merged`.")
    name = model.active_adapters[0]
    if model.peft_config[name].target_parameters:
        raise AdapterError(
            "This adapter also has heads beside stacked experts (`target_parameters`), which are not written into a "
            "plain LoRA. Use its own files, or export it `merged` where its gates are fixed."
        )
    if model.peft_config[name].modules_to_save:
        raise AdapterError("This adapter also trains whole layers (`modules_to_save`), which a plain LoRA cannot hold.")
    if model.peft_config[name].trainable_token_indices:
        raise AdapterError(
            "This adapter also trains rows of the embeddings (`trainable_token_indices`), which are not written into a "
            "plain LoRA. Use its own files."
        )
    weights, ranks = {}, {}
    for layer in layers:
        a, b = plain_factors(layer, name, gates[layer.name])
        stem = f"base_model.model.{layer.name}"
        weights[f"{stem}.lora_A.weight"], weights[f"{stem}.lora_B.weight"] = a.contiguous().cpu(), b.contiguous().cpu()
        ranks[layer.name] = a.shape[0]
    rank = max(ranks.values())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    other = {layer: r for layer, r in ranks.items() if r != rank}
    LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=list(ranks),
        rank_pattern=other,
        alpha_pattern=other,
        lora_dropout=0.0,
        task_type=model.peft_config[name].task_type,
        inference_mode=True,
        fan_in_fan_out=isinstance(layers[0].get_base_layer(), Conv1D),
        base_model_name_or_path=model.peft_config[name].base_model_name_or_path,
    ).save_pretrained(folder)


@torch.no_grad()
def plain_factors(layer: HydraLoraLinear, name: str, gates: list[float]) -> tuple[Tensor, Tensor]:
    """A ``(r', in)`` and B ``(out, r')`` with ``B A = s sum_i gates_i B_i A_i``; r' is r, or N r where A's differ.

    Twice as much where the start of an adapter (``head_init`` offset) is taken off.
    """
    count, rank, scale = layer.num_experts[name], layer.r[name], layer.scaling[name]
    a, b = layer.hydralora_A[name].weight.detach(), layer.hydralora_B[name].weight.detach()
    share = torch.tensor(gates, dtype=torch.float64, device=b.device) * scale
    heads = b.double().view(-1, count, rank) * share[:, None]  # (out, N, r)
    plain = heads.sum(1) if layer.options[name].shared_a else heads.flatten(1)
    if name in layer.hydralora_start:  # what was taken off at the start stays taken off
        start = layer.hydralora_start[name]
        a = torch.cat((a, start.first_a.to(a)))
        plain = torch.cat((plain, -scale * start.first_b.double()), 1)
    return a, plain.to(b.dtype)


def masked(layer: HydraLoraLinear, name: str, gates: list[float]) -> list[float]:
    """Gates with heads that are silent at inference at zero; the others add up to what they do beside such heads."""
    options = layer.options[name]
    silent = set(options.head_mask or [])
    kept = [0.0 if head in silent else gate for head, gate in enumerate(gates)]
    taken = sum(gates) - sum(kept)
    if options.head_compensation == "cosine":
        taken *= options.compensation_beta if options.compensation_top_k else 0.0
    return [gate * (sum(kept) + taken) / sum(kept) for gate in kept]


def uniform_gates(model: Any) -> Gates:
    """Equal shares for every head that speaks at inference; fixed combinations keep theirs."""
    name, found = model.active_adapters[0], {}
    for layer in model.base_model.routed_layers():
        count = layer.num_experts[name]
        found[layer.name] = layer.fixed_gates(name) or masked(layer, name, [1.0 / count] * count)
    return found


def own_head(model: Any, head: int) -> Gates:
    """All of one head in every layer."""
    name = model.active_adapters[0]
    return {
        layer.name: [float(head == i) for i in range(layer.num_experts[name])]
        for layer in model.base_model.routed_layers()
    }


@torch.inference_mode()
def mean_gates(model: Any, batches: list[dict[str, Tensor]]) -> Gates:
    """Mean gate weights of every layer over all tokens of ``batches`` that are not padding.

    Raises:
        AdapterError: When there is no batch.
    """
    total: Tensor | None = None
    tokens = 0
    for batch in batches:
        with GateCapture(model) as capture:
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            gates, mask = capture.take().double(), batch["attention_mask"].bool()
        part = gates[:, mask].sum(1)  # (layers, N)
        total, tokens = part if total is None else total + part, tokens + int(mask.sum())
    if total is None:
        raise AdapterError("There is no example to average the gates over. Choose a corpus that fits this model.")
    return uniform_gates(model) | dict(zip(capture.names, (total / tokens).tolist(), strict=True))
