"""How fast the chat answers beside llama.cpp on the same weights: first token and tokens a second, in turns.

``make bench-chat ARGS="--base FOLDER"`` prints one line a figure and writes ``build/chat.json``; without a folder it
takes the starter. llama.cpp reads our own f16 export; the chat computes in bfloat16, which has as many bits. In each
round both answer the same prompt with as many tokens on as many threads, one after the other, and the ratio is that
of neighbours, so that a machine that is busy slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hydralora import ChatModel, add_adapter
from hydralora.answer_settings import GenerationSettings
from hydralora.bases.load import fit_threads, load_base
from hydralora.corpus.encode import encode_prompt
from hydralora.llamacpp.files import write_model

ASK = [{"role": "user", "content": "Tell me a long story about a boat on a river."}]
TOKENS, ROUNDS = 64, 5
GOAL_FIRST_MS, GOAL_RATIO = 500.0, 1.5
CHILD = """
import json, sys, xllamacpp
path, threads, ids, tokens = json.loads(sys.argv[1])
options = xllamacpp.CommonParams()
options.model.path, options.n_ctx, options.n_gpu_layers = path, len(ids) + tokens + 64, 0
options.n_parallel, options.verbosity = 1, -1
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(options)
asked = {"prompt": ids, "n_predict": tokens, "temperature": 0.0, "cache_prompt": False, "ignore_eos": True}
for _ in sys.stdin:
    timings = server.handle_completions(asked)["timings"]
    print(json.dumps([timings["prompt_ms"], timings["predicted_per_second"]]), flush=True)
"""


class LlamaCpp:
    """llama.cpp with a model, in a process of its own, which computes only while it is asked."""

    def __init__(self, model: Path, threads: int, ids: list[int]) -> None:
        words = json.dumps([str(model), threads, ids, TOKENS])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, "-c", CHILD, words], text=True, **pipes)

    def answer(self) -> tuple[float, float]:
        """Milliseconds of the prompt, and tokens a second after it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        prompt, speed = json.loads(self.process.stdout.readline())
        return prompt, speed

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def save_adapter(base: str, folder: Path) -> Path:
    """A HydraLoRA adapter of rank 8 with three experts over every linear layer."""
    model, _ = load_base(base, dtype="bfloat16")
    add_adapter(model, "hydralora", {"r": 8, "num_experts": 3}, seed=0).save_pretrained(folder / "0" / "adapter")
    return folder / "0" / "adapter"


def answer(chat: ChatModel, adapter: Path | None, tokens: int = TOKENS) -> tuple[float, float]:
    """Milliseconds to the first token, and tokens a second after it; gates are read where there is an adapter."""
    settings, began, first, count = GenerationSettings(temperature=0.0, max_tokens=tokens), time.perf_counter(), 0.0, 0
    for _ in chat.stream(ASK, adapter=adapter, settings=settings, gates=adapter is not None):
        count += 1
        first = first or time.perf_counter() - began
    rest = time.perf_counter() - began - first
    return 1000 * first, (count - 1) / max(rest, 1e-9)


def measure(base: str) -> dict[str, Any]:
    """The base, and a HydraLoRA on it with its gates, each in turns with llama.cpp and the bare base."""
    threads = fit_threads(base)
    with tempfile.TemporaryDirectory() as place:
        model, tokenizer = load_base(base)
        write_model(model, tokenizer, Path(place) / "base.gguf", "f16", name="Base")
        del model
        adapter = save_adapter(base, Path(place))
        chat = ChatModel(base, dtype="bfloat16")
        llama = LlamaCpp(Path(place) / "base.gguf", threads, encode_prompt(tokenizer, ASK))
        for warm in (llama.answer, lambda: answer(chat, adapter, 4), lambda: answer(chat, None, 4)):
            warm()
        rounds = []
        for _ in range(ROUNDS):
            rounds.append((llama.answer(), answer(chat, None), answer(chat, adapter)))
        llama.end()
    return {"threads": threads, "tokens": TOKENS, "rounds": ROUNDS, **told(rounds)}


def told(rounds: list[tuple[tuple[float, float], ...]]) -> dict[str, Any]:
    """Medians over the rounds; ratios are llama.cpp's speed over the chat's in one round."""
    found: dict[str, Any] = {}
    for column, name in enumerate(("llama.cpp", "chat, base", "chat, HydraLoRA with gates")):
        firsts, speeds = zip(*(round_[column] for round_ in rounds), strict=True)
        found[f"{name}: first token, ms"] = round(statistics.median(firsts), 1)
        found[f"{name}: tokens a second"] = round(statistics.median(speeds), 1)
        if column:
            ratio = statistics.median(round_[0][1] / round_[column][1] for round_ in rounds)
            found[f"{name}: llama.cpp is so many times as fast"] = round(ratio, 2)
    first = found["chat, HydraLoRA with gates: first token, ms"]
    found["goals"] = {
        f"first token within {GOAL_FIRST_MS:.0f} ms": first <= GOAL_FIRST_MS,
        f"base within {GOAL_RATIO} times": found["chat, base: llama.cpp is so many times as fast"] <= GOAL_RATIO,
    }
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "base": Path(options.base).name,
        "others at work before": round(load, 1),
        **measure(options.base),
    }
    for name, value in found.items():
        print(f"{name:<64} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
