"""The web process: FastAPI with the studio's own addresses, and the Gradio pages on top."""

from __future__ import annotations

import functools
import gzip
import os
import threading
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr
import plotly
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from hydralora.errors import UserError
from jobs.home import Home
from jobs.store import Store
from jobs.worker import start_worker
from studio.answers import Answers
from studio.api import explain_user_error, figure_router
from studio.chat_api import chat_router
from studio.pages import build_pages
from studio.theme import CSS, HEAD, STATIC, studio_theme

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'self'; form-action 'self'; object-src 'none'; base-uri 'self'"
)
MAX_UPLOAD = "2gb"
WORKER_CHECK_SECONDS = 5.0


class Guard(BaseHTTPMiddleware):
    """Refuses writes from other sites, and tells browsers to load nothing from elsewhere."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if request.method not in ("GET", "HEAD") and foreign:
            return JSONResponse({"detail": "Requests from other sites are refused."}, status_code=403)
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def create_app(home: Home, *, hosts: list[str] | None = None, keep_worker: bool = True) -> FastAPI:
    """The whole web application over one home folder.

    Args:
        hosts: Names under which the studio may be reached (guards against DNS rebinding).
        keep_worker: Start a worker, and start it again when it has died.
    """
    uploads = home.root / "browser-uploads"
    uploads.mkdir(exist_ok=True, mode=0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    store = Store(home)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=2_000)
    app.add_middleware(Guard)
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts or ["127.0.0.1", "localhost", "[::1]"])
    app.add_exception_handler(UserError, explain_user_error)
    app.include_router(figure_router(store))
    app.include_router(chat_router(Answers(store)))
    _add_static(app)
    _add_links(app)
    if keep_worker:
        threading.Thread(target=_keep_worker, args=(home,), daemon=True).start()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*SSR.*")
        return gr.mount_gradio_app(
            app, build_pages(store), path="/", theme=studio_theme(), css_paths=[CSS], head=HEAD, run_history=False,
            show_error=False, footer_links=[], max_file_size=MAX_UPLOAD, enable_monitoring=False, ssr_mode=False,
            allowed_paths=[], app_kwargs={"openapi_url": None}, blocked_paths=[str(home.root / "studio.db"), str(home.server)],
        )  # fmt: skip


def _add_static(app: FastAPI) -> None:
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}

    @app.get("/ui/plotly.min.js")
    def plotly_script() -> Response:
        return Response(_packed_plotly(), media_type="text/javascript", headers=headers)

    app.mount("/ui/static", StaticFiles(directory=STATIC), name="studio-static")


@functools.cache
def _packed_plotly() -> bytes:
    """The plotting script as it is sent, a third of its size; packed when it is first asked for."""
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 6)


def _add_links(app: FastAPI) -> None:
    """Short addresses that can be sent to others."""

    def link(path: str, page: str, key: str) -> None:
        @app.get(path, include_in_schema=False)
        def redirect(item: int, request: Request) -> RedirectResponse:
            query = f"&{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/{page}?{key}={item}{query}", status_code=307)

    link("/corpora/{item}", "corpora", "corpus")
    link("/runs/{item}", "run", "run")
    link("/inspect/{item}", "inspect", "run")
    link("/chat/{item}", "chat", "run")


def _keep_worker(home: Home) -> None:
    while True:
        start_worker(home)
        time.sleep(WORKER_CHECK_SECONDS)
