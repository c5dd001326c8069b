"""How good the starter is before anything is tuned: ``python -m data.recipes.starter_check``.

Fresh text of the same world, drawn with another seed than it was trained with, and the held-out
questions of the sample corpora, which it must not be able to answer yet.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch

from data.recipes.starter import Rows
from data.recipes.starter_text import copying, greeting, knowledge, reading, sums
from hydralora.answering import answer_examples, score
from hydralora.bases.load import load_base
from hydralora.corpus.examples import Example
from hydralora.samples import CORPORA, GENERATORS

SEED = 1_000_003  # not one of those it was trained with
ROWS, QUESTIONS = 64, 100
KINDS = {"knowledge": knowledge, "sums": sums, "reading": reading, "copying": copying}


def held_out_loss(model: Any, tokenizer: Any) -> float:
    """Mean loss over all tokens of ``ROWS`` fresh rows, in nats per token."""
    rows = Rows(tokenizer, SEED)
    drawn = [row["input_ids"] for row, _ in zip(rows, range(ROWS), strict=False)]
    with torch.inference_mode():
        losses = [float(model(input_ids=batch, labels=batch).loss) for batch in torch.tensor(drawn).split(16)]
    return sum(losses) / len(losses)


def examples_of(kind: str) -> list[Example]:
    """Fresh questions of one kind with their answers."""
    rng = random.Random(f"{SEED}-{kind}")
    return [Example(*KINDS[kind](rng)) for _ in range(QUESTIONS)]


def held_out_part(corpus: str) -> list[Example]:
    """The held-out questions of a sample corpus."""
    rows = map(json.loads, (CORPORA / corpus / f"{corpus}.jsonl").read_text("utf-8").splitlines())
    return [Example(row["prompt"], row["answer"]) for row in rows if row["split"] == "held_out"]


def check_starter(base: str = "starter") -> dict[str, Any]:
    """Loss, exact match by kind, share of greetings that are answered and ended, exact match on the samples."""
    model, tokenizer = load_base(base)
    model.eval()

    def right(examples: list[Example]) -> float:
        return float(score(examples, answer_examples(model, tokenizer, examples))["exact_match"])

    rng = random.Random(SEED)
    greetings = [Example(*greeting(rng)) for _ in range(QUESTIONS)]
    possible = {answer for seed in range(2_000) for _, answer in [greeting(random.Random(seed))]}
    said = answer_examples(model, tokenizer, greetings)
    return {
        "held_out_loss": round(held_out_loss(model, tokenizer), 4),
        "kinds": {kind: right(examples_of(kind)) for kind in KINDS},
        "greetings": sum(answer in possible for answer in said) / len(said),
        "samples": {name: round(right(held_out_part(name)), 4) for name in GENERATORS},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="starter", help="starter, or a folder")
    parser.add_argument("--json", type=Path, default=None, help="also keep the numbers here")
    options = parser.parse_args()
    found = check_starter(options.base)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
