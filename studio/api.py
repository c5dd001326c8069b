"""Addresses of the studio beside the pages: figures as JSON, downloads, health.

Ids in addresses are integers checked by FastAPI; nothing in an address is ever a path.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from hydralora.errors import UserError
from jobs.store import Store
from studio import figures
from studio.figures import Figure
from studio.figures_gates import gate_drift
from studio.views import NothingToShow, Query, analysis_figure

DOWNLOADS = {
    "adapter_config.json", "run.json", "README.md", "export.json", "config.json", "generation_config.json",
    "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
}  # fmt: skip
ZIP_IN_MEMORY = 64 * 2**20  # bytes; a larger archive is laid down on disk while it is sent
ZIP_PIECE = 2**20  # bytes
LARGEST_ID = 2**53  # what both the database and a browser count exactly
Id = Annotated[int, InPath(ge=0, le=LARGEST_ID)]


def figure_router(store: Store) -> APIRouter:
    """Routes under ``/ui``: everything a ``FigurePanel`` can show."""
    router = APIRouter(prefix="/ui")

    @router.get("/figures/clusterings/{clustering_id}/{view}")
    def clustering(clustering_id: Id, view: str) -> Response:
        found = store.clustering(clustering_id)
        if found.result is None:
            raise UserError("This clustering is not finished yet.")
        if view == "elbow":
            return _reply(figures.elbow(found.result))
        table = pq.read_table(store.home.clustering(clustering_id) / "assignments.parquet")
        cluster, x, y = (table[name].to_numpy() for name in ("cluster", "x", "y"))
        return _reply(figures.corpus_map(cluster, x, y, found.result["words"]))

    @router.get("/figures/runs/{run_id}/{view}")
    def run(run_id: Id, view: str, layer: str = "") -> Response:
        steps = store.steps(store.run(run_id).id)
        if not steps:
            return JSONResponse({"empty": "The first numbers appear with the first step."})
        return _run_view(steps, view, layer)

    @router.get("/figures/analyses/{analysis_id}/{view}")
    def analysis(
        analysis_id: Id, view: str, layer: int = 0, what: str = "update_cosine", group: str = "cluster",
        step: int = -1, part: str = "BA", kind: str = "",
    ) -> Response:  # fmt: skip
        found = store.analysis(analysis_id)
        if found.job is None or found.job.status != "succeeded":
            raise UserError("This analysis is not finished yet.")
        query = Query(layer, what, group, step, part, kind)
        try:
            return _reply(analysis_figure(store.home.analysis(found.id), found.kind, view, query))
        except NothingToShow as reason:
            return JSONResponse({"empty": str(reason)})

    @router.get("/runs/{run_id}/adapter.zip")
    def adapter(run_id: Id) -> Response:
        run = store.run(run_id)
        if run.summary is None:
            raise UserError(f"Run {run_id} is not finished ({run.status}), so there is no adapter to download yet.")
        return _zip(store.home.run(run_id) / "adapter", f"run-{run_id}-adapter.zip")

    @router.get("/analyses/{analysis_id}/export.zip")
    def export(analysis_id: Id) -> Response:
        found = store.analysis(analysis_id)
        if found.kind != "export" or found.job is None or found.job.status != "succeeded":
            raise UserError("There is no finished export of this number.")
        return _zip(store.home.analysis(analysis_id), f"run-{found.run_id}-{found.params['how']}.zip")

    @router.get("/runs/{run_id}/metrics.csv")
    def metrics(run_id: Id) -> Response:
        steps = store.steps(store.run(run_id).id)
        names = list(dict.fromkeys(name for step in steps for name in step.numbers))
        lines = [",".join(["step", *names])]
        lines += [
            ",".join(str(value) for value in [step.step, *[step.numbers.get(n, "") for n in names]]) for step in steps
        ]
        headers = {"Content-Disposition": f'attachment; filename="run-{run_id}-metrics.csv"'}
        return Response("\n".join(lines) + "\n", media_type="text/csv", headers=headers)

    @router.get("/health")
    def health() -> dict[str, Any]:
        return {"ok": True, "workers": len(store.queue.workers()), **store.queue.counts()}

    return router


def _run_view(steps: list[Any], view: str, layer: str) -> Response:
    numbers = [step.step for step in steps]

    def column(name: str) -> list[float | None]:
        return [step.numbers.get(name) for step in steps]

    if view == "loss":
        lines = {"training loss": column("loss"), "held-out loss": column("eval_loss")}
        aid = "Mean loss per answer token (nats); lower is better. When the held-out loss rises while the other falls, the adapter learns by heart."
        return _reply(figures.curve(numbers, lines, y="loss", name="loss", aid=aid))
    if view == "speed":
        lines = {"tokens per second": column("tokens_per_second")}
        return _reply(
            figures.curve(
                numbers, lines, y="tokens/s", name="speed", aid="Tokens read per second of training, padding left out."
            )
        )
    if view == "rate":
        lines = {"learning rate": column("learning_rate")}
        return _reply(
            figures.curve(
                numbers, lines, y="learning rate", name="learning-rate", aid="The planned learning rate at each step."
            )
        )
    if view not in ("gates", "gate-drift"):
        raise UserError(f"There is no view called '{view}' here.")
    routed = [(step.step, step.gates) for step in steps if step.gates]
    if not routed:
        return JSONResponse({"empty": "No gate weights: this method has no router, or none was recorded yet."})
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
    return _reply(figures.gate_curves([step for step, _ in routed], means, label))


def _reply(figure: Figure) -> Response:
    return Response(figure.to_json(), media_type="application/json", headers={"Cache-Control": "no-cache"})


def _zip(folder: Path, name: str) -> Response:
    """The files we write ourselves, by name, in this folder and in the ones right below it."""
    if not folder.is_dir():
        raise UserError("The adapter's files are no longer there. Train the run again.")
    file = tempfile.SpooledTemporaryFile(max_size=ZIP_IN_MEMORY)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
            if path.is_file() and (path.name in DOWNLOADS or path.suffix == ".safetensors"):
                archive.write(path, path.relative_to(folder))
    file.seek(0)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    pieces = iter(lambda: file.read(ZIP_PIECE), b"")
    return StreamingResponse(
        pieces, media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
    )


def explain_user_error(_: Request, error: Exception) -> JSONResponse:
    """A mendable error as one sentence."""
    return JSONResponse({"detail": str(error)}, status_code=400)
