"""The most memory of short trainings, each in a process of its own, beside what is estimated for them.

``make bench-memory ARGS="--base FOLDER"``: the starter, two random models and, where given, a real one (docs/bases.md).
Every example is a plain text that fills the longest length, so that every batch is the longest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydralora.bases.facts import read_facts
from hydralora.bases.folder import STARTER
from hydralora.bases.load import fit_threads
from hydralora.config import parse_config
from hydralora.corpus.imports import import_corpus
from hydralora.results.bases import BaseFacts
from hydralora.training.memory import training_memory
from hydralora.training.train import train_adapter

Settings = dict[str, Any]
SHORT = {"max_steps": 2, "eval_every": 0, "save_every": 0, "gate_every": 0, "held_out_fraction": 0.0}
ANY: list[Settings] = [
    {"train": {"batch_size": 16, "max_length": 256}},
    {"train": {"batch_size": 4, "max_length": 64}},
    {"train": {"batch_size": 64, "max_length": 256}},
]
LLAMA: list[Settings] = [
    {"train": {"batch_size": 8, "max_length": 512}},
    {"train": {"batch_size": 2, "max_length": 128}},
    {"method": "lora", "train": {"batch_size": 8, "max_length": 512, "dtype": "bfloat16"}},
]
GPT2: list[Settings] = [{"train": {"batch_size": 8, "max_length": 256}}]
BF16 = {"dtype": "bfloat16"}
REAL: list[Settings] = [
    {"train": {"batch_size": 1, "max_length": 64, **BF16}},
    {"train": {"batch_size": 4, "max_length": 256, **BF16}},
    {"train": {"batch_size": 8, "max_length": 256, **BF16}},
    {"train": {"batch_size": 2, "max_length": 1024, **BF16}},
    {"train": {"batch_size": 4, "max_length": 256}},
    {"method": "lora", "train": {"batch_size": 4, "max_length": 256, **BF16}},
    {"adapter": {"target_modules": ["q_proj", "v_proj"]}, "train": {"batch_size": 4, "max_length": 256, **BF16}},
    {"train": {"batch_size": 8, "max_length": 256, "gradient_checkpointing": True, **BF16}},
]


def make_bases(work: Path) -> dict[str, tuple[Path, list[Settings]]]:
    """Folders of random models of the starter's tokenizer, with the settings they are trained with."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    llama = LlamaConfig(
        vocab_size=8000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=2048,
    )
    gpt2 = GPT2Config(vocab_size=8000, n_embd=384, n_layer=6, n_head=6, bos_token_id=1, eos_token_id=2)
    for name, model in (("llama", LlamaForCausalLM(llama)), ("gpt2", GPT2LMHeadModel(gpt2))):
        model.save_pretrained(work / name)
        tokenizer.save_pretrained(work / name)
    return {"random Llama": (work / "llama", LLAMA), "random GPT-2": (work / "gpt2", GPT2)}


def make_corpus(work: Path) -> Path:
    """Twenty long texts."""
    words = "The small town lies on a river, and people walk over the bridge to the market in the morning. "
    rows = [{"text": f"Text {i}. {words * 120}"} for i in range(20)]
    file = work / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    import_corpus([file], work / "corpus")
    return work / "corpus"


def train_once(base: str, corpus: str, settings: str) -> int:
    """Train two steps here and give the most memory of this process, in bytes."""
    asked = json.loads(settings)
    fit_threads(base)
    config = parse_config({"base": base, **asked, "train": {**SHORT, **asked["train"]}})
    with tempfile.TemporaryDirectory() as work:
        train_adapter(config, Path(corpus), Path(work) / "run")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, base: Path, corpus: Path, settings: Settings) -> dict[str, Any]:
    """One training in a process of its own."""
    line = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_memory",
        "--once",
        str(base),
        str(corpus),
        json.dumps(settings),
    ]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    facts = read_facts(base, name)
    return {"base": name, "facts": facts.dump(), "settings": settings, "peak": int(said.strip().splitlines()[-1])}


def estimated(run: dict[str, Any]) -> float:
    """Bytes that are estimated for a measured run."""
    config = parse_config({**run["settings"], "train": {**SHORT, **run["settings"]["train"]}})
    return training_memory(BaseFacts.load(run["facts"], "The figures"), config).total


def table(runs: list[dict[str, Any]]) -> str:
    """Measured and estimated as Markdown."""
    lines = ["| base | settings | measured, MiB | estimated, MiB | off by |", "|---|---|---|---|---|"]
    for run in runs:
        told, peak = estimated(run), run["peak"]
        train = dict(run["settings"]["train"])
        words = f"{train.pop('batch_size')} x {train.pop('max_length')} tokens"
        words += "".join(f", {key} {value}" for key, value in train.items())
        words += "".join(f", {run['settings'][key]}" for key in ("method", "adapter") if key in run["settings"])
        lines.append(f"| {run['base']} | {words} | {peak >> 20:,} | {told / 2**20:,.0f} | {told / peak - 1:+.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not measured yet; each run is kept as soon as it has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=3, metavar=("BASE", "CORPUS", "SETTINGS"))
    parser.add_argument("--base", type=Path)
    parser.add_argument("--json", type=Path, default=Path("build/memory.json"))
    given = parser.parse_args()
    if given.once:
        print(train_once(*given.once))
        return
    runs = json.loads(given.json.read_text("utf-8"))["runs"] if given.json.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus, bases = make_corpus(work), {"starter": (STARTER, ANY), **make_bases(work)}
        if given.base:
            bases[given.base.name] = (given.base, REAL)
        for name, (base, every) in bases.items():
            for settings in every:
                if any((run["base"], run["settings"]) == (name, settings) for run in runs):
                    continue
                runs.append(measure(name, base, corpus, settings))
                given.json.parent.mkdir(parents=True, exist_ok=True)
                given.json.write_text('{"runs": [\n' + ",\n".join(map(json.dumps, runs)) + "\n]}\n", "utf-8")
                print(table(runs[-1:]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
