"""What a check has found, kept beside the report: every example of every finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hydralora.corpus.quality import FOLDER
from hydralora.errors import CorpusError
from hydralora.results.quality import FINDINGS, LANGUAGES, TOKENS, UNTOLD


def write_findings(folder: Path, kinds: list[str], examples: np.ndarray, removable: np.ndarray) -> None:
    """One row for each example of each finding; all three ``(rows,)``."""
    import pyarrow.parquet as pq

    names = pa.array(kinds, pa.string())
    pq.write_table(pa.table({"finding": names, "example": examples, "removable": removable}), folder / FINDINGS)


def write_tokens(folder: Path, examples: np.ndarray, tokens: np.ndarray) -> None:
    """Tokens of each example that was looked at; both ``(rows,)``."""
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"example": examples, "tokens": tokens.astype(np.int32)}), folder / TOKENS)


def write_languages(folder: Path, examples: np.ndarray, languages: np.ndarray, names: list[str]) -> None:
    """The language of each example that was looked at, by its number in ``names``; null for ``UNTOLD``."""
    import pyarrow.parquet as pq

    told = pa.DictionaryArray.from_arrays(pa.array(languages, mask=languages == UNTOLD), pa.array(names, pa.string()))
    pq.write_table(pa.table({"example": examples, "language": told}), folder / LANGUAGES)


def read_finding(corpus_folder: Path, kind: str, *, removable: bool = False) -> np.ndarray:
    """Positions of the examples of one finding, ascending; only those that its remedy leaves out where ``removable``.

    Raises:
        CorpusError: When the corpus was not checked, or the check found no such thing.
    """
    import pyarrow.parquet as pq

    path = corpus_folder / FOLDER / FINDINGS
    if not path.exists():
        raise CorpusError("This corpus has not been checked yet. Check it first.")
    table = pq.read_table(path)
    kinds = pc.unique(table["finding"]).to_pylist()
    if kind not in kinds:
        raise CorpusError(f"The last check found no '{kind[:40]}'; it found: {', '.join(kinds) or 'nothing'}.")
    is_meant = pc.equal(table["finding"], kind)
    is_meant = pc.and_(is_meant, table["removable"]) if removable else is_meant
    return np.unique(table.filter(is_meant)["example"].to_numpy())
