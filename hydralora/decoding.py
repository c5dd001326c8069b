"""Decoding with a key-value cache of fixed size: one token's pass is one CUDA graph, gates included.

A small batch keeps a GPU waiting for the CPU, which launches hundreds of kernels for each token. A graph replays
them in one launch; all it reads and writes must stay in place, so the cache is transformers' ``StaticCache`` and the
gates are written into one buffer (``GateCapture.reserve``). On the CPU the same passes run without a graph.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import StaticCache

from hydralora.errors import UserError
from hydralora.tuner.gates import GateCapture, can_cache

log = logging.getLogger(__name__)
WARM_UP = 3  # passes before a graph is recorded, in which libraries allocate what they keep
ROUND = 256  # a cache holds a multiple of so many tokens, so that answers of like length share one


def cache_word(model: Any) -> str:
    """What this model's ``forward`` calls its key-value cache; transformers has renamed it."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return "cache" if "cache" in inspect.signature(type(inner).forward).parameters else "past_key_values"


def why_not_static(model: Any) -> str | None:
    """Why this model cannot decode with a cache of fixed size, in words; None where it can."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return "virtual tokens are put in front of the prompt"
    if not can_cache(model):
        return "a pooled router reads every earlier token"
    if inner.config.is_encoder_decoder or not getattr(inner, "_can_compile_fullgraph", False):
        return f"{type(inner).__name__} decodes with a growing cache only"
    if len({weight.device for weight in inner.parameters()}) > 1:
        return "its weights lie on several devices"
    if any(layer.is_sliding for layer in StaticCache(inner.config, max_cache_len=1).layers):
        return "its attention has a sliding window"
    return None


class StaticDecoder:
    """One sequence at a time through a model: ``prefill``, then ``step`` for each token.

    While it lives, adapter, overrides and ``capture`` must stay as they were; weights may change in place.

    Args:
        model: A causal language model, with an adapter or without.
        tokens: The most tokens of a sequence, prompt included; rounded up.
        capture: Entered already; its gates are ``(layers, 1, 1, experts)`` after a step.
        compiled: Compile the pass first: fewer kernels, after some 15 s of waiting.
        backend: What compiles it.

    Raises:
        UserError: When the model cannot decode so; says why.
    """

    def __init__(
        self,
        model: Any,
        tokens: int,
        capture: GateCapture | None = None,
        *,
        compiled: bool = False,
        backend: str = "inductor",
    ) -> None:
        reason = why_not_static(model)
        if reason is not None:
            raise UserError(f"This model cannot decode with a static cache: {reason}. Use `generate`.")
        self.model = model
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        self.device = next(inner.parameters()).device
        self.tokens = -(-tokens // ROUND) * ROUND
        self.cache = StaticCache(inner.config, max_cache_len=self.tokens)
        self.word = cache_word(model)
        self.used = 0
        self.token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        self.graph: Any = None
        self.logits: Tensor | None = None  # (1, vocabulary), rewritten by every replay
        self.records = capture is not None and bool(capture.layers)  # whether its passes, and its graph, write gates
        self.rows: Tensor | None = None  # (layers, 1, experts), where the gates of a step go
        self.watch(capture)
        self._pass = (
            torch.compile(self._forward, fullgraph=True, dynamic=False, backend=backend) if compiled else self._forward
        )
        self._prepare()

    def watch(self, capture: GateCapture | None) -> None:
        """Let ``capture`` see the gates of this decoder's steps; the first one decides where they are written."""
        self.capture = capture
        if capture is not None:
            self.rows = capture.reserve(self.rows)

    def _forward(self, ids: Tensor) -> Tensor:
        """Logits ``(1, vocabulary)`` after ``ids`` ``(1, tokens)``, which follow what the cache holds."""
        more = {self.word: self.cache, "use_cache": True, "logits_to_keep": 1}
        return self.model(input_ids=ids, **more).logits[:, -1]

    @torch.inference_mode()
    def _prepare(self) -> None:
        """Let the cache take its place, then record the graph on a GPU."""
        self._forward(self.token)
        if self.device.type == "cuda":
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._pass(self.token)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.logits = self._pass(self.token)
            self.graph = graph
        self.cache.reset()

    @torch.inference_mode()
    def prefill(self, ids: Tensor) -> Tensor:
        """Begin a new sequence with ``ids`` ``(1, tokens)``; logits ``(1, vocabulary)`` of what follows."""
        self.cache.reset()
        self.used = 0
        self._make_room(ids.shape[1])
        return self._forward(ids)

    @torch.inference_mode()
    def step(self, token: Tensor) -> Tensor:
        """Logits ``(1, vocabulary)`` after one more ``token`` ``(1, 1)``; valid until the next step."""
        self._make_room(1)
        self.token.copy_(token)
        if self.capture is not None:
            self.capture.forget()  # what a longer pass left; this one writes into the buffer
        if self.graph is None:
            return self._pass(self.token)
        self.graph.replay()
        return self.logits  # type: ignore[return-value]

    def _make_room(self, tokens: int) -> None:
        self.used += tokens
        if self.used > self.tokens:
            raise UserError(f"The cache holds {self.tokens:,} tokens, and {self.used:,} were sent. Make a larger one.")

    def generate(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """``(1, prompt + answer)``; the loop that transformers' ``generate(custom_generate=...)`` asks for.

        Draws the same random numbers as transformers' own loop, so the same seed gives the same answer. transformers
        hands no streamer on to a function; ``partial(decoder.generate, streamer=...)`` does.
        """
        logits = self.prefill(input_ids)
        while True:
            scores = logits_processor(input_ids, logits.to(torch.float32, copy=True))  # (1, vocabulary)
            if generation_config.do_sample:
                token = torch.multinomial(scores.softmax(-1), num_samples=1)  # (1, 1)
            else:
                token = scores.argmax(-1, keepdim=True)
            input_ids = torch.cat((input_ids, token), dim=-1)
            if streamer is not None:
                streamer.put(token.squeeze(-1).cpu())
            if bool(stopping_criteria(input_ids, None).all()):
                break
            logits = self.step(token)
        if streamer is not None:
            streamer.end()
        return input_ids
