"""A grouping: clusters as somebody edited them, kept beside the corpus under the hash of what is in it.

A clustering is never changed. What renaming, merging and splitting make of it is written as a folder of the same
form, so that whatever reads a clustering reads a grouping too. A run names the grouping that it was started with, so
it is resumed and measured alike whatever is edited later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hydralora.corpus.clusters.why import TERMS
from hydralora.errors import CorpusError
from hydralora.files import PART, written_aside
from hydralora.results import Clusters
from hydralora.results.clusters import ASSIGNMENTS

FOLDER = "groupings"
NAME = re.compile(r"[0-9a-f]{16}")
GONE = (
    "The grouping of clusters that this run was started with is {}. Put the corpus' folder back from a copy of yours, "
    "or start a new run."
)


@dataclass(frozen=True)
class Grouped:
    """Clusters as they stand.

    Args:
        result: What is told of them.
        cluster: Number of the cluster of every example, ``(examples,)``.
        distance: To the centre of that cluster, or of the part of it that came from the clustering, ``(examples,)``.
        margin: How much further the next centre is, ``(examples,)``; NaN where it is not known.
        other: Number of the next cluster, -1 where it is not known, ``(examples,)``.
        noise: Whether the method calls it noise, ``(examples,)``.
        terms: Every term with its weight and a column of what it says for each cluster, named by the number; None where
            an earlier version kept none.
    """

    result: Clusters
    cluster: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    other: np.ndarray
    noise: np.ndarray
    terms: pa.Table | None

    @classmethod
    def read(cls, folder: Path, result: Clusters) -> Grouped:
        """From the folder of a clustering or of a grouping.

        Raises:
            CorpusError: When its files are gone or damaged.
        """
        import pyarrow.parquet as pq

        table = read_assignments(folder)
        count, terms = len(table), folder / TERMS

        def column(name: str, missing: object, kind: type) -> np.ndarray:
            values = table[name].to_numpy() if name in table.column_names else np.full(count, missing)
            return np.asarray(values, dtype=kind)

        return cls(
            result,
            column("cluster", 0, np.int16),
            column("distance", np.nan, np.float32),
            column("margin", np.nan, np.float32),
            column("other", -1, np.int16),
            column("noise", False, bool),
            pq.read_table(terms) if terms.exists() else None,
        )

    @property
    def name(self) -> str:
        """The hash of what decides anything: the cluster of every example, and the names that somebody gave."""
        return _name_of(self.cluster, self.result)

    def write(self, corpus_folder: Path, aside: str) -> str:
        """Keep it beside the corpus; gives its name. ``aside`` names what is half-written, for one writer at a time."""
        target = grouping_folder(corpus_folder, self.name)
        if target.is_dir():
            return self.name
        half = corpus_folder / FOLDER / aside
        half.parent.mkdir(exist_ok=True)
        with written_aside(half) as whole:
            whole.mkdir(parents=True)
            self._write_tables(whole)
            self.result.write(whole)
        try:
            os.replace(half, target)
        except OSError:
            shutil.rmtree(half, ignore_errors=True)
            if not target.is_dir():  # else somebody has just written the same
                raise
        return self.name

    def _write_tables(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        columns = ("cluster", "distance", "margin", "other", "noise")
        table = {"example": np.arange(len(self.cluster), dtype=np.int64)} | {n: getattr(self, n) for n in columns}
        pq.write_table(pa.table(table), folder / ASSIGNMENTS)
        if self.terms is not None:
            pq.write_table(self.terms, folder / TERMS)


def read_assignments(folder: Path) -> pa.Table:
    """The table of every example's cluster.

    Raises:
        CorpusError: When it is gone or damaged.
    """
    import pyarrow.parquet as pq

    try:
        return pq.read_table(folder / ASSIGNMENTS)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"The clusters of {folder.name} are gone or damaged. Cluster the corpus again.") from error


def grouping_folder(corpus_folder: Path, name: str) -> Path:
    """Where the grouping of this name is kept.

    Raises:
        CorpusError: When it is no such name.
    """
    if not NAME.fullmatch(name):
        raise CorpusError(f"A grouping is called by 16 hexadecimal digits, got {name[:40]!r}. Choose one of the list.")
    return corpus_folder / FOLDER / name


def half_written(corpus_folder: Path, aside: str) -> list[Path]:
    """What a writer that is killed may leave behind."""
    return [corpus_folder / FOLDER / name for name in (aside, aside + PART)]


def open_grouping(corpus_folder: Path, name: str) -> Path:
    """The folder of a grouping, after a look at what is in it.

    Raises:
        CorpusError: When there is none of this name, or it is damaged.
    """
    folder = grouping_folder(corpus_folder, name)
    if not folder.is_dir():
        raise CorpusError(GONE.format("gone"))
    result = Clusters.read(folder)
    if _name_of(read_assignments(folder)["cluster"].to_numpy(), result) != name:
        raise CorpusError(GONE.format("damaged"))
    return folder


def _name_of(cluster: np.ndarray, result: Clusters) -> str:
    given = {str(number): result.given_name(number) for number in result.all_numbers}
    names = json.dumps({number: name for number, name in given.items() if name}, sort_keys=True)
    return hashlib.sha256(np.ascontiguousarray(cluster, "<i2").tobytes() + names.encode()).hexdigest()[:16]
