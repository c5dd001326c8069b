"""Addresses of the tray: the jobs as they stand, stopping one, and the order of those that wait."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as InQuery
from fastapi.responses import JSONResponse

from jobs.store.logs import LONGEST_WORDS, MOST_FOUND, page, search
from jobs.store.order import Place
from jobs.store.store import Store
from studio.tray import ended, tray
from studio.web.api import Id

NO_STORE = {"Cache-Control": "no-store"}
AtByte = Annotated[int | None, InQuery(ge=0, le=2**53)]
Told = Annotated[int | None, InQuery(ge=0, le=2**53)]
Attempt = Annotated[int | None, InQuery(ge=1, le=10_000)]
Words = Annotated[str, InQuery(max_length=LONGEST_WORDS)]


def jobs_router(store: Store) -> APIRouter:
    """Routes under ``/ui/jobs``."""
    router = APIRouter(prefix="/ui/jobs")

    @router.get("")
    def jobs(told: Told = None) -> JSONResponse:
        """The jobs as they stand, and those that have ended since a page was ``told`` last."""
        return JSONResponse({**tray(store), **ended(store, told)}, headers=NO_STORE)

    @router.get("/{job_id}/log")
    def log(job_id: Id, before: AtByte = None, attempt: Attempt = None) -> JSONResponse:
        """A piece of what a job has printed: the last one, or the one that ends at the byte ``before``."""
        found = page(store.home, store.queue.get(job_id), before=before, attempt=attempt)
        return JSONResponse(asdict(found), headers=NO_STORE)

    @router.get("/{job_id}/log/lines")
    def lines(job_id: Id, find: Words, attempt: Attempt = None) -> JSONResponse:
        """The last lines of it that hold some words."""
        found = search(store.home, store.queue.get(job_id), find, attempt=attempt)
        return JSONResponse({"lines": [asdict(line) for line in found], "most": MOST_FOUND}, headers=NO_STORE)

    @router.post("/{job_id}/stop")
    def stop(job_id: Id) -> dict[str, Any]:
        """Cancel a job that waits; ask one that runs to save its state and end."""
        return {"status": store.queue.stop(job_id).status}

    @router.post("/{job_id}/place/{place}")
    def move(job_id: Id, place: Place) -> dict[str, Any]:
        """Let a waiting job begin earlier or later among those of its lane."""
        store.order.move(job_id, place)
        return {"place": place}

    @router.post("/{job_id}/hold")
    def hold(job_id: Id) -> dict[str, Any]:
        """Keep a waiting job from beginning."""
        store.order.hold(job_id)
        return {"held": True}

    @router.post("/{job_id}/release")
    def release(job_id: Id) -> dict[str, Any]:
        """Let a held job wait for its turn again."""
        store.order.hold(job_id, held=False)
        return {"held": False}

    return router
