"""Full fine-tuning as an adapter: every weight of the base has a trained copy beside the frozen one.

PEFT's own ``modules_to_save``, for every module that holds weights, and nothing else. So the base stays
in memory (one more copy of it) and a full fine-tuning is saved, loaded, resumed, switched off and compared
with its base like any adapter; ``merge_and_unload`` gives the whole model.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from peft import LoraConfig, PeftModel
from peft.utils.constants import DUMMY_TARGET_MODULES
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from hydralora.errors import AdapterError


def full_config(model: nn.Module) -> LoraConfig:
    """The configuration that trains a copy of every module with weights.

    Raises:
        AdapterError: When a module with weights of its own also holds other modules.
    """
    names = []
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            if any(True for _ in module.children()):
                raise AdapterError(
                    f"Layer '{name}' ({type(module).__name__}) holds weights beside other layers, which full "
                    "fine-tuning cannot copy one by one. Use another base, or an adapter."
                )
            names.append(name.rsplit(".", 1)[-1])
    return LoraConfig(
        target_modules=DUMMY_TARGET_MODULES, modules_to_save=list(dict.fromkeys(names)), task_type="CAUSAL_LM"
    )


def tied_weights(model: nn.Module) -> list[list[str]]:
    """Names of parameters that are one and the same, such as the embedding and the output layer."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, weight in model.named_parameters(remove_duplicate=False):
        names[id(weight)].append(name)
    return [same for same in names.values() if len(same) > 1]


def tie_copies(adapted: PeftModel, tied: list[list[str]]) -> None:
    """Make the trained copies of tied weights one parameter again; PEFT copies each."""
    base, adapter = adapted.get_base_model(), adapted.active_adapter
    for same in tied:
        first, *others = (name.rpartition(".") for name in same)
        shared = getattr(_copy_of(base, first[0], adapter), first[2])
        for module, _, weight in others:
            setattr(_copy_of(base, module, adapter), weight, shared)


def drop_copies(base: nn.Module) -> None:
    """Put the frozen originals back in place of their copies, which PEFT's ``unload`` would keep instead."""
    for name, module in list(base.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            setattr(base.get_submodule(parent), last, module.original_module)


def _copy_of(base: Any, module: str, adapter: str) -> Any:
    """The trained copy that PEFT keeps of a module (``modules_to_save``)."""
    return base.get_submodule(module).modules_to_save[adapter]
