"""Chat templates are programs of strangers: they are rendered in a process of its own with time and memory bounds.

``render_prompt`` gives exactly the ids of ``tokenizer.apply_chat_template(messages, add_generation_prompt=True,
sanitize_control_tokens=True)``. One process is kept for each template; one that was ended is replaced at the next call.
The starter's own template is trusted and rendered in this process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import (
    _CONTROL_TOKEN_START,
    _get_control_token_patterns,
    mark_control_tokens,
)

from hydralora.bases import template_child
from hydralora.bases.folder import STARTER
from hydralora.bases.schema import MOST_TEMPLATE
from hydralora.bases.template_child import CPU_SECONDS, MOST_TEXT
from hydralora.errors import BaseModelError

WALL_SECONDS = 60.0  # until an answer must be there; the process may wait for a busy machine
MOST_REPLY = 8 * MOST_TEXT  # bytes; a character takes at most 12 in JSON, and few do
MOST_CHILDREN = 4  # kept at once; the one used longest ago leaves first
KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "TZ", "LANG", "LC_ALL")  # of the environment
CHILD = Path(__file__).with_name("template_child.py")

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None


class TemplateRefusal(BaseModelError):
    """A chat template that cannot write a conversation."""


@dataclass(frozen=True)
class Whole:
    """A whole conversation as text, control tokens of people marked, and the places ``(begin, end)`` of each answer.

    ``spans`` is None where the template does not let them be told.
    """

    text: str
    spans: list[tuple[int, int]] | None


class Renderer:
    """One template with its process, started when it is first asked; for several threads."""

    def __init__(self, template: str) -> None:
        if len(template) > MOST_TEMPLATE:
            raise BaseModelError(
                f"The chat template of the base has {len(template):,} characters; the limit is {MOST_TEMPLATE:,}. "
                "Use another base."
            )
        self.template = template
        self.literals: str | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Start the process without waiting for it: importing what it needs takes a second."""
        with self._lock:
            self._start()

    def literal_text(self) -> str:
        """The words that the template itself writes, from which its control tokens are told."""
        with self._lock:
            return self._greet()

    def render(self, messages: Messages, tokens: dict[str, Any], **more: Any) -> str:
        """The text of a conversation up to the place where the answer begins.

        Raises:
            BaseModelError: When the template refuses it, or takes too long or too much.
        """
        with self._lock:
            self._greet()
            return str(self._ask({"messages": messages, "tokens": tokens, "more": more})["text"])

    def render_whole(
        self, messages: Messages, tokens: dict[str, Any], tools: list[dict[str, Any]] | None
    ) -> tuple[str, list[list[int]] | None]:
        """As ``template_child.render_whole``.

        Raises:
            BaseModelError: As ``render``.
        """
        with self._lock:
            self._greet()
            reply = self._ask({"whole": messages, "tokens": tokens, "tools": tools})
            return str(reply["text"]), reply["spans"]

    def close(self) -> None:
        """End the process, once nothing is being rendered."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        child, self._child, self.literals = self._child, None, None
        if child is not None:
            self._connection.close()
            child.kill()
            child.wait()

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self._end()
        self._connection, other = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        command = [sys.executable, "-P", str(CHILD), str(other.fileno())]
        with other:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                cwd="/",
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )

    def _greet(self) -> str:
        """Have a process that knows the template."""
        self._start()
        if self.literals is None:
            self.literals = str(self._ask({"template": self.template})["text"])
        return self.literals

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._exchange(json.dumps(request).encode() + b"\n")
        except (OSError, ValueError) as error:
            self._end()
            raise _took("too long or too much memory") from error
        except BaseException:  # interrupted between question and answer: the next one must not get this one's
            self._end()
            raise
        if "limit" in reply:
            self._end()
            raise _took(str(reply["limit"]))
        if "error" in reply:
            raise TemplateRefusal(
                f"The chat template of the base cannot write this conversation ({reply['error']}). "
                "Leave out what it does not know (a system text, for one), or use another base."
            )
        return reply

    def _exchange(self, request: bytes) -> dict[str, Any]:
        """Send a line and wait for the answer's.

        Raises:
            OSError: When the process has ended, or is late.
            ValueError: When it answers with more than it may.
        """
        deadline = time.monotonic() + WALL_SECONDS
        self._connection.settimeout(WALL_SECONDS)
        self._connection.sendall(request)
        pieces, size = [b""], 0
        while not pieces[-1].endswith(b"\n"):  # one line, and nothing behind it before the next request
            self._connection.settimeout(max(0.01, deadline - time.monotonic()))
            pieces.append(self._connection.recv(2**16))
            size += len(pieces[-1])
            if not pieces[-1]:
                raise ConnectionError("the process has ended")
            if size > MOST_REPLY:
                raise ValueError("the answer is too long")
        reply: dict[str, Any] = json.loads(b"".join(pieces))
        return reply


def _took(what: str) -> BaseModelError:
    return BaseModelError(
        f"The chat template of the base took {what} for one conversation and was ended (allowed: {CPU_SECONDS:g} s). "
        "Use another base, or mend its template."
    )


_renderers: OrderedDict[str, Renderer] = OrderedDict()
_renderers_lock = threading.Lock()


def renderer(template: str) -> Renderer:
    """The renderer of this template, the same one at each call."""
    with _renderers_lock:
        found = _renderers.pop(template, None) or Renderer(template)
        _renderers[template] = found
        surplus = [_renderers.popitem(last=False)[1] for _ in range(len(_renderers) - MOST_CHILDREN)]
    for oldest in surplus:
        oldest.close()
    return found


@cache
def starter_template() -> str | None:
    with suppress(FileNotFoundError):  # the library without its data
        return (STARTER / "chat_template.jinja").read_text("utf-8")
    return None


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> list[int]:
    """Token ids of a conversation up to the place where the answer begins, by the tokenizer's own template.

    Control tokens typed by a person are encoded as plain text.

    Raises:
        BaseModelError: When the template refuses the conversation, or takes too long or too much.
    """
    template = template_of(tokenizer)
    if template == starter_template():
        return list(
            tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, sanitize_control_tokens=True
            )
        )
    child, patterns = renderer(template), _patterns(tokenizer, template)
    more = {"tools": mark_control_tokens(tools, patterns)} if tools else {}
    text = child.render(mark_control_tokens(messages, patterns), dict(tokenizer.special_tokens_map), **more)
    return _marked_ids(tokenizer, text)


def render_whole(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> tuple[Whole, Messages]:
    """A whole conversation as text with the places of the answers, and its messages with control tokens marked.

    Raises:
        BaseModelError: As ``render_prompt``.
    """
    template, tokens = template_of(tokenizer), dict(tokenizer.special_tokens_map)
    patterns = _patterns(tokenizer, template)
    marked, marked_tools = mark_control_tokens(messages, patterns), mark_control_tokens(tools, patterns)
    if template == starter_template():
        text, spans = template_child.render_whole(template, marked, tokens, marked_tools)
    else:
        text, spans = renderer(template).render_whole(marked, tokens, marked_tools)
    return Whole(text, None if spans is None else [(begin, end) for begin, end in spans]), marked


def holds_marks(text: str) -> bool:
    """Whether control tokens of a person are marked in a text."""
    return _CONTROL_TOKEN_START in text


def encode_piece(tokenizer: PreTrainedTokenizerBase, text: str, *, is_first: bool) -> list[int]:
    """Token ids of a piece of ``Whole.text``; only the first may get the space that SentencePiece puts in front."""
    if not text:
        return []
    newline = [] if is_first else tokenizer.encode("\n", add_special_tokens=False)
    if newline:
        ids = _marked_ids(tokenizer, "\n" + text)
        if ids[: len(newline)] == newline:
            return ids[len(newline) :]
    return _marked_ids(tokenizer, text)


def _marked_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a rendered text; what is marked in it is encoded as plain text."""
    return list(tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"])


def _patterns(tokenizer: PreTrainedTokenizerBase, template: str) -> Any:
    """What finds control tokens in texts of people."""
    literals = template if template == starter_template() else renderer(template).literal_text()
    return _get_control_token_patterns(_control_tokens(tokenizer, literals))[0]


def prepare(tokenizer: PreTrainedTokenizerBase) -> None:
    """Start the process of the tokenizer's template, where it has one, while something else is loaded."""
    if tokenizer.chat_template:
        with suppress(BaseModelError):  # a base whose template is never asked for may have none that works
            template = template_of(tokenizer)
            if template != starter_template():
                renderer(template).prepare()


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise BaseModelError(
            "The base has several chat templates and none is called `default`. Use another base."
        ) from error


def _control_tokens(tokenizer: PreTrainedTokenizerBase, literals: str) -> tuple[str, ...]:
    """The added tokens that stay text in what a person writes; as transformers chooses them, without compiling."""
    named = tokenizer.chat_control_tokens
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special
        or (token.content in named if named is not None else token.content in literals and not token.content.isspace())
    )
