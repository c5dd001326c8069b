"""How the endpoint is told, the same on the page and in the commands."""

from __future__ import annotations

import json

from jobs.store.keys import Key
from studio.cards import moment

ROOT = "/v1"
NO_KEY = "no key opens it yet: python -m studio keys create NAME"
ASKED = [{"role": "user", "content": "Hello"}]


def count_keys(count: int) -> str:
    """How many keys open the endpoint, and how one is made where there is none."""
    if not count:
        return NO_KEY
    return f"{count} {'key opens' if count == 1 else 'keys open'} it"


def last_used(key: Key) -> str:
    """When a key was last used, in words."""
    return moment(key.used_at) if key.used_at else "never"


def with_curl(address: str, model: str, key: str) -> str:
    """A command that asks a model."""
    body = json.dumps({"model": model, "messages": ASKED})
    return (
        f"curl {address}/chat/completions \\\n  -H 'Authorization: Bearer {key}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d '{body}'"
    )


def in_python(address: str, model: str, key: str) -> str:
    """The same with OpenAI's client, routing weights included."""
    return (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={address!r}, api_key={key!r})\n"
        "reply = client.chat.completions.create(\n"
        f"    model={model!r}, messages={ASKED!r}, extra_body={{'gates': True}}\n"
        ")\n"
        "print(reply.choices[0].message.content)"
    )
