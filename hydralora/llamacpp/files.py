"""Write GGUF: whole models in f16 or q8_0, and plain LoRAs beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFType
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from hydralora.errors import AdapterError, BaseModelError
from hydralora.llamacpp.architectures import Weights, as_f16
from hydralora.llamacpp.vocabulary import describe_vocabulary
from hydralora.plain import shown

TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
BLOCK = 32  # numbers that share a scale in q8_0


def write_model(model: Any, tokenizer: Any, file: Path, kind: str, *, name: str) -> None:
    """A model with its tokenizer and chat template as one GGUF file.

    Matrices are stored as ``kind`` says; in q8_0, rows that are no multiple of 32 stay f16. Vectors stay float32.

    Raises:
        BaseModelError: When its architecture or tokenizer is not one that llama.cpp computes alike.
    """
    if kind not in TYPES:
        raise BaseModelError(f"`kind` of a GGUF file must be one of {', '.join(TYPES)}, got {shown(kind)}.")
    weights = Weights(model.config)
    writer = gguf.GGUFWriter(file, weights.kind.gguf)
    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    weights.describe(writer)
    rows = model.get_input_embeddings().weight.shape[0]
    writer.add_vocab_size(rows)
    describe_vocabulary(writer, tokenizer, rows)
    for place, weight in weights.of_model(model):
        _add(writer, place, weight, kind)
    _finish(writer)


def _add(writer: gguf.GGUFWriter, name: str, weight: Tensor, kind: str) -> None:
    if weight.dim() < 2:
        writer.add_tensor(name, weight.float().numpy())
    elif kind == "q8_0" and weight.shape[-1] % BLOCK == 0:
        packed = gguf.quants.quantize(weight.float().numpy(), GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name, as_f16(name, weight))


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_lora(model: PeftModel, file: Path, *, name: str) -> None:
    """The active plain LoRA of a model as a GGUF file that llama.cpp lays over the base.

    llama.cpp adds ``alpha / r' B A`` with one ``alpha`` for the file and ``r'`` the rank of each pair
    (https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py), so a layer's own scale ``s`` stands in
    its B: ``B' = s r' / alpha B``, with ``alpha`` the largest rank.

    Raises:
        AdapterError: When it is no plain LoRA, or changes what such a file cannot hold.
        BaseModelError: When the base's architecture is none that is written as GGUF.
    """
    active = model.active_adapters[0]
    weights, pairs = Weights(model.get_base_model().config), lora_pairs(model, active)
    tied = bool(model.get_base_model().config.tie_word_embeddings)
    alpha = float(max(a.shape[0] for a, _, _ in pairs.values()))
    writer = gguf.GGUFWriter(file, weights.kind.gguf)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for layer, (a, b, scale) in pairs.items():
        if layer == "lm_head" and tied:
            raise AdapterError(
                "This adapter changes `lm_head`, which this base shares with its embeddings; llama.cpp has no place "
                "for it. Export it merged."
            )
        weight = f"{layer}.weight"
        place, rank = weights.name(weight), a.shape[0]
        writer.add_tensor(f"{place}.lora_a", _numbers(a))
        writer.add_tensor(f"{place}.lora_b", _numbers(weights.ordered(weight, b) * (scale * rank / alpha)))
    _finish(writer)


def _numbers(matrix: Tensor) -> np.ndarray:
    return np.ascontiguousarray(matrix.float().numpy())


@torch.no_grad()
def lora_pairs(model: PeftModel, name: str) -> dict[str, tuple[Tensor, Tensor, float]]:
    """A ``(r, in)``, B ``(out, r)`` and scale of each layer that a plain LoRA adapts, by the layer's name.

    Raises:
        AdapterError: When the adapter is no plain LoRA, or trains more than these.
    """
    config = model.peft_config[name]
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA" or config.use_dora:
        raise AdapterError("Only plain LoRAs are written as GGUF adapters. Export this one merged.")
    if config.modules_to_save or config.trainable_token_indices or config.bias != "none":
        raise AdapterError(
            "This adapter also trains whole layers, rows of the embeddings or biases, which a GGUF adapter cannot "
            "hold. Export it merged."
        )
    found = {}
    for path, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and name in layer.scaling:
            if not isinstance(layer.get_base_layer(), nn.Linear):
                raise AdapterError(f"Layer {shown(path)} is no linear layer, which a GGUF adapter cannot hold.")
            a, b = (side[name].weight.detach().cpu() for side in (layer.lora_A, layer.lora_B))
            found[path] = (a, b, float(layer.scaling[name]))
    if not found:
        raise AdapterError("This adapter changes no linear layer. Use its own files.")
    return found
