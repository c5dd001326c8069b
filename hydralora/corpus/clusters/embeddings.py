"""Texts as points by a sentence encoder, where the package sentence-transformers is installed.

The encoder gives a vector to each distinct text; their 50 directions of largest spread are kept, as for words. Names of
clusters stay words, so the TF-IDF terms are counted besides. No code or pickle that lies in an encoder's folder is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import normalize

from hydralora.corpus.clusters.encoder_files import check_encoder
from hydralora.errors import CorpusError, first_line
from hydralora.plain import without_paths

if TYPE_CHECKING:
    from hydralora.corpus.clusters.clustering import Placed

BATCH = 32  # texts that are encoded at once


def embed_texts(placed: Placed, model: str, dimensions: int, step: Callable[[float, str], None]) -> Placed:
    """The same texts with points ``(distinct, dimensions)`` of unit length by the encoder in a folder.

    Raises:
        CorpusError: When sentence-transformers is not installed, or the folder holds no encoder that may be loaded.
    """
    encoder = load_encoder(Path(model))
    parts: list[np.ndarray] = []
    done, count = 0, len(placed.texts.first)
    for texts in placed.texts.each(lambda part: part.to_pylist()):
        step(0.3 + 0.1 * done / count, f"Encoding {count:,} distinct texts")
        parts.append(encoder.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True))
        done += len(texts)
    return replace(placed, points=_spread(np.concatenate(parts).astype(np.float32), dimensions), has_terms=False)


def load_encoder(folder: Path) -> Any:
    """The sentence encoder in a folder, from safetensors alone, its files checked before.

    Raises:
        CorpusError: When it may not be loaded, or sentence-transformers is not installed.
    """
    check_encoder(folder)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise CorpusError(
            "Sentence embeddings need the package sentence-transformers. Install it "
            "(`pip install 'hydralora[sentences]'`), or take `--method kmeans`."
        ) from error
    try:
        return SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as error:  # whatever the library says of a damaged or foreign folder
        why = without_paths(first_line(error))
        raise CorpusError(f"The encoder in {folder.name} cannot be loaded: {why}. Take another.") from error


def _spread(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """The directions of largest spread about the mean, rows of unit length."""
    centred = vectors - vectors.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.asarray(normalize(centred @ directions[:, ::-1][:, : min(dimensions, vectors.shape[1])]))
