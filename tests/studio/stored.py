"""Finished things in a store, as the worker leaves them: rows through the store, files in place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hydralora.corpus.imports import import_corpus
from hydralora.errors import UserError
from hydralora.results import (
    Change,
    Clusters,
    Comparison,
    Context,
    DriftRow,
    ExpertCard,
    Experts,
    GroupChange,
    GroupGates,
    HeadFigures,
    LayerChange,
    LayerComparison,
    MatrixMap,
    PairFigures,
    Part,
    PartSummary,
    Point,
    Result,
    Routing,
    RunSummary,
    TokenClasses,
    Weights,
)
from jobs.kinds import kind_of
from jobs.runner.child import Job as Child
from jobs.store.records import Analysis, Clustering, Corpus, Job, Run
from jobs.store.status import FINISHED, JobStatus
from jobs.store.store import Store

CONFIG = {
    "base": "HuggingFaceTB/SmolLM2-135M",
    "method": "hydralora",
    "adapter": {"num_experts": 2},
    "train": {"max_steps": 4},
}
SUMMARY = RunSummary(held_out_loss=1.25, held_out_loss_before=2.5, trainable=100, total=2_000, seconds=3.0, steps=4)
LAYERS = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"]


class Stored:
    """Fills a store the way the worker does, without a worker."""

    def __init__(self, store: Store) -> None:
        self.store, self.home = store, store.home

    def end(
        self,
        job: Job | None,
        result: dict[str, Any] | None = None,
        status: JobStatus = JobStatus.SUCCEEDED,
        **more: Any,
    ) -> None:
        """Claim the oldest job of this job's lane, which must be it, and end it."""
        assert job is not None
        held = self.store.attempts.claim("tests", "here", job.lane)
        assert held is not None and held.id == job.id
        assert self.store.attempts.finish(held, status, time.time(), result=result, **more)

    def end_all(self) -> None:
        """Stop what waits and end what a test has claimed."""
        for job in self.store.queue.jobs(statuses=set(JobStatus) - FINISHED):
            if job.status == JobStatus.QUEUED:
                self.store.queue.stop(job.id)
            else:
                self.store.attempts.finish(job, JobStatus.FAILED, time.time())

    def corpus(self, name: str = "Trades", rows: list[dict[str, str]] | None = None) -> Corpus:
        """An imported corpus; four short questions where none are given."""
        rows = rows or [{"prompt": f"question {i}", "answer": f"answer {i}"} for i in range(4)]
        file = self.home.root / "given.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        corpus = self.store.corpora.add(name, [file])
        self.end(corpus.job, import_corpus([file], self.home.corpus(corpus.id)).row())
        return self.store.corpora.get(corpus.id)

    def clustering(self, corpus: Corpus, words: list[list[str]] | None = None) -> Clustering:
        """Two clusters of the corpus' examples."""
        words = words or [["door"], ["boat"]]
        count = corpus.examples or 0
        row = self.store.clusterings.add(corpus.id, 2)
        cluster = np.arange(count) % 2
        folder = self.home.clustering(row.id)
        folder.mkdir(parents=True)
        pq.write_table(
            pa.table(
                {
                    "example": np.arange(count),
                    "cluster": cluster,
                    "x": np.arange(count) / 10,
                    "y": -np.arange(count) / 10,
                }
            ),
            folder / "assignments.parquet",
        )
        self.end(row.job, clustering_result(words, np.bincount(cluster, minlength=2).tolist()).row())
        return self.store.clusterings.get(row.id)

    def kinds(self, k: int = 3, each: int = 20, name: str = "Kinds") -> Corpus:
        """A corpus of three kinds of text that share no word, clustered as its job does it."""
        words = {
            "sea": "boat sail anchor harbour wave",
            "farm": "cow barn hay tractor field",
            "sky": "cloud rain sun fog",
        }
        rng = np.random.default_rng(0)
        rows = [
            {"prompt": " ".join(drawn[:2]), "answer": " ".join(drawn[2:]), "label": kind}
            for _ in range(each)
            for kind in words
            for drawn in [rng.choice(words[kind].split(), 4).tolist()]
        ]
        corpus = self.corpus(name, rows)
        self.work(self.store.clusterings.add(corpus.id, k).job)
        return corpus

    def work(self, job: Job | None) -> None:
        """Do what a job does in this process, and end it so."""
        assert job is not None
        folder = self.home.job(job.id, 1)
        folder.mkdir(parents=True, exist_ok=True)
        task = kind_of(job.kind).load()
        try:
            found = task(Child(folder, {"kind": job.kind, "payload": job.payload, "home": str(self.home.root)}))
        except UserError as error:
            self.end(job, status=JobStatus.FAILED, error=str(error), error_kind="user")
            return
        self.end(job, found.row() if isinstance(found, Part) else found)

    def run(
        self,
        corpus: Corpus,
        name: str = "A run",
        *,
        finished: bool = True,
        status: JobStatus = JobStatus.SUCCEEDED,
        **config: Any,
    ) -> Run:
        """A run: finished with a summary, or waiting in the queue."""
        run = self.store.runs.start(corpus.id, {**CONFIG, **config}, name=name)
        if finished:
            self.end(run.job, SUMMARY.row() if status == JobStatus.SUCCEEDED else None, status)
        return self.store.runs.get(run.id)

    def steps(self, run: Run, steps: list[dict[str, Any]]) -> None:
        """Numbers of steps, as a job's metrics file holds them."""
        items = [{"run_id": run.id, "step": number, "values": values} for number, values in enumerate(steps, 1)]
        job = self.store.queue.get(run.job.id) if run.job else None
        assert job is not None
        self.store.runs.add_steps(job, items, offset=1)

    def adapter(self, run: Run, names: list[str]) -> Path:
        """The folder of a run's adapter with files of these names."""
        folder = self.home.run(run.id) / "adapter"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(f"this is {name}", "utf-8")
        return folder

    def analysis(self, run: Run, kind: str, result: Result, params: dict[str, Any] | None = None) -> Analysis:
        """A finished analysis with its file."""
        row = self.store.analyses.ask(run.id, kind, params)
        result.write(self.home.analysis(row.id))
        self.end(row.job, {**result.row(), "sentence": "Done."})
        return self.store.analyses.get(row.id)


