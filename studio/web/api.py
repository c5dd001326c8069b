"""Addresses of the studio beside the pages: figures as JSON, downloads, health.

Ids in addresses are integers checked by FastAPI; nothing in an address is ever a path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi import Path as InPath
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from hydralora import bounds
from hydralora.corpus.folder import Corpus
from hydralora.errors import UserError
from hydralora.plain import one_line, without_paths
from hydralora.sheets import as_csv
from jobs.store.records import Step
from jobs.store.store import Store
from studio.figures import base as figures
from studio.figures.base import Figure
from studio.figures.curves import CURVES, curve, gate_curves
from studio.figures.gates import gate_drift
from studio.figures.look import MOST_SMOOTH, Look
from studio.figures.views import NothingToShow, Query, analysis_figure
from studio.web.downloads import examples_reply
from studio.web.packing import pack

ZIP_PIECE = 2**20  # bytes
STEPS_SHOWN = 1_000  # of a run, evenly spread: a figure is not wider; the CSV file has all
ROUTED_SHOWN = 200  # the same of steps with routing weights
ROUTED_VIEWS = ("gates", "gate-drift")
Id = Annotated[bounds.Id, InPath()]
View = Annotated[str, InPath(max_length=bounds.LONGEST_NAME)]
Name = Annotated[str, InQuery(max_length=bounds.LONGEST_NAME)]  # of a layer, a measure, a grouping
Place = Annotated[int, InQuery(ge=-bounds.MOST_LAYERS, le=bounds.MOST_LAYERS)]  # one beyond the last shows the last
Share = Annotated[float, InQuery(ge=0.0, le=MOST_SMOOTH)]  # of the steps
AtStep = Annotated[int, InQuery(ge=-1, le=bounds.MOST_STEPS)]  # -1 is the end


def figure_router(store: Store) -> APIRouter:
    """Routes under ``/ui``: everything a ``FigurePanel`` can show."""
    router = APIRouter(prefix="/ui")

    @router.get("/figures/clusterings/{clustering_id}/{view}")
    def clustering(clustering_id: Id, view: View) -> Response:
        found = store.clusterings.get(clustering_id)
        if view != "elbow":
            raise UserError(f"There is no view called '{view}' here.")
        return _reply(figures.elbow(found.clusters))

    @router.get("/figures/runs/{run_id}/{view}")
    def run(run_id: Id, view: View, layer: Name = "", log: bool = False, smooth: Share = 0.0) -> Response:
        look = Look(log, smooth)
        if view in ROUTED_VIEWS:
            routed = store.runs.routed_steps(store.runs.get(run_id).id, ROUTED_SHOWN)
            return _routed_view(routed, view, layer, look)
        steps = store.runs.steps(store.runs.get(run_id).id, most=STEPS_SHOWN, gates=False)
        if not steps:
            return JSONResponse({"empty": "The first numbers appear with the first step."})
        return _run_view(steps, view, look)

    @router.get("/figures/analyses/{analysis_id}/{view}")
    def analysis(
        analysis_id: Id,
        view: View,
        layer: Place = 0,
        what: Name = "update_cosine",
        group: Name = "cluster",
        step: AtStep = -1,
        part: Name = "BA",
        kind: Name = "",
    ) -> Response:
        found = store.analyses.get(analysis_id)
        if found.job is None or found.job.status != "succeeded":
            raise UserError("This analysis is not finished yet.")
        query = Query(layer, what, group, step, part, kind)
        try:
            return _reply(analysis_figure(store.home.analysis(found.id), found.kind, view, query))
        except NothingToShow as reason:
            return JSONResponse({"empty": str(reason)})

    @router.get("/runs/{run_id}/adapter.zip")
    def adapter(run_id: Id) -> Response:
        run = store.runs.get(run_id)
        if run.summary is None:
            raise UserError(f"Run {run_id} is not finished ({run.status}), so there is no adapter to download yet.")
        return _zip(store.home.adapter(run_id), f"run-{run_id}-adapter.zip")

    @router.get("/analyses/{analysis_id}/export.zip")
    def export(analysis_id: Id) -> Response:
        found = store.analyses.get(analysis_id)
        if found.kind != "export" or found.job is None or found.job.status != "succeeded":
            raise UserError("There is no finished export of this number.")
        words = "-".join(map(str, found.params.values()))
        return _zip(store.home.analysis(analysis_id), f"run-{found.run_id}-{words}.zip")

    @router.get("/runs/{run_id}/metrics.csv")
    def metrics(run_id: Id) -> Response:
        steps = store.runs.steps(store.runs.get(run_id).id, gates=False)
        names = list(dict.fromkeys(name for step in steps for name in step.numbers))
        rows = [[step.step, *[step.numbers.get(name) for name in names]] for step in steps]
        headers = {"Content-Disposition": f'attachment; filename="run-{run_id}-metrics.csv"'}
        return Response(as_csv(["step", *names], rows), media_type="text/csv", headers=headers)

    @router.get("/corpora/{corpus_id}/examples.{name}")
    def examples(corpus_id: Id, name: View) -> Response:
        """What is not left out of a corpus."""
        corpus = Corpus(store.home.corpus(store.corpora.ready(corpus_id).id))
        left = np.setdiff1d(np.arange(len(corpus)), store.exclusions.excluded(corpus_id))
        return examples_reply(corpus, left, name, f"corpus-{corpus_id}")

    @router.get("/health")
    def health() -> dict[str, Any]:
        return {"ok": True, "workers": len(store.workers.seen()), **store.queue.counts()}

    return router


def _run_view(steps: list[Step], view: str, look: Look) -> Response:
    if view not in CURVES:
        raise UserError(f"There is no view called '{view}' here.")
    chosen = CURVES[view]
    lines = {words: [step.numbers.get(name) for step in steps] for name, words in chosen.lines.items()}
    if not any(value is not None for values in lines.values() for value in values):
        return JSONResponse({"empty": chosen.empty})
    return _reply(curve(chosen, [step.step for step in steps], lines, look))


def _routed_view(steps: list[Step], view: str, layer: str, look: Look) -> Response:
    routed = [(step.step, step.gates) for step in steps if step.gates]
    if not routed:
        return JSONResponse({"empty": "No routing weights: this method has no router, or none was recorded yet."})
    if view == "gate-drift":
        return _reply(gate_drift([step for step, _ in routed], [gates for _, gates in routed]))
    names = list(routed[0][1])
    if layer and layer not in names:
        raise UserError("That layer does not exist in this run.")
    chosen = [layer] if layer else names
    means = [
        [sum(gates[n][e] for n in chosen) / len(chosen) for e in range(len(gates[chosen[0]]))] for _, gates in routed
    ]
    label = figures.short_layer(layer) if layer else "mean of all layers"
    return _reply(gate_curves([step for step, _ in routed], means, label, look))


def _reply(figure: Figure) -> Response:
    return Response(figure.to_json(), media_type="application/json", headers={"Cache-Control": "no-cache"})


def _zip(folder: Path, name: str) -> Response:
    file = pack(folder)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    pieces = iter(lambda: file.read(ZIP_PIECE), b"")
    return StreamingResponse(
        pieces, media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
    )


def explain_errors(app: FastAPI) -> None:
    """Every refusal as one sentence in ``detail``, and a bug without a word of its insides."""
    app.add_exception_handler(UserError, explain_user_error)
    app.add_exception_handler(RequestValidationError, explain_refusal)
    app.add_exception_handler(Exception, explain_bug)


def explain_user_error(_: Request, error: Exception) -> JSONResponse:
    """A mendable error as one sentence."""
    return JSONResponse({"detail": without_paths(one_line(str(error)))}, status_code=400)


def explain_refusal(_: Request, error: Exception) -> JSONResponse:
    """What FastAPI refuses, in words instead of a list."""
    details = error.errors() if isinstance(error, RequestValidationError) else []
    told = [{**detail, "loc": detail["loc"][1:]} for detail in details]  # without "query" or "body"
    return JSONResponse({"detail": one_line(bounds.sentences(told))}, status_code=422)


def explain_bug(_: Request, error: Exception) -> JSONResponse:
    """Something that is our mistake: its traceback goes to the log of the web process only."""
    return JSONResponse({"detail": "Something unexpected failed. The studio's log holds the details."}, status_code=500)
