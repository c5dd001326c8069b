"""Load base models and tell them apart. Safetensors only, and never a model's own code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from hydralora.base_folder import find_base
from hydralora.errors import BaseModelError, first_line

WIDTH_PER_THREAD = 128
ALL_THREADS = torch.get_num_threads()

transformers_logging.disable_progress_bar()


def choose_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_base(
    base: str, *, dtype: str = "float32", device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a frozen base model and its tokenizer.

    Raises:
        BaseModelError: When it cannot be found, fetched or read.
    """
    source = find_base(base)
    try:
        tokenizer = load_tokenizer(base)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(
            f"Base model '{base}' cannot be loaded: {first_line(error)}. "
            "Check the name, or download it first and give its folder."
        ) from error
    model.requires_grad_(False)
    return model.to(device or choose_device()), tokenizer


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(find_base(base), trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise BaseModelError(f"Base model '{base}' has no end token, so its answers could not stop.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fit_threads(base: str) -> int:
    """Let torch use as many CPU threads as pay off for a model of this width, and give their number.

    Threads wait for each other many times in one layer, which costs a small model more than they save: on two cores
    a training step takes 94 ms on one thread and 137 ms on two at width 128, 200 and 177 ms at 256, 2.1 and 1.3 s at
    1,024 (docs/performance.md). For processes that do nothing else; the library itself never calls it.
    """
    try:
        config = AutoConfig.from_pretrained(find_base(base), trust_remote_code=False)
        width = config.get_text_config().hidden_size
    except (OSError, ValueError, AttributeError, BaseModelError):
        width = WIDTH_PER_THREAD * ALL_THREADS  # whoever loads it says what is wrong
    threads = max(1, min(ALL_THREADS, width // WIDTH_PER_THREAD))
    torch.set_num_threads(threads)
    return threads


def context_length(model: PreTrainedModel) -> int:
    """Positions the model was made for, in tokens; 2,048 where its configuration does not say."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return 2048


def fingerprint(model: PreTrainedModel) -> str:
    """Sixteen hex digits that change with architecture or weights.

    SHA-256 over every weight's name and shape, and the first 64 values of each (as float32).
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        if weight.is_floating_point():
            digest.update(weight.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_adapter_facts(adapter: Path) -> dict[str, Any] | None:
    """What ``train_adapter`` wrote beside an adapter, or None for an adapter made elsewhere."""
    path = adapter / "run.json"
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return facts
