"""Which models are written as GGUF, what llama.cpp calls their weights, and what it must know of their shape.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md names the facts; the package gguf knows the names of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from hydralora.errors import BaseModelError
from hydralora.plain import shown

LARGEST_F16 = 65_504.0


@dataclass(frozen=True)
class Architecture:
    """A kind of model that llama.cpp can compute.

    Args:
        title: What people call it.
        gguf: llama.cpp's name of it.
        is_interleaved: Whether llama.cpp rotates neighbouring pairs of a head where transformers rotates its two
            halves, so that the rows of q and k stand in another order there.
    """

    title: str
    gguf: str
    is_interleaved: bool


# By transformers' `model_type`.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("Llama", "llama", is_interleaved=True),
    "mistral": Architecture("Mistral", "llama", is_interleaved=True),
    "qwen2": Architecture("Qwen2", "qwen2", is_interleaved=False),
    "qwen3": Architecture("Qwen3", "qwen3", is_interleaved=False),
}
ROPES = ("default", "linear", "llama3")


def architecture_of(config: Any) -> Architecture:
    """What llama.cpp computes a model of this configuration with.

    Raises:
        BaseModelError: When it is not among ``ARCHITECTURES``, or differs from them in what llama.cpp would pass over.
    """
    known = ", ".join(sorted({kind.title for kind in ARCHITECTURES.values()}))
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise BaseModelError(
            f"Models of the kind {shown(config.model_type)} are not written as GGUF; these are: {known}. "
            "Export safetensors."
        )
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or []
    slides = "sliding_attention" in layers or (config.model_type == "mistral" and window is not None)
    wrong = {
        "hidden_act": None if config.hidden_act in ("silu", "swish") else config.hidden_act,
        "sliding_window": window if slides and window < config.max_position_embeddings else None,
        "rope_type": None if rope_of(config)["rope_type"] in ROPES else rope_of(config)["rope_type"],
    }
    name = next((name for name, value in wrong.items() if value is not None), None)
    if name is not None:
        raise BaseModelError(
            f"`{name}` of this base is {shown(wrong[name])}, which is not written as GGUF here. Export safetensors."
        )
    return found


def rope_of(config: Any) -> dict[str, Any]:
    """How positions are rotated, with its kind."""
    return {"rope_type": "default", **(config.rope_parameters or {})}


def head_width(config: Any) -> int:
    """Numbers of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class Weights:
    """Weights of one configuration under llama.cpp's names and in its order of rows."""

    def __init__(self, config: Any) -> None:
        self.config, self.kind = config, architecture_of(config)
        arch = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == self.kind.gguf)
        self._names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)

    def name(self, name: str) -> str:
        """llama.cpp's name of a weight.

        Raises:
            BaseModelError: When it has none.
        """
        found = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise BaseModelError(f"llama.cpp has no place for the weight {shown(name)} of {self.kind.title} models.")
        return str(found)

    def ordered(self, name: str, weight: Tensor) -> Tensor:
        """A weight or bias ``(out, ...)`` with its rows as llama.cpp reads them."""
        part = name.rsplit(".", 2)[-2] if "." in name else ""
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}.get(part)
        return interleaved(weight, heads) if heads and self.kind.is_interleaved else weight

    def of_model(self, model: Any) -> Iterator[tuple[str, Tensor]]:
        """Every weight of a model with its name; one that is tied to another stands once."""
        tied = bool(self.config.tie_word_embeddings)
        for name, weight in model.state_dict().items():
            if tied and name == "lm_head.weight":
                continue
            yield self.name(name), self.ordered(name, weight.detach().cpu())
        factors = self.frequency_factors()
        if factors is not None:
            yield "rope_freqs.weight", factors

    def frequency_factors(self) -> Tensor | None:
        """``(width / 2,)``: how much slower each pair of a head turns than it usually would, where Llama 3 says so."""
        if rope_of(self.config)["rope_type"] != "llama3":
            return None
        slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](self.config, torch.device("cpu"))
        width = head_width(self.config)
        usual = rope_of(self.config)["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
        return usual / slowed.float()

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write what llama.cpp must know of the model's shape."""
        config, rope = self.config, rope_of(self.config)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head_width(config))
        writer.add_value_length(head_width(config))
        writer.add_rope_dimension_count(head_width(config))
        writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows ``(heads x width, ...)``, each head's two halves, as pairs that stand beside each other.

    Row ``2 i + j`` of a head is row ``j width / 2 + i`` of before, j in {0, 1}: the order of Meta's own Llama files.
    """
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).transpose(1, 2).reshape(shape)


def as_f16(name: str, weight: Tensor) -> np.ndarray:
    """A weight as 16-bit floats.

    Raises:
        BaseModelError: When a number in it is too large for them.
    """
    largest = float(weight.abs().max()) if weight.numel() else 0.0
    if not largest <= LARGEST_F16:  # NaN too
        raise BaseModelError(
            f"The weight {shown(name)} holds {largest:,.0f}, and f16 reaches to {LARGEST_F16:,.0f}. Export safetensors."
        )
    return weight.to(torch.float16).numpy()
