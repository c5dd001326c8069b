"""Files of a base model on a hub, fetched one by one, so that each can be checked before the next is asked for."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import cached_file

from hydralora.bases.folder import INDEX, check_files, weight_files

SMALL = ("generation_config.json", "tokenizer_config.json")


def fetch_files(hub_id: str) -> Path:
    """Fetch what describes a model, and give the folder of its newest revision.

    Raises:
        OSError: When the model is not there, or the hub cannot be reached.
    """
    config = cached_file(hub_id, "config.json")
    if config is None:
        raise OSError(f"{hub_id} holds no config.json")
    folder = Path(config).parent
    for name in SMALL:
        _fetch(hub_id, name, folder)
    return folder


def fetch_weights(hub_id: str, folder: Path) -> None:
    """Fetch the weights that ``from_pretrained`` will load, safetensors only; an index is checked, then followed.

    Raises:
        BaseModelError: When the index is not what an index may be.
        OSError, ValueError: When a file cannot be fetched.
    """
    if _fetch(hub_id, "model.safetensors", folder):
        return
    if _fetch(hub_id, INDEX, folder):
        check_files(folder, hub_id)
        for file in weight_files(folder):
            _fetch(hub_id, file.name, folder)


def _fetch(hub_id: str, name: str, folder: Path) -> bool:
    """Whether the file is there now."""
    found = cached_file(hub_id, name, revision=folder.name, _raise_exceptions_for_missing_entries=False)
    return found is not None
