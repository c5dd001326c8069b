"""The A and B matrices of an adapter on disk, streamed from safetensors one layer at a time.

Read are HydraLoRA and its siblings, PEFT's LoRA and AdaLoRA, and files that name their heads as
the authors' code does (``lora_B0``, ``lora_B1``, ...,
https://github.com/Clin0212/HydraLoRA/blob/afb693b/HydraLoRA/peft/tuners/lora.py#L277), if they
were written as safetensors: pickled files are never opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from hydralora.adapters.files import check_folder
from hydralora.adapters.schema import read_settings
from hydralora.errors import AdapterError
from hydralora.files import CONFIG, WEIGHTS

A_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<kind>hydralora|lora)_A(?P<tail>(?:\.\w+)?\.weight|\.\w+|)$"
)
LAYER = re.compile(r"\.(\d+)\.")


@dataclass
class Module:
    """The matrices of one adapted layer, as float32: A ``(r, in)`` and heads ``(N, out, r)``.

    Where each head has an A of its own, A is ``(N r, in)`` and ``shared_a`` is False.
    """

    name: str
    a: torch.Tensor
    heads: torch.Tensor
    shared_a: bool = True

    @property
    def layer(self) -> int:
        """Number of the transformer block, -1 where the name holds none."""
        found = LAYER.search(f".{self.name}.")
        return int(found.group(1)) if found else -1

    @property
    def kind(self) -> str:
        """Last part of the name: ``gate_proj``, ``q_proj``, ..."""
        return self.name.rsplit(".", 1)[-1]


def read_modules(adapter: Path) -> Iterator[Module]:
    """Stream the adapted layers of a saved adapter in model order, one in memory at a time.

    Raises:
        AdapterError: When the file is missing, truncated, pickled, or holds no A and B matrices.
    """
    check_folder(adapter)
    experts = _count_experts(adapter)
    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            keys = set(file.keys())
            for name, key in _pairs(keys):
                yield _module(name, key, keys, file, experts)
    except SafetensorError as error:
        raise AdapterError(f"The adapter file is damaged: {error}. Save the adapter again.") from error


def count_modules(adapter: Path) -> int:
    """How many adapted layers ``read_modules`` will give; reads names only.

    Raises:
        AdapterError: As ``read_modules``.
    """
    check_folder(adapter)
    try:
        with safe_open(adapter / WEIGHTS, framework="pt") as file:
            return len(_pairs(set(file.keys())))
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{adapter.name} has no readable {WEIGHTS}. Save the adapter again.") from error


def _pairs(keys: set[str]) -> list[tuple[str, str]]:
    """Layer names with the key of their A, in model order."""
    pairs = [(m["module"], key) for key in keys if (m := A_KEY.match(key))]
    if not pairs:
        raise AdapterError(
            "This adapter has no A and B matrices (its method adds none), so there is "
            "nothing to compare here; its losses and answers can still be seen."
        )
    return sorted(pairs, key=lambda pair: _natural(pair[0]))


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _count_experts(adapter: Path) -> int:
    """Heads of each layer, from the adapter's configuration; methods with one head do not say."""
    try:
        return int(read_settings(adapter / CONFIG).get("num_experts") or 1)
    except (OSError, ValueError) as error:
        raise AdapterError(f"{adapter.name} has no readable adapter_config.json. Save the adapter again.") from error


def _module(name: str, key: str, keys: set[str], file: Any, experts: int) -> Module:
    found = A_KEY.match(key)
    assert found is not None
    stem, tail = key[: found.start("kind")], found["tail"]
    a = file.get_tensor(key).float()
    numbered = list(takewhile(keys.__contains__, (f"{stem}lora_B{i}{tail}" for i in count())))
    if numbered:  # the authors' names
        return Module(name, a, torch.stack([file.get_tensor(k).float() for k in numbered]))
    partner = f"{stem}{found['kind']}_B{tail}"
    if partner not in keys:
        raise AdapterError(f"Layer '{name}' has an A but no B matrix. Save the adapter again.")
    b = file.get_tensor(partner).float()
    scale = f"{stem}lora_E{tail}"
    if scale in keys:  # AdaLoRA: W0 + B diag(E) A
        a = a * file.get_tensor(scale).float().reshape(-1, 1)
    if b.shape[1] % experts:
        raise AdapterError(f"Layer '{name}': B has {b.shape[1]} columns, which are not {experts} equal heads.")
    rank = b.shape[1] // experts
    heads = b.reshape(b.shape[0], experts, rank).permute(1, 0, 2).contiguous()
    return Module(name, a, heads, shared_a=a.shape[0] == rank)
