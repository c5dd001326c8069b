"""One example of a corpus, and how a batch of them lies on disk (Arrow)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

EXAMPLES = "examples.arrow"  # the file, in the folder of a corpus
BATCH_ROWS = 1_000  # examples of one batch in the file

HASH = "hash"  # column of ``Example.hash_number``; files of earlier versions have none
EXTRA = "extra"  # column that files of earlier versions have not either
REJECTED = "rejected"  # another one
PROMPT_HASH = "prompt_hash"  # column of ``Example.prompt_number``, which they have not either
TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("system", pa.string()),
        ("history", pa.list_(TURN)),
        ("label", pa.string()),
        ("split", pa.string()),
        ("row", pa.int64()),
        ("source", pa.string()),
        (HASH, pa.uint64()),
        (EXTRA, pa.string()),
        (PROMPT_HASH, pa.uint64()),
        (REJECTED, pa.string()),
    ]
)
FIELDS = tuple(name for name in SCHEMA.names if name not in (HASH, PROMPT_HASH))  # of ``Example``
Message = dict[str, Any]  # ``role`` and ``content``, and what a chat template may want besides
TEXTS = ("prompt", "answer", "system", "label", "split", "source", EXTRA, REJECTED)


@dataclass(frozen=True)
class Example:
    """One prompt with its answer.

    Plain text has an empty prompt and the text as its answer. ``history`` holds the earlier
    ``(role, content)`` turns of a conversation, ``label`` what the corpus calls its kind (never
    trained on), ``split`` is ``""``, ``"train"`` or ``"held_out"``, ``row`` and ``source`` say
    where it came from. ``extra`` is what a conversation holds besides texts, as JSON: its declared
    ``tools``, and under ``messages`` what stands beside the content of a message (calls of tools, a weight
    of 0, another role), by its place among history, prompt and answer; empty for most. ``rejected`` is the worse
    answer to the same prompt that a preference holds; only a run whose ``objective`` is ``dpo`` learns from it.
    """

    prompt: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    label: str = ""
    split: str = ""
    row: int = 0
    source: str = ""
    extra: str = ""
    rejected: str = ""

    @property
    def is_pair(self) -> bool:
        """Whether it holds a better and a worse answer to one prompt."""
        return bool(self.prompt and self.rejected and self.rejected != self.answer)

    @property
    def is_text(self) -> bool:
        """Whether it is plain text: nothing is asked and nobody talks."""
        return not (self.prompt or self.history or self.extra)

    def text(self) -> str:
        """Prompt and answer as one text: what clusters are made of."""
        return f"{self.prompt}\n{self.answer}".strip()

    def parts(self) -> list[str]:
        """Everything that is trained on, in order."""
        turns = [part for turn in self.history for part in turn]
        return [self.system, *turns, self.prompt, self.answer, *([self.extra] if self.extra else [])]

    def details(self) -> dict[str, Any]:
        """``extra`` as an object."""
        found: dict[str, Any] = json.loads(self.extra) if self.extra else {}
        return found

    @cached_property
    def _digest(self) -> bytes:
        worse = ("\x1e", self.rejected) if self.rejected else ()
        return hashlib.sha256("\x1f".join([*self.parts(), *worse]).encode()).digest()

    def content_hash(self) -> bytes:
        """SHA-256 of everything that is trained on; equal examples have equal hashes."""
        return self._digest

    def hash_number(self) -> int:
        """The first eight bytes of ``content_hash`` as a number; of 10 million examples two differ and share theirs
        once in 370,000 corpora."""
        return int.from_bytes(self._digest[:8])

    def prompt_number(self) -> int:
        """Eight bytes that are equal for equal prompts, case and white space aside: what a split keeps together.

        The prompt of a conversation is all that stands before its last answer, without the system text; of plain text
        it is the text.
        """
        turns = [part for turn in self.history for part in turn]
        text = "\x1f".join(_words_of(part) for part in (*turns, self.prompt or self.answer))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _words_of(text: str) -> str:
    """A text without its case and its white space."""
    return " ".join(text.casefold().split())


def messages_of(example: Example) -> list[Message]:
    """The conversation before the last answer: system text, history, prompt."""
    return conversation_of(example)[:-1]


def conversation_of(example: Example) -> list[Message]:
    """The whole conversation, its last answer included.

    A message with calls of tools has them as chat templates read them, and under ``text`` as a text.
    """
    turns = [*example.history, ("user", example.prompt), ("assistant", example.answer)]
    beside = example.details().get("messages", {}) if example.extra else {}
    messages: list[Message] = [{"role": "system", "content": example.system}] if example.system else []
    for place, (role, content) in enumerate(turns):
        more = beside.get(str(place), {})
        written = {"text": content} if "content" in more else {}
        messages.append({"role": role, "content": content, **written, **more})
    return messages


def batch_of(examples: list[Example]) -> pa.RecordBatch:
    """Examples as a batch of the file."""
    columns: dict[str, Any] = {name: [getattr(example, name) for example in examples] for name in (*TEXTS, "row")}
    columns[HASH] = [example.hash_number() for example in examples]
    columns[PROMPT_HASH] = [example.prompt_number() for example in examples]
    columns["history"] = [
        [{"role": role, "content": content} for role, content in example.history] for example in examples
    ]
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], SCHEMA)


def examples_at(batch: pa.RecordBatch, places: list[int]) -> list[Example]:
    """The examples at these places of a batch; what an earlier version did not write has its default."""
    names = [name for name in FIELDS if name in batch.schema.names]
    rows = batch.select(names).take(pa.array(places, pa.int64()))
    columns = [rows.column(name).to_pylist() for name in names]
    turns = names.index("history")
    columns[turns] = [tuple((turn["role"], turn["content"]) for turn in history) for history in columns[turns]]
    return [Example(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
