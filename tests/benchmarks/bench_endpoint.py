"""What changing the model costs between two requests: many adapters on one base, asked in turns.

``make bench-endpoint ARGS="--base FOLDER"`` prints one line a figure and writes ``build/endpoint.json``; without a
folder it takes the starter. Adapters are random HydraLoRA ones of rank 8 with three experts, saved as a run saves
them, so that what is loaded and switched is what a studio loads and switches.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hydralora import ChatModel, add_adapter
from hydralora.answer_settings import GenerationSettings
from hydralora.bases.load import fit_threads, load_base

ADAPTERS, ROUNDS = 16, 8
ASK = [{"role": "user", "content": "What is the capital of France?"}]
ONE = GenerationSettings(temperature=0.0, max_tokens=1)
GOAL_MS = 50.0  # of a switch between two adapters in memory


def save_adapters(base: str, folder: Path) -> list[Path]:
    """Random adapters of one kind, each in a folder of its own."""
    folders = []
    for seed in range(ADAPTERS):
        model, _ = load_base(base)
        adapted = add_adapter(model, "hydralora", {"r": 8, "num_experts": 3}, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "hydralora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
        folders.append(folder / str(seed) / "adapter")
        adapted.save_pretrained(folders[-1])
    return folders


def timed(act: Any) -> float:
    """Milliseconds that an act takes."""
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


def spread(values: list[float]) -> dict[str, float]:
    """Median and largest, in milliseconds."""
    return {"median": round(statistics.median(values), 2), "largest": round(max(values), 2)}


def measure(base: str) -> dict[str, Any]:
    """Loading each adapter, switching among all that are loaded, and the first token with and without a switch."""
    threads = fit_threads(base)
    with tempfile.TemporaryDirectory() as place:
        folders = save_adapters(base, Path(place))
        chat = ChatModel(base)
        first = lambda folder: list(chat.stream(ASK, adapter=folder, settings=ONE, gates=False))  # noqa: E731
        loads = [timed(lambda folder=folder: chat.use(folder)) for folder in folders]
        assert len(chat.adapters) == ADAPTERS
        switches = [timed(lambda folder=folder: chat.use(folder)) for _ in range(ROUNDS) for folder in folders]
        first(folders[0])
        same = [timed(lambda: first(folders[0])) for _ in range(ROUNDS)]
        other = [timed(lambda i=i: first(folders[1 + i % 15])) for i in range(ROUNDS * 2)]
        bases = [timed(lambda folder=folder: first(folder)) for _ in range(ROUNDS) for folder in (None, folders[0])]
    return {
        "threads": threads,
        "adapters in memory": ADAPTERS,
        "load, ms": spread(loads),
        "switch, ms": {**spread(switches), "goal": GOAL_MS, "kept": statistics.median(switches) <= GOAL_MS},
        "first token, same adapter, ms": spread(same),
        "first token, another adapter, ms": spread(other),
        "first token, base and adapter in turns, ms": spread(bases),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} cores, torch {torch.__version__}",
        "base": Path(options.base).name,
        **measure(options.base),
    }
    for name, value in found.items():
        print(f"{name:<45} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
