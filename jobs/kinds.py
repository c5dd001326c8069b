"""The kinds of job there are: one object each (see ``jobs.kind``).

The queue takes its lane, the worker its grace, limits, secrets and leftovers, the job's process its task, the pages
and commands its words, and the store what a look into a run is measured on and written as. To add a kind, write its
task and put it into the list below.
"""

from __future__ import annotations

from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.results import Answers, Comparison, Experts, Export, MatrixMap, Routing, Weights
from jobs import kind_folders
from jobs.kind import Kind
from jobs.kind_folders import (
    adapter_of_run,
    half_a_base,
    half_a_check,
    half_a_clustering,
    half_a_corpus,
    half_a_download,
    half_a_layout,
    half_a_split,
    half_an_export,
    half_an_import,
    upload_of_base,
    uploads_of_import,
)
from jobs.kind_limits import (
    DAY,
    HOUR,
    MONTH,
    for_models,
    limits_of_cluster,
    limits_of_fetch,
    limits_of_import,
    limits_of_ingest,
    limits_of_look,
    limits_of_preview,
    limits_of_push,
)

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


PREVIEWS = ("preview", "render", "fetch")  # looks at what an import would make of files: the second loads a base's
# tokenizer, the third fetches the files before
FIRST_MAP = {"which": "B", "layout": "pca", "seed": 0, "similarity": "cosine"}  # as the page first asks for it

for _kind in (
    Kind(
        "ingest",
        "Import of a corpus",
        "jobs.tasks.ingest",
        limits=limits_of_ingest,
        leftovers=half_a_corpus,
        writer="jobs.store.corpora.write_import",
        artefacts=kind_folders.corpus,
    ),
    Kind(
        "check",
        "Quality report",
        "jobs.tasks.check",
        needs_torch=True,
        uses_hub=True,
        limits=limits_of_cluster,
        leftovers=half_a_check,
        artefacts=kind_folders.corpus,
    ),
    Kind(
        "shorten",
        "Shortening of examples",
        "jobs.tasks.shorten",
        needs_torch=True,
        uses_hub=True,
        limits=limits_of_cluster,
        writer="jobs.store.shortenings.write_shortening",
        artefacts=kind_folders.corpus,
    ),
    Kind("preview", "Preview of an import", "jobs.tasks.preview", limits=limits_of_preview),
    Kind(
        "render",
        "Preview of examples as a base sees them",
        "jobs.tasks.preview",
        needs_torch=True,
        uses_hub=True,
        limits=limits_of_preview,
    ),
    Kind(
        "fetch",
        "Download of a data set",
        "jobs.tasks.fetch",
        lane="network",
        needs_torch=True,
        uses_hub=True,
        limits=limits_of_fetch,
        leftovers=half_a_download,
        artefacts=kind_folders.uploads,
    ),
    Kind(
        "base",
        "Getting a base model",
        "jobs.tasks.bring_base",
        lane="network",
        needs_torch=True,
        uses_index=True,
        limits=limits_of_import,
        leftovers=half_a_base,
        spent=upload_of_base,
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
        limits=limits_of_import,
        leftovers=half_an_import,
        writer="jobs.store.runs.write_import",
        spent=uploads_of_import,
        artefacts=kind_folders.run,
    ),
    Kind(
        "cluster",
        "Clustering",
        "jobs.tasks.cluster",
        limits=limits_of_cluster,
        leftovers=half_a_clustering,
        writer="jobs.store.clusterings.write_result",
        artefacts=kind_folders.clustering,
    ),
    Kind(
        "split",
        "Split of a cluster",
        "jobs.tasks.split",
        limits=limits_of_cluster,
        leftovers=half_a_split,
        writer="jobs.store.cluster_edits.write_split",
        artefacts=kind_folders.corpus,
    ),
    Kind(
        "layout",
        "Map by UMAP",
        "jobs.tasks.lay_out",
        priority=-1,  # it takes long, so it waits behind the quick ones
        limits=limits_of_cluster,
        leftovers=half_a_layout,
        artefacts=kind_folders.clustering,
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
        outputs=adapter_of_run,
        limits=for_models(wall=MONTH),
        artefacts=kind_folders.run,
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
        limits=limits_of_look,
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
        limits=limits_of_look,
    ),
    Kind(
        "compare",
        "Comparison of runs",
        "jobs.tasks.compare",
        version=1,
        result=Comparison,
        needs_torch=True,
        limits=limits_of_look,
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
        leftovers=half_an_export,
        limits=for_models(wall=DAY),
    ),
    Kind(
        "push",
        "Push to the hub",
        "jobs.tasks.push",
        lane="network",
        uses_hub=True,
        limits=limits_of_push,
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
