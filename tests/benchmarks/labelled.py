"""Corpora with labels for ``bench_clusters``: the shipped samples, made ones, and public sets from a folder."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Row = dict[str, str]
SAMPLES = Path(__file__).resolve().parents[2] / "data" / "corpora"
MADE_WORDS, OWN_WORDS = 3_000, 150  # of all made texts, and of one kind


def read_lines(path: Path) -> Iterator[dict[str, str]]:
    """The objects of a JSONL file, packed or not."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as lines:
        yield from map(json.loads, lines)


def row(prompt: str, answer: str = "", label: str = "") -> Row:
    return {"prompt": prompt or "-", "answer": answer or "-", "label": label}


def sample(name: str) -> list[Row]:
    """A sample corpus that ships with the project."""
    return [row(r["prompt"], r["answer"], r["label"]) for r in read_lines(SAMPLES / name / f"{name}.jsonl")]


def made(rows: int, kinds: int, share: float, seed: int, *, mixed: bool = False, words: int = 30) -> list[Row]:
    """Texts of drawn words: a ``share`` of them from the words of the text's kind, the others from all by Zipf's law.

    With ``mixed`` every text draws from all kinds by shares of its own (Dirichlet), so that there are no clusters.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(MADE_WORDS)[100:]
    own = [order[i * OWN_WORDS : (i + 1) * OWN_WORDS] for i in range(kinds)]
    common, special = (1 / np.arange(1, size + 1) ** power for size, power in ((MADE_WORDS, 1.07), (OWN_WORDS, 0.8)))
    texts = []
    for _ in range(rows):
        kind, length = int(rng.integers(kinds)), max(5, int(rng.poisson(words)))
        special_count = int(rng.binomial(length, share))
        kinds_drawn = rng.choice(kinds, special_count, p=rng.dirichlet(np.full(kinds, 0.7)) if mixed else None)
        drawn = list(rng.choice(MADE_WORDS, length - special_count, p=common / common.sum()))
        places = rng.choice(OWN_WORDS, special_count, p=special / special.sum())
        drawn += [own[other if mixed else kind][place] for other, place in zip(kinds_drawn, places, strict=True)]
        text = " ".join(f"w{word}" for word in rng.permutation(drawn))
        texts.append(row(text, label="" if mixed else str(kind)))
    return texts


def gsm8k(folder: Path) -> list[Row]:
    return [row(r["question"], r["answer"]) for r in read_lines(folder / "gsm8k" / "train.jsonl")]


def newsgroups20(folder: Path) -> list[Row]:
    found = read_lines(folder / "newsgroups20" / "newsgroups20.jsonl.gz")
    return [row(r["subject"], r["text"], r["label"]) for r in found]


def natural_instructions(folder: Path) -> list[Row]:
    found = read_lines(folder / "natural_instructions" / "natural_instructions_42tasks.jsonl.gz")
    return [row(f"{r['instruction']}\n{r['input']}", str(r["output"]), r["task"]) for r in found]


def natural_instructions_inputs(folder: Path) -> list[Row]:
    found = read_lines(folder / "natural_instructions" / "natural_instructions_42tasks.jsonl.gz")
    return [row(r["input"], label=r["task"]) for r in found]


def p3_t0(folder: Path) -> list[Row]:
    return [row(r["prompt"], r["completion"], r["template"]) for r in read_lines(folder / "p3_t0" / "p3_t0.jsonl.gz")]


def mmlu(folder: Path) -> list[Row]:
    rows = []
    for path in sorted((folder / "mmlu" / "test").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            rows += [row("\n".join(cells[:5]), label=path.stem) for cells in list(csv.reader(lines))[1:]]
    return rows


def bbh(folder: Path) -> list[Row]:
    rows = []
    for path in sorted((folder / "bbh" / "bbh").glob("*.json")):
        examples = json.loads(path.read_text("utf-8"))["examples"]
        rows += [row(r["input"], r["target"], path.stem) for r in examples]
    return rows


def xquad_zh(folder: Path) -> list[Row]:
    rows = []
    for article in json.loads((folder / "xquad" / "xquad.zh.json").read_text("utf-8"))["data"]:
        for part in article["paragraphs"]:
            asked = [(qa["question"], qa["answers"][0]["text"]) for qa in part["qas"]]
            rows += [row(f"{part['context']}\n{question}", answer, article["title"]) for question, answer in asked]
    return rows


PUBLIC: dict[str, Callable[[Path], list[Row]]] = {
    reader.__name__: reader
    for reader in (
        gsm8k,
        newsgroups20,
        natural_instructions,
        natural_instructions_inputs,
        p3_t0,
        mmlu,
        bbh,
        xquad_zh,
    )
}
