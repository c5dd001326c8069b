"""Answers of the chat: written by a thread of the web process, whoever is looking or not.

A browser that goes away changes nothing: the thread reads the model server to the end and keeps
what was said in the database. Pages read the same buffer and can come back at any token.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from hydralora.errors import UserError
from hydralora.plain import without_paths
from jobs.chat.client import ChatClient, base_of
from jobs.store.records import Message
from jobs.store.store import Store

FLUSH_SECONDS = 0.5  # between two writes of a growing answer
MAX_CHARACTERS = 20_000  # of one question
QUIET_SECONDS = 15.0  # without a new line, before an empty one is sent
MOST_READERS = 500  # of one answer at a time
MOST_ANSWERS = 32  # being written at a time; each has a thread


class Live:
    """An answer that is being written: its lines so far, and a bell for each of its readers.

    A thread adds lines; readers wait in the event loop, so that any number of them costs no thread.
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.ended = False
        self._guard = threading.Lock()
        self._bells: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def add(self, line: dict[str, Any], *, ended: bool = False) -> None:
        """Add a line, and wake whoever reads."""
        with self._guard:
            self.lines.append(line)
            self.ended = ended
            for loop, bell in self._bells:
                with suppress(RuntimeError):  # the loop of a reader that is gone
                    loop.call_soon_threadsafe(bell.set)

    async def read(self) -> AsyncIterator[str]:
        """Lines of JSON from the first one on, until the answer has ended; empty ones where nothing comes."""
        sent, bell = 0, asyncio.Event()
        place = (asyncio.get_running_loop(), bell)
        with self._guard:
            self._bells.add(place)
        try:
            while True:
                with self._guard:
                    fresh, ended = self.lines[sent:], self.ended
                    bell.clear()
                if fresh:
                    yield "".join(_line(line) for line in fresh)
                sent += len(fresh)
                if ended:
                    return
                try:
                    async with asyncio.timeout(QUIET_SECONDS):
                        await bell.wait()
                except TimeoutError:
                    yield "\n"  # keeps the connection open
        finally:
            with self._guard:
                self._bells.discard(place)

    @property
    def readers(self) -> int:
        """How many read now."""
        return len(self._bells)


