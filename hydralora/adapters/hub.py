"""Push an export to a hub. A token is taken from the environment (``HF_TOKEN``), as Hugging Face's own tools do."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from hydralora.adapters.card import check_repository
from hydralora.bases.folder import shown_base
from hydralora.errors import StoppedError, UserError, first_line
from hydralora.plain import shown
from hydralora.progress import SILENT, Progress

NAMES_OF_BASE = ("base_model_name_or_path", "_name_or_path")  # where a configuration tells the folder of a base
PUSHED = ("*.safetensors", "*.gguf", "*.json", "*.jinja", "README.md", "Modelfile")


def push_folder(
    folder: Path,
    repository: str,
    card: str,
    *,
    private: bool = True,
    progress: Progress = SILENT,
) -> str:
    """Make a repository, where there is none, and put the files of an export into it; gives its address.

    Args:
        card: The text of its ``README.md``.
        private: Whether a new repository is seen by its owner only.

    Raises:
        UserError: When the hub refuses or cannot be reached; nothing of it is changed then, but that an empty
            repository may stand there.
        StoppedError: When asked to stop before the files are sent.
    """
    name, api = check_repository(repository), HfApi()
    with tempfile.TemporaryDirectory(prefix="push-") as place:
        staged = Path(place) / "model"
        shutil.copytree(folder, staged, symlinks=True)
        _hide_folders(staged)
        (staged / "README.md").write_text(card, "utf-8")
        progress.step(0.1, f"Asking the hub for {name}", "The push")
        try:
            address = str(api.create_repo(name, private=private, exist_ok=True, repo_type="model"))
            progress.step(0.2, "Sending the files", "The push")
            message = "Export by Hydra Studio"
            api.upload_folder(repo_id=name, folder_path=staged, commit_message=message, allow_patterns=list(PUSHED))
        except StoppedError:
            raise
        except Exception as error:
            raise _told(name, error) from error
    return address


def _hide_folders(folder: Path) -> None:
    """A base that lies in a folder is called by its name: where it lies on this machine is nobody's business."""
    for file in folder.rglob("*.json"):
        values = json.loads(file.read_text("utf-8"))
        if not isinstance(values, dict):
            continue
        changed = {name: shown_base(str(values[name])) for name in NAMES_OF_BASE if values.get(name)}
        if changed:
            file.write_text(json.dumps({**values, **changed}, indent=2, ensure_ascii=False), "utf-8")


def _told(name: str, error: Exception) -> Exception:
    """What the hub says, as one sentence with the way out."""
    if isinstance(error, UserError):
        return error
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    token = "Put a token that may write into HF_TOKEN, in the environment of the worker."
    if isinstance(error, LocalTokenNotFoundError) or status in (401, 403):
        return UserError(f"The hub does not let you write to {name}. {token}")
    if isinstance(error, HFValidationError):
        return UserError(f"{shown(name)} is no name of a model on the hub. Write owner/name.")
    if status is not None:
        return UserError(f"The hub refused {name} (status {status}): {first_line(error)}. Try again later.")
    return UserError(f"The hub cannot be reached ({first_line(error)}). Check the network, or HF_ENDPOINT.")
