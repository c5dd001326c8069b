"""How the experts of an adapter are used over a corpus: measured in one pass, tested against chance.

Gate weights are averaged over the tokens of each example, giving ``G`` ``(examples, layers,
experts)``; everything shown is drawn from ``G`` and from per-token sums, and every claim that
experts follow clusters is compared with shuffled cluster labels.
"""

from __future__ import annotations

import string
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hydralora.analysis.group_gates import SHOWN, group_gates
from hydralora.analysis.groups import Grouping, read_groups_of
from hydralora.analysis.runs import corpus_of, fitting_examples, load_run, settings_on
from hydralora.corpus.batches import Encoded, padded_batches
from hydralora.corpus.tasks import Placed
from hydralora.errors import AdapterError
from hydralora.progress import SILENT, Progress
from hydralora.results import Favourite, GroupGates, Routing, TokenClasses
from hydralora.tuner.gates import GateCapture

TIMED_BATCHES = 4  # are read without capturing gates too
BINS = 20  # of the histograms of gate weights, over 0..1
TOKEN_CLASSES = ("word start", "word piece", "digits", "punctuation", "white space", "other")
MIN_COUNT = 4  # a token must be seen this often to be called a favourite
FAVOURITES = 12
DEAD_SHARE = 0.25  # of the uniform share 1/N: below it in every layer an expert is dead
DOMINANT = 0.9


@dataclass
class Sums:
    """Running sums over tokens, on the CPU as float64; ``L`` layers, ``N`` experts, ``V`` tokens."""

    layers: list[str]
    experts: int
    vocabulary: int
    tokens: int = 0
    places: list[int] = field(default_factory=list)  # of the examples, in the order in which they were added
    gates: list[np.ndarray] = field(default_factory=list)  # per example (L, N), in the same order

    def __post_init__(self) -> None:
        shape = (len(self.layers), self.experts)
        self.entropy = np.zeros(len(self.layers))  # (L,), nats
        self.histogram = np.zeros((*shape, BINS))  # (L, N, BINS)
        self.token_gates = np.zeros((self.vocabulary, self.experts))  # (V, N)
        self.token_counts = np.zeros(self.vocabulary)  # (V,)

    def add(self, gates: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, places: list[int] | None = None) -> None:
        """Add a batch: gates ``(L, batch, tokens, N)``, ids and mask ``(batch, tokens)``.

        Args:
            places: Of the examples among all; the next ones where left out.
        """
        self.places.extend(range(len(self.places), len(self.places) + len(ids)) if places is None else places)
        weight = mask.to(gates)  # (batch, tokens)
        per_example = (gates * weight[None, :, :, None]).sum(2) / weight.sum(1)[None, :, None]  # (L, batch, N)
        self.gates.extend(per_example.permute(1, 0, 2).cpu().numpy().astype(np.float64))
        flat = gates[:, mask.bool()]  # (L, real tokens, N)
        entropy = -(flat * flat.clamp(min=1e-12).log()).sum(-1)  # (L, real tokens)
        self.entropy += entropy.sum(1).double().cpu().numpy()
        self.tokens += flat.shape[1]
        bins = (flat * BINS).long().clamp(0, BINS - 1)
        counts = torch.nn.functional.one_hot(bins, BINS).sum(1)  # (L, N, BINS)
        self.histogram += counts.cpu().numpy()
        real = ids[mask.bool()].cpu().numpy()
        np.add.at(self.token_gates, real, flat.mean(0).double().cpu().numpy())
        np.add.at(self.token_counts, real, 1)

    def by_example(self) -> np.ndarray:
        """Mean gates of every example, ``(examples, L, N)``, in the order of their places."""
        return np.stack([self.gates[i] for i in np.argsort(self.places)])


