"""Ways to group points by name, each with its typed options; known without scikit-learn, for forms and commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hydralora.bounds import sentences
from hydralora.errors import CorpusError


class Options(BaseModel):
    """Options of a way to group."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def told(self) -> dict[str, Any]:
        """As a result tells them."""
        return self.model_dump(mode="json")


class KMeansOptions(Options):
    """Options of k-means."""

    starts: int = Field(20, ge=1, le=100, description="Beginnings that are tried; the tightest is kept")


class EmbeddingsOptions(KMeansOptions):
    """Options of k-means of sentence embeddings."""

    model: str = Field(min_length=1, max_length=1_000, description="Folder of a sentence encoder, with safetensors")

    def told(self) -> dict[str, Any]:
        """With the encoder's name alone: pages show results, and no path of this machine."""
        return {**super().told(), "model": PurePath(self.model).name}


class HdbscanOptions(Options):
    """Options of HDBSCAN."""

    min_cluster_share: float = Field(
        0.02, gt=0.0, le=0.5, description="Smallest cluster, as a share of the distinct texts; at least five of them"
    )
    min_samples: int = Field(5, ge=1, le=1_000, description="Neighbours of a point inside a cluster")


class DbscanOptions(Options):
    """Options of DBSCAN."""

    radius: float | None = Field(
        None, gt=0.0, le=2.0, description="Radius of a neighbourhood; None takes it from the nearest neighbours"
    )
    min_samples: int = Field(5, ge=1, le=1_000, description="Neighbours of a point inside a cluster")


@dataclass(frozen=True)
class Method:
    """A way to group: its name, its title, its options, and whether it takes a number of clusters."""

    name: str
    title: str
    options: type[Options]
    takes_k: bool = False


KMEANS = Method("kmeans", "k-means", KMeansOptions, takes_k=True)
METHODS = {
    method.name: method
    for method in (
        KMEANS,
        Method("embeddings", "k-means of sentence embeddings", EmbeddingsOptions, takes_k=True),
        Method("hdbscan", "HDBSCAN", HdbscanOptions),
        Method("dbscan", "DBSCAN", DbscanOptions),
    )
}


def checked_method(name: str, k: int | None, given: dict[str, Any]) -> tuple[Method, Options]:
    """A way to group and its options.

    Raises:
        CorpusError: When there is none of this name, an option is none or out of bounds, or it takes no ``k``.
    """
    if name not in METHODS:
        raise CorpusError(f"`method` must be one of {', '.join(METHODS)}, got {name[:100]!r}.")
    method = METHODS[name]
    if k is not None and not method.takes_k:
        raise CorpusError(f"{method.title} finds the number of clusters by itself. Leave `k` out, or take k-means.")
    try:
        return method, method.options.model_validate(given)
    except ValidationError as error:
        raise CorpusError(sentences(error.errors())) from error
