"""Put an adapter of any method into a base model, find its targets, count its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors import SafetensorError
from torch import nn
from transformers import set_seed
from transformers.pytorch_utils import Conv1D

from hydralora.base import fingerprint, read_adapter_facts
from hydralora.checkpoints import WEIGHTS
from hydralora.compose import composed_config
from hydralora.errors import AdapterError, first_line
from hydralora.full import full_config, tie_copies, tied_weights
from hydralora.hydra_config import HydraLoraConfig
from hydralora.methods import METHODS

# Our options by the names that ``HydraLoraConfig`` gives them.
HYDRA_NAMES = {
    "rank": "r", "num_experts": "num_experts", "alpha": "lora_alpha", "dropout": "lora_dropout",
    "use_rslora": "use_rslora", "targets": "target_modules", "router_input": "router_input",
    "router_init": "router_init", "head_init": "head_init", "combine": "combine",
    "balance_weight": "balance_weight", "gamma": "head_init_gamma",
}  # fmt: skip
TRAINING_OPTIONS = ("noise", "stage_one", "tasks")  # of methods; they shape the training, not the layer


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters: trainable without the router, the router's own, and all in the model."""

    trainable: int
    router: int
    total: int

    @property
    def share(self) -> float:
        """Trainable parameters, router included, as a share of all."""
        return (self.trainable + self.router) / max(self.total, 1)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count trainable parameters with the router set apart (the papers leave it out).

    A frozen original beside its trained copy (full fine-tuning) is not counted.
    """
    trainable = router = total = 0
    for name, weight in model.named_parameters():
        total += weight.numel() * (".original_module." not in name)
        if weight.requires_grad:
            is_router = "hydralora_router" in name
            router += weight.numel() * is_router
            trainable += weight.numel() * (not is_router)
    return ParameterCount(trainable, router, total)


def find_targets(model: nn.Module) -> list[str]:
    """Last names of all linear layers inside the transformer blocks.

    The output layer, embeddings, routers of mixture models and stacked experts are left alone:
    only layers whose name holds a block number count.

    Raises:
        AdapterError: When the model has no such layer.
    """
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    names = []
    for name, module in model.named_modules():
        inside = any(part.isdigit() for part in name.split("."))
        if inside and isinstance(module, (nn.Linear, Conv1D)) and module is not output:
            names.append(name.rsplit(".", 1)[-1])
    found = list(dict.fromkeys(names))
    if not found:
        raise AdapterError(
            f"{type(model).__name__} has no linear layer inside numbered blocks. Name `targets` yourself."
        )
    return found


def check_targets(model: nn.Module, targets: list[str]) -> None:
    """Refuse names that no layer ends with.

    Raises:
        AdapterError: Naming the first unknown target and the ones there are.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in linear))
            raise AdapterError(f"No layer is called '{target}'. This model has: {', '.join(known)}.")


def check_rank(model: nn.Module, targets: list[str], rank: int) -> None:
    """Refuse a rank that one of the layers cannot have; PEFT would take it and waste the rest.

    Raises:
        AdapterError: Naming the layer, its size and the value.
    """
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and any(name == t or name.endswith(f".{t}") for t in targets):
            conv = isinstance(module, Conv1D)
            width, out = module.weight.shape if conv else (module.in_features, module.out_features)
            if rank > min(width, out):
                raise AdapterError(
                    f"Layer '{name}': `rank` must be between 1 and {min(width, out)} for a {out}x{width} layer, got {rank}."
                )


def adapter_config(
    model: Any, method: str, options: dict[str, Any], steps: int = 1000, sources: list[Path] | None = None
) -> PeftConfig:
    """The PEFT configuration of a method with checked options.

    Args:
        steps: Optimizer steps planned; AdaLoRA spreads its pruning over them.
        sources: Folders of the finished LoRAs that LoRAHub mixes.

    Raises:
        AdapterError: When the method or a target does not exist.
    """
    if method not in METHODS:
        raise AdapterError(f"Method '{method}' is unknown. Choose one of: {', '.join(METHODS)}.")
    chosen = METHODS[method].options(**options).model_dump()
    if method == "full":
        return full_config(model)
    if method == "lorahub":
        return composed_config(sources or [], chosen["average"])
    if "targets" in chosen:
        if chosen["targets"]:
            check_targets(model, chosen["targets"])
        elif method != "ia3":
            chosen["targets"] = find_targets(model)
    if "rank" in chosen and "num_experts" not in chosen:  # our own layer checks itself
        check_rank(model, chosen["targets"], max(chosen["rank"], chosen.get("initial_rank", 0)))
    return _BUILDERS[method](chosen, steps)


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _hydra(chosen: dict[str, Any], **fixed: Any) -> HydraLoraConfig:
    values = {HYDRA_NAMES[key]: value for key, value in chosen.items()}
    return HydraLoraConfig(**values, **fixed, task_type="CAUSAL_LM")


