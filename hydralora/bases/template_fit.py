"""Conversations in the words that a chat template knows: nothing of a conversation is lost where it knows fewer."""

from __future__ import annotations

import json
import re

from transformers import PreTrainedTokenizerBase

from hydralora.bases.templates import (
    MOST_CHILDREN,
    Messages,
    TemplateRefusal,
    Tools,
    renderer,
    starter_template,
    template_of,
)

TOOLS, TOOL_ROLE = re.compile(r"\btools\b"), re.compile(r"['\"]tool['\"]")  # in the text of a template
PROBE = "qzprobe"  # a system text that no template writes itself


def fit_messages(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools) -> tuple[Messages, Tools]:
    """The conversation in words that the template knows; nothing of it is lost.

    A template without calls of tools gets them as the text of the message, one without tools gets their declarations
    in the system text, one without a place for a system text gets that in front of the first question.

    Raises:
        BaseModelError: When the template takes too long or too much.
    """
    template = template_of(tokenizer)
    if "tool_calls" not in template:
        messages = [{"role": m["role"], "content": m.get("text", m["content"])} for m in messages]
    else:
        messages = [{key: value for key, value in message.items() if key != "text"} for message in messages]
    if not TOOL_ROLE.search(template):
        messages = [{**m, "role": "user"} if m["role"] == "tool" else m for m in messages]
    if tools and not TOOLS.search(template):
        declared = "Tools:\n" + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        messages, tools = _in_front(messages, "system", declared), None
    if messages and messages[0]["role"] == "system" and not knows_system(tokenizer):
        messages = _in_front(messages[1:], "user", str(messages[0]["content"]))
    return messages, tools


def _in_front(messages: Messages, role: str, text: str) -> Messages:
    """The messages with a text in front of the first of a role; a system message is made where there is none."""
    place = next((i for i, message in enumerate(messages) if message["role"] == role), None)
    if place is None:
        return [{"role": role, "content": text}, *messages]
    joined = {**messages[place], "content": f"{text}\n\n{messages[place]['content']}"}
    return [*messages[:place], joined, *messages[place + 1 :]]


def knows_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes a system text; one may refuse it, or drop it without a word.

    Raises:
        BaseModelError: When the template takes too long or too much.
    """
    template = template_of(tokenizer)
    if template == starter_template():
        return True
    if template not in _knows_system:
        asked = [{"role": "system", "content": PROBE}, {"role": "user", "content": "Hi"}]
        try:
            written = renderer(template).render(asked, dict(tokenizer.special_tokens_map))
        except TemplateRefusal:
            written = ""
        while len(_knows_system) >= MOST_CHILDREN:
            _knows_system.popitem()
        _knows_system[template] = PROBE in written
    return _knows_system[template]


_knows_system: dict[str, bool] = {}
