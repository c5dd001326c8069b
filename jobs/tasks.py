"""What each kind of job does. Heavy modules are imported in the job's own process only."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from jobs.child import Job


def ingest(job: Job) -> dict[str, Any]:
    """Import uploaded files as a corpus; they stay, so that it can be read again with other columns."""
    from hydralora.corpus import Roles, import_corpus

    given = job.payload["roles"]
    roles = Roles(**{**given, "prompt": tuple(given.get("prompt", ()))}) if given else None
    folder = job.home.corpus(job.payload["corpus_id"])
    files = [job.home.uploads / name for name in job.payload["files"]]
    report = import_corpus(files, folder, roles=roles, report=job.report, should_stop=job.should_stop)
    return {"examples": report.examples, "rejected": report.rejected, "format": report.format}


def cluster(job: Job) -> dict[str, Any]:
    """Cluster a corpus."""
    from hydralora.clusters import cluster_corpus

    return cluster_corpus(
        job.home.corpus(job.payload["corpus_id"]), job.home.clustering(job.payload["clustering_id"]),
        k=job.payload["k"], seed=job.payload["seed"], report=job.report, should_stop=job.should_stop,
    )  # fmt: skip


def _clusters(job: Job) -> Path | None:
    clustering = job.payload.get("clustering_id")
    return job.home.clustering(clustering) if clustering else None


def _run(job: Job) -> Path:
    """The folder of a finished run that a model is going to be loaded from."""
    from hydralora.base import fit_threads, read_adapter_facts

    folder = job.home.run(job.payload["run_id"])
    facts = read_adapter_facts(folder / "adapter")
    if facts is not None:
        fit_threads(facts["config"]["base"])
    return folder


def train(job: Job) -> dict[str, Any]:
    """Train an adapter; a second attempt, or a resumed run, goes on from the last checkpoint."""
    from hydralora.base import fit_threads
    from hydralora.checkpoints import last_checkpoint
    from hydralora.config import parse_config
    from hydralora.train import train_adapter

    run, config = job.home.run(job.payload["run_id"]), parse_config(job.payload["config"])
    fit_threads(config.base)
    return train_adapter(
        config, job.home.corpus(job.payload["corpus_id"]), run, clusters_folder=_clusters(job),
        sources=[job.home.run(source) / "adapter" for source in config.adapter.get("sources") or ()], on_step=job.step, should_stop=job.should_stop,
        report=job.report, resume=last_checkpoint(run) is not None,
    )  # fmt: skip


def import_(job: Job) -> dict[str, Any]:
    """Take in an adapter from elsewhere."""
    from hydralora.foreign import check_again, import_adapter

    folder = job.home.run(job.payload["run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    files = [job.home.uploads / name for name in job.payload["files"]]
    if not files:  # it is here already; only its base was not
        return check_again(folder, job.payload["base"])
    return import_adapter(files, folder, base=job.payload["base"], report=job.report, should_stop=job.should_stop)


def speed(job: Job) -> dict[str, Any]:
    """Time a few training steps, so that the duration of a run can be told before it starts."""
    spent = time.time() - psutil.Process().create_time()
    before = time.perf_counter()
    from hydralora.base import fit_threads
    from hydralora.config import parse_config
    from hydralora.presets import stored
    from hydralora.speed import measure_speed

    job.report(0.1, "Timing a few steps")
    config = parse_config(job.payload["config"])
    fit_threads(config.base)
    return stored(measure_speed(
        config, job.home.corpus(job.payload["corpus_id"]), clusters_folder=_clusters(job),
        spent=spent + time.perf_counter() - before, should_stop=job.should_stop,
    ))  # fmt: skip


def routing(job: Job) -> dict[str, Any]:
    """Measure how experts are used over the run's corpus."""
    from hydralora.routing import measure_routing

    result = measure_routing(
        _run(job), job.home.corpus(job.payload["corpus_id"]),
        job.home.analysis(job.payload["analysis_id"]), clusters_folder=_clusters(job),
        report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    return {"sentence": result["sentence"], "examples": result["examples"], "tokens": result["tokens"]}


def weights(job: Job) -> dict[str, Any]:
    """Compare the heads of every layer at every stored step of a run."""
    from hydralora.drift import measure_weights

    result = measure_weights(
        job.home.run(job.payload["run_id"]), job.home.analysis(job.payload["analysis_id"]),
        report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    return {"sentence": result["sentence"], "steps": result["steps"]}


def _adapters(job: Job) -> dict[str, Path]:
    """Finished adapters of the job's run and of the others beside it, by name."""
    runs = [job.payload["run_id"], *job.payload.get("other_runs", [])]
    return {f"run {run}": job.home.run(run) / "adapter" for run in runs}


def _starts(adapters: dict[str, Path], suffix: str = "") -> dict[str, Path]:
    """The untrained adapters of the same runs, where they were kept."""
    from hydralora.checkpoints import START

    found = {name + suffix: adapter.with_name(START) for name, adapter in adapters.items()}
    return {name: start for name, start in found.items() if start.is_dir()}


def draw_map(job: Job) -> dict[str, Any]:
    """Place the A or B matrices of one or several runs, and of their untrained start, on a plane."""
    from hydralora.maps import draw_map as draw

    adapters = _adapters(job)
    if job.payload.get("start"):
        adapters |= _starts(adapters, ", untrained")
    likeness = job.payload.get("likeness", "subspace" if len(adapters) > 1 else "cosine")
    result = draw(
        adapters, job.payload["which"], job.payload["layout"], job.payload.get("seed", 0), likeness,
        out_folder=job.home.analysis(job.payload["analysis_id"]), report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    return {"sentence": result["sentence"], "stability": result["stability"]}


def compare(job: Job) -> dict[str, Any]:
    """Compare what the adapters of several runs read, write and change."""
    from hydralora.checkpoints import write_json
    from hydralora.comparison import compare_adapters

    adapters = _adapters(job)
    result = compare_adapters(adapters, _starts(adapters), report=job.report, should_stop=job.should_stop)
    folder = job.home.analysis(job.payload["analysis_id"])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", result)
    return {"sentence": result["sentence"]}


def experts(job: Job) -> dict[str, Any]:
    """Mute each expert in turn and measure what the run loses."""
    from hydralora.experts import measure_experts

    result = measure_experts(
        _run(job), job.home.corpus(job.payload["corpus_id"]),
        job.home.analysis(job.payload["analysis_id"]), clusters_folder=_clusters(job),
        report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    return {"sentence": result["sentence"], "examples": result["examples"]}


def answers(job: Job) -> dict[str, Any]:
    """Compare the answers of base and tuned model on held-out questions."""
    from hydralora.evaluate import compare_answers

    result = compare_answers(
        _run(job), job.home.corpus(job.payload["corpus_id"]),
        job.home.analysis(job.payload["analysis_id"]), clusters_folder=_clusters(job), is_own=job.payload.get("is_own", True), report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    scores = {name: found["exact_match"] for name, found in result["scores"].items()}
    return {"sentence": result["sentence"], "exact_match": scores}


def export(job: Job) -> dict[str, Any]:
    """Turn a run's adapter into plain LoRAs or a merged model, and measure the gap."""
    from hydralora.export import export_run

    result = export_run(
        _run(job), job.home.corpus(job.payload["corpus_id"]),
        job.home.analysis(job.payload["analysis_id"]), job.payload["how"], clusters_folder=_clusters(job),
        report=job.report, should_stop=job.should_stop,
    )  # fmt: skip
    parts = [{key: value for key, value in part.items() if key != "gates"} for part in result["parts"]]
    return {"sentence": result["sentence"], "measured_on": result["measured_on"], "parts": parts}


def serve(job: Job) -> dict[str, Any]:
    """Hold a base model in memory and answer the chat until nobody asks any more."""
    from jobs.model_server import serve as answer

    shutil.rmtree(job.home.server, ignore_errors=True)
    return answer(job)


TASKS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "ingest": ingest, "import": import_, "cluster": cluster, "train": train, "speed": speed, "routing": routing, "weights": weights,
    "compare": compare, "experts": experts,
    "map": draw_map, "answers": answers, "export": export, "serve": serve,
}  # fmt: skip
