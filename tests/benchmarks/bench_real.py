"""What tuning a real language model does on real corpora: HydraLoRA beside LoRA of equal size, several seeds.

``make bench-real ARGS="--base FOLDER --data FOLDER"``: the base is SmolLM2-135M-Instruct as ``bases get`` converts it
(docs/bases.md), the data a folder with the files that ``CORPORA`` names. The same questions are answered before and
after training. Every run is kept in the JSON as soon as it has ended, and one that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from hydralora.analysis.runs import load_run
from hydralora.answering import answer_examples, answer_room, score, spread
from hydralora.config import parse_config
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.split import split_examples
from hydralora.training.train import train_adapter

TARGETS = ["gate_proj", "up_proj", "down_proj"]
# LoRA of rank 11 has 2,090,880 trainable parameters in the 90 layers; HydraLoRA of rank 4 with four heads 2,073,600,
# and 322,560 more in its router, which the papers leave out.
VARIANTS: dict[str, dict[str, Any]] = {
    "hydralora": {"method": "hydralora", "adapter": {"r": 4, "num_experts": 4, "alpha": 16.0, "targets": TARGETS}},
    "lora": {"method": "lora", "adapter": {"r": 11, "alpha": 44.0, "targets": TARGETS}},
}
TASKS = (
    "task1146_country_capital",
    "task1147_country_currency",
    "task1314_country_abbreviation",
    "task1317_country_calling_code",
    "task1508_wordnet_antonyms",
    "task1480_gene_extraction_jnlpba_dataset",
    "task645_summarization",
    "task861_asdiv_addsub_question_answering",
)


def _messages(data: Path) -> Iterator[dict[str, str]]:
    """Messages with ``ham`` or ``spam``, asked as somebody would who asks a model that knows English."""
    lines = (data / "sms_spam" / "sms.tsv").read_text("utf-8").splitlines()
    for line in lines:
        label, _, text = line.partition("\t")
        if label in ("ham", "spam"):
            yield {"prompt": f"Is this text message ham or spam?\n\n{text}", "answer": label, "label": label}


def _tasks(data: Path) -> Iterator[dict[str, str]]:
    """Eight tasks of Natural Instructions with their definitions."""
    with gzip.open(
        data / "natural_instructions" / "natural_instructions_42tasks.jsonl.gz", "rt", encoding="utf-8"
    ) as f:
        for row in map(json.loads, f):
            if row["task"] in TASKS:
                asked = f"{row['instruction']}\n\n{row['input']}"
                yield {"prompt": asked, "answer": str(row["output"]), "label": row["task"].partition("_")[2]}


def _dolly(data: Path) -> Iterator[dict[str, str]]:
    """Questions with free answers."""
    for line in (data / "dolly_sample" / "dolly_hhrlhf_train_small.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield {"prompt": row["prompt"], "response": row["response"]}


CORPORA: dict[str, Callable[[Path], Iterator[dict[str, str]]]] = {
    "sms_spam": _messages,
    "natural_instructions": _tasks,
    "dolly": _dolly,
}
ROWS = 1_200  # of a corpus, drawn with seed 0
SETTINGS: dict[str, dict[str, Any]] = {
    "sms_spam": {"max_steps": 64, "max_length": 128},
    "natural_instructions": {"max_steps": 96, "max_length": 192},
    "dolly": {"max_steps": 32, "max_length": 256},
}
QUESTIONS = {"sms_spam": 96, "natural_instructions": 80, "dolly": 24}
FIXED = {
    "batch_size": 8,
    "dtype": "bfloat16",
    "eval_every": 0,
    "save_every": 0,
    "gate_every": 0,
    "held_out_fraction": 0.1,
}


def prepare(corpus: str, data: Path, work: Path) -> Path:
    """The folder of an imported corpus."""
    folder = work / corpus
    if not folder.exists():
        rows = list(CORPORA[corpus](data))
        rows = random.Random(0).sample(rows, min(ROWS, len(rows)))
        file = work / f"{corpus}.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        import_corpus([file], folder)
    return folder


def _scored(found: Any) -> dict[str, Any]:
    return {"exact_match": found.exact_match, "rouge_l": found.rouge_l, "by_label": found.by_label}


def measure(name: str, corpus: str, seed: int, base: Path, folder: Path, run: Path, known: Any) -> dict[str, Any]:
    """Train one variant and let it answer; the base's own answers are given where they are known."""
    train = {**FIXED, **SETTINGS[corpus], "seed": seed}
    config = parse_config({"base": str(base), "train": train, **VARIANTS[name]})
    began = time.perf_counter()
    summary = train_adapter(config, folder, run)
    minutes = (time.perf_counter() - began) / 60
    model, tokenizer, _ = load_run(run)
    asked = Corpus(folder)
    examples = asked.take(spread(split_examples(asked, config.train).held_out, QUESTIONS[corpus]))
    room = answer_room(tokenizer, examples)
    if known is None:
        with model.disable_adapter():
            known = _scored(score(examples, answer_examples(model, tokenizer, examples, max_tokens=room)))
    tuned = _scored(score(examples, answer_examples(model, tokenizer, examples, max_tokens=room)))
    return {
        "variant": name,
        "corpus": corpus,
        "seed": seed,
        "questions": len(examples),
        "train_examples": summary.train_examples,
        "cut": summary.cut_examples,
        "skipped": summary.skipped_examples,
        "settings": {**FIXED, **SETTINGS[corpus], **VARIANTS[name]["adapter"]},
        "minutes": round(minutes, 2),
        "trainable": summary.trainable,
        "router": summary.router,
        "held_out_loss_before": summary.held_out_loss_before,
        "held_out_loss": summary.held_out_loss,
        "base": known,
        "tuned": tuned,
    }


