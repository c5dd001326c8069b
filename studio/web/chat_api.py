"""The chat's addresses: conversations, questions, answers as a stream, export."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hydralora import bounds
from hydralora.answer_settings import Factors, GenerationSettings, Layers
from studio.figures.palette import expert_name
from studio.web.answers import Answers, message_view
from studio.web.api import Id


class Variant(BaseModel):
    """What is to answer, and how."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    run_id: bounds.Id | None = None
    base_of: bounds.Id | None = Field(None, description="Answer with the untuned base of this run")
    step: bounds.Step | None = None
    settings: GenerationSettings = Field(default_factory=GenerationSettings)
    factors: Factors = Field(default_factory=dict)
    force: bounds.Expert | None = None
    layers: Layers = Field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What was said, without what was left out."""
        return self.model_dump(exclude_none=True, exclude_unset=True)


class Question(BaseModel):
    """A new question, or an earlier one to be answered again."""

    model_config = ConfigDict(extra="forbid")
    text: bounds.Message = ""
    question_id: bounds.Id | None = None
    variants: list[Variant] = Field(min_length=1, max_length=3)


class Change(BaseModel):
    """A new title or system text."""

    model_config = ConfigDict(extra="forbid")
    title: bounds.Title | None = None
    system: bounds.System | None = None


def chat_router(answers: Answers) -> APIRouter:
    """Routes under ``/ui/chat``."""
    router, store = APIRouter(prefix="/ui/chat"), answers.store

    def _named(state: dict[str, Any] | None) -> dict[str, Any] | None:
        """What the server says of itself, its base by the name that it has here."""
        return state and {**state, "base": state.get("base") and store.bases.name_of(state["base"])}

    @router.get("/start")
    def start() -> dict[str, Any]:
        runs = [
            {
                "id": run.id,
                "name": run.name,
                "steps": store.runs.checkpoints(run.id),
                "finished": run.summary is not None,
                "method": run.method,
                "base": store.bases.name_of(run.base),
                "experts": run.config.adapter.experts,
                "corpus_id": run.corpus_id,
                "archived": run.archived_at is not None,
            }
            for run in store.runs.all()
            if run.summary is not None or store.runs.checkpoints(run.id)
        ]
        return {
            "runs": runs,
            "server": _named(answers.client.state),
            "conversations": [vars(c) for c in store.chats.all()],
            "names": [expert_name(i) for i in range(64)],
        }

    @router.get("/examples/{run_id}")
    def examples(run_id: Id) -> list[str]:
        """Prompts from the run's corpus, one or two of each cluster."""
        from hydralora.corpus.folder import Corpus

        run = store.runs.get(run_id)
        if run.corpus_id is None:
            return []
        corpus = Corpus(store.home.corpus(run.corpus_id), run.config.train.edits)
        clustering = store.clusterings.latest(run.corpus_id, finished=True)
        typical = clustering.result.typical if clustering and clustering.result else [[0, 1, 2, 3]]
        ids = [group[place] for place in (0, 1) for group in typical if len(group) > place]
        prompts = [example.prompt or example.answer[:60] for example in corpus.take(ids[:8])]
        return [prompt for prompt in dict.fromkeys(prompts) if len(prompt) <= 300]

    @router.post("/warm")
    def warm(variant: Variant) -> dict[str, bool]:
        answers.warm(variant.given)
        return {"ok": True}

    @router.post("/conversations")
    def create() -> dict[str, Any]:
        return vars(store.chats.create())

    @router.get("/conversations/{conversation_id}")
    def show(conversation_id: Id) -> dict[str, Any]:
        messages = [message_view(message) for message in store.chats.messages(conversation_id)]
        return {**vars(store.chats.get(conversation_id)), "messages": messages}

    @router.post("/conversations/{conversation_id}")
    def change(conversation_id: Id, change: Change) -> dict[str, bool]:
        store.chats.change(conversation_id, title=change.title, system=change.system)
        return {"ok": True}

    @router.delete("/conversations/{conversation_id}")
    def delete(conversation_id: Id) -> dict[str, bool]:
        store.chats.delete(conversation_id)
        return {"ok": True}

    @router.post("/conversations/{conversation_id}/ask")
    def ask(conversation_id: Id, question: Question) -> dict[str, Any]:
        variants = [variant.given for variant in question.variants]
        return answers.ask(conversation_id, question.text, variants, question.question_id)

    @router.post("/messages/{message_id}/cut")
    def cut(message_id: Id) -> dict[str, Any]:
        return {"text": store.chats.cut_from(message_id).text}

    @router.get("/answers/{message_id}")
    def follow(message_id: Id) -> StreamingResponse:
        # "identity" keeps the compressor from holding single tokens back.
        headers = {"Content-Encoding": "identity", "Cache-Control": "no-store"}
        return StreamingResponse(answers.follow(message_id), media_type="application/x-ndjson", headers=headers)

    @router.post("/answers/{message_id}/stop")
    def stop(message_id: Id) -> dict[str, bool]:
        answers.stop(message_id)
        return {"ok": True}

    @router.get("/conversations/{conversation_id}/export.md")
    def export_markdown(conversation_id: Id) -> PlainTextResponse:
        conversation = store.chats.get(conversation_id)
        parts = [f"# {conversation.title}\n"]
        for message in store.chats.messages(conversation_id, tokens=False):
            who = "You" if message.role == "user" else f"Run {message.run_id}" if message.run_id else "Base model"
            parts.append(f"**{who}**\n\n" + "\n".join(f"> {line}" for line in message.text.splitlines()) + "\n")
        return PlainTextResponse("\n".join(parts), headers=_attachment(conversation_id, "md"))

    @router.get("/conversations/{conversation_id}/export.json")
    def export_json(conversation_id: Id) -> JSONResponse:
        return JSONResponse(show(conversation_id), headers=_attachment(conversation_id, "json"))

    return router


def _attachment(conversation_id: int, ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="conversation-{conversation_id}.{ending}"'}