class Answers:
    """Starts, follows and stops answers."""

    def __init__(self, store: Store) -> None:
        self.store, self.client = store, ChatClient(store)
        self.live: dict[int, Live] = {}
        self._warming = threading.Semaphore(1)

    def ask(
        self, conversation_id: int, text: str, variants: list[dict[str, Any]], question_id: int | None = None
    ) -> dict[str, Any]:
        """Store a question and begin one answer for each variant; gives their ids.

        Args:
            variants: What answers: ``{"run_id", "step", "settings", "factors", "force", "layers"}``.
            question_id: Answer this earlier question again instead of a new one.
        """
        if len(self.live) + len(variants) > MOST_ANSWERS:
            raise UserError(f"{len(self.live)} answers are being written. Wait for one to end, then ask again.")
        if question_id is None:
            text = text.strip()
            if not text:
                raise UserError("The message is empty. Write something first.")
            if len(text) > MAX_CHARACTERS:
                raise UserError(f"The message has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.")
            plans = [(variant, self._base(variant)) for variant in variants]
            question = self.store.chats.ask(conversation_id, text)
        else:
            plans = [(variant, self._base(variant)) for variant in variants]
            question = self.store.chats.message(question_id)
        history = self._history(question)
        return {"question": question.id, "answers": [self._begin(question, v, b, history) for v, b in plans]}

    def _base(self, variant: dict[str, Any]) -> dict[str, str]:
        """The base model of a variant and its type; a run must be finished to answer (or name a checkpoint)."""
        if variant.get("base_of"):
            return base_of(self.store.runs.get(variant["base_of"]))
        if variant.get("run_id") is None:
            return {"base": str(variant.get("base", "starter"))}
        run = self.store.runs.get(variant["run_id"])
        if run.summary is None and variant.get("step") is None:
            raise UserError(f"Run {run.id} is not finished ({run.status}). Wait for it, or choose a checkpoint.")
        return base_of(run)

    def _history(self, question: Message) -> list[dict[str, str]]:
        """System text, earlier questions with their first answer, and the question."""
        conversation = self.store.chats.get(question.conversation_id)
        messages = self.store.chats.messages(question.conversation_id, tokens=False)
        answers: dict[int, str] = {}
        for message in messages:
            if message.role == "assistant" and message.reply_to and message.text:
                answers.setdefault(message.reply_to, message.text)
        turns = [{"role": "system", "content": conversation.system}] if conversation.system else []
        for message in messages:
            if message.role == "user" and message.id < question.id and message.id in answers:
                turns += [
                    {"role": "user", "content": message.text},
                    {"role": "assistant", "content": answers[message.id]},
                ]
        return [*turns, {"role": "user", "content": question.text}]

    def _begin(self, question: Message, variant: dict[str, Any], base: dict[str, str], history: list[Any]) -> int:
        message = self.store.chats.begin_answer(question, variant.get("run_id"), variant)
        self.live[message.id] = Live()
        speaker = _speaker(variant, base, history)
        threading.Thread(target=self._write, args=(message, speaker), daemon=True).start()
        return message.id

    def _write(self, message: Message, speaker: dict[str, Any]) -> None:
        message_id, ask = message.id, {"request_id": str(message.id), **speaker}
        live, text, tokens = self.live[message_id], "", []
        details: dict[str, Any] = {}
        flushed = time.monotonic()
        end: dict[str, str | None] = {"state": "failed", "error": "The answer was broken off. Ask again."}
        try:
            for line in self.client.ask(ask):
                if "text" in line:
                    text += line["text"]
                    tokens.append([line["text"], line["gates"], line["id"]])
                elif "done" in line:
                    details.update({k: line[k] for k in ("done", "count", "tokens_per_second", "layers", "dropped")})
                    end = {"state": "stopped" if line["done"] == "stopped" else "done", "error": None}
                    break
                else:
                    if "state" in line:
                        line["state"] = without_paths(line["state"])
                    details.update(line)
                live.add(line)
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    self.store.chats.write_answer(message_id, text=text, tokens=tokens, details=details)
                    flushed = time.monotonic()
            details.update(self._score(message, speaker))
        except UserError as error:
            end = {"state": "failed", "error": without_paths(str(error))}
        finally:
            self.store.chats.write_answer(message_id, text=text, tokens=tokens, details=details, **end)
            live.add({"end": end["state"], "error": end["error"], "details": details}, ended=True)
            self.live.pop(message_id, None)

    def _score(self, message: Message, speaker: dict[str, Any]) -> dict[str, Any]:
        """What this variant makes of the words of the question's first answer, and what that one did itself.

        Probabilities of the first answer's tokens, ``own`` and ``here``, under the name that stored messages have for
        them, ``weighed``; nothing where this is the first, or the two have different tokens.
        """
        answers = [m for m in self.store.chats.messages(message.conversation_id) if m.reply_to == message.reply_to]
        first = next(
            (m for m in answers if m.role == "assistant" and m.state in ("done", "stopped") and m.tokens), None
        )
        if first is None or first.id >= message.id or any(len(token) < 3 for token in first.tokens or []):
            return {}
        base = self._base(first.settings)
        if base != {name: speaker[name] for name in base}:
            return {}
        ids = [token[2] for token in first.tokens or []]
        own = {**_speaker(first.settings, base, speaker["messages"]), "tokens": ids}
        try:
            found = {"own": self.client.score(own), "here": self.client.score({**speaker, "tokens": ids})}
        except UserError as error:
            return {"unweighed": without_paths(str(error))}
        return {"weighed": {"of": first.id, **{name: [round(p, 4) for p in shares] for name, shares in found.items()}}}

    def warm(self, variant: dict[str, Any]) -> None:
        """Load what will soon be asked, in the background; a failure is told when it is asked."""
        base = self._base(variant)

        def load() -> None:
            try:
                with suppress(UserError):
                    self.client.warm({**base, "run_id": variant.get("run_id"), "step": variant.get("step")})
            finally:
                self._warming.release()

        if self._warming.acquire(blocking=False):  # one is enough: the first question loads what it needs
            threading.Thread(target=load, daemon=True).start()

    def follow(self, message_id: int) -> AsyncIterator[str]:
        """Lines of JSON from the first token on; a finished answer comes at once.

        Raises:
            UserError: When there is no such answer, or too many read it; before the first line, so it can be told.
        """
        live = self.live.get(message_id)
        if live is None:
            return _whole(message_view(self.store.chats.message(message_id)))
        if live.readers >= MOST_READERS:
            raise UserError(f"{MOST_READERS:,} readers follow this answer already. Open it again when it is finished.")
        return live.read()

    def stop(self, message_id: int) -> None:
        """Ask the model server to end an answer."""
        self.client.stop(str(message_id))


def _speaker(variant: dict[str, Any], base: dict[str, str], history: list[Any]) -> dict[str, Any]:
    """A variant as the model server wants it."""
    return {
        **base,
        "run_id": variant.get("run_id"),
        "step": variant.get("step"),
        "messages": history,
        "settings": variant.get("settings", {}),
        "factors": variant.get("factors", {}),
        "force": variant.get("force"),
        "layers": variant.get("layers", {}),
    }


async def _whole(message: dict[str, Any]) -> AsyncIterator[str]:
    yield _line({"whole": message})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def message_view(message: Message) -> dict[str, Any]:
    """A message as the page reads it."""
    return {
        "id": message.id,
        "role": message.role,
        "text": message.text,
        "reply_to": message.reply_to,
        "run_id": message.run_id,
        "settings": message.settings,
        "state": message.state,
        "error": message.error and without_paths(message.error),
        "details": message.details,
        "tokens": message.tokens,
    }
