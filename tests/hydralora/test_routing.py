"""Means of gates equal those computed by hand; a planted router is found, a random one is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from hydralora import GateCapture, add_adapter
from hydralora.analysis.group_gates import group_gates
from hydralora.analysis.groups import Grouping, groups_of
from hydralora.analysis.routing import (
    TOKEN_CLASSES,
    Sums,
    measure_routing,
    summarise,
    token_class,
)
from hydralora.analysis.runs import choose_examples, load_run
from hydralora.bases.fingerprint import fingerprint
from hydralora.bases.load import load_base
from hydralora.config import TrainConfig, parse_config
from hydralora.corpus.encode import encode_example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.split import split_examples
from hydralora.errors import AdapterError, StoppedError
from hydralora.progress import Progress
from hydralora.results import AdapterFacts, Favourite, Routing
from hydralora.training.train import save_adapter
from hydralora.tuner.gates import gate_layers
from tests.hydralora.conftest import DEVICE, randomise

TARGETS = ["q_proj", "down_proj"]


def keep_run(base_folder: Path, folder: Path, method: str, change: Any) -> Path:
    """A finished run of one step's look whose adapter ``change`` has altered."""
    options = {"target_modules": TARGETS, "r": 4, **({} if method == "lora" else {"num_experts": 3})}
    config = parse_config(
        {
            "base": str(base_folder),
            "method": method,
            "adapter": options,
            "train": {"max_length": 64, "held_out_fraction": 0.2},
        }
    )
    base = load_base(str(base_folder), device=DEVICE)[0]
    facts = AdapterFacts(config=config, base_fingerprint=fingerprint(base).now)
    model = add_adapter(base, method, options)
    change(model)
    save_adapter(model, folder / "adapter", facts)
    return folder


def plant(model: Any, tokenizer: Any) -> None:
    """The first routed layer sends sentences with 'The' to expert 0 and those with 'A' to expert 1."""
    inner = model.get_base_model().model
    layer = inner.layers[0].self_attn.q_proj
    seen = inner.layers[0].input_layernorm(inner.embed_tokens.weight).detach()
    the, a = (seen[tokenizer.encode(text, add_special_tokens=False)].mean(0) for text in ("The is", "A"))
    rows = torch.stack([the - a, a - the, torch.zeros_like(a)])
    layer.hydralora_router["default"].weight.data = 2 * rows


