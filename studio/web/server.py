"""The web process: FastAPI with the studio's own addresses, and the Gradio pages on top."""

from __future__ import annotations

import functools
import gzip
import os
import secrets
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Gradio notes 10,000 events, and sums them up by pandas after each one, for a dashboard that is switched off.
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)

import gradio as gr
import plotly
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from hydralora.plain import hide_place
from jobs.database_file import NAME
from jobs.home import Home
from jobs.http import BoundedBody
from jobs.runner.service import keep_worker
from jobs.sending import start_sending
from jobs.store.store import Store
from studio.pages import build_pages
from studio.web.answers import Answers
from studio.web.api import explain_errors, figure_router
from studio.web.changes import changes_router
from studio.web.chat_api import chat_router
from studio.web.compare_api import compare_router
from studio.web.door import Door, DoorMiddleware
from studio.web.endpoint.api import build_endpoint
from studio.web.endpoint.gate import EndpointGate
from studio.web.guard import LOOPBACK_NAMES, Guard
from studio.web.jobs_api import jobs_router
from studio.web.old_addresses import OldAddresses
from studio.web.payloads import PayloadGuard
from studio.web.selection_api import selection_router
from studio.web.sessions import OpenPages
from studio.web.theme import CSS, HEAD, STATIC, studio_theme
from studio.web.uploads import MOST_FILE, UploadMiddleware, Uploads, is_upload

WORKER_CHECK_SECONDS = 5.0


def create_app(
    home: Home, *, hosts: list[str] | None = None, keep_worker: bool = True, door: Door | None = None
) -> FastAPI:
    """The whole web application over one home folder.

    Args:
        hosts: Names under which the studio may be reached (guards against DNS rebinding).
        keep_worker: Start a worker, and start it again when it has died.
        door: Who may come in; without one, whoever has the token in ``app.state.door.secret``.
    """
    door = door or Door(secrets.token_urlsafe(24), home.server / "cookie.key")
    for place in (os.path.expanduser("~"), sys.prefix, tempfile.gettempdir(), Path(__file__).parents[2]):
        hide_place(Path(place))
    store, uploads = Store(home), Uploads(_uploads_folder(home))
    blocks = build_pages(store, has_sign_out=not door.is_open)
    blocks.has_launched = True  # Gradio looks at no path of a payload before this is set, and a mount never sets it
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.door, app.state.uploads, app.state.store = door, uploads, store
    app.add_middleware(PayloadGuard, blocks=blocks, uploads=uploads)  # the last one added is asked first
    app.add_middleware(OldAddresses)
    app.add_middleware(BoundedBody, streams=is_upload)
    app.add_middleware(UploadMiddleware, uploads=uploads)
    app.add_middleware(DoorMiddleware, door=door)
    app.add_middleware(
        EndpointGate, endpoint=build_endpoint(store), store=store, is_on=lambda: store.keys.is_on
    )  # programs come in by keys, before the door
    app.add_middleware(GZipMiddleware, minimum_size=2_000)
    app.add_middleware(Guard)
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts or LOOPBACK_NAMES)
    explain_errors(app)
    app.include_router(figure_router(store))
    app.include_router(selection_router(store))
    app.include_router(compare_router(store))
    app.include_router(changes_router(store))
    app.include_router(jobs_router(store))
    app.include_router(chat_router(Answers(store)))
    _add_static(app)
    threading.Thread(target=uploads.keep_sweeping, daemon=True).start()
    start_sending(store)
    if keep_worker:
        threading.Thread(target=_keep_worker, args=(home,), daemon=True).start()
    return _mount_pages(app, blocks, home)


def _uploads_folder(home: Home) -> Path:
    folder = home.root / "browser-uploads"
    folder.mkdir(exist_ok=True, mode=0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def _mount_pages(app: FastAPI, blocks: gr.Blocks, home: Home) -> FastAPI:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*SSR.*")
        gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            theme=studio_theme(),
            css_paths=[CSS],
            head=HEAD,
            run_history=False,
            show_error=False,
            footer_links=[],
            max_file_size=MOST_FILE,
            enable_monitoring=False,
            ssr_mode=False,
            allowed_paths=[],
            app_kwargs={"openapi_url": None},
            blocked_paths=[str(path) for path in (home.root / NAME, *home.database_copies, home.server)],
        )
    pages = next(route for route in reversed(app.routes) if isinstance(route, Mount) and route.path == "")
    explain_errors(pages.app)  # type: ignore[arg-type]  # Gradio's own FastAPI
    pages.app.state_holder = OpenPages(blocks)  # type: ignore[attr-defined]
    return app


class CheckedFiles(StaticFiles):
    """Files that a browser asks for again each time, so that no module meets an older one after an upgrade."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, or 304 where the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _add_static(app: FastAPI) -> None:
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}

    @app.get("/ui/plotly.min.js")
    def plotly_script() -> Response:
        return Response(_packed_plotly(), media_type="text/javascript", headers=headers)

    app.mount("/ui/static", CheckedFiles(directory=STATIC), name="studio-static")


@functools.cache
def _packed_plotly() -> bytes:
    """The plotting script as it is sent, a third of its size; packed when it is first asked for."""
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 6)


def _keep_worker(home: Home) -> None:
    while True:
        keep_worker(home)
        time.sleep(WORKER_CHECK_SECONDS)
