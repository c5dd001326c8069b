"""Addresses of the tray: the jobs as they stand, stopping one, and the order of those that wait."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from jobs.store.order import Place
from jobs.store.store import Store
from studio.tray import tray
from studio.web.api import Id


def jobs_router(store: Store) -> APIRouter:
    """Routes under ``/ui/jobs``."""
    router = APIRouter(prefix="/ui/jobs")

    @router.get("")
    def jobs() -> JSONResponse:
        return JSONResponse(tray(store), headers={"Cache-Control": "no-store"})

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
