"""Folders of each kind of job: what it may leave half-written, makes, for other machines too, and has used up at its
end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydralora.corpus.clusters.grouping import half_written
from hydralora.corpus.quality import FOLDER as QUALITY
from hydralora.files import PART
from hydralora.results.clusters import LAYOUT
from jobs.home import Home


def nothing(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    """For kinds that write nothing aside, or take it up again."""
    return []


def adapter_of_run(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.run(payload["run_id"]) / "adapter"] if "run_id" in payload else []


def corpus(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.corpus(payload["corpus_id"])] if "corpus_id" in payload else []


def clustering(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.clustering(payload["clustering_id"])] if "clustering_id" in payload else []


def analysis(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.analysis(payload["analysis_id"])] if "analysis_id" in payload else []


def run(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.run(payload["run_id"]), *adapter_of_run(home, payload)] if "run_id" in payload else []


def uploads(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / Path(name).parts[0] for name in payload.get("files", [])]


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + PART)


def half_a_base(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.bases / payload["name"])]


def upload_of_base(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / Path(payload["upload"]).parts[0]] if "upload" in payload else []


def half_a_corpus(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.corpus(payload["corpus_id"]))]


def half_a_download(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    """All of it, until it is complete: nothing else lies in the folder of its corpus."""
    places = [home.uploads / name for name in payload["files"]]
    return [place.parent.parent for place in places if not place.exists()]


def half_a_check(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.corpus(payload["corpus_id"]) / QUALITY)]


def half_a_clustering(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.clustering(payload["clustering_id"]))]


def half_a_split(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return half_written(home.near.corpus(payload["corpus_id"]), f"edit-{payload['edit_id']}")


def half_a_layout(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.clustering(payload["clustering_id"]) / LAYOUT)]


def half_an_export(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.analysis(payload["analysis_id"]))]


def half_an_import(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    folder = home.near.run(payload["run_id"])
    return [folder / "given", _aside(folder / "adapter")]


def uploads_of_import(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / f"run-{int(payload['run_id'])}"]
