"""The endpoint: OpenAI's API over the studio's models. Text and routing weights come from the model server.

``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions``, as https://platform.openai.com/docs/api-reference
describes them. Who may ask is the gate's business (``gate.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from hydralora.errors import UserError
from hydralora.plain import json_text
from jobs.chat.client import ChatClient
from jobs.http import Refused
from jobs.store.store import Store
from studio.endpoint import ROOT
from studio.served import Models
from studio.web.endpoint import requests
from studio.web.endpoint.desk import Desk, Left, unless_left
from studio.web.endpoint.problems import Problem
from studio.web.endpoint.replies import Reply, event
from studio.web.json_bodies import parse_payload

# "identity" keeps the compressor from holding single tokens back.
STREAMED = {"Content-Encoding": "identity", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
GONE = 499  # nobody reads it


def build_endpoint(store: Store, only: Collection[int] | None = None) -> FastAPI:
    """The endpoint's addresses; ``only`` are the runs that it serves, None is all."""
    models, desk = Models(store, only), Desk(ChatClient(store))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.models = models
    _explain(app)

    @app.get(f"{ROOT}/models")
    def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [models.view(served) for served in models.all()]}

    @app.get(f"{ROOT}/models/{{name:path}}")
    def show_model(name: str) -> dict[str, Any]:
        return models.view(models.find(name))

    @app.post(f"{ROOT}/chat/completions")
    async def chat(request: Request) -> Response:
        return await _answer(request, requests.ChatRequest, models, desk)

    @app.post(f"{ROOT}/completions")
    async def complete(request: Request) -> Response:
        return await _answer(request, requests.CompletionRequest, models, desk)

    return app


async def _answer(request: Request, kind: type[requests.Request], models: Models, desk: Desk) -> Response:
    asked = requests.understood(kind, parse_payload(await request.body()))
    served = await run_in_threadpool(models.find, asked.model)
    if asked.experts is not None and not served.experts:
        raise Problem(400, f"{served.name} has no experts to change. Leave `experts` out.", "no_experts", "experts")
    reply = Reply(served.name, kind is requests.ChatRequest, asked.gates)
    lines = desk.lines({**served.speaker, **asked.question})
    try:
        if not asked.stream:
            whole = await unless_left(request, _whole(lines, reply))
            return Response(json_text(whole), media_type="application/json")
        first = await unless_left(request, _first(lines, reply))
    except Left:
        await lines.aclose()  # type: ignore[attr-defined]  # it is a generator
        return Response(status_code=GONE)
    stream = _stream(first, lines, reply, with_usage=asked.stream_options.include_usage)
    return StreamingResponse(stream, media_type="text/event-stream", headers=STREAMED)


async def _whole(lines: AsyncIterator[dict[str, Any]], reply: Reply) -> dict[str, Any]:
    async for line in lines:
        reply.take(line)
    return reply.whole


async def _first(lines: AsyncIterator[dict[str, Any]], reply: Reply) -> dict[str, Any] | None:
    """The first token, or None where there is none; until then a refusal still has its status."""
    async for line in lines:
        token = reply.take(line)
        if token is not None or reply.reason is not None:
            return token
    return None


async def _stream(
    first: dict[str, Any] | None, lines: AsyncIterator[dict[str, Any]], reply: Reply, *, with_usage: bool
) -> AsyncIterator[str]:
    try:
        yield reply.begin()
        if first is not None:
            yield reply.piece(first)
        async for line in lines:
            token = reply.take(line)
            if token is not None:
                yield reply.piece(token)
        yield reply.end(with_usage=with_usage)
    except Problem as problem:
        yield event(problem.body)
    finally:
        await lines.aclose()  # type: ignore[attr-defined]  # it is a generator


def _explain(app: FastAPI) -> None:
    """Every refusal in the shape that clients read."""

    async def explain(_: Request, error: Exception) -> JSONResponse:
        return Problem.of(error).reply()

    async def explain_status(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 404
        word = "There is no such address" if status == 404 else f"{request.method} is not understood here"
        return Problem(
            status, f"{word}. There are {ROOT}/models, {ROOT}/chat/completions and {ROOT}/completions."
        ).reply()

    for kind in (Problem, Refused, UserError, RequestValidationError, Exception):
        app.add_exception_handler(kind, explain)
    app.add_exception_handler(HTTPException, explain_status)
