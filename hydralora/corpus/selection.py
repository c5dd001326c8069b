"""Which examples of a corpus are left out: a list beside it that is never changed, called by its own hash.

Nothing is deleted. A run names the list that it was started with in its configuration (``train.selection``), so it is
split, trained, resumed and measured alike whatever is left out or taken back later.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError

FOLDER = "selections"
NAME = re.compile(r"[0-9a-f]{16}")


def write_selection(corpus_folder: Path, excluded: Iterable[int]) -> str:
    """Keep a list of positions that are left out; gives its name, empty for an empty list."""
    data = _packed(excluded)
    name = _name_of(data)
    path = _path(corpus_folder, name)
    if name and not path.exists():
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as aside:  # two may write it at once
            aside.write(data)
            aside.flush()
            os.fsync(aside.fileno())
        os.replace(aside.name, path)
    return name


def read_excluded(corpus: Corpus, name: str) -> np.ndarray:
    """Whether each example is left out, ``(examples,)``; none is where the name is empty.

    Raises:
        CorpusError: When there is no such list, it is damaged, or of another corpus.
    """
    is_excluded = np.zeros(len(corpus), bool)
    if not name:
        return is_excluded
    if not NAME.fullmatch(name) or not _path(corpus.folder, name).is_file():
        raise CorpusError(
            "The list of examples that this run leaves out is gone, so it cannot be split as it was. Put the corpus' "
            "folder back from a copy of yours, or start a new run."
        )
    data = _path(corpus.folder, name).read_bytes()
    positions = np.frombuffer(data[: len(data) // 8 * 8], "<i8")
    if _name_of(data) != name or len(data) % 8 or (len(positions) and positions[-1] >= len(corpus)):
        raise CorpusError("The list of examples that this run leaves out is damaged. Put it back from a copy of yours.")
    is_excluded[positions] = True
    return is_excluded


def name_selection(excluded: Iterable[int]) -> str:
    """The name that ``write_selection`` gives such a list."""
    return _name_of(_packed(excluded))


def _packed(positions: Iterable[int]) -> bytes:
    return np.unique(np.fromiter(positions, np.int64)).astype("<i8").tobytes()


def _name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16] if data else ""


def _path(corpus_folder: Path, name: str) -> Path:
    return corpus_folder / FOLDER / f"{name}.rows"
