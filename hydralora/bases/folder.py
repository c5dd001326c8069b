"""Where a base model is, and whether it may be loaded: safetensors only, never its own code, nothing out of bounds.

Imports nothing heavy, so that the page can refuse a wrong base before a run is queued.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydralora.bases.schema import LAYERS, SCHEMAS, read_checked
from hydralora.bases.weight_heads import read_head
from hydralora.checked_json import read_object
from hydralora.errors import BaseModelError
from hydralora.files import SHIPPED

STARTER = SHIPPED / "starter"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
UNSAFE_KEYS = ("auto_map", "trust_remote_code", "_attn_implementation_internal")
INDEX = "model.safetensors.index.json"
SPARE_ELEMENTS = 2**20  # by which config.json may say more than the files hold


def find_base(base: str) -> str:
    """The folder or hub id that ``base`` means: ``starter``, a local folder, or ``owner/name``.

    Raises:
        BaseModelError: When it is none of these, holds no safetensors, asks to run code, or a file is out of bounds.
    """
    if base == "starter":
        return str(check_folder(STARTER, "starter"))
    folder = local_folder(base)
    if folder is not None:
        return str(check_folder(folder, base))
    if is_hub_id(base):
        return base
    raise BaseModelError(
        f"Base model '{base}' is unknown. Use 'starter', a folder that holds config.json and "
        "safetensors, or a hub id such as 'owner/name'."
    )


def local_folder(base: str) -> Path | None:
    """The folder on this machine that ``base`` names, or None."""
    try:
        folder = Path(base).expanduser()
        return folder if folder.is_dir() else None
    except (RuntimeError, ValueError, OSError):  # ~nobody, a null character, a name too long
        return None


def is_hub_id(base: str) -> bool:
    """Whether ``base`` has the form ``owner/name``; nothing is looked up."""
    return HUB_ID.fullmatch(base) is not None


def name_base(base: str) -> str:
    """A checked base as it is stored: ``starter`` (under any name), an absolute folder, or a hub id."""
    found = find_base(base)
    if Path(found).resolve() == STARTER:
        return "starter"
    return base if base == "starter" or (found == base and not Path(base).is_dir()) else str(Path(found).resolve())


def shown_base(base: str) -> str:
    """A base as sentences name it: of a folder only the last part, as paths of the machine are nobody's business."""
    return Path(base).name or base if Path(base).is_absolute() else base


def check_folder(folder: Path, name: str) -> Path:
    """Refuse a folder whose files are no base model that may be loaded; ``name`` is what it is called in sentences.

    Raises:
        BaseModelError: Naming the file, the rule and the value.
    """
    _refuse_code(folder, name)
    if not any(folder.glob("*.safetensors")):
        raise BaseModelError(
            f"Base model '{name}' holds no safetensors file; pickled weights are never loaded. "
            "Convert it to safetensors first."
        )
    config = check_files(folder, name)
    check_weights(folder, name, config)
    return folder


def check_files(folder: Path, name: str) -> dict[str, Any]:
    """Check the JSON files of a base against their schemas; gives ``config.json``. Weights are not looked at.

    Raises:
        BaseModelError: Naming the file, the rule and the value.
    """
    _refuse_code(folder, name)
    found: dict[str, Any] = {}
    for file, schema, most_bytes in SCHEMAS:
        if not (folder / file).exists():
            continue
        try:
            values = read_checked(folder / file, schema, most_bytes)
        except (ValueError, OSError) as error:
            raise BaseModelError(f"Base model '{name}': {file} {error}. Get the model again.") from error
        found = found or values
    return found


def _refuse_code(folder: Path, name: str) -> None:
    """Said before anything else is found wrong, since it is what people need to know."""
    if not (folder / "config.json").exists():
        raise BaseModelError(f"Base model '{name}': the folder holds no config.json.")
    try:
        values = read_object(folder / "config.json", SCHEMAS[0][2])
    except (ValueError, OSError) as error:
        raise BaseModelError(f"Base model '{name}': config.json {error}. Get the model again.") from error
    found = [key for key in UNSAFE_KEYS if _holds_key(values, key)]
    if found:
        raise BaseModelError(
            f"Base model '{name}' asks to run its own code (`{found[0]}` in config.json), which is "
            "never done here. Use a model that transformers knows by itself."
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are loaded: the single one, else those that the index names, there or not.

    Raises:
        ValueError: When the index cannot be read.
    """
    single, index = folder / "model.safetensors", folder / INDEX
    if single.exists() or not index.exists():
        return [single] if single.exists() else sorted(folder.glob("*.safetensors"))
    file, schema, most_bytes = SCHEMAS[-1]
    names = set(read_checked(folder / file, schema, most_bytes)["weight_map"].values())
    return [folder / name for name in sorted(names)]


def check_weights(folder: Path, name: str, config: dict[str, Any]) -> int:
    """Read the heads of the weight files and compare them with ``config.json``; gives the number of elements held.

    A lower bound of what the configuration asks for (embeddings, and one weight for each layer) must be in the
    files, so that a small download cannot ask for much memory.

    Raises:
        BaseModelError: When a file is damaged, or the files hold less than that.
    """
    elements = tensors = 0
    for file in _weight_files(folder, name):
        try:
            head = read_head(file)
        except (ValueError, OSError) as error:
            raise BaseModelError(f"Base model '{name}': {file.name} {error}. Get the model again.") from error
        elements, tensors = elements + head.elements, tensors + len(head.shapes)
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    layers = max((value for key, value in text.items() if LAYERS.match(key) and isinstance(value, int)), default=0)
    widths = [text.get("vocab_size", 0), text.get("hidden_size", text.get("n_embd", 0))]
    asked = widths[0] * widths[1] if all(isinstance(width, int) for width in widths) else 0
    if layers > tensors or asked > elements + SPARE_ELEMENTS:
        raise BaseModelError(
            f"Base model '{name}' is not whole: config.json tells of {layers:,} layers and {asked:,} numbers in the "
            f"embedding, and the files hold {tensors:,} weights with {elements:,} numbers. Get the model again."
        )
    return elements


def _weight_files(folder: Path, name: str) -> list[Path]:
    try:
        return weight_files(folder)
    except (ValueError, OSError) as error:
        raise BaseModelError(f"Base model '{name}': {INDEX} {error}. Get the model again.") from error


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds_key(item, key) for item in value)
