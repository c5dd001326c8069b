"""Renders one chat template, in a process of its own: ``python -P template_child.py FD``.

Reads lines of JSON from a socket and answers each with one. The first holds the template; its answer tells the
template's literal text. Compiling already runs parts of a template, so that happens here too. Every request has its
processor time, and the whole process its memory; the kernel ends it at the first, a ``MemoryError`` or the kernel at
the second. It imports transformers' own renderer and nothing of ours, no torch.
"""

from __future__ import annotations

import json
import logging
import re
import resource
import signal
import socket
import sys
from typing import Any

from transformers.utils.chat_template_utils import _get_template_literal_text, render_jinja_template

CPU_SECONDS = 2.0  # for one request
MEMORY_BYTES = 768 * 2**20  # of address space, about 200 MB of which is the interpreter's
MOST_TEXT = 8 * 2**20  # characters of one rendered conversation
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")  # around what the assistant says


def limit_process() -> None:
    """Bound memory, written files and open files for good; a system that cannot bound one of them says so."""
    for name, most in (("RLIMIT_AS", MEMORY_BYTES), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 32)):
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError) as error:
            logging.getLogger("template_child").warning("%s cannot be set here: %s", name, error)  # to standard error


def render(template: str, messages: list[dict[str, Any]], tokens: dict[str, Any], **more: Any) -> str:
    """The text of a conversation up to the place where the answer begins, or, as ``more`` may say, to its end."""
    arguments: dict[str, Any] = {"add_generation_prompt": True, **tokens, **more}
    rendered, _ = render_jinja_template(conversations=[messages], chat_template=template, **arguments)
    return str(rendered[0])


def render_whole(
    template: str, messages: list[dict[str, Any]], tokens: dict[str, Any], tools: list[dict[str, Any]] | None
) -> tuple[str, list[list[int]] | None]:
    """The text of a whole conversation, and where each message of the assistant stands in it.

    By the template's own ``{% generation %}`` where it has that, else by what each message adds to the text. Each
    begins where the prompt ends that a chat would render for it. None where that cannot be told of every one of them.
    """
    count = sum(message["role"] == "assistant" for message in messages)
    if GENERATION.search(template):
        rendered, found = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            return_assistant_tokens_mask=True,
            tools=tools,
            **tokens,
        )
        if len(found[0]) == count:
            return str(rendered[0]), _from_prompts(str(rendered[0]), template, messages, found[0], tokens, tools)
    text = render(template, messages, tokens, tools=tools, add_generation_prompt=False)
    spans: list[list[int]] = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            span = _answer_in(text, template, messages, place, {**tokens, "tools": tools})
            if span is None or (spans and span[0] < spans[-1][1]):
                return text, None
            spans.append(span)
    return text, spans


def _from_prompts(
    text: str,
    template: str,
    messages: list[dict[str, Any]],
    spans: list[tuple[int, int]],
    tokens: dict[str, Any],
    tools: list[dict[str, Any]] | None,
) -> list[list[int]] | None:
    """The places that a template marks, each begun where the chat's prompt ends; None where that is not in the text."""
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    begun: list[list[int]] = []
    for place, (begin, end) in zip(places, spans, strict=True):
        before = render(template, messages[:place], tokens, tools=tools) if place else text[:begin]
        if not text.startswith(before) or len(before) > end:
            return None
        begun.append([len(before), end])
    return begun


def _answer_in(
    text: str, template: str, messages: list[dict[str, Any]], place: int, arguments: dict[str, Any]
) -> list[int] | None:
    """Where the answer at ``place`` stands in the whole text: behind the prompt that a chat would render for it.

    None where the whole text does not begin with that prompt; an answer that opens the conversation is empty.
    """
    if place == 0:
        return [0, 0]
    before = render(template, messages[:place], arguments)
    if not text.startswith(before):
        return None
    after = render(template, messages[: place + 1], arguments, add_generation_prompt=False)
    if text.startswith(after) and len(after) > len(before):
        return [len(before), len(after)]
    content = str(messages[place].get("content") or "").strip()  # some templates rewrite what stands around it
    begin = text.find(content, len(before)) if content else -1
    return [len(before), begin + len(content)] if begin >= 0 else None


def answer(request: dict[str, Any], template: str) -> dict[str, Any]:
    """The rendered text, or the template's literal text where no messages are given, or why there is none."""
    try:
        reply: dict[str, Any] = {}
        if "whole" in request:
            text, reply["spans"] = render_whole(template, request["whole"], request["tokens"], request["tools"])
        elif "messages" in request:
            text = render(template, request["messages"], request["tokens"], **request["more"])
        else:
            text = _get_template_literal_text(template)
        if len(text) > MOST_TEXT:
            return {"limit": f"more than {MOST_TEXT:,} characters"}
        return {"text": text, **reply}
    except MemoryError:
        return {"limit": f"more than {MEMORY_BYTES // 2**20} MiB of memory"}
    except Exception as error:  # the edge of the process: what a template raises is told, whatever it is
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def main() -> None:
    """Answer until the other side closes."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    limit_process()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in the middle of whatever it does
    lines = connection.makefile("rb")
    template: str | None = None
    for line in lines:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        template = request.get("template", template)
        reply = json.dumps(answer(request, str(template))).encode() + b"\n"
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(reply)


if __name__ == "__main__":
    main()