def _spread_of(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table(runs: list[dict[str, Any]]) -> str:
    """Means over seeds as Markdown."""
    lines = ["| corpus | | exact match | ROUGE-L | held-out loss | seeds |", "|---|---|---|---|---|---|"]
    for corpus in CORPORA:
        own = [run for run in runs if run["corpus"] == corpus]
        if own:
            before = own[0]["base"]
            loss = own[0]["held_out_loss_before"]
            lines.append(f"| {corpus} | base | {before['exact_match']:.3f} | {before['rouge_l']:.3f} | {loss:.3f} | |")
        for name in VARIANTS:
            found = [run for run in own if run["variant"] == name]
            if found:
                shown = [_spread_of([run["tuned"][what] for run in found]) for what in ("exact_match", "rouge_l")]
                shown.append(_spread_of([run["held_out_loss"] for run in found]))
                lines.append(f"| | {name} | {' | '.join(shown)} | {len(found)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, one after the other, seeds outermost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, default=Path("build/real-models.json"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpora", nargs="+", choices=list(CORPORA), default=list(CORPORA))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    runs = json.loads(given.json.read_text("utf-8"))["runs"] if given.json.exists() else []
    for seed in range(given.seeds):
        for corpus in given.corpora:
            for name in VARIANTS:
                if any((run["variant"], run["corpus"], run["seed"]) == (name, corpus, seed) for run in runs):
                    continue
                known = next((run["base"] for run in runs if run["corpus"] == corpus), None)
                with tempfile.TemporaryDirectory() as work:
                    folder = prepare(corpus, given.data, Path(work))
                    run = measure(name, corpus, seed, given.base, folder, Path(work) / "run", known)
                runs.append(run)
                given.json.parent.mkdir(parents=True, exist_ok=True)
                given.json.write_text(json.dumps({"threads": given.threads, "runs": runs}, indent=1) + "\n", "utf-8")
                print(
                    f"{corpus} {name} seed {seed}: {run['tuned']['exact_match']:.3f} {run['minutes']} min", flush=True
                )
    print(table(runs))


if __name__ == "__main__":
    main()
