"""Several finished LoRAs as one: their weighted mixture, set anew for any weights in place.

- ``factors``: ``A = sum_i w_i A_i``, ``B = sum_i w_i B_i``, as the authors of LoRAHub do. The rank stays r, but
  the product also holds the cross terms ``w_i w_j B_i A_j``.
- ``updates``: ``B A = sum_i w_i B_i A_i`` exactly, by laying the parts side by side; the rank is n r.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hydralora.bases.fingerprint import Fingerprint
from hydralora.errors import AdapterError
from hydralora.files import WEIGHTS
from hydralora.results import AdapterFacts

FIXED = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")  # equal in all sources


def composed_config(sources: list[Path], average: str) -> LoraConfig:
    """The configuration of a mixture of ``sources``.

    Raises:
        AdapterError: When there is none, one is no plain LoRA, or they differ in rank or scaling.
    """
    if not sources:
        raise AdapterError("LoRAHub mixes finished LoRAs, but none was given. Name the runs in `sources`.")
    configs = [_read_config(source) for source in sources]
    first = configs[0]
    for source, config in zip(sources, configs, strict=True):
        for name in FIXED:
            if getattr(config, name) != getattr(first, name):
                raise AdapterError(
                    f"`{name}` of {_name(source)} is {getattr(config, name)}, but {_name(sources[0])} has "
                    f"{getattr(first, name)}. Only LoRAs of equal shape can be mixed."
                )
    times = len(sources) if average == "updates" else 1
    grown = math.sqrt(times) if first.use_rslora else times  # keeps the scaling
    return LoraConfig(
        r=first.r * times,
        lora_alpha=first.lora_alpha * grown,
        use_rslora=first.use_rslora,
        target_modules=first.target_modules,
        fan_in_fan_out=first.fan_in_fan_out,
        rank_pattern={name: rank * times for name, rank in first.rank_pattern.items()},
        alpha_pattern={name: alpha * grown for name, alpha in first.alpha_pattern.items()},
        task_type=first.task_type,
    )


def _read_config(source: Path) -> LoraConfig:
    try:
        config = PeftConfig.from_pretrained(str(source))
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise AdapterError(f"{_name(source)} has no readable adapter. Wait for that run, or leave it out.") from error
    plain = type(config) is LoraConfig and not (config.modules_to_save or config.use_dora or config.bias != "none")
    if not plain:
        raise AdapterError(f"{_name(source)} is no plain LoRA, and only those can be mixed. Choose runs of LoRA.")
    return config


def _name(source: Path) -> str:
    """How a source is called in messages: its run folder."""
    return f"source '{source.parent.name if source.name == 'adapter' else source.name}'"


class Composition:
    """The mixture in ``model``; ``set_weights`` changes it in place.

    Raises:
        AdapterError: When a source was made for another base, its file is damaged, or a layer does not fit.
    """

    def __init__(
        self, model: PeftModel, sources: list[Path], average: str, base_fingerprint: Fingerprint | None = None
    ) -> None:
        self.average, self.count = average, len(sources)
        files = [_read_weights(source, base_fingerprint) for source in sources]
        self.layers: list[tuple[LoraLayer, Tensor, Tensor]] = []  # with A (n, r, in) and B (n, out, r)
        for name, layer in model.named_modules():
            if isinstance(layer, LoraLayer):
                parts = [
                    [_take(file, f"{name}.{key}.weight", source) for file, source in zip(files, sources, strict=True)]
                    for key in ("lora_A", "lora_B")
                ]
                weight = layer.lora_A[model.active_adapter].weight
                self.layers.append((layer, *(_stack(part, name).to(weight) for part in parts)))
        self.name = model.active_adapter
        self.set_weights([0.0] * self.count)

    @torch.no_grad()
    def set_weights(self, weights: list[float]) -> None:
        """Mix with these weights, one for each source."""
        for layer, a, b in self.layers:
            w = torch.tensor(weights, dtype=a.dtype, device=a.device).view(-1, 1, 1)
            mixed_a, mixed_b = layer.lora_A[self.name].weight, layer.lora_B[self.name].weight
            if self.average == "factors":
                mixed_a.copy_((w * a).sum(0))
                mixed_b.copy_((w * b).sum(0))
            else:
                mixed_a.copy_(a.flatten(0, 1))  # (n r, in)
                mixed_b.copy_((w * b).permute(1, 0, 2).flatten(1))  # (out, n r)


def _read_weights(source: Path, base_fingerprint: Fingerprint | None) -> dict[str, Tensor]:
    facts = AdapterFacts.find(source)
    if facts and base_fingerprint and not base_fingerprint.fits(facts.base_fingerprint):
        raise AdapterError(
            f"{_name(source)} was trained on another base ({facts.config.base}). Choose runs on the same base."
        )
    try:
        return load_file(source / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"The adapter file of {_name(source)} is missing or damaged. Train it again.") from error


def _take(file: dict[str, Any], key: str, source: Path) -> Tensor:
    if key not in file:
        raise AdapterError(f"{_name(source)} has no weight '{key}'. Only LoRAs on the same layers can be mixed.")
    return file[key]


def _stack(parts: list[Tensor], name: str) -> Tensor:
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        raise AdapterError(f"Layer '{name}' has shapes {sorted(shapes)}. Only LoRAs of equal shape can be mixed.")
    return torch.stack(parts)
