"""Read adapters that the authors' HydraLoRA code has saved, and keep them as ours.

Their files hold, for every adapted layer, ``lora_A.weight`` ``(r, in)``, ``lora_B0.weight`` ...
``lora_B{N-1}.weight`` ``(out, r)`` and ``lora_route.weight`` ``(N, in)``
(https://github.com/Clin0212/HydraLoRA/blob/afb693b/HydraLoRA/peft/tuners/lora.py#L279), and an
``adapter_config.json`` with ``r``, ``lora_alpha`` and ``lora_nums``. Their forward without dropout is
``W0 x + (lora_alpha / r) sum_i softmax(lora_route x)_i B_i A x``: ours with ``router_input="x"``.

They write ``adapter_model.bin``, a pickle, which can run code when it is read; it is never read here. Convert
it once in an environment you trust, see ``CONVERT``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hydralora.adapters.files import check_folder
from hydralora.adapters.schema import read_settings
from hydralora.errors import AdapterError
from hydralora.files import CONFIG, WEIGHTS
from hydralora.tuner.config import HydraLoraConfig

KEY = re.compile(r"^(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<part>A|B(?P<head>\d+)|route)(?:\.\w+)?\.weight$")
CONVERT = (
    "safetensors.torch.save_file({k: v.contiguous() for k, v in torch.load('adapter_model.bin', "
    "weights_only=True).items()}, 'adapter_model.safetensors')"
)

Layers = dict[str, dict[str, Tensor]]  # parts by layer: "A", "route", "B0", "B1", ...


def import_authors_adapter(folder: Path, out: Path, *, alpha: float | None = None) -> HydraLoraConfig:
    """Convert the adapter in ``folder`` and save it in ``out``, from where PEFT loads it as ours.

    R-LoRA's code, which names its weights alike, trains with ``lora_alpha / sqrt(r)`` and does not save that; where
    ``adapter_config.json`` says ``use_rslora`` it is taken over.

    Args:
        alpha: Numerator of the scaling, where there is no ``adapter_config.json`` that says it.

    Raises:
        AdapterError: When the file is missing, pickled, damaged, or not theirs; names layer and value.
    """
    layers = _read_layers(folder)
    stated = _read_settings(folder)
    rank = stated.get(
        "r", max((parts["A"].shape[0] for parts in layers.values() if "A" in parts and parts["A"].dim()), default=1)
    )
    alpha = alpha if alpha is not None else stated.get("lora_alpha")
    if alpha is None:
        raise AdapterError(
            "The adapter does not say its `lora_alpha`. Give `alpha`, as it was trained with, or write it into "
            "adapter_config.json."
        )
    for name, value in (("r", rank), ("lora_alpha", alpha), ("lora_dropout", stated.get("lora_dropout", 0.0))):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise AdapterError(f"adapter_config.json says `{name}` {value!r}, which is no number.")
    heads = _count_heads(layers, stated.get("lora_nums"))
    weights: dict[str, Tensor] = {}
    for name, parts in layers.items():
        _check_layer(name, parts, rank, heads)
        stacked = torch.stack([parts[f"B{head}"] for head in range(heads)], 1).flatten(1)  # (out, N r)
        stem = f"base_model.model.{name}.hydralora_"
        weights |= {f"{stem}A.weight": parts["A"].contiguous(), f"{stem}B.weight": stacked.contiguous()}
        if heads > 1:
            weights[f"{stem}router.weight"] = parts["route"].contiguous()
    config = HydraLoraConfig(
        r=rank,
        num_experts=heads,
        lora_alpha=float(alpha),
        lora_dropout=float(stated.get("lora_dropout", 0.0)),
        use_rslora=bool(stated.get("use_rslora", False)),
        router_input="x",
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=stated.get("base_model_name_or_path"),
    )
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / WEIGHTS, {"format": "pt"})
    config.save_pretrained(str(out))
    return config


def _read_layers(folder: Path) -> Layers:
    check_folder(folder, f"Convert it where you trust it: {CONVERT}.")
    try:
        file = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{WEIGHTS} is damaged ({error}). Copy or convert it again.") from error
    layers: Layers = {}
    for key, tensor in file.items():
        found = KEY.match(key)
        if found is None:
            raise AdapterError(
                f"'{key}' is no weight of an adapter by the authors' code (lora_A, lora_B0, lora_route)."
            )
        layers.setdefault(found["layer"], {})[found["part"]] = tensor
    if not layers:
        raise AdapterError(f"{WEIGHTS} is empty. Save the adapter again.")
    return layers


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        return {}
    try:
        return {key: value for key, value in read_settings(path).items() if value is not None}
    except (ValueError, OSError) as error:
        raise AdapterError(f"{CONFIG} {error}. Save the adapter again.") from error


def _count_heads(layers: Layers, stated: int | None) -> int:
    name, parts = next(iter(layers.items()))
    found = sum(part.startswith("B") for part in parts)
    if stated is not None and stated != found:
        raise AdapterError(f"Layer '{name}' has {found} heads, but adapter_config.json says `lora_nums` {stated}.")
    return found


def _check_layer(name: str, parts: dict[str, Tensor], rank: int, heads: int) -> None:
    """Refuse a layer whose parts are missing or of the wrong shape."""
    wanted = {"A", *(f"B{head}" for head in range(heads)), *(["route"] if heads > 1 else [])}
    missing = sorted(wanted - set(parts))
    if missing or len(parts) > len(wanted) + (heads == 1 and "route" in parts):
        what = f"misses lora_{missing[0]}" if missing else f"has more than the {heads} heads of the others"
        raise AdapterError(f"Layer '{name}' {what}. The file is not whole; save the adapter again.")
    flat = [part for part in wanted if parts[part].dim() != 2]
    if flat:
        raise AdapterError(
            f"Layer '{name}': lora_{flat[0]} has shape {tuple(parts[flat[0]].shape)}, expected a matrix."
        )
    width = parts["A"].shape[1]
    shapes = {"A": (rank, width), "route": (heads, width)}
    for part in wanted:
        expected = shapes.get(part, (parts["B0"].shape[0], rank))
        if tuple(parts[part].shape) != expected:
            raise AdapterError(
                f"Layer '{name}': lora_{part} has shape {tuple(parts[part].shape)}, expected {expected}."
            )
