"""Where a base model is, and whether it may be loaded: safetensors only, never its own code.

Imports nothing heavy, so that the page can refuse a wrong base before a run is queued.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hydralora.errors import BaseModelError

STARTER = Path(__file__).resolve().parent.parent / "data" / "starter"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
UNSAFE_KEYS = ("auto_map", "trust_remote_code", "_attn_implementation_internal")


def find_base(base: str) -> str:
    """The folder or hub id that ``base`` means: ``starter``, a local folder, or ``owner/name``.

    Raises:
        BaseModelError: When it is none of these, holds no safetensors, or asks to run code.
    """
    if base == "starter":
        return str(_checked_folder(STARTER, "starter"))
    try:
        folder = Path(base).expanduser()
    except RuntimeError:  # ~nobody
        folder = Path(base)
    if folder.is_dir():
        return str(_checked_folder(folder, base))
    if HUB_ID.fullmatch(base) and not base.startswith(("/", ".", "~")):
        return base
    raise BaseModelError(
        f"Base model '{base}' is unknown. Use 'starter', a folder that holds config.json and "
        "safetensors, or a hub id such as 'owner/name'."
    )


def name_base(base: str) -> str:
    """A checked base as it is stored: ``starter`` (under any name), an absolute folder, or a hub id."""
    found = find_base(base)
    if Path(found).resolve() == STARTER:
        return "starter"
    return base if base == "starter" or (found == base and not Path(base).is_dir()) else str(Path(found).resolve())


def _checked_folder(folder: Path, name: str) -> Path:
    config = folder / "config.json"
    if not config.exists():
        raise BaseModelError(f"Base model '{name}': the folder holds no config.json.")
    try:
        text = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise BaseModelError(f"Base model '{name}': config.json is not valid JSON.") from error
    found = [key for key in UNSAFE_KEYS if _holds_key(text, key)]
    if found:
        raise BaseModelError(
            f"Base model '{name}' asks to run its own code (`{found[0]}` in config.json), which is "
            "never done here. Use a model that transformers knows by itself."
        )
    if not list(folder.glob("*.safetensors")):
        raise BaseModelError(
            f"Base model '{name}' holds no safetensors file; pickled weights are never loaded. "
            "Convert it to safetensors first."
        )
    return folder


def _holds_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_holds_key(item, key) for item in value.values())
    return isinstance(value, list) and any(_holds_key(item, key) for item in value)
