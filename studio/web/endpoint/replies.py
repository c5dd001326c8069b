"""Answers in the shapes of OpenAI's API, whole or as a stream of chunks."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from hydralora.plain import json_text
from studio.web.endpoint.problems import Problem

REASONS = {"end": "stop", "stop": "stop", "length": "length"}  # why an answer ended, in the API's words
DONE = "data: [DONE]\n\n"


@dataclass
class Reply:
    """One answer as it comes in, line by line of the model server.

    Args:
        model: The model's name.
        is_chat: Whether it is a message, or the text that follows a prompt.
        with_gates: Whether its routing weights are sent along.
    """

    model: str
    is_chat: bool
    with_gates: bool
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    layers: list[str] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    count: int = 0
    reason: str | None = None

    def __post_init__(self) -> None:
        self.id = ("chatcmpl-" if self.is_chat else "cmpl-") + secrets.token_hex(12)

    def take(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """Read a line; the token in it, where it is one.

        Raises:
            Problem: When the answer was broken off.
        """
        if "done" in line:
            if line["done"] not in REASONS:
                raise Problem(503, "The answer was stopped before its end. Ask again.", "stopped")
            self.reason, self.prompt_tokens = REASONS[line["done"]], line["prompt_tokens"]
        elif "text" in line:
            token = {"id": line["id"], "text": line["text"], "gates": line["gates"] or []}
            self.text, self.count = self.text + line["text"], self.count + 1
            if self.with_gates:
                self.tokens.append(token)
            return token
        elif "layers" in line:
            self.layers, self.prompt_tokens = line["layers"], line["prompt_tokens"]
        return None

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of prompt and answer."""
        total = self.prompt_tokens + self.count
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.count, "total_tokens": total}

    @property
    def whole(self) -> dict[str, Any]:
        """The finished answer."""
        said = {"message": {"role": "assistant", "content": self.text}} if self.is_chat else {"text": self.text}
        gates = {"gates": {"layers": self.layers, "tokens": self.tokens}} if self.with_gates else {}
        choice = {"index": 0, **said, "finish_reason": self.reason, "logprobs": None, **gates}
        return {**self._frame("chat.completion"), "choices": [choice], "usage": self.usage}

    def begin(self) -> str:
        """The first chunk, with the names of the layers where routing weights are wanted."""
        more = {"gates": {"layers": self.layers, "tokens": []}} if self.with_gates else {}
        return self._chunk({"role": "assistant", "content": ""}, "", None, more)

    def piece(self, token: dict[str, Any]) -> str:
        """The chunk of one token."""
        more = {"gates": {"tokens": [token]}} if self.with_gates else {}
        return self._chunk({"content": token["text"]}, token["text"], None, more)

    def end(self, *, with_usage: bool) -> str:
        """The last chunks."""
        counted = {**self._frame("chat.completion.chunk"), "choices": [], "usage": self.usage}
        return self._chunk({}, "", self.reason, {}) + (event(counted) if with_usage else "") + DONE

    def _chunk(self, delta: dict[str, Any], text: str, reason: str | None, more: dict[str, Any]) -> str:
        said = {"delta": delta} if self.is_chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": reason, "logprobs": None, **more}
        return event({**self._frame("chat.completion.chunk"), "choices": [choice]})

    def _frame(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind if self.is_chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }


def event(value: dict[str, Any]) -> str:
    """One server-sent event; JSON has no bare line feed, so that one line holds it."""
    return f"data: {json_text(value)}\n\n"