@pytest.fixture(scope="module")
def run(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose routers are random."""
    return keep_run(base_folder, tmp_path_factory.mktemp("run"), "hydralora", randomise)


@pytest.fixture(scope="module")
def routing(run: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Routing:
    return measure_routing(run, easy_corpus, tmp_path_factory.mktemp("routing"))


def by_hand(run: Path, easy_corpus: Path) -> tuple[torch.Tensor, list[list[int]]]:
    """Gates of each example by a forward pass of its own, ``(L, tokens, N)`` joined, and token ids."""
    model, tokenizer, _ = load_run(run)
    gates, tokens = [], []
    for example in Corpus(easy_corpus):
        ids = encode_example(tokenizer, example, 64)["input_ids"]
        with GateCapture(model) as capture, torch.inference_mode():
            model(input_ids=torch.tensor([ids], device=model.device))
            gates.append(capture.take()[:, 0].cpu())
        tokens.append(ids)
    return gates, tokens


def test_mean_gates_equal_those_computed_by_hand(run, routing, easy_corpus):
    gates, tokens = by_hand(run, easy_corpus)
    mean = torch.stack([g.mean(1) for g in gates]).mean(0)
    np.testing.assert_allclose(routing.mean, mean, atol=2e-5)
    assert routing.tokens == sum(map(len, tokens)) and routing.examples == 64
    assert routing.layers == [
        f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.down_proj")
    ]


def test_shown_gates_equal_those_a_forward_hook_computes(run, easy_corpus):
    """softmax(W_g x) from the inputs that a hook sees, against what the capture took; to 1e-6."""
    model, tokenizer, _ = load_run(run)
    ids = torch.tensor(
        [encode_example(tokenizer, next(iter(Corpus(easy_corpus))), 64)["input_ids"]], device=model.device
    )
    layers = gate_layers(model)
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    with GateCapture(model) as capture, torch.inference_mode():
        model(input_ids=ids)
        shown = capture.take()
    for place, (name, layer) in enumerate(layers.items()):
        expected = (seen[name] @ layer.hydralora_router["default"].weight.T).softmax(-1)
        torch.testing.assert_close(shown[place], expected, rtol=0, atol=1e-6)


def test_entropy_and_histogram_equal_those_computed_by_hand(run, routing, easy_corpus):
    flat = torch.cat(by_hand(run, easy_corpus)[0], 1)  # (L, tokens, N)
    entropy = -(flat * flat.log()).sum(-1).mean(1)
    np.testing.assert_allclose(routing.effective_experts, entropy.exp(), atol=1e-3)
    for layer in range(4):
        counts, _ = np.histogram(flat[layer, :, 1].numpy(), bins=20, range=(0, 1))
        np.testing.assert_allclose(routing.histogram[layer][1], counts / flat.shape[1], atol=2e-3)


def test_means_of_groups_equal_those_computed_by_hand(run, routing, easy_corpus):
    gates, _ = by_hand(run, easy_corpus)
    labels = [example.label for example in Corpus(easy_corpus)]
    group = routing.groups["label"]
    for name, found in zip(group.names, group.layer_mean, strict=True):
        own = [g.mean(1) for g, label in zip(gates, labels, strict=True) if label == name]
        np.testing.assert_allclose(found, torch.stack(own).mean(0), atol=2e-5)


def test_means_of_token_classes_equal_those_computed_by_hand(run, routing, easy_corpus, tokenizer):
    gates, tokens = by_hand(run, easy_corpus)
    classes = [token_class(tokenizer.decode([token])) for ids in tokens for token in ids]
    flat = torch.cat(gates, 1).mean(0)  # (tokens, N)
    found = routing.token_classes
    assert set(found.names) == set(classes) and sum(found.counts) == len(classes)
    for name, mean in zip(found.names, found.mean, strict=True):
        own = flat[[place for place, c in enumerate(classes) if c == name]]
        np.testing.assert_allclose(mean, own.mean(0), atol=1e-4)


def test_the_size_of_a_batch_changes_nothing(run, routing, easy_corpus, tmp_path):
    single = measure_routing(run, easy_corpus, tmp_path, batch_size=1)
    np.testing.assert_allclose(single.mean, routing.mean, atol=2e-5)
    assert single.tokens == routing.tokens


def test_the_same_seed_gives_the_same_figures(run, routing, easy_corpus, tmp_path):
    again = measure_routing(run, easy_corpus, tmp_path)
    assert again.model_copy(update={"capture_cost": 0}) == routing.model_copy(update={"capture_cost": 0})


def test_what_is_stored_is_what_was_returned(run, easy_corpus, tmp_path):
    assert measure_routing(run, easy_corpus, tmp_path, max_examples=8) == Routing.read(tmp_path)


def test_cells_show_the_examples_with_the_highest_gates(run, routing, easy_corpus):
    means = torch.stack([g.mean(1) for g in by_hand(run, easy_corpus)[0]])  # (examples, L, N)
    for layer in range(4):
        shown = routing.cells[layer][2]
        assert set(shown) == set(means[:, layer, 2].topk(len(shown)).indices.tolist())
        assert all(str(i) in routing.texts for i in shown)


def clusters_file(folder: Path, clusters: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"cluster": clusters}), folder / "assignments.parquet")
    return folder


def test_a_planted_router_that_follows_the_clusters_is_found(base_folder, easy_corpus, tokenizer, tmp_path):
    run = keep_run(base_folder, tmp_path / "run", "hydralora", lambda model: plant(model, tokenizer))
    clusters = clusters_file(tmp_path / "c", [i % 2 for i in range(64)])
    group = measure_routing(run, easy_corpus, tmp_path / "out", clusters_folder=clusters).groups["cluster"]
    assert group.real and group.p < 0.01 and max(group.r2) == group.r2[0] > 0.5
    even, odd = group.layer_mean
    assert odd[0][0] > even[0][0] and even[0][1] > odd[0][1]
    assert group.names == ["C1", "C2"] and group.sizes == [32, 32]


def test_clusters_that_mean_nothing_are_no_finding(run, easy_corpus, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 3, 64).tolist()
    group = measure_routing(
        run, easy_corpus, tmp_path / "out", clusters_folder=clusters_file(tmp_path / "c", drawn)
    ).groups["cluster"]
    assert not group.real and group.sentence.startswith("Routing weights do not differ between groups")


def planted_gates(strength: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Gates ``(120, 3, 4)``; in layer 0 each of four groups leans to its own expert by ``strength``."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, 120)
    logits = rng.normal(size=(120, 3, 4))
    logits[np.arange(120), 0, group] += strength
    gates = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return gates, [f"group {g}" for g in group]


def grouped_gates(strength: float, seed: int = 0) -> tuple[np.ndarray, Grouping]:
    """The same with the groups as an object."""
    gates, labels = planted_gates(strength, seed)
    return gates, Grouping.of_labels(labels)


def test_clusters_are_shown_in_the_order_of_their_numbers():
    numbers = np.arange(120) % 12
    found = group_gates(planted_gates(0.0)[0], Grouping.of_clusters(numbers))
    assert found.names == [f"C{number + 1}" for number in range(12)]
    for row, cells in enumerate(found.cells):
        assert {numbers[i] for cell in cells for i in cell} == {row}


def test_gates_that_follow_groups_beat_the_permutation_band():
    found = group_gates(*grouped_gates(4.0))
    assert found.real and found.p == pytest.approx(1 / 501)
    assert found.r2[0] > 0.5 > max(found.r2[1:]) and found.nmi[0] > found.nmi_band


def test_a_hundred_random_routers_give_hardly_a_false_finding():
    """The band is a 99 % one, so one of a hundred is expected; four or more would be far too many (p = 0.018)."""
    found = [group_gates(*grouped_gates(0.0, seed), seed=seed) for seed in range(100)]
    assert sum(f.real for f in found) <= 3
    assert max(f.p for f in found) > 0.5 and all(0 <= value <= 1 for f in found for value in f.r2)


def test_mutual_information_equals_that_of_scikit_learn():
    gates, labels = planted_gates(1.0)
    leading = (gates - gates.mean(0)).argmax(-1)
    expected = [normalized_mutual_info_score(labels, leading[:, layer]) for layer in range(3)]
    np.testing.assert_allclose(group_gates(gates, Grouping.of_labels(labels)).nmi, expected, atol=1e-5)


def test_cells_of_groups_show_their_examples_with_the_highest_gates():
    gates, labels = planted_gates(4.0)
    group = group_gates(gates, Grouping.of_labels(labels))
    for row, name in enumerate(group.names):
        members = [i for i, label in enumerate(labels) if label == name]
        best = max(members, key=lambda i: gates[i, :, 1].mean())
        assert group.cells[row][1][0] == best and set(group.cells[row][1]) <= set(members)


def test_variance_share_equals_its_definition():
    gates, labels = planted_gates(1.0)
    _, index = np.unique(labels, return_inverse=True)
    grand = gates.mean(0)
    total = ((gates - grand) ** 2).sum((0, 2))
    between = sum((index == g).sum() * (gates[index == g].mean(0) - grand) ** 2 for g in range(4)).sum(-1)
    np.testing.assert_allclose(group_gates(gates, Grouping.of_labels(labels)).r2, between / total, atol=1e-5)


@pytest.mark.parametrize("labels", [["one"] * 120, [str(i) for i in range(120)]], ids=["one", "all apart"])
def test_groups_that_cannot_be_compared_are_no_finding(labels):
    assert group_gates(planted_gates(4.0)[0], Grouping.of_labels(labels)).real is False


def make_sums(gates: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor | None = None) -> Sums:
    sums = Sums([f"layer {i}" for i in range(gates.shape[0])], gates.shape[-1], 400)
    sums.add(gates, ids, torch.ones_like(ids) if mask is None else mask)
    return sums


def constant(weights: list[float]) -> torch.Tensor:
    """Gates ``(2 layers, 3 examples, 5 tokens, N)`` that never change."""
    return torch.tensor(weights).expand(2, 3, 5, len(weights))


def summary(gates: torch.Tensor, tokenizer: Any, easy_corpus: Path, ids: torch.Tensor | None = None) -> Any:
    ids = torch.full(gates.shape[1:3], 50) if ids is None else ids
    examples = list(enumerate(Corpus(easy_corpus).take(range(gates.shape[1]))))
    return summarise(make_sums(gates, ids), examples, tokenizer, groups_of(examples, None), 0)


def test_padding_counts_for_nothing():
    gates, ids = torch.rand(2, 3, 5, 4).softmax(-1), torch.randint(6, 300, (3, 5))
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    padded = make_sums(gates, ids, mask)
    assert padded.tokens == 9 and padded.token_counts.sum() == 9
    np.testing.assert_allclose(padded.gates[2], gates[:, 2, 0], atol=1e-6)
    np.testing.assert_allclose(padded.gates[0], gates[:, 0, :3].mean(1), atol=1e-6)


def test_an_even_router_is_said_to_hardly_choose(tokenizer, easy_corpus):
    found = summary(constant([0.25] * 4), tokenizer, easy_corpus)
    assert found.effective_experts == [4.0, 4.0] and found.sentence.startswith("The router hardly chooses")
    assert found.dead == found.dominant == []


def test_an_expert_that_speaks_alone_is_dominant_and_the_others_dead(tokenizer, easy_corpus):
    found = summary(constant([0.0, 0.98, 0.02]), tokenizer, easy_corpus)
    assert (found.dominant, found.dead) == ([1], [0, 2])
    assert found.effective_experts[0] == pytest.approx(
        math.exp(-0.98 * math.log(0.98) - 0.02 * math.log(0.02)), abs=1e-3
    )


def test_an_expert_alive_in_one_layer_is_not_dead(tokenizer, easy_corpus):
    gates = constant([0.98, 0.02]).clone()
    gates[1] = torch.tensor([0.5, 0.5])
    assert summary(gates, tokenizer, easy_corpus).dead == []


def test_the_histogram_counts_every_token_once(tokenizer, easy_corpus):
    found = summary(constant([0.0, 0.3, 0.7, 1.0]), tokenizer, easy_corpus)
    assert np.allclose(np.sum(found.histogram, -1), 1.0)
    assert [int(np.argmax(row)) for row in found.histogram[0]] == [0, 6, 14, 19]


def test_a_favourite_token_is_one_its_expert_prefers(tokenizer, easy_corpus):
    ids = torch.tensor([[60, 61, 60, 61, 60]] * 3)
    own = torch.tensor([[0.9, 0.1], [0.2, 0.8]])[(ids == 61).long()]
    found = summary(own.expand(2, 3, 5, 2), tokenizer, easy_corpus, ids).favourites
    assert found[0][0] == Favourite(text=tokenizer.decode([60]), gate=0.9, count=9)
    assert found[1][0] == Favourite(text=tokenizer.decode([61]), gate=0.8, count=6)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" red", "word start"),
        ("Red", "word start"),
        ("ing", "word piece"),
        ("42", "digits"),
        ("?!", "punctuation"),
        (" \n", "white space"),
        ("", "white space"),
        ("a1", "other"),
        ("é", "word piece"),
        ("<|end|>", "other"),
    ],
)
def test_tokens_are_of_the_kind_they_look_like(text, kind):
    assert token_class(text) == kind and kind in TOKEN_CLASSES


def test_held_out_examples_come_first(easy_corpus):
    corpus, train = Corpus(easy_corpus), TrainConfig(held_out_fraction=0.3)
    held_out = split_examples(corpus, train).held_out
    assert set(choose_examples(corpus, train, len(held_out), 0)) == set(held_out)
    more = choose_examples(corpus, train, len(held_out) + 5, 0)
    assert set(held_out) < set(more) and len(more) == len(held_out) + 5 and more == sorted(more)


def test_a_method_without_router_is_refused_plainly(base_folder, easy_corpus, tmp_path):
    run = keep_run(base_folder, tmp_path / "run", "lora", randomise)
    with pytest.raises(AdapterError, match="This method has no router, so there are no routing weights"):
        measure_routing(run, easy_corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_refused_plainly(easy_corpus, tmp_path):
    with pytest.raises(AdapterError, match="This run has no finished adapter yet"):
        measure_routing(tmp_path, easy_corpus, tmp_path / "out")


def test_a_stop_leaves_nothing(run, easy_corpus, tmp_path):
    with pytest.raises(StoppedError):
        measure_routing(run, easy_corpus, tmp_path / "out", progress=Progress(should_stop=lambda: True))
    assert not (tmp_path / "out").exists()
