"""How the experts of an adapter are used over a corpus: measured in one pass, tested against chance.

Gate weights are averaged over the tokens of each example, giving ``G`` ``(examples, layers,
experts)``; everything shown is drawn from ``G`` and from per-token sums, and every claim that
experts follow clusters is compared with shuffled cluster labels.
"""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from hydralora.adapt import open_adapter
from hydralora.base import load_base, read_adapter_facts
from hydralora.checkpoints import write_json
from hydralora.corpus import Corpus, Example, split_examples
from hydralora.errors import AdapterError, StoppedError
from hydralora.gates import GateCapture
from hydralora.prompt import encode_example
from hydralora.trainer import Collator

BINS = 20  # of the histograms of gate weights, over 0..1
PERMUTATIONS = 500
NMI_PERMUTATIONS = 100  # of every layer
BAND = 0.99  # a value above this share of shuffles is more than chance
TOKEN_CLASSES = ("word start", "word piece", "digits", "punctuation", "white space", "other")
MIN_COUNT = 4  # a token must be seen this often to be called a favourite
FAVOURITES = 12
SHOWN = 6  # examples kept behind each cell
DEAD_SHARE = 0.25  # of the uniform share 1/N: below it in every layer an expert is dead
DOMINANT = 0.9


@dataclass
class Sums:
    """Running sums over tokens, on the CPU as float64; ``L`` layers, ``N`` experts, ``V`` tokens."""

    layers: list[str]
    experts: int
    vocabulary: int
    tokens: int = 0
    gates: list[np.ndarray] = field(default_factory=list)  # per example (L, N)

    def __post_init__(self) -> None:
        shape = (len(self.layers), self.experts)
        self.entropy = np.zeros(len(self.layers))
        self.histogram = np.zeros((*shape, BINS))
        self.token_gates = np.zeros((self.vocabulary, self.experts))
        self.token_counts = np.zeros(self.vocabulary)

    def add(self, gates: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Add a batch: gates ``(L, batch, tokens, N)``, ids and mask ``(batch, tokens)``."""
        weight = mask.to(gates)
        per_example = (gates * weight[None, :, :, None]).sum(2) / weight.sum(1)[None, :, None]
        self.gates.extend(per_example.permute(1, 0, 2).cpu().numpy().astype(np.float64))
        flat = gates[:, mask.bool()]  # (L, real tokens, N)
        entropy = -(flat * flat.clamp(min=1e-12).log()).sum(-1)
        self.entropy += entropy.sum(1).double().cpu().numpy()
        self.tokens += flat.shape[1]
        bins = (flat * BINS).long().clamp(0, BINS - 1)
        counts = torch.nn.functional.one_hot(bins, BINS).sum(1)  # (L, N, BINS)
        self.histogram += counts.cpu().numpy()
        real = ids[mask.bool()].cpu().numpy()
        np.add.at(self.token_gates, real, flat.mean(0).double().cpu().numpy())
        np.add.at(self.token_counts, real, 1)


def load_run(run_folder: Path, adapter: Path | None = None) -> tuple[Any, Any, dict[str, Any]]:
    """Model with its adapter, tokenizer and facts of a finished run or one of its checkpoints."""
    final = run_folder / "adapter"
    facts = read_adapter_facts(final)
    if facts is None:
        raise AdapterError("This run has no finished adapter yet. Wait for it, or resume it.")
    base, tokenizer = load_base(facts["config"]["base"], dtype=facts["config"]["train"]["dtype"])
    return open_adapter(base, adapter or final), tokenizer, facts


def measure_routing(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    *,
    clusters_folder: Path | None = None,
    max_examples: int = 400,
    batch_size: int = 16,
    seed: int = 0,
    report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run the adapter over examples of the corpus and write ``routing.json`` to ``out_folder``.

    Held-out examples come first, then training ones, up to ``max_examples``.

    Raises:
        AdapterError: When the run is unfinished or its method has no router.
        StoppedError: When asked to stop; nothing is kept.
    """
    report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    if facts["config"]["adapter"].get("combine") == "hard":
        raise AdapterError(
            "The heads of this run belong to tasks and no router chooses between them, so there are no gate "
            "weights to measure. Its A and B matrices can still be compared."
        )
    corpus = Corpus(corpus_folder)
    ids = choose_examples(corpus, facts["config"]["train"]["held_out_fraction"], max_examples, seed)
    rows = [(i, e, encode_example(tokenizer, e, facts["config"]["train"]["max_length"]))
            for i, e in zip(ids, corpus.take(ids), strict=True)]  # fmt: skip
    rows = [row for row in rows if row[2] is not None]
    sums: Sums | None = None
    seconds = {"with": 0.0, "without": 0.0}
    for number, (batch, gates, layers) in enumerate(_passes(model, tokenizer, rows, batch_size, seconds)):
        if should_stop():
            raise StoppedError("The analysis was stopped; nothing was kept.")
        sums = sums or Sums(layers, gates.shape[-1], len(tokenizer))
        sums.add(gates, batch["input_ids"], batch["attention_mask"])
        report(min(0.9, (number + 1) * batch_size / len(rows)), f"{len(sums.gates):,} examples read")
    if sums is None:
        raise AdapterError("No example fits this model. Choose another corpus.")
    examples = [(i, e) for i, e, _ in rows]
    result = summarise(sums, examples, tokenizer, _clusters(clusters_folder), seed)
    result["capture_cost"] = seconds["with"] / seconds["without"] - 1 if seconds["without"] else None
    report(1.0, "Writing")
    out_folder.mkdir(parents=True, exist_ok=True)
    write_json(out_folder / "routing.json", result)
    return result


def choose_examples(corpus: Corpus, fraction: float, limit: int, seed: int) -> list[int]:
    """Up to ``limit`` positions: held-out ones first, then a seeded draw of the others."""
    train, held_out = split_examples(corpus, fraction)
    rng = np.random.default_rng(seed)
    drawn = [int(i) for part in (held_out, train) for i in rng.permutation(part)]
    return sorted(drawn[:limit])


def _passes(
    model: Any, tokenizer: Any, rows: list[Any], batch_size: int, seconds: dict[str, float]
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor, list[str]]]:
    collate = Collator(tokenizer.pad_token_id)
    for start in range(0, len(rows), batch_size):
        batch = collate([row[2] for row in rows[start : start + batch_size]])
        batch = {key: value.to(model.device) for key, value in batch.items()}
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        with torch.inference_mode():
            if 0 < start <= 4 * batch_size:  # a few batches also without, to state the cost
                began = time.perf_counter()
                model(**inputs)
                seconds["without"] += time.perf_counter() - began
            began = time.perf_counter()
            with GateCapture(model) as capture:
                if not capture.names:
                    raise AdapterError(
                        "This method has no router, so there are no gate weights. Its A and B "
                        "matrices can still be compared."
                    )
                model(**inputs)
                gates = capture.take().float()
            if 0 < start <= 4 * batch_size:
                seconds["with"] += time.perf_counter() - began
        yield batch, gates, list(capture.names)


