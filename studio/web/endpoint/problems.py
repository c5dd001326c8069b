"""Refusals of the endpoint, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

from hydralora.errors import ContextError, UserError
from hydralora.plain import one_line, without_paths
from jobs.chat.client import ServerBusy, ServerGone
from jobs.http import Refused, Send
from studio.served import UnknownModel

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
BUSY_SECONDS = 5  # after which a client may ask again


class Problem(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        sentence: What the caller reads.
        code: A word for programs, such as ``model_not_found``.
        param: The field of the request that is wrong.
        headers: Further headers, by name.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.code, self.param = status, sentence, code, param
        self.headers = headers or {}

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """What another part of the studio refuses."""
        match error:
            case Problem():
                return error
            case Refused():
                return cls(error.status, error.sentence, headers=error.headers)
            case ServerBusy():
                return busy(str(error))
            case ServerGone():
                return cls(503, without_paths(str(error)), "server_gone", headers={"retry-after": str(BUSY_SECONDS)})
            case UnknownModel():
                return cls(404, str(error), "model_not_found", "model")
            case ContextError():
                return cls(400, str(error), "context_length_exceeded", "messages")
            case UserError():
                return cls(400, without_paths(one_line(str(error))))
        return cls(500, "Something unexpected failed. The studio's log holds the details.")

    @property
    def body(self) -> dict[str, Any]:
        """``{"error": {...}}`` with four fields, as https://platform.openai.com/docs/guides/error-codes has them."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.sentence, "type": kind, "param": self.param, "code": self.code}}

    def reply(self) -> JSONResponse:
        """As an HTTP answer."""
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)

    async def answer(self, send: Send) -> None:
        """Send it, where no framework does; the connection ends with it."""
        body = json.dumps(self.body).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **self.headers,
        }
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def busy(sentence: str) -> Problem:
    """Too many at once; the same request may succeed a little later."""
    return Problem(429, sentence, "busy", headers={"retry-after": str(BUSY_SECONDS)})
