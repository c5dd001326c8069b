"""Put an adapter of any method into a base model, find its targets, count its parameters."""

from __future__ import annotations

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
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import nn
from transformers import set_seed
from transformers.pytorch_utils import Conv1D

from hydralora.adapters.compose import composed_config
from hydralora.adapters.files import check_folder
from hydralora.adapters.full import full_config, tie_copies, tied_weights
from hydralora.adapters.new_tokens import token_indices
from hydralora.bases.fingerprint import fingerprint
from hydralora.bounds import sentences
from hydralora.errors import AdapterError, first_line
from hydralora.methods import METHODS
from hydralora.options import HubOptions, MethodOptions
from hydralora.results import AdapterFacts
from hydralora.tuner.config import HydraLoraConfig
from hydralora.tuner.passes import is_seq2seq
from hydralora.tuner.targets import is_base_router


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
        linear = isinstance(module, (nn.Linear, Conv1D)) and module is not output
        if inside and linear and not is_base_router(model, name):
            names.append(name.rsplit(".", 1)[-1])
    found = list(dict.fromkeys(names))
    if not found:
        raise AdapterError(
            f"{type(model).__name__} has no linear layer inside numbered blocks. Name `target_modules` yourself."
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


def check_saved(model: nn.Module, names: list[str], targets: list[str]) -> None:
    """Refuse layers that cannot be trained whole: unknown ones, adapted ones, groups of layers, and tied ones.

    Raises:
        AdapterError: Naming the layer and the way out.
    """
    tied = {name.rpartition(".")[0]: same for same in tied_weights(model) for name in same}
    layers = [(name, module) for name, module in model.named_modules() if name]
    for wanted in names:
        found = [(name, module) for name, module in layers if name == wanted or name.endswith(f".{wanted}")]
        if not found:
            known = dict.fromkeys(n.rsplit(".", 1)[-1] for n, m in layers if any(True for _ in m.parameters(False)))
            raise AdapterError(f"No layer is called '{wanted}'. This model has: {', '.join(known)}.")
        for name, module in found:
            if any(True for _ in module.children()) or not any(True for _ in module.parameters()):
                raise AdapterError(
                    f"'{name}' ({type(module).__name__}) is no single layer with weights, so `modules_to_save` cannot "
                    "hold it. Name the layers in it."
                )
            if name in tied:
                raise AdapterError(
                    f"Layer '{name}' shares its weights ({' and '.join(tied[name])}), so it cannot be trained alone by "
                    "`modules_to_save`. Leave it out, or take full fine-tuning."
                )
            if any(name == target or name.endswith(f".{target}") for target in targets):
                raise AdapterError(
                    f"Layer '{name}' is named by `target_modules` and `modules_to_save`, and is adapted or trained "
                    "whole. Name it in one of them."
                )


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
                    f"Layer '{name}': `r` must be between 1 and {min(width, out)} for a {out}x{width} "
                    f"layer, got {rank}."
                )


def check_options(method: str, options: MethodOptions | dict[str, Any] | None) -> MethodOptions:
    """A method's options, checked where they are not yet.

    Raises:
        AdapterError: When the method does not exist, or an option is wrong.
    """
    if method not in METHODS:
        raise AdapterError(f"Method '{method}' is unknown. Choose one of: {', '.join(METHODS)}.")
    kind = METHODS[method].options
    if isinstance(options, kind):
        return options
    if isinstance(options, MethodOptions):
        raise AdapterError(f"Method '{method}' takes {kind.__name__}, got {type(options).__name__}.")
    try:
        return kind.model_validate(options or {})
    except ValidationError as error:
        raise AdapterError(sentences(error.errors())) from error


