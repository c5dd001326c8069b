"""Addresses of a comparison: its figures, and every table of it as CSV, for runs named as ``?runs=1,4-9``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as InQuery
from fastapi.responses import JSONResponse, Response

from hydralora import bounds
from hydralora.errors import UserError
from hydralora.sheets import as_csv
from jobs.store.store import Store
from studio.comparison.address import LONGEST, parse_ids
from studio.comparison.desk import Desk
from studio.comparison.drawings import cost_figure, curves_figure, intervals_figure, parallel_figure
from studio.comparison.groups import SETTINGS, Compared
from studio.comparison.tables import TABLES
from studio.figures.base import Figure
from studio.figures.look import Look
from studio.figures.views import NothingToShow
from studio.web.api import Name, Share, View

Runs = Annotated[str, InQuery(max_length=LONGEST)]
Optional = Annotated[int, InQuery(ge=0, le=bounds.LARGEST_ID)]


def compare_router(store: Store) -> APIRouter:
    """Routes under ``/ui``."""
    router = APIRouter(prefix="/ui")

    desk = Desk(store)

    def asked(runs: str, by: str) -> Compared:
        compared = desk.compared(parse_ids(runs), by)
        if not compared.lines:
            raise UserError("None of these runs exists. They may have been deleted.")
        return compared

    @router.get("/figures/compare/{view}")
    def figure(
        view: View,
        runs: Runs,
        by: Name = SETTINGS,
        of: Name = "held-out",
        log: bool = False,
        smooth: Share = 0.0,
        single: bool = False,
        cost: Name = "minutes",
    ) -> Response:
        compared, look = asked(runs, by), Look(log, smooth, single)
        views = {
            "curves": lambda: curves_figure(store, compared, of, look),
            "intervals": lambda: intervals_figure(compared),
            "cost": lambda: cost_figure(compared, cost),
            "parallel": lambda: parallel_figure(compared),
        }
        if view not in views:
            raise UserError(f"There is no view called '{view}' here. Choose one of: {', '.join(views)}.")
        try:
            drawn: Figure = views[view]()
        except NothingToShow as reason:
            return JSONResponse({"empty": str(reason)})
        return Response(drawn.to_json(), media_type="application/json", headers={"Cache-Control": "no-cache"})

    @router.get("/compare/{name}.csv")
    def table(name: View, runs: Runs, by: Name = SETTINGS, a: Optional = 0, b: Optional = 0) -> Response:
        """One table of a comparison; ``a`` and ``b`` are the runs whose answers stand beside each other."""
        if name not in TABLES:
            raise UserError(f"There is no table called '{name}' here. Choose one of: {', '.join(TABLES)}.")
        head, rows = TABLES[name](store, asked(runs, by), (a, b))
        headers = {"Content-Disposition": f'attachment; filename="compare-{name}.csv"'}
        return Response(as_csv(head, rows), media_type="text/csv", headers=headers)

    return router
