"""Conversations in every form they are written in: OpenAI, ShareGPT, Gemini, pairs, and lists kept as JSON text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hydralora.corpus.shapes.values import Tally, parsed, text_of, tidy
from hydralora.errors import CorpusError

ROLE_NAMES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "question": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "answer": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "system": "system",
    "developer": "system",
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "ipython": "tool",
}
ROLE_KEYS, CONTENT_KEYS = ("role", "from", "speaker"), ("content", "value", "text", "parts", "message")
WEIGHT_KEYS = ("weight", "loss_weight")
PAIRS = (("human", "assistant"), ("user", "assistant"), ("human", "gpt"), ("question", "answer"))


@dataclass
class Turn:
    """One message; ``more`` holds what a chat template may want besides (calls of tools, the weight of an answer)."""

    role: str
    content: str
    more: dict[str, Any] = field(default_factory=dict)


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages, or one message."""
    value = parsed(value)
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return False
    has_role = any(isinstance(first.get(key), str) for key in ROLE_KEYS)
    return (has_role and any(key in first for key in (*CONTENT_KEYS, "tool_calls"))) or _pair_of(first) is not None


def turns_of(value: Any, column: str, tally: Tally) -> list[Turn]:
    """The turns of a conversation, system texts among them.

    Raises:
        CorpusError: When it is no list of messages, or one of them is none.
    """
    value = parsed(value)
    if isinstance(value, dict):
        inner = next((value[key] for key in ("messages", "conversations", "contents") if key in value), None)
        value = inner if isinstance(inner, list) else [value]
    if not isinstance(value, list) or not value:
        raise CorpusError(f"`{column}` is not a list of messages")
    if len(value) > 1 and all(isinstance(item, str) for item in value):  # as they speak, one after the other
        return [Turn(("user", "assistant")[i % 2], tidy(item, tally)) for i, item in enumerate(value)]
    turns: list[Turn] = []
    for message in value:
        turns += _turns_of_message(message, column, tally)
    return turns


def _turns_of_message(message: Any, column: str, tally: Tally) -> list[Turn]:
    if not isinstance(message, dict):
        raise CorpusError(f"`{column}` holds something that is not a message")
    pair = _pair_of(message)
    if pair is not None:
        said = [Turn(role, text_of(message[key], tally)) for role, key in zip(("user", "assistant"), pair, strict=True)]
        return [turn for turn in said if turn.content]
    name = str(next((message[key] for key in ROLE_KEYS if key in message), ""))
    role = ROLE_NAMES.get(name.lower())
    if role is None:
        raise CorpusError(f"`{column}` has a message with the unknown role '{name[:40]}'")
    content, calls = _content(message, tally)
    if role == "call":
        role, calls, content = (
            "assistant",
            [*calls, *calls_of(parsed(content))],
            "" if calls_of(parsed(content)) else content,
        )
    turn = Turn(role, content)
    if calls:
        turn.more = {"content": content, "tool_calls": calls}
        turn.content = with_calls(content, calls)
    _add_details(turn, message)
    return [turn]


def _pair_of(message: dict[str, Any]) -> tuple[str, str] | None:
    if any(key in message for key in ROLE_KEYS):
        return None
    return next((pair for pair in PAIRS if pair[0] in message and pair[1] in message), None)


def _add_details(turn: Turn, message: dict[str, Any]) -> None:
    weight = next((message[key] for key in WEIGHT_KEYS if isinstance(message.get(key), (int, float))), 1)
    if turn.role == "assistant" and weight == 0:
        turn.more["weight"] = 0
    for key in ("name", "tool_call_id"):
        if turn.role == "tool" and isinstance(message.get(key), str):
            turn.more[key] = message[key]


def _content(message: dict[str, Any], tally: Tally) -> tuple[str, list[dict[str, Any]]]:
    """The text of a message, and the calls of tools beside it."""
    calls = calls_of(parsed(message.get("tool_calls"))) or calls_of(message.get("function_call"))
    content = next((message[key] for key in CONTENT_KEYS if message.get(key) is not None), None)
    if not isinstance(content, list):
        return text_of(content, tally), calls
    texts = []
    for part in content:  # as multi-modal chats write them; only texts and calls can be learnt
        if isinstance(part, dict) and (part.get("functionCall") or part.get("type") == "tool_call"):
            calls += calls_of(parsed(part.get("functionCall", part.get("value"))))
            continue
        text = part if isinstance(part, str) else _text_of_part(part)
        tally.other_parts += text is None
        texts += [text] if text else []
    return tidy("\n".join(texts), tally), calls


def _text_of_part(part: Any) -> str | None:
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "reasoning", "thinking", "output_text"):
        return None
    found = part.get("text", part.get("value", part.get("thinking")))
    return found if isinstance(found, str) else None


def with_calls(text: str, calls: list[dict[str, Any]]) -> str:
    """The text of a message with its calls of tools written behind it, for a template that knows none."""
    written = "\n".join(json.dumps(call["function"], ensure_ascii=False) for call in calls)
    return f"{text}\n{written}".strip()


def calls_of(value: Any) -> list[dict[str, Any]]:
    """Calls of tools in the form that chat templates read; arguments written as text become objects."""
    calls = []
    for item in value if isinstance(value, list) else [value]:
        inner = item.get("function", item) if isinstance(item, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            arguments = parsed(inner.get("arguments", inner.get("args", inner.get("parameters", {}))))
            kept = {"id": item["id"]} if isinstance(item.get("id"), str) else {}
            calls.append({**kept, "type": "function", "function": {"name": inner["name"], "arguments": arguments}})
    return calls


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Declared tools as chat templates read them; what is no declaration is passed over."""
    value = parsed(value)
    tools = []
    for item in value if isinstance(value, list) else [value]:
        for tool in item.get("functionDeclarations", [item]) if isinstance(item, dict) else []:
            if isinstance(tool, dict) and (isinstance(tool.get("name"), str) or isinstance(tool.get("function"), dict)):
                tools.append(tool if "function" in tool else {"type": "function", "function": tool})
    return tools