def measure_routing(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    *,
    clusters_folder: Path | None = None,
    max_examples: int = 400,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Routing:
    """Run the adapter over examples of the corpus and write ``routing.json`` to ``out_folder``.

    Held-out examples come first, then training ones, up to ``max_examples``.

    Raises:
        AdapterError: When the run is unfinished or its method has no router.
        StoppedError: When asked to stop; nothing is kept.
    """
    progress.report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    if facts.config.adapter.combined_by == "hard":
        raise AdapterError(
            "The heads of this run belong to tasks and no router chooses between them, so there are no gate "
            "weights to measure. Its A and B matrices can still be compared."
        )
    corpus = corpus_of(facts, corpus_folder)
    examples, rows = fitting_examples(corpus, tokenizer, settings_on(facts, corpus), max_examples, seed)
    sums: Sums | None = None
    seconds = {"with": 0.0, "without": 0.0}
    for places, batch, gates, layers in _passes(model, tokenizer, rows, batch_size, seconds):
        progress.check()
        sums = sums or Sums(layers, gates.shape[-1], len(tokenizer))
        sums.add(gates, batch["input_ids"], batch["attention_mask"], places)
        progress.report(0.9 * len(sums.gates) / len(rows), f"{len(sums.gates):,} examples read")
    assert sums is not None  # there are rows
    result = summarise(sums, examples, tokenizer, read_groups_of(examples, clusters_folder), seed)
    cost = seconds["with"] / seconds["without"] - 1 if seconds["without"] else None
    progress.report(1.0, "Writing")
    return result.model_copy(update={"capture_cost": cost}).write(out_folder)


def _passes(
    model: Any, tokenizer: Any, rows: list[Encoded], batch_size: int, seconds: dict[str, float]
) -> Iterator[tuple[list[int], dict[str, torch.Tensor], torch.Tensor, list[str]]]:
    """Places, batch, gates ``(L, batch, tokens, N)`` and names of the layers, batch by batch."""
    for number, (places, batch) in enumerate(padded_batches(rows, tokenizer.pad_token_id, batch_size, model.device)):
        is_timed = 0 < number <= TIMED_BATCHES  # also without, to state the cost
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        with torch.inference_mode():
            if is_timed:
                began = time.perf_counter()
                model(**inputs)
                seconds["without"] += time.perf_counter() - began
            began = time.perf_counter()
            with GateCapture(model) as capture:
                if not capture.names:
                    raise AdapterError(
                        "This method has no router, so there are no routing weights. Its A and B "
                        "matrices can still be compared."
                    )
                model(**inputs)
                gates = capture.take().float()
            if is_timed:
                seconds["with"] += time.perf_counter() - began
        yield places, batch, gates, list(capture.names)


def summarise(sums: Sums, examples: Placed, tokenizer: Any, groups: dict[str, Grouping], seed: int) -> Routing:
    """Everything the pages show, from the sums of one pass; ``groups`` are those of the examples."""
    gates = sums.by_example()  # (examples, L, N)
    mean = gates.mean(0)  # (L, N)
    ids = [i for i, _ in examples]
    effective = np.exp(sums.entropy / sums.tokens)  # (L,)
    return Routing(
        layers=sums.layers,
        experts=sums.experts,
        tokens=sums.tokens,
        examples=len(ids),
        mean=mean.round(5).tolist(),
        effective_experts=effective.round(4).tolist(),
        histogram=(sums.histogram / sums.tokens).round(5).tolist(),
        dead=[int(e) for e in np.flatnonzero((mean < DEAD_SHARE / sums.experts).all(0))],
        dominant=[int(e) for e in np.flatnonzero(mean.mean(0) > DOMINANT)],
        groups={name: _with_ids(group_gates(gates, group, seed), ids) for name, group in groups.items()},
        token_classes=_token_classes(sums, tokenizer),
        favourites=_favourites(sums, tokenizer),
        cells=_cells(gates, ids),
        texts={str(i): e.text()[:600] for i, e in examples},
        sentence=_sentence(mean, effective),
    )


def _with_ids(group: GroupGates, ids: list[int]) -> GroupGates:
    """The same with positions in the corpus in place of places among the examples."""
    return group.model_copy(update={"cells": [[[ids[i] for i in cell] for cell in row] for row in group.cells]})


def token_class(text: str) -> str:
    """What kind of token a piece of text is, one of ``TOKEN_CLASSES``."""
    body = text.strip()
    if not body:
        return "white space"
    if body.isdigit():
        return "digits"
    if all(character in string.punctuation for character in body):
        return "punctuation"
    if body.isalpha():
        return "word start" if text[:1].isspace() or text[:1].isupper() else "word piece"
    return "other"


def _token_classes(sums: Sums, tokenizer: Any) -> TokenClasses:
    found: dict[str, list[int]] = {name: [] for name in TOKEN_CLASSES}
    for token in np.flatnonzero(sums.token_counts):
        found[token_class(tokenizer.decode([int(token)]))].append(int(token))
    present = {name: ids for name, ids in found.items() if ids}
    means = [sums.token_gates[ids].sum(0) / sums.token_counts[ids].sum() for ids in present.values()]  # (N,) each
    return TokenClasses(
        names=list(present),
        counts=[int(sums.token_counts[ids].sum()) for ids in present.values()],
        mean=[mean.round(5).tolist() for mean in means],
    )


def _favourites(sums: Sums, tokenizer: Any) -> list[list[Favourite]]:
    """Per expert the tokens whose mean gate exceeds the expert's own mean most."""
    overall = sums.token_gates.sum(0) / sums.token_counts.sum()  # (N,)
    seen = np.flatnonzero(sums.token_counts >= MIN_COUNT)
    mean = sums.token_gates[seen] / sums.token_counts[seen, None]  # (seen, N)
    lists = []
    for expert in range(sums.experts):
        order = np.argsort(-(mean[:, expert] - overall[expert]))[:FAVOURITES]
        lists.append(
            [
                Favourite(
                    text=tokenizer.decode([int(seen[i])]),
                    gate=round(float(mean[i, expert]), 4),
                    count=int(sums.token_counts[seen[i]]),
                )
                for i in order
            ]
        )
    return lists


def _cells(gates: np.ndarray, ids: list[int]) -> list[list[list[int]]]:
    """Examples with the highest mean gate of each ``[layer][expert]``."""
    order = np.argsort(-gates, axis=0)[:SHOWN]  # (SHOWN, L, N)
    return [
        [[ids[i] for i in order[:, layer, expert]] for expert in range(gates.shape[2])]
        for layer in range(gates.shape[1])
    ]


def _sentence(mean: np.ndarray, effective: np.ndarray) -> str:
    """How far the router chooses, from mean gates ``(L, N)`` and effective numbers of experts ``(L,)``."""
    experts = mean.shape[1]
    spread = float(effective.mean())
    if spread > 0.97 * experts:
        return (
            f"The router hardly chooses: the effective number of experts is {spread:.2f} of {experts}, "
            "which is close to an equal share for each."
        )
    return f"On average {spread:.2f} of {experts} experts share a token (effective number of experts)."
