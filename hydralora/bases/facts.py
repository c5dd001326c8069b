"""What a base is, from its small files and the heads of its weights: read at once, with nothing heavy loaded."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from hydralora.bases.folder import check_files, check_folder, weight_files
from hydralora.bases.schema import MOST_TOKENIZER
from hydralora.bases.weight_heads import BITS, Head, read_head
from hydralora.checked_json import read_object
from hydralora.results.bases import BaseFacts

README, MOST_README = "README.md", 64 * 2**10  # bytes of it that are read
LICENCE = re.compile(r"^license:[ \t]*[\"']?([A-Za-z0-9][\w.+-]{0,39})[\"']?[ \t\r]*$", re.MULTILINE)
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
WIDTH = ("hidden_size", "n_embd", "d_model")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "d_ff")
CONTEXT = ("max_position_embeddings", "n_positions", "seq_length")
TEMPLATES = ("chat_template.jinja",)


def read_facts(folder: Path, name: str, *, licence: str = "") -> BaseFacts:
    """The facts of a base whose files are checked before.

    Args:
        licence: As somebody says who knows it; what its README says where empty.

    Raises:
        BaseModelError: When the folder holds no base that may be loaded.
    """
    check_folder(folder, name)
    config = check_files(folder, name)
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    heads = [read_head(file) for file in weight_files(folder)]
    width, layers = _number(text, WIDTH), _number(text, LAYERS)
    named = config.get("architectures")
    return BaseFacts(
        name=name,
        architecture=str(named[0])[:80]
        if isinstance(named, list) and named
        else str(config.get("model_type", ""))[:80],
        parameters=sum(head.elements for head in heads),
        stored=_main_type(heads),
        bytes=sum(file.stat().st_size for file in weight_files(folder)),
        layers=layers,
        width=width,
        inner=_number(text, INNER) or 4 * width,
        key_width=_key_width(text, width),
        vocabulary=_number(text, ("vocab_size",)),
        context=_number(text, CONTEXT),
        has_template=_has_template(folder),
        licence=licence or _licence(folder),
        linear=_linear(heads),
    )


def mark_of(folder: Path) -> str:
    """A name for the files of a base as they are now: of their names, sizes and times."""
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json")) + sorted(folder.glob("*.jinja"))
    told = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _number(config: dict[str, Any], names: tuple[str, ...]) -> int:
    """The first of these that is a number; 0 where none is."""
    found = (config.get(name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), 0)


def _key_width(config: dict[str, Any], width: int) -> int:
    """``key-value heads * head width``."""
    heads = _number(config, ("num_attention_heads", "n_head", "num_heads")) or 1
    own = _number(config, ("head_dim",)) or width // heads
    return (_number(config, ("num_key_value_heads",)) or heads) * own


def _main_type(heads: list[Head]) -> str:
    counts: Counter[str] = Counter()
    for head in heads:
        for name, kind in head.types.items():
            counts[kind] += math.prod(head.shapes[name])
    return counts.most_common(1)[0][0] if counts else ""


def bytes_of(kind: str) -> float:
    """Bytes of one number of a type as safetensors names it."""
    return BITS.get(kind, 32) / 8


def _linear(heads: list[Head]) -> dict[str, list[list[int]]]:
    """Matrices inside numbered blocks, embeddings and norms left out."""
    found: dict[str, list[list[int]]] = defaultdict(list)
    for head in heads:
        for name, shape in head.shapes.items():
            parts = name.split(".")
            if len(shape) == 2 and parts[-1] == "weight" and any(part.isdigit() for part in parts):
                found[parts[-2]].append(list(shape))
    return dict(found)


def _has_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in TEMPLATES):
        return True
    file = folder / "tokenizer_config.json"
    return file.exists() and bool(read_object(file, MOST_TOKENIZER).get("chat_template"))


def _licence(folder: Path) -> str:
    """What the head of its README says (``license: ...`` between the first two ``---``)."""
    file = folder / README
    if not file.is_file() or file.is_symlink():
        return ""
    with file.open("rb") as reader:
        text = reader.read(MOST_README).decode("utf-8", "replace")
    head = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = LICENCE.search(head)
    return found[1] if found else ""
