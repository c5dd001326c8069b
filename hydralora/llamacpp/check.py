"""What llama.cpp makes of a file, beside what torch makes of the model that it was written from.

The package xllamacpp carries llama.cpp itself; where it is not installed nothing is measured, and that is said. The
gap is the mean ``|log p_llama.cpp - log p_torch|`` of the token that torch finds likeliest, in nats, over places in
examples; a base has such a gap of its own, since both round differently, and an export should add little to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from hydralora.corpus.encode import encode_text
from hydralora.errors import AdapterError
from hydralora.results import LlamaCheck

PROMPTS = 200
LONGEST = 512  # tokens of a prompt; longer ones would take minutes without telling more
TEXTS = 50  # whose tokens are compared
LARGEST_GAP = 0.1  # nats, beyond the base's own
LARGEST_BASE_GAP = 0.3  # nats: a base further off was not written as llama.cpp reads it
MOST_UNTOLD = 0.1  # share of places at which llama.cpp finds the token not among its likeliest
SECONDS = 1_800
CHILD = Path(__file__).with_name("check_child.py")
NOT_THERE = "Not checked by llama.cpp: the package xllamacpp is not installed (`pip install xllamacpp`)."


@dataclass(frozen=True)
class Places:
    """Beginnings of examples in token ids, after each of which the next token is asked for; and texts to cut."""

    prompts: list[list[int]]
    texts: list[str]

    @classmethod
    def of(cls, rows: list[dict[str, list[int]]], texts: list[str]) -> Places:
        """Up to ``PROMPTS`` places at answers of encoded examples, spread over them; the first where each begins."""
        found: list[list[int]] = []
        for turn in range(PROMPTS):
            before = len(found)
            for row in rows:
                learnt = [i for i, label in enumerate(row["labels"]) if label >= 0]
                if turn < len(learnt) and 0 < learnt[turn] <= LONGEST and len(found) < PROMPTS:
                    found.append(row["input_ids"][: learnt[turn]])
            if len(found) == before:
                break
        return cls(found, texts[:TEXTS])


def can_check() -> bool:
    """Whether llama.cpp is at hand."""
    return find_spec("xllamacpp") is not None


@torch.inference_mode()
def likeliest(model: Any, places: Places) -> list[tuple[int, float]]:
    """The token that a model finds likeliest at each place, and its log-probability in nats."""
    found = []
    for ids in places.prompts:
        tokens = torch.tensor([ids], device=next(model.parameters()).device)
        last = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1]
        logs = last.float().log_softmax(-1)
        best = int(logs.argmax())
        found.append((best, float(logs[best])))
    return found


class Yardstick:
    """The gap of a base, in the very file that exports are laid over or compared with."""

    def __init__(self, model: Any, tokenizer: Any, places: Places, base: Path) -> None:
        self.places, self.tokenizer = places, tokenizer
        self.gap, self.same_tokens = self._measure(likeliest(model, places), base, None)

    def check(self, wanted: list[tuple[int, float]], model: Path, adapter: Path | None = None) -> LlamaCheck:
        """Compare a file (with an adapter over it) with what torch makes of the same model."""
        gap, same = self._measure(wanted, model, adapter)
        told = len(gap) >= (1 - MOST_UNTOLD) * len(self.gap)  # the worst places are those that are not told
        is_near = bool(gap) and told and _mean(self.gap) <= LARGEST_BASE_GAP
        return LlamaCheck(
            prompts=len(gap),
            gap=_mean(gap),
            largest=max(gap, default=0.0),
            base_gap=_mean(self.gap),
            texts=len(self.places.texts),
            same_tokens=same,
            is_close=is_near and _mean(gap) <= _mean(self.gap) + LARGEST_GAP and same == len(self.places.texts),
        )

    def _measure(self, wanted: list[tuple[int, float]], model: Path, adapter: Path | None) -> tuple[list[float], int]:
        """Gaps at each place that llama.cpp tells, and how many texts have the same tokens there."""
        reply = ask_llama_cpp(model, adapter, self.places, [token for token, _ in wanted])
        logs = zip(reply["log_probabilities"], wanted, strict=True)
        gaps = [abs(there - here) for there, (_, here) in logs if there is not None]
        here = (encode_text(self.tokenizer, text) for text in self.places.texts)
        return gaps, sum(a == b for a, b in zip(here, reply["tokens"], strict=True))


def ask_llama_cpp(model: Path, adapter: Path | None, places: Places, wanted: list[int]) -> dict[str, Any]:
    """Log-probabilities of tokens and the tokens of texts, by llama.cpp in a process of its own.

    Raises:
        AdapterError: When llama.cpp cannot read the file, or ends.
    """
    with tempfile.TemporaryDirectory(prefix="llama-") as place:
        request, reply = Path(place) / "request.json", Path(place) / "reply.json"
        asked = {
            "model": str(model),
            "lora": str(adapter) if adapter else None,
            "prompts": places.prompts,
            "wanted": wanted,
            "texts": places.texts,
            "context": max(map(len, places.prompts), default=0) + 64,
            "threads": max(1, min(torch.get_num_threads(), os.cpu_count() or 1)),
        }
        request.write_text(json.dumps(asked), "utf-8")
        command = [sys.executable, "-P", str(CHILD), str(request), str(reply)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=place)
        except subprocess.TimeoutExpired as error:
            raise AdapterError(f"llama.cpp took more than {SECONDS // 60} minutes to check {model.name}.") from error
        if done.returncode or not reply.exists():
            raise AdapterError(f"llama.cpp cannot read {(adapter or model).name}: {_last_line(done.stderr)}.")
        found: dict[str, Any] = json.loads(reply.read_text("utf-8"))
    return found


def _last_line(said: str) -> str:
    lines: Iterator[str] = (line.strip() for line in reversed(said.splitlines()))
    return next((line for line in lines if line), "it ended without a word")[:300].rstrip(".")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