def _clusters(folder: Path | None) -> np.ndarray | None:
    """Cluster of every example of the corpus, ``(examples,)``, or None."""
    if folder is None or not (folder / "assignments.parquet").exists():
        return None
    return pq.read_table(folder / "assignments.parquet")["cluster"].to_numpy()


def group_names(examples: list[tuple[int, Example]], clusters: np.ndarray | None) -> dict[str, list[str]]:
    """Name of every example's cluster (``C1``, ...) and label, where there are any."""
    groups = {}
    if clusters is not None:
        groups["cluster"] = [f"C{clusters[i] + 1}" for i, _ in examples]
    if len({e.label for _, e in examples} - {""}) > 1:
        groups["label"] = [e.label for _, e in examples]
    return groups


def read_groups_of(examples: list[tuple[int, Example]], clusters_folder: Path | None) -> dict[str, list[str]]:
    """``group_names`` with the clusters stored in a folder."""
    return group_names(examples, _clusters(clusters_folder))


def summarise(
    sums: Sums, examples: list[tuple[int, Example]], tokenizer: Any, clusters: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Everything the pages show, from the sums of one pass."""
    gates = np.stack(sums.gates)  # (examples, L, N)
    mean = gates.mean(0)  # (L, N)
    ids = [i for i, _ in examples]
    groups = group_names(examples, clusters)
    effective = np.exp(sums.entropy / sums.tokens)
    return {
        "layers": sums.layers, "experts": sums.experts, "tokens": sums.tokens, "examples": len(ids),
        "mean": mean.round(5).tolist(), "effective_experts": effective.round(4).tolist(),
        "histogram": (sums.histogram / sums.tokens).round(5).tolist(),
        "dead": [int(e) for e in np.flatnonzero((mean < DEAD_SHARE / sums.experts).all(0))],
        "dominant": [int(e) for e in np.flatnonzero(mean.mean(0) > DOMINANT)],
        "groups": {name: _with_ids(group_gates(gates, labels, seed), ids) for name, labels in groups.items()},
        "token_classes": _token_classes(sums, tokenizer), "favourites": _favourites(sums, tokenizer),
        "cells": _cells(gates, ids), "texts": {str(i): e.text()[:600] for i, e in examples},
        "sentence": _sentence(mean, effective),
    }  # fmt: skip


def _with_ids(group: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """The same with positions in the corpus in place of places among the examples."""
    cells = [[[ids[i] for i in cell] for cell in row] for row in group.get("cells", [])]
    return {**group, "cells": cells}


def group_gates(gates: np.ndarray, labels: list[str], seed: int = 0) -> dict[str, Any]:
    """Do gate weights differ between groups of examples by more than chance?

    Per layer the share of variance between groups, ``R^2 = SS_between / SS_total`` of the gate
    vectors, and the normalised mutual information of group and leading expert (the one farthest
    above its own mean). Chance: the same after shuffling the labels ``PERMUTATIONS`` times; the
    band is the ``BAND`` quantile of the layer-mean.
    """
    names, index = np.unique(labels, return_inverse=True)
    leading = (gates - gates.mean(0)).argmax(-1)  # (examples, L)
    if len(names) < 2 or len(names) == len(labels):
        return {"names": names.tolist(), "real": False, "sentence": "There is only one group."}
    rng = np.random.default_rng(seed)
    r2 = _variance_share(gates, index, len(names))
    nmi = _mutual_information(index, leading)
    orders = [rng.permutation(index) for _ in range(PERMUTATIONS)]
    shuffles = [_variance_share(gates, order, len(names)).mean() for order in orders]
    nmi_shuffles = np.array([_mutual_information(order, leading) for order in orders[:NMI_PERMUTATIONS]])
    band = float(np.quantile(shuffles, BAND))
    p = (1 + sum(value >= r2.mean() for value in shuffles)) / (1 + PERMUTATIONS)
    real = bool(r2.mean() > band)
    means = np.stack([gates[index == g].mean(0) for g in range(len(names))])  # (groups, L, N)
    over_layers = gates.mean(1)  # (examples, N)
    cells = [[_strongest(over_layers[:, e], np.flatnonzero(index == g)) for e in range(gates.shape[2])]
             for g in range(len(names))]  # fmt: skip
    verdict = (
        f"Gate weights differ between groups by more than chance (R² {r2.mean():.3f}, shuffled labels "
        f"reach {band:.3f}; p = {p:.3f})."
        if real
        else f"Gate weights do not differ between groups by more than chance (R² {r2.mean():.3f}, "
        f"shuffled labels reach {band:.3f})."
    )
    return {
        "names": names.tolist(), "sizes": np.bincount(index).tolist(),
        "cells": cells, "mean": means.mean(1).round(5).tolist(), "layer_mean": means.round(5).tolist(),
        "r2": r2.round(5).tolist(), "band": band, "p": p, "real": real,
        "nmi": np.round(nmi, 5).tolist(), "nmi_band": float(np.quantile(nmi_shuffles, BAND)),
        "sentence": verdict,
    }  # fmt: skip


def _strongest(gates: np.ndarray, members: np.ndarray) -> list[int]:
    """Places (in the order of the examples) of the ``SHOWN`` members with the highest gate."""
    return [int(i) for i in members[np.argsort(-gates[members], kind="stable")[:SHOWN]]]


def _variance_share(gates: np.ndarray, index: np.ndarray, groups: int) -> np.ndarray:
    """``SS_between / SS_total`` per layer, ``(L,)``."""
    centred = gates - gates.mean(0)
    total = (centred**2).sum((0, 2))
    onehot = np.eye(groups)[index]  # (examples, groups)
    sums = (onehot.T @ centred.reshape(len(gates), -1)).reshape(groups, *gates.shape[1:])
    between = (sums**2 / onehot.sum(0)[:, None, None]).sum((0, 2))
    return between / np.maximum(total, 1e-12)


def _mutual_information(index: np.ndarray, leading: np.ndarray) -> np.ndarray:
    """Normalised mutual information ``2 I / (H + H)`` of groups ``(examples,)`` and leading experts ``(examples, L)``."""
    count, layers = leading.shape
    groups, experts = int(index.max()) + 1, int(leading.max()) + 1
    cells = (np.arange(layers) * groups + index[:, None]) * experts + leading
    joint = np.bincount(cells.ravel(), minlength=layers * groups * experts).reshape(layers, groups, experts) / count

    def entropy(shares: np.ndarray) -> np.ndarray:
        return -(shares * np.log(np.where(shares > 0, shares, 1.0))).reshape(layers, -1).sum(1)

    own, other = entropy(joint.sum(2)), entropy(joint.sum(1))
    information = own + other - entropy(joint)
    return np.where(own + other > 1e-12, 2 * information / np.maximum(own + other, 1e-12), 1.0)


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


def _token_classes(sums: Sums, tokenizer: Any) -> dict[str, Any]:
    found: dict[str, list[int]] = {name: [] for name in TOKEN_CLASSES}
    for token in np.flatnonzero(sums.token_counts):
        found[token_class(tokenizer.decode([int(token)]))].append(int(token))
    present = {name: ids for name, ids in found.items() if ids}
    return {
        "names": list(present),
        "counts": [int(sums.token_counts[ids].sum()) for ids in present.values()],
        "mean": [(sums.token_gates[ids].sum(0) / sums.token_counts[ids].sum()).round(5).tolist()
                 for ids in present.values()],
    }  # fmt: skip


def _favourites(sums: Sums, tokenizer: Any) -> list[list[dict[str, Any]]]:
    """Per expert the tokens whose mean gate exceeds the expert's own mean most."""
    overall = sums.token_gates.sum(0) / sums.token_counts.sum()
    seen = np.flatnonzero(sums.token_counts >= MIN_COUNT)
    mean = sums.token_gates[seen] / sums.token_counts[seen, None]
    lists = []
    for expert in range(sums.experts):
        order = np.argsort(-(mean[:, expert] - overall[expert]))[:FAVOURITES]
        lists.append([{"text": tokenizer.decode([int(seen[i])]), "gate": round(float(mean[i, expert]), 4),
                       "count": int(sums.token_counts[seen[i]])} for i in order])  # fmt: skip
    return lists


def _cells(gates: np.ndarray, ids: list[int]) -> list[list[list[int]]]:
    """Examples with the highest mean gate of each ``[layer][expert]``."""
    order = np.argsort(-gates, axis=0)[:SHOWN]  # (SHOWN, L, N)
    return [[[ids[i] for i in order[:, layer, expert]] for expert in range(gates.shape[2])]
            for layer in range(gates.shape[1])]  # fmt: skip


def _sentence(mean: np.ndarray, effective: np.ndarray) -> str:
    experts = mean.shape[1]
    spread = float(effective.mean())
    if spread > 0.97 * experts:
        return (
            f"The router hardly chooses: on average {spread:.2f} of {experts} experts speak at once, "
            "which is close to an equal share for each."
        )
    return f"On average {spread:.2f} of {experts} experts speak at once (effective number, per token)."


def read_routing(folder: Path) -> dict[str, Any]:
    """The stored result of ``measure_routing``."""
    found: dict[str, Any] = json.loads((folder / "routing.json").read_text("utf-8"))
    return found
