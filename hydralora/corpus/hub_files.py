"""Files of data sets of a hub: checked before they are fetched, then read like any folder. No code of theirs runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hydralora import limits
from hydralora.corpus.archives import NOTES
from hydralora.corpus.formats import ENDINGS
from hydralora.corpus.hub import HubDataset
from hydralora.corpus.reading import mebibytes, shown_name
from hydralora.errors import CorpusError, first_line
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress

DOWNLOAD = "The download"
WAITING = 10.0  # seconds for the hub's first answer


def fetch_dataset(
    asked: HubDataset, folder: Path, *, endpoint: str | None = None, progress: Progress = SILENT
) -> list[str]:
    """Fetch the files of rows into ``folder``, which appears only when complete; gives their names.

    All are of one revision, the newest. A token is taken from the environment, as Hugging Face's own tools do.

    Args:
        endpoint: Address of the hub; the usual one where None.

    Raises:
        CorpusError: When there is no such data set, it may not be read, holds no files of rows or too many of them,
            or the hub cannot be reached.
        StoppedError: When asked to stop; nothing is kept.
    """
    try:
        progress.step(0.0, f"Asking the hub for {asked}", DOWNLOAD)
        found = HfApi(endpoint=endpoint).dataset_info(asked.repository, files_metadata=True, timeout=WAITING)
        sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
        chosen = {name: sizes[name] for name in _chosen(asked, sizes)}
        _check_room(asked, chosen, folder.parent)
        with written_aside(folder) as aside:
            aside.mkdir(parents=True)
            _fetch(asked, chosen, aside, found.sha, endpoint, progress)
    except Exception as error:
        raise _told(asked, error) from error
    return list(chosen)


def _fetch(
    asked: HubDataset,
    sizes: dict[str, int],
    folder: Path,
    revision: str | None,
    endpoint: str | None,
    progress: Progress,
) -> None:
    done, total = 0, max(1, sum(sizes.values()))
    for name, size in sizes.items():
        progress.step(min(done / total, 1.0), f"Fetching {shown_name(name)}, {mebibytes(size)}", DOWNLOAD)
        path = hf_hub_download(
            asked.repository,
            name,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            endpoint=endpoint,
            etag_timeout=WAITING,
        )
        done += _check_size(name, Path(path))
        _check_done(asked, done, folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the download remembers
    progress.check(DOWNLOAD)  # whoever deletes the corpus meanwhile asks for a stop


def _chosen(asked: HubDataset, names: Iterable[str]) -> list[str]:
    """The files of rows among all, by their endings.

    Raises:
        CorpusError: When there is none, or there are too many.
    """
    inside = [name for name in names if not asked.folder or name.startswith(f"{asked.folder}/")]
    if asked.folder and not inside:
        folders = sorted({PurePosixPath(name).parts[0] for name in names if "/" in name})
        has = ", ".join(map(shown_name, folders[:20])) or "none"
        raise CorpusError(f"{asked.repository} has no folder {asked.folder!r}. It has: {has}.")
    chosen = [name for name in inside if _is_rows(name)]
    if not chosen:
        by_code = any(name.endswith(".py") for name in inside)
        why = "only a program that would make them, and programs of others never run here" if by_code else "none"
        raise CorpusError(
            f"{asked} holds no files of rows ({why}). Choose a data set with files such as Parquet, JSONL or CSV."
        )
    if len(chosen) > limits.MAX_MEMBERS:
        raise CorpusError(
            f"{asked} holds {len(chosen):,} files; at most {limits.MAX_MEMBERS:,} are read. Name one of its folders."
        )
    return chosen


def _is_rows(name: str) -> bool:
    parts = PurePosixPath(name).parts
    is_plain = not any(part.startswith(".") or part == ".." for part in parts) and not name.startswith("/")
    return is_plain and name.lower().endswith(ENDINGS) and not NOTES.fullmatch(parts[-1])


def _check_room(asked: HubDataset, sizes: dict[str, int], place: Path) -> None:
    largest, total = max(sizes, key=lambda name: sizes[name]), sum(sizes.values())
    if sizes[largest] > limits.MAX_BYTES:
        raise CorpusError(
            f"{asked}: {shown_name(largest)} has {mebibytes(sizes[largest])}; at most {mebibytes(limits.MAX_BYTES)} of "
            "one file are read. Name a folder with smaller files."
        )
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    most = min(limits.MAX_ARCHIVE_BYTES, free - limits.SPARE_DISK_BYTES)
    if total > most:
        raise CorpusError(
            f"{asked} holds {mebibytes(total)} of files; there is room for {mebibytes(max(0, most))}. Name one of its "
            "folders, or make room."
        )


def _check_size(name: str, path: Path) -> int:
    size = path.stat().st_size
    if size > limits.MAX_BYTES:
        raise CorpusError(f"{shown_name(name)} is larger than it was said to be ({mebibytes(size)}). Choose another.")
    return size


def _check_done(asked: HubDataset, done: int, folder: Path) -> None:
    """What comes counts, whatever was said of sizes before.

    Raises:
        CorpusError: When it is more than is read, or the disk is full.
    """
    if done > limits.MAX_ARCHIVE_BYTES:
        raise CorpusError(
            f"{asked} is larger than it was said to be; at most {mebibytes(limits.MAX_ARCHIVE_BYTES)} are fetched. "
            "Name one of its folders."
        )
    if shutil.disk_usage(folder).free < limits.SPARE_DISK_BYTES:
        raise CorpusError(f"The disk has no room for {asked}. Free some space, or name one of its folders.")


def _told(asked: HubDataset, error: Exception) -> Exception:
    """What went wrong with the hub as a sentence; what is one already stays."""
    match error:
        case GatedRepoError():
            return CorpusError(
                f"{asked.repository} is given only to those who agreed to its terms. Agree to them on its page on the "
                "hub, and start the studio with HF_TOKEN set."
            )
        case RepositoryNotFoundError() | RevisionNotFoundError() | HFValidationError():
            return CorpusError(
                f"The hub has no data set {asked.repository}, or it is private. Check the name; for a private one, "
                "start the studio with HF_TOKEN set."
            )
        case HfHubHTTPError():
            return CorpusError(f"The hub refused {asked}: {first_line(error)}. Try again later.")
        case LocalEntryNotFoundError() | ConnectionError() | TimeoutError():
            return _unreachable(asked, error)
        case _ if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            return _unreachable(asked, error)
    return error


def _unreachable(asked: HubDataset, error: Exception) -> CorpusError:
    return CorpusError(
        f"The hub could not be reached for {asked}: {first_line(error)}. Check the network, or download its files "
        "elsewhere and upload them."
    )
