"""What padding costs, and what packing and batches of like length save: steps of a run over one corpus.

``make bench-packing`` reads a corpus (the sample, or ``--corpus``), draws batches as a run does, and times forward and
backward passes of HydraLoRA on the starter over the same examples: padded, packed, and padded in order of length. The
three take turns in one process; what counts are the ratios of their summed times, never a time.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from hydralora.adapters.build import add_adapter
from hydralora.bases.load import load_base
from hydralora.config import RunConfig, TrainConfig
from hydralora.corpus.batches import Collator, Encoded, PackingCollator, by_length
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.training.data import read_data
from hydralora.tuner.passes import tell_padding
from tests.benchmarks.bench_adapters import machine

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "corpora" / "four-trades" / "four-trades.jsonl"
Batch = dict[str, torch.Tensor]


def batches(rows: list[Encoded], pad_id: int, train: TrainConfig, count: int) -> dict[str, list[Batch]]:
    """The same examples in batches of each kind."""
    size, drawn = train.batch_size, random.Random(0).sample(range(len(rows)), min(len(rows), count * train.batch_size))
    shuffled = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    lengths = [len(rows[place]["input_ids"]) for place in drawn]
    alike = [[drawn[place] for place in places] for places in by_length(lengths, size)]
    pad, pack = Collator(pad_id), PackingCollator(pad_id, train.max_length)
    return {
        "padded": [pad([rows[place] for place in places]) for places in shuffled],
        "packed": [pack([rows[place] for place in places]) for places in shuffled],
        "by length": [pad([rows[place] for place in places]) for places in alike],
    }


def step(model: Any, batch: Batch) -> None:
    """Forward and backward pass over a batch."""
    batch = dict(batch)
    if "position_ids" in batch:
        tell_padding(model, batch.pop("attention_mask"))
    model(**batch, use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


def measure(corpus: Path, count: int) -> dict[str, float]:
    """Shares of padding, and times of passes over padded batches."""
    config = RunConfig(train=TrainConfig(batch_size=16, max_length=512))
    base, tokenizer = load_base("starter", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        import_corpus([corpus], Path(folder) / "corpus")
        rows = read_data(config, Corpus(Path(folder) / "corpus"), tokenizer, None).rows
    found = batches(rows, tokenizer.pad_token_id, config.train, count)
    model = add_adapter(base, "hydralora", {"r": 8, "num_experts": 4}).train()
    seconds: dict[str, float] = defaultdict(float)
    for turn in range(count + 2):  # the first two turns are not counted
        for kind, drawn in found.items():
            began = time.perf_counter()
            step(model, drawn[turn % len(drawn)])
            seconds[kind] += (time.perf_counter() - began) if turn >= 2 else 0.0
    padding = {kind: 1 - _real(drawn) / _places(drawn) for kind, drawn in found.items()}
    return {
        **{f"padding, {kind}": share for kind, share in padding.items()},
        "time: packed / padded": seconds["packed"] / seconds["padded"],
        "time: by length / padded": seconds["by length"] / seconds["padded"],
    }


def _real(drawn: list[Batch]) -> int:
    return sum(int(batch["attention_mask"].sum()) for batch in drawn)


def _places(drawn: list[Batch]) -> int:
    return sum(batch["input_ids"].numel() for batch in drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[SAMPLE])
    parser.add_argument("--batches", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {file.stem: measure(file, options.batches) for file in options.corpus}
    for name, found in results.items():
        for row, value in found.items():
            print(f"{name}: {row:<32} {value:6.3f}")
    if options.json:
        about = machine("cpu", torch.float32, options.batches)
        rounded = {name: {row: round(value, 3) for row, value in found.items()} for name, found in results.items()}
        options.json.write_text(json.dumps({"about": about, "results": rounded}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
