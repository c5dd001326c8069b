"""Bases from GGUF files, the format of llama.cpp: unpacked once, and kept as safetensors like any other base."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

from hydralora.errors import BaseModelError, first_line
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_TENSORS, MOST_FACTS = 100_000, 100_000
HEAD = struct.Struct("<4sIQQ")  # magic, version, tensors, facts about the model


def check_gguf(file: Path) -> None:
    """Refuse what is no GGUF file, or says of itself more than one can hold; only its head is read.

    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises:
        BaseModelError: With the file and the value.
    """
    try:
        with file.open("rb") as reader:
            head = reader.read(HEAD.size)
    except OSError as error:
        raise BaseModelError(f"{file.name} cannot be read ({error.strerror or error}). Check the path.") from error
    if head[:4] != MAGIC:
        raise BaseModelError(f"{file.name} is no GGUF file: it begins with {head[:4]!r}. Get the model again.")
    if len(head) < HEAD.size:
        raise BaseModelError(f"{file.name} ends after {len(head)} bytes. Get the model again.")
    _, version, tensors, facts = HEAD.unpack(head)
    if version not in VERSIONS:
        raise BaseModelError(f"{file.name} is GGUF version {version}; known are {VERSIONS}. Get another file of it.")
    if not 0 < tensors <= MOST_TENSORS or not 0 < facts <= MOST_FACTS:
        raise BaseModelError(
            f"{file.name} claims {tensors:,} weights and {facts:,} facts; at most {MOST_TENSORS:,} and {MOST_FACTS:,} "
            "are read. Get the model again."
        )


def convert_gguf(file: Path, folder: Path, *, name: str = "", progress: Progress = SILENT) -> Path:
    """Unpack a GGUF file into a base in bfloat16 at ``folder``: configuration, tokenizer with template, safetensors.

    Quantised weights become the numbers they stand for, so nothing is lost that the file still has; what quantising
    has lost stays lost.

    Args:
        name: What the model is called; the file's name where empty.

    Raises:
        BaseModelError: When it is damaged, or of an architecture that transformers cannot read from GGUF.
        StoppedError: When asked to stop; nothing is kept.
    """
    check_gguf(file)
    title = name or file.name
    if find_spec("gguf") is None:
        raise BaseModelError(f"{title} is read by the package gguf, which is not installed. Install it first.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    progress.step(0.02, f"Reading {title}", "The conversion")
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        progress.step(0.4, "Unpacking the weights", "The conversion")
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            trust_remote_code=False,
        )
    except Exception as error:  # the readers raise what they happen to meet in a damaged file
        raise BaseModelError(
            f"{title} cannot be read as a model: {first_line(error).rstrip('.')}. Get the file again, or a model of an "
            "architecture that transformers reads from GGUF."
        ) from error
    rows = model.get_input_embeddings().weight.shape[0]
    check_vocabulary(title, tokenizer.vocab_size, rows)
    progress.step(0.8, "Writing safetensors", "The conversion")
    with written_aside(folder) as aside:
        aside.mkdir(parents=True)
        model.config._name_or_path = title
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        _forget_packing(aside / "config.json")
        _drop_tokens(aside / "tokenizer.json", rows)
    return folder


def check_vocabulary(name: str, tokens: int, rows: int) -> None:
    """Refuse a tokenizer that makes tokens which the model has no embedding for.

    Raises:
        BaseModelError: With both numbers.
    """
    if tokens > rows:
        raise BaseModelError(
            f"{name}: the tokenizer knows {tokens:,} tokens and the model has embeddings for {rows:,}, so they do not "
            "belong together. Get the model again."
        )


def _drop_tokens(tokenizer: Path, rows: int) -> None:
    """Tokens that transformers adds for some kinds of tokenizer, though the model has no embedding for them."""
    values = json.loads(tokenizer.read_text("utf-8"))
    values["added_tokens"] = [token for token in values["added_tokens"] if token["id"] < rows]
    tokenizer.write_text(json.dumps(values, ensure_ascii=False), "utf-8")


def _forget_packing(config: Path) -> None:
    """What was unpacked is no quantised model any more."""
    values = json.loads(config.read_text("utf-8"))
    values.pop("quantization_config", None)
    config.write_text(json.dumps(values, indent=2), "utf-8")
