"""Addresses of the tray: the jobs as they stand, and stopping one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

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

    return router
