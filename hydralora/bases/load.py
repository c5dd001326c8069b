"""Load base models and tell them apart. Safetensors only, and never a model's own code.

Whoever only wants a tokenizer need not wait for transformers' models, which take 120 MB: they are imported when loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from hydralora.bases.folder import (
    STARTER,
    check_files,
    check_folder,
    check_weights,
    find_base,
    local_folder,
    shown_base,
)
from hydralora.bases.hub import fetch_files, fetch_weights
from hydralora.bases.templates import prepare
from hydralora.errors import BaseModelError, first_line
from hydralora.tuner import wide

if TYPE_CHECKING:
    from transformers import PreTrainedModel

QUANTISED = ("int8", "nf4")
WIDTH_PER_THREAD = 128
ALL_THREADS = torch.get_num_threads()
# How many more parameters a configuration may describe than its files hold elements.
SPARE_SHARE, SPARE_WEIGHTS = 1.5, 2**20
MOST_PACKED = 16  # parameters in one stored element of a quantised model
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, MemoryError)  # of transformers and of hubs

transformers_logging.disable_progress_bar()


def choose_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_base(
    base: str, *, dtype: str = "float32", device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a frozen base model and its tokenizer.

    Args:
        dtype: float32, bfloat16, auto (bfloat16 on a GPU that has it, else float32), or the quantised int8
            (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339) and nf4 (Dettmers et al. 2023,
            https://arxiv.org/abs/2305.14314), which the package bitsandbytes makes.

    Raises:
        BaseModelError: When it cannot be found, fetched or read, or not in this type.
    """
    from transformers import AutoModelForCausalLM

    device = device or choose_device()
    number_format = _number_format(dtype, device)
    with _telling(base):
        source = locate(base, weights=True)
        tokenizer = load_tokenizer(base)
        prepare(tokenizer)
        check_size(base, source)
        model = AutoModelForCausalLM.from_pretrained(source.name, use_safetensors=True, **number_format, **source.how)
    model.requires_grad_(False)
    if dtype not in QUANTISED:
        model = model.to(device)
        if wide.is_slow():
            wide.widen(model)
        return model, tokenizer
    _try_quantised(model, base, dtype)
    return model, tokenizer


@torch.inference_mode()
def _try_quantised(model: PreTrainedModel, base: str, dtype: str) -> None:
    """Read one token: some processors cannot compute with some widths of layers, which shows at the first pass only."""
    try:
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device))
    except RuntimeError as error:
        raise BaseModelError(
            f"`dtype` is {dtype}, and base model '{shown_base(base)}' cannot be computed in it on this machine "
            f"({first_line(error).rstrip('.')}). Take float32, bfloat16 or another one."
        ) from error


def _number_format(dtype: str, device: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that load weights in a type."""
    wide = torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float32
    if dtype not in QUANTISED:
        return {"dtype": wide if dtype == "auto" else getattr(torch, dtype)}
    if find_spec("bitsandbytes") is None:
        raise BaseModelError(
            f"`dtype` is {dtype}, which needs the package bitsandbytes. Install it, or take bfloat16 or float32."
        )
    bits: dict[str, Any] = {"load_in_8bit": True}
    if dtype == "nf4":
        bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": wide}
    return {"dtype": wide, "quantization_config": BitsAndBytesConfig(**bits), "device_map": device}


@dataclass(frozen=True)
class Source:
    """Where transformers reads a base whose files have been checked: a folder, or a hub id at one revision."""

    name: str
    folder: Path

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of every ``from_pretrained``: the revision that was checked, and never a model's own code."""
        pinned = {} if Path(self.name).is_dir() else {"revision": self.folder.name}
        return {"trust_remote_code": False, **pinned}


def locate(base: str, *, weights: bool = False) -> Source:
    """Check the files of a base, fetching those of a hub id first; with ``weights`` the heads of the weights too.

    Raises:
        BaseModelError: When it cannot be found, or a file is not what may be loaded.
        OSError: When a hub cannot be reached.
    """
    local = STARTER if base == "starter" else local_folder(base)
    if local is not None:
        (check_folder if weights else check_files)(local, shown_base(base))
        return Source(str(local), local)
    name = find_base(base)
    folder = fetch_files(name)
    check_files(folder, base)
    if weights:
        fetch_weights(name, folder)
        check_folder(folder, base)
    return Source(name, folder)


def read_config(base: str) -> PretrainedConfig:
    """The configuration of a base, its files checked before.

    Raises:
        BaseModelError: When it is not what may be loaded.
        OSError, ValueError, KeyError: When transformers cannot read it.
    """
    source = locate(base)
    return AutoConfig.from_pretrained(source.name, **source.how)


def check_size(base: str, source: Source) -> None:
    """Refuse a base whose configuration describes far more parameters than its files hold.

    Parameters that no file holds would be made up at random, as large as the configuration says.

    Raises:
        BaseModelError: With both numbers.
    """
    config = AutoConfig.from_pretrained(source.name, **source.how)
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    asked = sum(weight.numel() for weight in model.parameters())
    held = check_weights(source.folder, shown_base(base), config.to_dict())
    packed = MOST_PACKED if getattr(config, "quantization_config", None) else 1
    # Tied embeddings are kept once.
    output = model.get_output_embeddings()
    spare = 0 if output is None else output.weight.numel()
    if asked > SPARE_SHARE * packed * held + spare + SPARE_WEIGHTS:
        raise BaseModelError(
            f"Base model '{shown_base(base)}' is not whole: config.json describes {asked:,} parameters and the files "
            f"hold {held:,}. Get the model again."
        )


@contextmanager
def _telling(base: str) -> Iterator[None]:
    """What transformers or the hub say, as a sentence about the base."""
    try:
        yield
    except BaseModelError:
        raise
    except LOAD_ERRORS as error:
        raise BaseModelError(
            f"Base model '{shown_base(base)}' cannot be loaded: {_without_path(error, base).rstrip('.')}. "
            "Check the name, or download it first and give its folder."
        ) from error


def _without_path(error: BaseException, base: str) -> str:
    return first_line(error).replace(str(local_folder(base) or base), shown_base(base))


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with a padding token.

    Raises:
        BaseModelError: When it cannot be found, fetched or read, has no end token, or its files are not what may be
            loaded.
    """
    with _telling(base):
        source = locate(base)
        tokenizer = AutoTokenizer.from_pretrained(source.name, **source.how)
    if tokenizer.eos_token_id is None:
        raise BaseModelError(f"Base model '{shown_base(base)}' has no end token, so its answers could not stop.")
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
        width = read_config(base).get_text_config().hidden_size
    except (OSError, ValueError, AttributeError, KeyError):
        width = WIDTH_PER_THREAD * ALL_THREADS  # whoever loads it says what is wrong
    threads = max(1, min(ALL_THREADS, width // WIDTH_PER_THREAD))
    torch.set_num_threads(threads)
    return threads


def positions_of(base: str) -> int:
    """Positions a base model was made for, told from its configuration alone.

    Raises:
        BaseModelError: When there is no such base, or its files are not what may be loaded.
    """
    with _telling(base):
        source = locate(base)
        return _positions(AutoConfig.from_pretrained(source.name, **source.how))


def context_length(model: PreTrainedModel) -> int:
    """Positions the model was made for, in tokens; 2,048 where its configuration does not say."""
    return _positions(model.config)


def _positions(config: Any) -> int:
    config = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return 2048
