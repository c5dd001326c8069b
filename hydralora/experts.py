"""What each expert is for, by taking it away: the loss on held-out examples with the expert muted.

Muting multiplies an expert's gate by 0 and leaves the other gates as they are, which equals deleting
its head. Measured per example is the mean loss per answer token (nats); a change is called real when
a sign-flip test over examples says so at ``LEVEL``, shared among the experts, clusters or layers that
are looked at together. Every sentence is put together from these numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hydralora.checkpoints import write_json
from hydralora.contexts import Contexts
from hydralora.corpus import Corpus, Example
from hydralora.errors import AdapterError, StoppedError
from hydralora.gates import GateCapture, gate_layers, override_experts
from hydralora.prompt import IGNORED, encode_example
from hydralora.routing import choose_examples, load_run, read_groups_of
from hydralora.trainer import Collator
from hydralora.weights import compare_adapter

LEVEL = 0.01  # chance of calling a change real that is none, over all that are tested together
FLIPS = 1999  # random sign flips behind a p-value
LAYERS_MUTED = 6  # layers muted one by one for each expert: those where gate times norm is largest
SMALLEST = 0.005  # nats per token; a smaller change is "nothing", however sure
Row = tuple[int, Example, dict[str, list[int]]]


def measure_experts(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    *,
    clusters_folder: Path | None = None,
    max_examples: int = 96,
    batch_size: int = 16,
    seed: int = 0,
    report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Mute every expert, in all layers and in its strongest layers one by one; writes ``experts.json``.

    Raises:
        AdapterError: When the run is unfinished or has no router.
        StoppedError: When asked to stop; nothing is kept.
    """
    report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    layers = gate_layers(model)
    if not layers:
        raise AdapterError("This run has no router, so no expert can be muted. Its matrices can still be compared.")
    train = facts["config"]["train"]
    corpus = Corpus(corpus_folder)
    ids = choose_examples(corpus, train["held_out_fraction"], max_examples, seed)
    rows = [
        (i, e, encode_example(tokenizer, e, train["max_length"])) for i, e in zip(ids, corpus.take(ids), strict=True)
    ]
    batches = list(_batches([row for row in rows if row[2] is not None], tokenizer, batch_size, model.device))
    if not batches:
        raise AdapterError("No example fits this model. Choose another corpus.")
    experts = max(max(layer.num_experts[name] for name in layer.active_adapters) for layer in layers.values())
    norms = {f.name: f.update_norm for f in compare_adapter(run_folder / "adapter")}
    contexts = Contexts(list(layers), experts, tokenizer)
    base = losses_of(model, batches, contexts)
    plan = choose_mutes(contexts.mean(), norms, list(layers))
    changes: dict[tuple[int, str], np.ndarray] = {}
    for place, (expert, layer) in enumerate(plan):
        if should_stop():
            raise StoppedError("The analysis was stopped; nothing was kept.")
        report(0.05 + 0.9 * place / len(plan), f"Muting E{expert + 1} {'in ' + layer if layer else 'everywhere'}")
        factors: Any = {layer: {expert: 0.0}} if layer else {expert: 0.0}
        with override_experts(model, factors):
            changes[expert, layer] = losses_of(model, batches) - base
    kept = [(i, e) for batch in batches for i, e in batch[1]]
    groups = read_groups_of(kept, clusters_folder)
    cards = describe_experts(changes, groups, norms, contexts, _words(clusters_folder), seed)
    result = {
        "experts": experts, "examples": len(kept), "loss": float(base.mean()), "layers": list(layers),
        "cards": cards, "sentence": summarise_cards(cards),
        "texts": {str(i): e.text()[:600] for i, e in kept},
    }  # fmt: skip
    out_folder.mkdir(parents=True, exist_ok=True)
    write_json(out_folder / "experts.json", result)
    return result


def _batches(
    rows: list[Any], tokenizer: Any, size: int, device: Any
) -> Iterator[tuple[dict[str, torch.Tensor], list[Any]]]:
    """Batches of examples of similar length, with their positions."""
    collate = Collator(tokenizer.pad_token_id)
    rows = sorted(rows, key=lambda row: len(row[2]["input_ids"]))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = {name: value.to(device) for name, value in collate([row[2] for row in part]).items()}
        yield batch, [(i, e) for i, e, _ in part]


@torch.inference_mode()
def losses_of(model: Any, batches: list[Any], contexts: Contexts | None = None) -> np.ndarray:
    """Mean loss per answer token of every example, in nats, ``(examples,)``; gates go to ``contexts``."""
    found = []
    for batch, _ in batches:
        with GateCapture(model, enabled=contexts is not None) as capture:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            if contexts is not None:
                contexts.add(capture.take().float(), batch["input_ids"], batch["attention_mask"])
        labels = batch["labels"][:, 1:]
        scores = logits[:, :-1].float().transpose(1, 2)
        each = functional.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="none")
        found.append((each.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)).double().cpu().numpy())
    return np.concatenate(found)


def choose_mutes(mean: np.ndarray, norms: dict[str, list[float]], layers: list[str]) -> list[tuple[int, str]]:
    """Expert and layer of every mute, "" for all layers: whole experts first, then the strongest layers of each.

    Args:
        mean: Mean gates ``(layers, experts)``; times the norm of a head's update it tells how much
            of the output of a layer an expert can move.
    """
    strength = mean * np.array([norms.get(name, [0.0] * mean.shape[1]) for name in layers])
    plan = [(expert, "") for expert in range(mean.shape[1])]
    for expert in range(mean.shape[1]):
        for layer in np.argsort(-strength[:, expert])[:LAYERS_MUTED]:
            if strength[layer, expert] > 0:
                plan.append((expert, layers[layer]))
    return plan