def adapter_config(
    model: Any,
    method: str,
    options: MethodOptions | dict[str, Any] | None,
    steps: int = 1000,
    sources: list[Path] | None = None,
    tokenizer: Any = None,
) -> PeftConfig:
    """The PEFT configuration of a method with its options.

    Args:
        tokenizer: The base's own, where tokens are trained.
        steps: Optimizer steps planned; AdaLoRA spreads its pruning over them.
        sources: Folders of the finished LoRAs that LoRAHub mixes.

    Raises:
        AdapterError: When the method or a target does not exist, or an option is wrong.
    """
    chosen = check_options(method, options)
    tuner = METHODS[method].tuner
    if tuner == "FULL":
        return full_config(model)
    if isinstance(chosen, HubOptions):
        return composed_config(sources or [], chosen.average)
    values = chosen.layer_values()
    if "target_modules" in values:
        if values["target_modules"]:
            check_targets(model, values["target_modules"])
        elif tuner != "IA3":
            whole = values.get("modules_to_save") or []
            values["target_modules"] = [name for name in find_targets(model) if name not in whole]
    if tokens := values.pop("trainable_tokens", None):
        values["trainable_token_indices"] = token_indices(model, tokenizer, tokens)
    if values.get("modules_to_save"):
        check_saved(model, values["modules_to_save"], values["target_modules"])
    if tuner in ("HYDRALORA", "LORA", "ADALORA"):
        check_rank(model, values["target_modules"], max(values[name] for name in RANKS if name in values))
    if tuner == "ADALORA":
        values |= pruning_schedule(steps)
    return CONFIGS[tuner](**{**values, **METHODS[method].fixed}, task_type=task_type(model))


def task_type(model: nn.Module) -> str:
    """PEFT's word for what a model does: it goes on with a text, or reads one and writes another."""
    return "SEQ_2_SEQ_LM" if is_seq2seq(model) else "CAUSAL_LM"


CONFIGS: dict[str, type[PeftConfig]] = {
    "HYDRALORA": HydraLoraConfig,
    "LORA": LoraConfig,
    "ADALORA": AdaLoraConfig,
    "IA3": IA3Config,
    "PROMPT_TUNING": PromptTuningConfig,
    "P_TUNING": PromptEncoderConfig,
    "PREFIX_TUNING": PrefixTuningConfig,
}
RANKS = ("r", "target_r", "init_r")


def pruning_schedule(steps: int) -> dict[str, int]:
    """When AdaLoRA prunes: from a tenth of the ``steps`` on, the last quarter of them no more, a hundred times."""
    return {
        "total_step": max(steps, 10),
        "tinit": steps // 10,
        "tfinal": steps // 4,
        "deltaT": max(1, steps // 100),
    }


def add_adapter(
    model: Any,
    method: str,
    options: MethodOptions | dict[str, Any] | None = None,
    *,
    seed: int = 0,
    steps: int = 1000,
    sources: list[Path] | None = None,
    tokenizer: Any = None,
) -> PeftModel:
    """A ``PeftModel`` with a fresh adapter of ``method``; the same seed gives the same weights.

    Raises:
        AdapterError: When the method, a target or a rank does not fit the model, or an option is wrong.
    """
    config = adapter_config(model, method, options, steps, sources, tokenizer)
    tied = tied_weights(model) if method == "full" else []
    set_seed(seed)
    adapted = get_peft_model(model, config)
    tie_copies(adapted, tied)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise AdapterError(f"Layer '{name}' starts with NaN. Choose another `dtype`.")
    return adapted


def open_adapter(base: Any, adapter: Path) -> PeftModel:
    """A saved adapter on its base, ready to answer.

    Raises:
        AdapterError: When the file is missing, pickled or damaged, or was made for another base.
    """
    check_folder(adapter)
    facts = AdapterFacts.find(adapter)
    known = facts.base_fingerprint if facts is not None else None  # None too where it was imported
    if facts is not None and not fingerprint(base).fits(known):
        raise AdapterError(
            f"This adapter was trained on another base model ({facts.config.base} as it was then) than the one "
            "loaded. Put that base back, or train again."
        )
    try:
        return PeftModel.from_pretrained(base, adapter).eval()
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise AdapterError(
            f"The adapter of {adapter.parent.name} does not fit its base or is damaged: {first_line(error)}."
        ) from error
