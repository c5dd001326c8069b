"""The model server: one base in memory, any of its adapters, answers streamed with gate weights.

A job of its own (kind ``serve``). It listens on the loopback address with a bearer token, serves
one answer at a time in order of arrival, and ends by itself when nobody has asked for
``IDLE_SECONDS``, so that the memory is free again. Adapters are named by run id and step, never
by path.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import torch
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from hydralora.answer_settings import LONGEST_STOP, MOST_STOPS, Factors, GenerationSettings, Layers
from hydralora.bases.load import choose_device, fit_threads
from hydralora.bounds import LARGEST_ID, BaseName, Expert, Id, Length, Message, Step
from hydralora.config import Dtype
from hydralora.errors import ContextError, UserError
from hydralora.files import write_json
from hydralora.generate import Answer, ChatModel
from jobs.chat.fair_lock import Turn
from jobs.home import Home
from jobs.http import BearerOnly, BoundedBody, PatientProtocol
from jobs.runner.child import Job
from jobs.store.bases import Bases

IDLE_SECONDS = float(os.environ.get("HYDRA_STUDIO_SERVER_IDLE_SECONDS", 600))
MAX_WAITING = 16
MOST_QUESTION = 32 * 2**20  # bytes of a question with its conversation
MOST_SCORED = 8_192  # tokens
GATE_DIGITS = 3


class Said(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Message


class Load(BaseModel):
    """A base and an adapter that will soon be asked."""

    model_config = ConfigDict(extra="forbid")
    base: BaseName
    dtype: Dtype = Field("float32", description="Type of the base, as the adapter was trained on it")
    run_id: Id | None = None
    step: Step | None = Field(None, description="A checkpoint of the run; None is the finished adapter")


class Speaker(Load):
    """Who is to speak: a base, an adapter on it, and what is changed in its experts."""

    messages: list[Said] = Field(default_factory=list, max_length=200)
    text: Message | None = Field(None, description="In place of messages: what the model goes on with as it stands")
    settings: GenerationSettings = Field(default_factory=GenerationSettings)
    factors: Factors = Field(default_factory=dict)
    force: Expert | None = None
    layers: Layers = Field(default_factory=dict, description="Changes of single layers")

    @model_validator(mode="after")
    def _one_of_both(self) -> Speaker:
        if bool(self.messages) == (self.text is not None):
            raise ValueError("Give either `messages` or `text`.")
        return self

    @property
    def said(self) -> list[dict[str, str]] | str:
        """The messages as a chat template reads them, or the text."""
        return self.text if self.text is not None else [message.model_dump() for message in self.messages]


class Ask(Speaker):
    """One question to the server."""

    request_id: str = Field(max_length=64)
    stops: list[Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]] = Field([], max_length=MOST_STOPS)
    room: Length | None = Field(None, description="Tokens to leave for the answer; None leaves out old messages")
    gates: bool = Field(True, description="Whether the gates of every token are wanted")


class Score(Speaker):
    """How likely would these tokens have been as the answer?"""

    tokens: list[Annotated[int, Field(ge=0, le=LARGEST_ID)]] = Field(min_length=1, max_length=MOST_SCORED)


class Server:
    """What the process holds: one ``ChatModel``, the queue in front of it, and who may stop."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.model: ChatModel | None = None
        self.turn = Turn()
        self.device = choose_device()
        self.waiting = 0
        self.last_used = time.monotonic()
        self.stops: dict[str, threading.Event] = {}
        self._count = threading.Lock()

    def adapter(self, ask: Load) -> Path | None:
        """Folder of the adapter asked for; UserError when it is not there."""
        if ask.run_id is None:
            return None
        run = self.home.run(ask.run_id)
        if ask.step is None or not run.exists():
            self.home.adapter(ask.run_id)  # which says that the files are gone
        else:
            self.home.artefacts.fetch(run / "checkpoints" / f"checkpoint-{int(ask.step)}")
        folder = run / "adapter" if ask.step is None else run / "checkpoints" / f"checkpoint-{int(ask.step)}"
        if not (folder / "adapter_config.json").exists():
            raise UserError(f"Run {ask.run_id} has no adapter there yet. Wait until it has finished, or resume it.")
        return folder

    def answer(self, ask: Ask) -> Iterator[str]:
        """Lines of JSON: ``start``, a ``token`` each, then ``done`` or ``error``."""
        with self._count:
            if self.waiting >= MAX_WAITING:
                yield _line(error="Too many questions are waiting. Try again in a moment.", kind="busy")
                return
            self.waiting += 1
            stop = self.stops[ask.request_id] = threading.Event()
        try:
            with self.turn:
                yield from self._speak(ask, stop)
        except UserError as error:
            yield _line(error=str(error), kind="context" if isinstance(error, ContextError) else "refused")
        finally:
            with self._count:
                self.waiting -= 1
                self.stops.pop(ask.request_id, None)
            self.last_used = time.monotonic()

    def _speak(self, ask: Ask, stop: threading.Event) -> Iterator[str]:
        adapter = self.adapter(ask)
        if self.model is None or self.model.base_name != ask.base:
            yield _line(state=f"Loading base model {Bases(self.home).name_of(ask.base)}")
        if self.must_make_room:
            yield _line(state="A training run has the GPU, so this answer is computed on the CPU")
        model = self.load(ask)
        answer, began, count = Answer(), time.perf_counter(), 0
        stream = model.stream(
            ask.said,
            adapter=adapter,
            settings=ask.settings,
            stop=stop,
            factors=ask.factors,
            force=ask.force,
            layers=ask.layers,
            answer=answer,
            stops=ask.stops,
            room=ask.room,
            gates=ask.gates,
        )
        for event in stream:
            if count == 0:
                yield _line(layers=answer.layers, prompt_tokens=answer.prompt_tokens, dropped=answer.dropped)
            count += 1
            gates = event.gates and [[round(g, GATE_DIGITS) for g in layer] for layer in event.gates]
            yield _line(text=event.text, gates=gates, id=event.id)
        seconds = max(time.perf_counter() - began, 1e-9)
        yield _line(
            done=answer.reason,
            count=count,
            tokens_per_second=round(count / seconds, 1),
            layers=answer.layers,
            prompt_tokens=answer.prompt_tokens,
            dropped=answer.dropped,
        )

    def load(self, ask: Load) -> ChatModel:
        """The model of this base in its type; the one in memory leaves first, so that two never lie beside each other.

        Raises:
            BaseModelError: When it is not on the list of bases, or cannot be loaded.
        """
        base = Bases(self.home).resolve(ask.base)
        wanted = (base, ask.dtype, self.place)
        if self.model is None or (self.model.base_name, self.model.dtype, self.model.base.device.type) != wanted:
            self.model = None
            fit_threads(base)
            self.model = ChatModel(base, dtype=ask.dtype, device=self.place)
        return self.model

    @property
    def place(self) -> str:
        """Device that answers come from now."""
        return "cpu" if self.must_make_room else self.device

    @property
    def must_make_room(self) -> bool:
        """Whether a training run needs the GPU that we would use."""
        return self.device != "cpu" and self.home.make_room.exists()

    def make_room(self) -> None:
        """Give the GPU back as soon as no answer is being written; answers come from the CPU meanwhile."""
        model = None if self.turn.is_held else self.model
        if self.must_make_room and model is not None and model.base.device.type != "cpu":
            del model
            with self.turn:
                self.model = None
                gc.collect()
                torch.cuda.empty_cache()

    def score(self, ask: Score) -> list[float]:
        """Probabilities of the tokens, once the answers before it are done."""
        with self.turn:
            self.last_used = time.monotonic()
            adapter = self.adapter(ask)
            return self.load(ask).score(
                ask.said,
                ask.tokens,
                adapter=adapter,
                settings=ask.settings,
                factors=ask.factors,
                force=ask.force,
                layers=ask.layers,
            )