def clustering_result(words: list[list[str]], sizes: list[int]) -> Clusters:
    """A clustering into ``len(words)`` clusters."""
    return Clusters(
        k=len(words),
        suggested_k=2,
        elbow_k=3,
        reason="Two groups lie apart.",
        seed=0,
        examples=sum(sizes),
        sizes=sizes,
        words=words,
        typical=[[index] for index in range(len(words))],
        inertia={"1": 8.0, "2": 2.0, "3": 1.0},
        silhouette={"1": 0.0, "2": 0.75, "3": 0.5},
        stability={"1": 1.0, "2": 0.9, "3": 0.4},
        nmi=None,
        terms=10,
        corpus_hash="0",
    )


def routing_result(
    experts: int = 2, layers: list[str] | None = None, groups: dict[str, GroupGates] | None = None
) -> Routing:
    """Routing with gates that differ from cell to cell."""
    layers = layers or LAYERS
    raw = np.arange(1, len(layers) * experts + 1, dtype=float).reshape(len(layers), experts)
    mean = (raw / raw.sum(1, keepdims=True)).round(5)
    return Routing(
        layers=layers,
        experts=experts,
        examples=4,
        tokens=1_234,
        mean=mean.tolist(),
        histogram=[[[0.0, 0.25, 0.75, 0.0]] * experts for _ in layers],
        effective_experts=[min(1.5, experts)] * len(layers),
        dead=[],
        dominant=[],
        sentence="They choose.",
        token_classes=TokenClasses(names=["digits"], counts=[12], mean=mean[:1].tolist()),
        favourites=[[] for _ in range(experts)],
        cells=[[[0]] * experts for _ in layers],
        texts={"0": "text"},
        groups=groups if groups is not None else {"cluster": group_result(experts, len(layers))},
    )


def group_result(experts: int = 2, layers: int = 2, names: list[str] | None = None) -> GroupGates:
    """Gates by group: two groups that differ."""
    mean = np.array([np.arange(1, experts + 1), np.arange(experts, 0, -1)], dtype=float)
    mean /= mean.sum(1, keepdims=True)
    return GroupGates(
        names=names or ["C1", "C2"],
        sizes=[2, 2],
        cells=[[[0]] * experts] * 2,
        mean=mean.round(5).tolist(),
        r2=[0.5] * layers,
        band=0.1,
        p=0.005,
        real=True,
        nmi=[0.25] * layers,
        nmi_band=0.05,
        sentence="The gates follow the clusters.",
    )


