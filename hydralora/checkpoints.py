"""Checkpoints that are whole: sealed with the hashes of their files, and only then resumed from."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

COMPLETE = "complete.json"
CONFIG, WEIGHTS, FACTS = "adapter_config.json", "adapter_model.safetensors", "run.json"  # of a saved adapter
START = "start"  # folder of a run with its adapter before the first step


def seal_checkpoint(folder: Path) -> None:
    """Write the hashes of a checkpoint's files; from now on it can be resumed from."""
    files = {path.name: _file_hash(path) for path in sorted(folder.iterdir()) if path.name != COMPLETE}
    write_json(folder / COMPLETE, {"files": files})


def last_checkpoint(run_folder: Path) -> Path | None:
    """The newest checkpoint that is complete and unchanged since we wrote it, or None."""
    folders = (run_folder / "checkpoints").glob("checkpoint-*")
    for folder in sorted(folders, key=step_of, reverse=True):
        try:
            files = json.loads((folder / COMPLETE).read_text("utf-8"))["files"]
            if all(_file_hash(folder / name) == digest for name, digest in files.items()):
                return folder
        except (OSError, ValueError, KeyError):
            continue  # cut short while it was written; an older one is looked for
    return None


def list_checkpoints(run_folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, in order."""
    return sorted(step_of(mark.parent) for mark in (run_folder / "checkpoints").glob(f"checkpoint-*/{COMPLETE}"))


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write aside, flush to disk, then rename: a reader sees the old file or the new one."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