async def _until_left(lines: Iterator[str]) -> AsyncIterator[str]:
    """The lines; a reader that goes away in mid-answer ends the answer, so that the next one gets its turn."""
    try:
        async for line in iterate_in_threadpool(lines):
            yield line
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(lines.close)  # type: ignore[attr-defined]  # it is a generator


def _line(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def build_app(server: Server, token: str) -> FastAPI:
    """The server's addresses; every one asks for the token, before anything else of a request is read."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BoundedBody, most=MOST_QUESTION)
    app.add_middleware(BearerOnly, token=token)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        base = server.model.base_name if server.model else None
        return {
            "base": base,
            "waiting": server.waiting,
            "busy": server.turn.is_held,
            "has_made_room": server.must_make_room,
        }

    @app.post("/answer")
    def answer(ask: Ask) -> StreamingResponse:
        return StreamingResponse(_until_left(server.answer(ask)), media_type="application/x-ndjson")

    @app.post("/load")
    def load(ask: Load) -> dict[str, bool]:
        try:
            with server.turn:
                server.last_used = time.monotonic()
                server.load(ask).use(server.adapter(ask))
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        return {"loaded": True}

    @app.post("/score")
    def score(ask: Score) -> dict[str, Any]:
        try:
            return {"probabilities": server.score(ask)}
        except UserError as error:
            raise HTTPException(422, str(error)) from error

    @app.post("/stop/{request_id}")
    def stop(request_id: str) -> dict[str, bool]:
        event = server.stops.get(request_id)
        if event is not None:
            event.set()
        return {"stopped": event is not None}

    return app


def serve(job: Job) -> dict[str, Any]:
    """Serve until idle for long or asked to stop."""
    job.home.server.mkdir(mode=0o700, exist_ok=True)
    path = job.home.server / "server.json"
    path.unlink(missing_ok=True)  # of one that was killed; its port may be anybody's by now
    server, token = Server(job.home), secrets.token_urlsafe(32)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        build_app(server, token),
        http=PatientProtocol,
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    web = uvicorn.Server(config)
    web.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # TERM is the job's

    def watch() -> None:
        while not web.should_exit:
            server.make_room()
            idle = time.monotonic() - server.last_used > IDLE_SECONDS and not server.turn.is_held
            if idle or job.should_stop():
                web.should_exit = True
            time.sleep(0.3)

    threading.Thread(target=watch, daemon=True).start()
    threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=False).start()
    while not web.started:
        time.sleep(0.02)
    write_json(path, {"port": listener.getsockname()[1], "token": token, "pid": os.getpid()}, mode=0o600)
    job.report(0.5, "Ready to answer")
    while not web.should_exit:
        time.sleep(0.2)
    path.unlink(missing_ok=True)
    for event in list(server.stops.values()):
        event.set()
    time.sleep(0.3)
    return {"idle": not job.should_stop()}