def sign_flip(changes: np.ndarray, seed: int = 0) -> float:
    """p-value of the mean change under random signs of each example's change (two-sided)."""
    if not np.any(changes):
        return 1.0
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, len(changes)))
    higher = int((np.abs(signs @ changes) >= abs(changes.sum()) - 1e-12).sum())
    return (1 + higher) / (1 + FLIPS)


def measure_change(changes: np.ndarray, tests: int, seed: int = 0) -> dict[str, Any]:
    """Mean change with its 95 % half-width, p-value, and whether it is real and large enough to name."""
    mean = float(changes.mean())
    p = sign_flip(changes, seed)
    half = 1.96 * float(changes.std(ddof=1)) / len(changes) ** 0.5 if len(changes) > 1 else float("inf")
    real = p <= max(LEVEL / tests, 1 / (1 + FLIPS)) and abs(mean) >= SMALLEST
    return {
        "change": round(mean, 5),
        "half_width": round(half, 5),
        "p": round(p, 5),
        "real": bool(real),
        "examples": len(changes),
    }


def describe_experts(
    changes: dict[tuple[int, str], np.ndarray], groups: dict[str, list[str]],
    norms: dict[str, list[float]], contexts: Contexts, words: list[list[str]], seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """One card per expert: change when muted, by group and layer, favourites, norm, one sentence."""
    mean = contexts.mean()
    cards = []
    for expert in range(mean.shape[1]):
        whole = measure_change(changes[expert, ""], mean.shape[1], seed)
        own = [(layer, found) for (e, layer), found in changes.items() if e == expert and layer]
        by_group = {kind: _by_group(changes[expert, ""], labels, seed) for kind, labels in groups.items()}
        norm = [values[expert] for values in norms.values() if expert < len(values)]
        card = {
            "expert": expert, "gate": float(mean[:, expert].mean()), "norm": float(np.mean(norm)) if norm else 0.0,
            "whole": whole, "groups": by_group,
            "layers": sorted(({"layer": layer, **measure_change(found, len(own), seed)} for layer, found in own),
                             key=lambda row: -row["change"]),
            "contexts": contexts.favourites(expert),
        }  # fmt: skip
        cards.append({**card, "sentence": say(card, words)})
    return cards


def _by_group(changes: np.ndarray, labels: list[str], seed: int) -> list[dict[str, Any]]:
    of = np.array(labels)
    names = sorted(set(labels), key=lambda name: (len(name), name))
    found = [{"name": name, **measure_change(changes[of == name], len(names), seed)} for name in names]
    return sorted(found, key=lambda row: -row["change"])


def say(card: dict[str, Any], words: list[list[str]]) -> str:
    """The plain sentence of one card, from its measurements only; labels are named before clusters."""
    whole = card["whole"]
    kind = next((kind for kind in ("label", "cluster") if kind in card["groups"]), "part")
    groups = card["groups"].get(kind, [])
    effect = f"muting it changes the loss by {whole['change']:+.3f} nats per token"
    if card["norm"] == 0:
        return "Does nothing yet: its heads are still zero."
    served = [row for row in groups if row["real"] and row["change"] > 0]
    if not whole["real"] and not served:
        return f"Does nothing yet that can be measured: {effect}, no more than chance."
    if whole["real"] and whole["change"] < 0 and not served:
        return f"Does harm here: without it the loss is lower ({effect})."
    if not served:
        return f"Serves the corpus as a whole, no {kind} by itself beyond chance: {effect}."
    names = ", ".join(_name(row["name"], words) for row in served)
    quiet = [row for row in groups if row not in served]
    largest = served[0]["change"]
    if quiet:
        rest = "quiet elsewhere" if all(row["change"] < 0.25 * largest for row in quiet) else "elsewhere not shown"
        return f"Serves {names}, {rest}: {effect}, there by {largest:+.3f}."
    least = served[-1]
    if least["change"] > 0.5 * largest:
        return f"Serves all {kind}s alike: {effect}."
    return (f"Serves every {kind}, {_name(served[0]['name'], words)} most ({largest:+.3f}) and "
            f"{_name(least['name'], words)} least ({least['change']:+.3f}): {effect}.")  # fmt: skip


def _name(group: str, words: list[list[str]]) -> str:
    """``C2 (miles, km, convert)`` where the words of a cluster are known."""
    number = int(group[1:]) - 1 if group[:1] == "C" and group[1:].isdigit() else -1
    return f"{group} ({', '.join(words[number][:3])})" if 0 <= number < len(words) else group


def _words(clusters_folder: Path | None) -> list[list[str]]:
    path = clusters_folder / "clusters.json" if clusters_folder else None
    if path is None or not path.exists():
        return []
    found: list[list[str]] = json.loads(path.read_text("utf-8")).get("words", [])
    return found


def summarise_cards(cards: list[dict[str, Any]]) -> str:
    """How many experts do something, in one sentence."""
    real = [
        card["whole"]["real"] or any(row["real"] for rows in card["groups"].values() for row in rows) for card in cards
    ]
    busy = [f"E{card['expert'] + 1}" for card, found in zip(cards, real, strict=True) if found]
    if not busy:
        return "No expert can be missed: muting any one changes the held-out loss by no more than chance."
    return f"Muting changes the loss beyond chance for {len(busy)} of {len(cards)} experts ({', '.join(busy)})."
