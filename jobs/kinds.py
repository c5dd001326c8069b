"""The kinds of job there are: one object each, which everything else about that kind is read from.

The queue takes its lane, the worker its grace, limits, secrets and leftovers, the job's process its task, the pages
and commands its words, and the store what a look into a run is measured on and written as. To add a kind, write its
task and put it into the list below.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydralora.corpus.clusters.grouping import half_written
from hydralora.corpus.quality import FOLDER as QUALITY
from hydralora.errors import UserError
from hydralora.files import PART
from hydralora.plain import shown
from hydralora.results import Answers, Comparison, Experts, Export, MatrixMap, Part, Result, Routing, Weights
from hydralora.results.clusters import LAYOUT
from jobs.home import Home

GIB = 2**30
HOUR = 3600
DAY, MONTH = 24 * HOUR, 30 * 24 * HOUR
Lane = Literal["light", "heavy", "server", "network"]


@dataclass(frozen=True)
class Limits:
    """Bytes of memory, seconds of processor and of wall clock, bytes of one written file; None is no limit."""

    memory: int | None = None
    cpu: int | None = None
    wall: int | None = None
    file: int | None = None


def for_models(wall: int | None) -> Callable[[int], Limits]:
    """For kinds that load models, whose need is not known: all memory of the machine, and so many seconds.

    A process that asks for more ends with a sentence, before the system begins to end others. With a GPU there is no
    limit of memory: its driver maps far more than it uses.
    """
    return lambda memory: Limits(None if has_gpu() else memory, wall=wall)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is in this machine, by its device or its driver's program; nothing heavy is loaded."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


only_memory = for_models(wall=None)  # for what works until nobody asks any more


def nothing(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    """For kinds that write nothing aside, or take it up again."""
    return []


@dataclass(frozen=True)
class Kind:
    """Everything about one kind of job that is not its work.

    Args:
        name: As it is stored, and as commands take it.
        title: What people read for it.
        task: Dotted module and function that does the work, imported in the job's own process only.
        measure: For a look that ``jobs.tasks.measure`` takes, the dotted function of the library that measures a run:
            ``f(run_folder, corpus_folder, out_folder, *, clusters_folder, progress)`` gives the result it wrote.
        lane: Jobs of one lane run one after the other; ``light`` ones never wait behind training,
            and nothing waits behind the ``network``.
        grace_seconds: What it has to save its state after it was asked to end.
        version: For a look into a run, the version of what it writes: raise it when that changes, and what is stored
            from before is measured again when somebody looks. None for any other kind.
        result: For a look, the type of what it finds, which knows its file in the folder of the analysis.
        former: For a look, names of parameters with those they had in an earlier version; what was stored under these
            is found by the new ones.
        look: For a look that the command ``inspect`` takes by itself, the parameters it takes it with.
        on_corpus: Whether it is measured on the examples of a corpus.
        priority: Waiting jobs of higher priority begin first.
        needs_torch: Whether its work imports torch, so that it is forked from a process that has, where one can.
        uses_gpu: Whether it computes on a GPU where there is one; the others see none, so that they can be forked.
        resumes: Whether another attempt goes on where the last one has saved its state.
        shrinks: Whether it can be tried again in smaller parts after it ran out of memory.
        uses_hub: Whether it may load a model from the hub, and so is given the hub's token.
        uses_index: Whether it fetches a package, and so is given what the installer is told by the environment.
        ends: Whether it comes to an end by itself, so that its progress can be told.
        limits: What it may take on a machine with so many bytes of memory.
        leftovers: Folders that it may leave half-written when it is killed.
        outputs: Folders that its task writes into its attempt's own folder (``Job.place``), and that are put in their
            place by the transaction that ends a job which succeeded.
        artefacts: Folders that it has made or changed, which other machines may need (``jobs.artefacts``); that of its
            analysis where it is a look.
        writer: Dotted module and function, called with a session, the job's row and the home in the transaction that
            ends a job which succeeded, to write its result where it belongs; None where the result stays with the job.
        spent: Folders that nothing needs any more once it has succeeded.
    """

    name: str
    title: str
    task: str
    measure: str | None = None
    lane: Lane = "light"
    grace_seconds: float = 8.0
    version: int | None = None
    result: type[Result] | None = None
    former: Mapping[str, str] = field(default_factory=dict)
    look: Mapping[str, Any] | None = None
    on_corpus: bool = False
    priority: int = 0
    needs_torch: bool = False
    uses_gpu: bool = False
    resumes: bool = False
    shrinks: bool = False
    uses_hub: bool = False
    uses_index: bool = False
    ends: bool = True
    limits: Callable[[int], Limits] = field(default=only_memory, repr=False)
    leftovers: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    outputs: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    artefacts: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    writer: str | None = None
    spent: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)

    def load(self) -> Callable[[Any], Part | dict[str, Any]]:
        """The function that does the work; what it gives is a result with a type, or plain JSON."""
        task: Callable[[Any], Part | dict[str, Any]] = named(self.task)
        return task

    def write_result(self, session: Any, job: Any, home: Home) -> None:
        """Write the result of a job that succeeded, within the transaction that ends it."""
        if self.writer is not None:
            named(self.writer)(session, job, home)


def named(dotted: str) -> Any:
    """The function or class of a dotted name, imported now."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known in this process; one of the same name is replaced."""
    KINDS[kind.name] = kind
    return kind


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        UserError: When there is none, as for a job of a version that knew more.
    """
    if name not in KINDS:
        raise UserError(f"There is no kind of job called {shown(name)}. Choose one of: {', '.join(KINDS)}.")
    return KINDS[name]


def title_of(name: str) -> str:
    """What people read for a kind; its bare name where it is not known here."""
    return KINDS[name].title if name in KINDS else name


def grace_seconds(name: str) -> float:
    """Seconds that a job of this kind has to save its state; those of any job where the kind is not known here."""
    return KINDS[name].grace_seconds if name in KINDS else Kind.grace_seconds


def looks() -> dict[str, Kind]:
    """The kinds that look into a run and keep what they find."""
    return {name: kind for name, kind in KINDS.items() if kind.version is not None}


def _adapter_of_run(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.run(payload["run_id"]) / "adapter"] if "run_id" in payload else []


def _corpus(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.corpus(payload["corpus_id"])]


def _clustering(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.clustering(payload["clustering_id"])]


def _analysis(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.analysis(payload["analysis_id"])]


def _run(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.near.run(payload["run_id"]), *_adapter_of_run(home, payload)] if "run_id" in payload else []


def _uploads(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / Path(name).parts[0] for name in payload["files"]]


def artefacts_of(kind: Kind, home: Home, payload: Mapping[str, Any]) -> list[Path]:
    """The folders that a job of this kind has made for other machines too."""
    return _analysis(home, payload) if kind.version is not None else kind.artefacts(home, payload)


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + PART)


def _half_a_base(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.bases / payload["name"])]


def _upload_of_base(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / Path(payload["upload"]).parts[0]] if "upload" in payload else []


def _half_a_corpus(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.corpus(payload["corpus_id"]))]


def _half_a_download(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    """All of it, until it is complete: nothing else lies in the folder of its corpus."""
    places = [home.uploads / name for name in payload["files"]]
    return [place.parent.parent for place in places if not place.exists()]


def _half_a_check(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.corpus(payload["corpus_id"]) / QUALITY)]


def _half_a_clustering(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.clustering(payload["clustering_id"]))]


def _half_a_split(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return half_written(home.near.corpus(payload["corpus_id"]), f"edit-{payload['edit_id']}")


def _half_a_layout(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.clustering(payload["clustering_id"]) / LAYOUT)]


def _half_an_export(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [_aside(home.near.analysis(payload["analysis_id"]))]


def _half_an_import(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    run = home.near.run(payload["run_id"])
    return [run / "given", _aside(run / "adapter")]


def _uploads_of_import(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / f"run-{int(payload['run_id'])}"]


def _limits_of_ingest(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR, wall=2 * HOUR, file=16 * GIB)


def _limits_of_preview(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR // 6, wall=HOUR // 3, file=GIB)


def _limits_of_fetch(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR, wall=12 * HOUR, file=2 * GIB)


def _limits_of_push(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory // 2), cpu=2 * HOUR, wall=DAY)


def _limits_of_import(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory // 2), cpu=HOUR, wall=2 * HOUR, file=20 * GIB)


def _limits_of_cluster(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory * 3 // 4), wall=6 * HOUR, file=16 * GIB)


def _limits_of_look(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory * 3 // 4), wall=6 * HOUR, file=16 * GIB)


PREVIEWS = ("preview", "render", "fetch")  # looks at what an import would make of files: the second loads a base's
# tokenizer, the third fetches the files before
FIRST_MAP = {"which": "B", "layout": "pca", "seed": 0, "similarity": "cosine"}  # as the page first asks for it

for _kind in (
    Kind(
        "ingest",
        "Import of a corpus",
        "jobs.tasks.ingest",
        limits=_limits_of_ingest,
        leftovers=_half_a_corpus,
        writer="jobs.store.corpora.write_import",
        artefacts=_corpus,
    ),
    Kind(
        "check",
        "Quality report",
        "jobs.tasks.check",
        needs_torch=True,
        uses_hub=True,
        limits=_limits_of_cluster,
        leftovers=_half_a_check,
        artefacts=_corpus,
    ),
    Kind(
        "shorten",
        "Shortening of examples",
        "jobs.tasks.shorten",
        needs_torch=True,
        uses_hub=True,
        limits=_limits_of_cluster,
        writer="jobs.store.shortenings.write_shortening",
        artefacts=_corpus,
    ),
    Kind("preview", "Preview of an import", "jobs.tasks.preview", limits=_limits_of_preview),
    Kind(
        "render",
        "Preview of examples as a base sees them",
        "jobs.tasks.preview",
        needs_torch=True,
        uses_hub=True,
        limits=_limits_of_preview,
    ),
    Kind(
        "fetch",
        "Download of a data set",
        "jobs.tasks.fetch",
        lane="network",
        needs_torch=True,
        uses_hub=True,
        limits=_limits_of_fetch,
        leftovers=_half_a_download,
        artefacts=_uploads,
    ),
    Kind(
        "base",
        "Getting a base model",
        "jobs.tasks.bring_base",
        lane="network",
        needs_torch=True,
        uses_index=True,
        limits=_limits_of_import,
        leftovers=_half_a_base,
        spent=_upload_of_base,
    ),
    Kind(
        "base_check",
        "Check of a base model",
        "jobs.tasks.check_base",
        lane="network",  # it may fetch gigabytes
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        writer="jobs.store.base_checks.write_check",
        limits=for_models(wall=HOUR),
    ),
    Kind(
        "import",
        "Import of an adapter",
        "jobs.tasks.import_",
        needs_torch=True,
        uses_hub=True,
        limits=_limits_of_import,
        leftovers=_half_an_import,
        writer="jobs.store.runs.write_import",
        spent=_uploads_of_import,
        artefacts=_run,
    ),
    Kind(
        "cluster",
        "Clustering",
        "jobs.tasks.cluster",
        limits=_limits_of_cluster,
        leftovers=_half_a_clustering,
        writer="jobs.store.clusterings.write_result",
        artefacts=_clustering,
    ),
    Kind(
        "split",
        "Split of a cluster",
        "jobs.tasks.split",
        limits=_limits_of_cluster,
        leftovers=_half_a_split,
        writer="jobs.store.cluster_edits.write_split",
        artefacts=_corpus,
    ),
    Kind(
        "layout",
        "Map by UMAP",
        "jobs.tasks.lay_out",
        priority=-1,  # it takes long, so it waits behind the quick ones
        limits=_limits_of_cluster,
        leftovers=_half_a_layout,
        artefacts=_clustering,
    ),
    Kind(
        "train",
        "Training",
        "jobs.tasks.train",
        lane="heavy",
        grace_seconds=60.0,
        needs_torch=True,
        uses_gpu=True,
        resumes=True,
        shrinks=True,
        uses_hub=True,
        writer="jobs.store.runs.write_training",
        outputs=_adapter_of_run,
        limits=for_models(wall=MONTH),
        artefacts=_run,
    ),
    Kind(
        "speed",
        "Timing",
        "jobs.tasks.speed",
        lane="heavy",
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        writer="jobs.store.speeds.write_measurement",
        limits=for_models(wall=HOUR),
    ),
    Kind(
        "answers",
        "Answers",
        "jobs.tasks.answers",
        version=2,
        result=Answers,
        look={},
        on_corpus=True,
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        writer="jobs.store.scores.write_answers",
        limits=for_models(wall=DAY),
    ),
    Kind(
        "routing",
        "Gates",
        "jobs.tasks.measure",
        measure="hydralora.analysis.routing.measure_routing",
        version=1,
        result=Routing,
        look={},
        on_corpus=True,
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        limits=for_models(wall=DAY),
    ),
    Kind(
        "weights",
        "Heads",
        "jobs.tasks.weights",
        version=1,
        result=Weights,
        look={},
        needs_torch=True,
        limits=_limits_of_look,
    ),
    Kind(
        "experts",
        "Experts",
        "jobs.tasks.measure",
        measure="hydralora.analysis.experts.measure_experts",
        version=1,
        result=Experts,
        look={},
        on_corpus=True,
        priority=-1,  # it takes long, so it waits behind the quick ones
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        limits=for_models(wall=DAY),
    ),
    Kind(
        "map",
        "Map",
        "jobs.tasks.draw_map",
        version=1,
        result=MatrixMap,
        needs_torch=True,
        look=FIRST_MAP,
        former={"similarity": "likeness"},
        limits=_limits_of_look,
    ),
    Kind(
        "compare",
        "Comparison of runs",
        "jobs.tasks.compare",
        version=1,
        result=Comparison,
        needs_torch=True,
        limits=_limits_of_look,
    ),
    Kind(
        "export",
        "Export",
        "jobs.tasks.export",
        version=1,
        result=Export,
        on_corpus=True,
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        leftovers=_half_an_export,
        limits=for_models(wall=DAY),
    ),
    Kind(
        "push",
        "Push to the hub",
        "jobs.tasks.push",
        lane="network",
        uses_hub=True,
        limits=_limits_of_push,
    ),
    Kind(
        "serve",
        "Model server",
        "jobs.tasks.serve",
        lane="server",
        grace_seconds=5.0,
        needs_torch=True,
        uses_gpu=True,
        uses_hub=True,
        ends=False,  # it works until nobody asks any more
    ),
):
    register(_kind)
