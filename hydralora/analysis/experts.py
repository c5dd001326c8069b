"""What each expert is for, by taking it away: the loss on held-out examples with the expert muted.

Muting multiplies an expert's gate by 0 and leaves the other gates as they are, which equals deleting
its head. Measured per example is the mean loss per answer token (nats); a change is called real when
a sign-flip test over examples says so at ``LEVEL``, shared among the experts, clusters or layers that
are looked at together. Every sentence is put together from these numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hydralora.analysis.contexts import Contexts
from hydralora.analysis.groups import Grouping, read_groups_of
from hydralora.analysis.runs import corpus_of, fitting_examples, load_run, settings_on
from hydralora.analysis.weights import compare_adapter
from hydralora.corpus.batches import padded_batches
from hydralora.corpus.encode import IGNORED
from hydralora.errors import AdapterError
from hydralora.progress import SILENT, Progress
from hydralora.results import Change, Clusters, ExpertCard, Experts, GroupChange, LayerChange
from hydralora.tuner.gates import GateCapture, gate_layers, override_experts

LEVEL = 0.01  # chance of calling a change real that is none, over all that are tested together
FLIPS = 1999  # random sign flips behind a p-value
LAYERS_MUTED = 6  # layers muted one by one for each expert: those where gate times norm is largest
SMALLEST = 0.005  # nats per token; a smaller change is "nothing", however sure
Batches = list[dict[str, torch.Tensor]]


def measure_experts(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    *,
    clusters_folder: Path | None = None,
    max_examples: int = 96,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Experts:
    """Mute every expert, in all layers and in its strongest layers one by one; writes ``experts.json``.

    Raises:
        AdapterError: When the run is unfinished or has no router.
        StoppedError: When asked to stop; nothing is kept.
    """
    progress.report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    layers = gate_layers(model)
    if not layers:
        raise AdapterError("This run has no router, so no expert can be muted. Its matrices can still be compared.")
    corpus = corpus_of(facts, corpus_folder)
    examples, rows = fitting_examples(corpus, tokenizer, settings_on(facts, corpus), max_examples, seed)
    made = list(padded_batches(rows, tokenizer.pad_token_id, batch_size, model.device))
    batches = [batch for _, batch in made]
    experts = max(max(layer.num_experts[name] for name in layer.active_adapters) for layer in layers.values())
    norms = {f.name: f.update_norm for f in compare_adapter(run_folder / "adapter")}
    contexts = Contexts(list(layers), experts, tokenizer)
    base = losses_of(model, batches, contexts)
    plan = choose_mutes(contexts.mean(), norms, list(layers))
    changes: dict[tuple[int, str], np.ndarray] = {}
    for place, (expert, layer) in enumerate(plan):
        where = f"in {layer}" if layer else "everywhere"
        progress.step(0.05 + 0.9 * place / len(plan), f"Muting E{expert + 1} {where}")
        factors: Any = {layer: {expert: 0.0}} if layer else {expert: 0.0}
        with override_experts(model, factors):
            changes[expert, layer] = losses_of(model, batches) - base
    kept = [examples[place] for places, _ in made for place in places]  # as the changes are ordered
    groups = read_groups_of(kept, clusters_folder)
    cards = describe_experts(changes, groups, norms, contexts, _words(clusters_folder), seed)
    result = Experts(
        experts=experts,
        examples=len(kept),
        loss=float(base.mean()),
        layers=list(layers),
        cards=cards,
        sentence=summarise_cards(cards),
        texts={str(i): e.text()[:600] for i, e in kept},
    )
    return result.write(out_folder)


@torch.inference_mode()
def losses_of(model: Any, batches: Batches, contexts: Contexts | None = None) -> np.ndarray:
    """Mean loss per answer token of every example, in nats, ``(examples,)``; gates go to ``contexts``."""
    found = []
    for batch in batches:
        with GateCapture(model, enabled=contexts is not None) as capture:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            if contexts is not None:
                contexts.add(capture.take().float(), batch["input_ids"], batch["attention_mask"])
        labels = batch["labels"][:, 1:]  # (batch, tokens - 1)
        scores = logits[:, :-1].float().transpose(1, 2)  # (batch, vocabulary, tokens - 1)
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
    """p-value of the mean of ``changes`` ``(examples,)`` under random signs of each (two-sided)."""
    if not np.any(changes):
        return 1.0
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, len(changes)))
    higher = int((np.abs(signs @ changes) >= abs(changes.sum()) - 1e-12).sum())
    return (1 + higher) / (1 + FLIPS)


def measure_change(changes: np.ndarray, tests: int, seed: int = 0) -> Change:
    """Mean of ``changes`` ``(examples,)`` with 95 % half-width, p-value, and whether it is real and large enough."""
    mean = float(changes.mean())
    p = sign_flip(changes, seed)
    half = 1.96 * float(changes.std(ddof=1)) / len(changes) ** 0.5 if len(changes) > 1 else None
    real = p <= max(LEVEL / tests, 1 / (1 + FLIPS)) and abs(mean) >= SMALLEST
    return Change(
        change=round(mean, 5),
        half_width=None if half is None else round(half, 5),
        p=round(p, 5),
        real=bool(real),
        examples=len(changes),
    )


def describe_experts(
    changes: dict[tuple[int, str], np.ndarray],
    groups: dict[str, Grouping],
    norms: dict[str, list[float]],
    contexts: Contexts,
    words: dict[int, list[str]],
    seed: int = 0,
) -> list[ExpertCard]:
    """One card per expert: change when muted, by group and layer, favourites, norm, one sentence."""
    mean = contexts.mean()  # (layers, experts)
    cards = []
    for expert in range(mean.shape[1]):
        own = [(layer, found) for (e, layer), found in changes.items() if e == expert and layer]
        by_layer = [
            LayerChange(layer=layer, **measure_change(found, len(own), seed).model_dump()) for layer, found in own
        ]
        by_group = {kind: _by_group(changes[expert, ""], group, seed) for kind, group in groups.items()}
        norm = [values[expert] for values in norms.values() if expert < len(values)]
        card = ExpertCard(
            expert=expert,
            gate=float(mean[:, expert].mean()),
            norm=float(np.mean(norm)) if norm else 0.0,
            whole=measure_change(changes[expert, ""], mean.shape[1], seed),
            groups=by_group,
            layers=sorted(by_layer, key=lambda row: -row.change),
            contexts=contexts.favourites(expert),
            sentence="",
        )
        cards.append(card.model_copy(update={"sentence": say(card, words)}))
    return cards


def _by_group(changes: np.ndarray, groups: Grouping, seed: int) -> list[GroupChange]:
    """The mean of ``changes`` ``(examples,)`` in each group, largest first."""
    found = []
    for place, name in enumerate(groups.names):
        change = measure_change(changes[groups.of == place], len(groups), seed)
        cluster = None if groups.clusters is None else groups.clusters[place]
        found.append(GroupChange(name=name, cluster=cluster, **change.model_dump()))
    return sorted(found, key=lambda row: -row.change)


def say(card: ExpertCard, words: dict[int, list[str]]) -> str:
    """The plain sentence of one card, from its measurements only; labels are named before clusters."""
    whole = card.whole
    kind = next((kind for kind in ("label", "cluster") if kind in card.groups), "part")
    effect = f"muting it changes the loss by {whole.change:+.3f} nats per token"
    if card.norm == 0:
        return "Does nothing yet: its heads are still zero."
    served = [row for row in card.groups.get(kind, []) if row.real and row.change > 0]
    if not whole.real and not served:
        return f"Does nothing yet that can be measured: {effect}, no more than chance."
    if whole.real and whole.change < 0 and not served:
        return f"Does harm here: without it the loss is lower ({effect})."
    if not served:
        return f"Serves the corpus as a whole, no {kind} by itself beyond chance: {effect}."
    return _say_where(kind, card.groups[kind], served, effect, words)


def _say_where(
    kind: str, groups: list[GroupChange], served: list[GroupChange], effect: str, words: dict[int, list[str]]
) -> str:
    """The sentence of an expert that serves some groups, the largest change first."""
    names = ", ".join(_name(row, words) for row in served)
    quiet = [row for row in groups if row not in served]
    largest = served[0].change
    if quiet:
        rest = "quiet elsewhere" if all(row.change < 0.25 * largest for row in quiet) else "elsewhere not shown"
        return f"Serves {names}, {rest}: {effect}, there by {largest:+.3f}."
    least = served[-1]
    if least.change > 0.5 * largest:
        return f"Serves all {kind}s alike: {effect}."
    return (
        f"Serves every {kind}, {_name(served[0], words)} most ({largest:+.3f}) and "
        f"{_name(least, words)} least ({least.change:+.3f}): {effect}."
    )


def _name(row: GroupChange, words: dict[int, list[str]]) -> str:
    """``C2 (miles, km, convert)`` for a cluster whose words are known; a label is never taken for a cluster."""
    known = words.get(row.cluster, [])[:3] if row.cluster is not None else []
    return f"{row.name} ({', '.join(known)})" if known else row.name


def _words(clusters_folder: Path | None) -> dict[int, list[str]]:
    """The words of each cluster by its number, where the corpus has been clustered."""
    if clusters_folder is None or not (clusters_folder / Clusters.FILE).exists():
        return {}
    found = Clusters.read(clusters_folder)
    return dict(zip(found.all_numbers, found.words, strict=True))


def summarise_cards(cards: list[ExpertCard]) -> str:
    """How many experts do something, in one sentence."""
    busy = [f"E{card.expert + 1}" for card in cards if card.is_missed]
    if not busy:
        return "No expert can be missed: muting any one changes the held-out loss by no more than chance."
    return f"Muting changes the loss beyond chance for {len(busy)} of {len(cards)} experts ({', '.join(busy)})."