_BUILDERS: dict[str, Callable[[dict[str, Any], int], PeftConfig]] = {
    "hydralora": lambda o, steps: _hydra(o),
    "lora_split": lambda o, steps: _hydra(_without(o, *TRAINING_OPTIONS), shared_a=False),
    "lora_moe": lambda o, steps: _hydra(o, shared_a=False),
    "r_lora": lambda o, steps: _hydra(o, head_init="centred", router_init="zero", dropout_place="heads"),
    "lope": lambda o, steps: _hydra(
        _without(o, *TRAINING_OPTIONS), head_mask=[o["num_experts"] - 1], head_compensation="cosine"),
    "thanora": lambda o, steps: _BUILDERS["lora"](o, steps),
    "meta_lora": lambda o, steps: _BUILDERS["lora"](o, steps),
    "lora": lambda o, steps: LoraConfig(
        r=o["rank"], lora_alpha=o["alpha"], lora_dropout=o["dropout"], target_modules=o["targets"],
        use_rslora=o["use_rslora"], task_type="CAUSAL_LM"),
    "adalora": lambda o, steps: AdaLoraConfig(
        target_r=o["rank"], init_r=o["initial_rank"], lora_alpha=o["alpha"], lora_dropout=o["dropout"],
        target_modules=o["targets"], task_type="CAUSAL_LM", total_step=max(steps, 10), tinit=steps // 10,
        tfinal=steps // 4, deltaT=max(1, steps // 100)),
    "ia3": lambda o, steps: IA3Config(target_modules=o["targets"], task_type="CAUSAL_LM"),
    "prompt_tuning": lambda o, steps: PromptTuningConfig(
        num_virtual_tokens=o["virtual_tokens"], task_type="CAUSAL_LM"),
    "p_tuning": lambda o, steps: PromptEncoderConfig(
        num_virtual_tokens=o["virtual_tokens"], encoder_hidden_size=o["encoder_width"], task_type="CAUSAL_LM"),
    "prefix_tuning": lambda o, steps: PrefixTuningConfig(
        num_virtual_tokens=o["virtual_tokens"], task_type="CAUSAL_LM"),
}  # fmt: skip


def add_adapter(
    model: Any, method: str, options: dict[str, Any] | None = None, *, seed: int = 0, steps: int = 1000,
    sources: list[Path] | None = None,
) -> PeftModel:  # fmt: skip
    """A ``PeftModel`` with a fresh adapter of ``method``; the same seed gives the same weights.

    Raises:
        AdapterError: When the method, a target or a rank does not fit the model.
    """
    config = adapter_config(model, method, options or {}, steps, sources)
    tied = tied_weights(model) if method == "full" else []
    set_seed(seed)
    adapted = get_peft_model(model, config)
    tie_copies(adapted, tied)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise AdapterError(f"Layer '{name}' starts with NaN. Choose another `dtype`.")
    return adapted


def check_safetensors(adapter: Path) -> None:
    """Refuse an adapter folder without safetensors; PEFT would fall back to a pickle.

    Raises:
        AdapterError: Naming what is there instead.
    """
    if not (adapter / WEIGHTS).exists():
        pickled = sorted(path.name for path in adapter.glob("*.bin"))
        where = adapter.parent.name
        if pickled:
            raise AdapterError(
                f"{pickled[0]} of {where} is pickled, and pickled weights are never loaded. Save safetensors."
            )
        raise AdapterError(f"{where} holds no adapter_model.safetensors. Save the adapter again.")


def open_adapter(base: Any, adapter: Path) -> PeftModel:
    """A saved adapter on its base, ready to answer.

    Raises:
        AdapterError: When the file is missing, pickled or damaged, or was made for another base.
    """
    check_safetensors(adapter)
    facts = read_adapter_facts(adapter)
    known = facts["base_fingerprint"] if facts is not None else None  # None too where it was imported
    if facts is not None and known not in (None, fingerprint(base)):
        raise AdapterError(
            f"This adapter was trained on another base model ({facts['config']['base']} as it was then) than the one "
            "loaded. Put that base back, or train again."
        )
    try:
        return PeftModel.from_pretrained(base, adapter).eval()
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise AdapterError(
            f"The adapter of {adapter.parent.name} does not fit its base or is damaged: {first_line(error)}."
        ) from error
