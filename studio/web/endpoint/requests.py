"""What a request to the endpoint may say. What is not understood is refused by name, never passed over.

Fields and their meaning: https://platform.openai.com/docs/api-reference/chat and .../completions. A field that is null
is one that was left out. Two fields are ours: ``gates`` and ``experts``.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hydralora.answer_settings import LONGEST_STOP, MOST_STOPS, Change, Factors
from hydralora.bounds import (
    LARGEST_SEED,
    LONGEST_BASE,
    MOST_EXPERTS,
    MOST_LAYERS,
    Expert,
    LayerName,
    Message,
    Seed,
    sentences,
)
from hydralora.errors import UserError
from hydralora.plain import shown
from studio.web.endpoint.problems import Problem

USUAL_TOKENS = 512  # of an answer whose length nobody bounds, where the context has room for them
MOST_TOKENS = 4_096
MOST_MESSAGES = 200
# What says nothing of the answer, and is taken without a word.
UNREAD = ("user", "metadata", "safety_identifier", "prompt_cache_key")
# What is not done here, with the values that ask for nothing of it.
NOT_DONE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "store": (False,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Muted = Annotated[list[Expert], Field(max_length=MOST_EXPERTS)]


class Part(BaseModel):
    """A part of a request; what clients write as null is as what they leave out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values


class Changed(Part):
    """What is changed in the experts of one layer, or of all."""

    mute: Muted = Field([], description="Experts, counted from 0, that say nothing")
    scale: Factors = Field(default_factory=dict, description="Expert -> factor on its routing weight")
    force: Expert | None = Field(None, description="The one expert that speaks")

    @property
    def change(self) -> Change:
        """As the model server takes it."""
        return Change(factors={**self.scale, **dict.fromkeys(self.mute, 0.0)}, force=self.force)


class Experts(Changed):
    """What is changed in the experts of every layer, and of single ones."""

    layers: Annotated[dict[LayerName, Changed], Field(max_length=MOST_LAYERS)] = Field(default_factory=dict)

    @property
    def question(self) -> dict[str, Any]:
        """The fields of a question to the model server."""
        layers = {name: layer.change.model_dump() for name, layer in self.layers.items()}
        return {**self.change.model_dump(), "layers": layers}


class StreamOptions(Part):
    """How a stream ends."""

    include_usage: bool = False


class Request(BaseModel):
    """What both kinds of request have in common."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    model: str = Field(min_length=1, max_length=LONGEST_BASE)
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    temperature: float = Field(1.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    seed: Seed | None = None
    stop: Annotated[list[Stop], Field(max_length=MOST_STOPS)] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    gates: bool = Field(False, description="Send the routing weights of every token along")
    experts: Experts | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_done(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("a request is a JSON object")
        given = {name: value for name, value in values.items() if value is not None and name not in UNREAD}
        for name, neutral in NOT_DONE.items():
            if name in given and not _is_one_of(given.pop(name), neutral):
                raise Problem(
                    400,
                    f"`{name}` is not done here: it may be {' or '.join(map(shown, neutral))}, or be left out; got "
                    f"{shown(values[name])}.",
                    "unsupported_parameter",
                    name,
                )
        return given

    @property
    def question(self) -> dict[str, Any]:
        """The fields of a question to the model server but for who speaks and what was said."""
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens or USUAL_TOKENS,
            "seed": secrets.randbelow(LARGEST_SEED + 1) if self.seed is None else self.seed,
        }
        changed = self.experts.question if self.experts else {}
        return {"settings": settings, "stops": self.stop, "room": self.max_tokens or 1, "gates": self.gates, **changed}


class Said(Part):
    """One message; what clients send back of an earlier answer beside its text is null or empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Message
    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_lists(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v != []} if isinstance(values, dict) else values

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        for part in value:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError("only parts of type `text` are read here")
        return "".join(part["text"] for part in value)

    @property
    def row(self) -> dict[str, str]:
        """As a chat template reads it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ChatRequest(Request):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[Said] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)

    @model_validator(mode="after")
    def _one_length(self) -> ChatRequest:
        both = {length for length in (self.max_tokens, self.max_completion_tokens) if length is not None}
        if len(both) > 1:
            raise ValueError("`max_tokens` and `max_completion_tokens` are one thing; give one of them")
        self.max_tokens = both.pop() if both else None
        return self

    @property
    def question(self) -> dict[str, Any]:
        """The fields of a question to the model server but for who speaks."""
        return {**super().question, "messages": [message.row for message in self.messages]}


class CompletionRequest(Request):
    """The body of ``POST /v1/completions``."""

    prompt: Message = Field(min_length=1)

    @field_validator("prompt", mode="before")
    @classmethod
    def _only_one(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            return value[0]
        if isinstance(value, list):
            raise ValueError("one text is answered at a time; tokens and several texts are not read here")
        return value

    @property
    def question(self) -> dict[str, Any]:
        """The fields of a question to the model server but for who speaks."""
        return {**super().question, "text": self.prompt}


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Equal to one of them and of its kind; ``True`` is no 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def understood(kind: type[Request], values: Any) -> Any:
    """The request that these values make.

    Raises:
        Problem: When they make none, with the first field that is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        where = next((str(detail["loc"][0]) for detail in details if detail["loc"]), None)
        raise Problem(400, sentences(details), "invalid_value", where) from error
    except UserError as error:
        raise Problem.of(error) from error
