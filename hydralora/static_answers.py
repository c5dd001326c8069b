"""Which answers are decoded with a static cache, and the decoder that one answer leaves to the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydralora.decoding import StaticDecoder, why_not_static
from hydralora.tuner.gates import GateCapture, can_cache

log = logging.getLogger(__name__)
# model, tokens, capture, streamer -> arguments of transformers' `generate`
Decode = Callable[[Any, int, GateCapture, Any], dict[str, Any]]


class StaticAnswers:
    """Keeps the last decoder, as long as adapter and length are the same.

    Args:
        wanted: Whether to decode so at all.
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.decoder: StaticDecoder | None = None
        self.adapter: Path | None = None
        self.said: set[str] = set()  # reasons why not, each logged once

    def drop(self) -> None:
        """Forget the decoder, whose graph reads weights that are about to leave."""
        self.decoder = None

    def using(self, adapter: Path | None, changed: bool) -> Decode:
        """How an answer of this adapter is decoded; ``changed`` experts live for one answer, and so does its graph."""

        def decode(model: Any, tokens: int, capture: GateCapture, streamer: Any) -> dict[str, Any]:
            decoder = self._find(model, adapter, tokens, capture, changed) if self.wanted else None
            if decoder is None:
                return {"streamer": streamer, "use_cache": can_cache(model)}
            return {"streamer": streamer, "custom_generate": partial(decoder.generate, streamer=streamer)}

        return decode

    def _find(
        self, model: Any, adapter: Path | None, tokens: int, capture: GateCapture, changed: bool
    ) -> StaticDecoder | None:
        """The kept decoder where it fits, a new one otherwise, None where the model cannot."""
        kept = self.decoder
        is_alike = kept is not None and self.adapter == adapter and kept.records == bool(capture.layers)
        if kept is not None and not changed and is_alike and kept.tokens >= tokens:
            kept.watch(capture)
            return kept
        self.drop()
        reason = why_not_static(model)
        if reason is None:
            try:
                decoder = StaticDecoder(model, tokens, capture)
            except RuntimeError as error:  # an operation that no graph can hold
                reason, self.wanted = f"no graph could be recorded ({str(error).splitlines()[0][:200]})", False
            else:
                if not changed:
                    self.decoder, self.adapter = decoder, adapter
                return decoder
        if reason not in self.said:
            self.said.add(reason)
            log.warning("Answers are decoded with a growing cache, which is slower: %s.", reason)
        return None