def head_figures(name: str, layer: int, experts: int = 2, **more: Any) -> HeadFigures:
    """The heads of one layer, of given similarity."""
    cosine = (np.full((experts, experts), 0.25) + 0.75 * np.eye(experts)).tolist()
    figures = HeadFigures(
        name=name,
        layer=layer,
        kind="up_proj",
        rank=4,
        in_features=8,
        out_features=8,
        head_cosine=cosine,
        update_cosine=cosine,
        overlap=cosine,
        cka=cosine,
        update_norm=[float(e + 1) for e in range(experts)],
        effective_rank=[2.0] * experts,
        a_norm=1.0,
        trained=True,
        chance_head_cosine=0.3,
        chance_update_cosine=[[0.3] * experts] * experts,
        chance_overlap=0.4,
        chance_cka=0.4,
    )
    return figures.model_copy(update=more)


def weights_result(experts: int = 2, layers: list[str] | None = None) -> Weights:
    """Heads of given similarity in every layer, at two steps."""
    drift = [
        DriftRow(
            step=step,
            similarity=0.5,
            chance=0.1,
            norm=1.0,
            trained=step > 0,
            a_moved=step / 10,
            a_kept=1.0,
            router_moved=step / 5,
        )
        for step in (0, 4)
    ]
    return Weights(
        layers=[head_figures(name, index, experts) for index, name in enumerate(layers or LAYERS)],
        sentence="Related but not the same.",
        steps=[0, 4],
        drift=drift,
        drift_sentence="They moved.",
    )


def map_result(experts: int = 2, layout: str = "pca", runs: tuple[str, str] = ("run 1", "run 1")) -> MatrixMap:
    """A map with one point for each head of two layers, which may be from two runs."""
    points = [
        Point(run=run, module=name, layer=i, kind="up_proj", expert=e)
        for i, (name, run) in enumerate(zip(LAYERS, runs, strict=True))
        for e in range(experts)
    ]
    return MatrixMap(
        which="B",
        layout=layout,
        similarity="cosine",
        seed=3,
        stability=0.5,
        points=points,
        x=[float(i) for i in range(len(points))],
        y=[-float(i) for i in range(len(points))],
        findings=[],
        sentence="No structure beyond chance.",
    )


def experts_result(experts: int = 2, context: Context | None = None) -> Experts:
    """Every expert saves most in one cluster."""

    def change(value: float) -> dict[str, Any]:
        return {"change": value, "half_width": 0.01, "p": 0.0005, "real": value > 0.1, "examples": 4}

    context = context or Context(gate=0.9, text=" km", before="how many", after=" are")
    cards = [
        ExpertCard(
            expert=e,
            gate=1 / experts,
            norm=1.0,
            whole=Change(**change(0.2)),
            sentence=f"Serves C{e + 1}, quiet elsewhere.",
            groups={
                "cluster": [GroupChange(name=f"C{g + 1}", cluster=g, **change(0.5 if g == e else 0.0)) for g in (0, 1)]
            },
            layers=[LayerChange(layer=name, **change(0.1)) for name in LAYERS],
            contexts=[context],
        )
        for e in range(experts)
    ]
    return Experts(experts=experts, examples=4, loss=1.0, layers=LAYERS, cards=cards, sentence="They matter.", texts={})


def compare_result() -> Comparison:
    """Two runs that read alike."""
    pair = PairFigures(value=[[1.0, 0.9], [0.9, 1.0]], chance=[[0.0, 0.2], [0.2, 0.0]])
    layers = [
        LayerComparison(name=name, layer=i, kind="up_proj", A=pair, B=pair, BA=pair) for i, name in enumerate(LAYERS)
    ]
    part = PartSummary(mean=pair.value, similarity=0.9, chance=0.2, above=1.0, start=None)
    return Comparison(
        runs=["run 1", "run 2"], layers=layers, parts={"A": part, "B": part, "BA": part}, sentence="They read alike."
    )
