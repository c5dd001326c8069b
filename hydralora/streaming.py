"""What comes out of an answer while it is written: tokens with their gates, and the way to stop it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from hydralora.tuner.gates import GateCapture


@dataclass(frozen=True)
class TokenEvent:
    """One generated token.

    ``gates`` are the gate weights of the forward pass that produced it, ``(layers, experts)``,
    or None without a router.
    """

    id: int
    text: str
    gates: list[list[float]] | None = None


@dataclass
class Answer:
    """What is known once the stream has begun, and why it ended.

    ``reason`` is ``end`` (the model stopped), ``stop`` (a stop sequence came), ``length`` or ``stopped``.
    ``dropped`` counts earlier messages left out so that the rest fits the context.
    """

    layers: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    dropped: int = 0
    reason: str = ""


def until_stop(events: Iterable[TokenEvent], stops: Sequence[str], answer: Answer) -> Iterator[TokenEvent]:
    """Tokens up to the first of ``stops`` in their text, which is left out with all that follows.

    A token whose text may be part of a stop sequence waits for the next ones, so that nothing of one is ever given out.
    """
    waiting: list[TokenEvent] = []
    for event in events:
        waiting.append(event)
        text = "".join(token.text for token in waiting)
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        if places:
            answer.reason = "stop"
            yield from _before(waiting, min(places))
            return
        safe = len(text) - max((_begun(text, stop) for stop in stops), default=0)
        while waiting and len(waiting[0].text) <= safe:
            safe -= len(waiting[0].text)
            yield waiting.pop(0)
    yield from waiting


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text begin ``stop``."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def _before(events: list[TokenEvent], place: int) -> Iterator[TokenEvent]:
    """The tokens that begin before a place in their text, the last one without what lies behind it."""
    for event in events:
        if place <= 0:
            return
        yield replace(event, text=event.text[:place])
        place -= len(event.text)


class GateStreamer(BaseStreamer):
    """Receives each token right after the forward pass that produced it."""

    def __init__(self, events: queue.Queue[Any], capture: GateCapture) -> None:
        self.events, self.capture = events, capture
        self.prompt_seen = False

    def put(self, value: Tensor) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        gates = self.capture.take()[:, 0, -1].tolist() if self.capture.names else None
        self.events.put((int(value.reshape(-1)[0]), gates))

    def end(self) -> None:
        """The sentinel is put by the thread itself, after errors too."""


class StopsWhenTold(StoppingCriteria):
    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), self.stop.is_set(), device=input_ids.device, dtype=torch.bool)
