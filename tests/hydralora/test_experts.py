"""Cards of experts: muting equals deleting a head, and a planted expert is described as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hydralora.analysis.contexts import Contexts
from hydralora.analysis.experts import _by_group, choose_mutes, measure_change, measure_experts, say, sign_flip
from hydralora.analysis.groups import Grouping
from hydralora.analysis.runs import load_run
from hydralora.corpus.encode import IGNORED, encode_example
from hydralora.corpus.folder import Corpus
from hydralora.errors import AdapterError, StoppedError
from hydralora.progress import Progress
from hydralora.results import ExpertCard, GroupChange
from tests.hydralora.conftest import randomise
from tests.hydralora.test_routing import clusters_file, keep_run, plant


@pytest.fixture(scope="module")
def run(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random routers and heads, of which the third is zero."""

    def change(model: Any) -> None:
        randomise(model)
        for name, weight in model.named_parameters():
            if "hydralora_B" in name:
                weight.data.view(weight.shape[0], 3, -1)[:, 2] = 0.0

    return keep_run(base_folder, tmp_path_factory.mktemp("run"), "hydralora", change)


@pytest.fixture(scope="module")
def found(run: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    clusters = clusters_file(tmp_path_factory.mktemp("c"), [i % 2 for i in range(64)])
    return measure_experts(run, easy_corpus, tmp_path_factory.mktemp("out"), clusters_folder=clusters)


def loss_by_hand(model: Any, tokenizer: Any, easy_corpus: Path) -> np.ndarray:
    losses = []
    for example in Corpus(easy_corpus):
        row = encode_example(tokenizer, example, 64)
        labels = torch.tensor([row["labels"]], device=model.device)
        with torch.inference_mode():
            losses.append(
                float(model(input_ids=torch.tensor([row["input_ids"]], device=model.device), labels=labels).loss)
            )
        assert (labels != IGNORED).any()
    return np.array(losses)


def test_the_change_equals_that_of_deleting_the_head(run, found, easy_corpus):
    model, tokenizer, _ = load_run(run)
    base = loss_by_hand(model, tokenizer, easy_corpus)
    for name, weight in model.named_parameters():
        if "hydralora_B" in name:
            weight.data.view(weight.shape[0], 3, -1)[:, 1] = 0.0
    without = loss_by_hand(model, tokenizer, easy_corpus)
    assert found.loss == pytest.approx(base.mean(), abs=1e-4)
    assert found.cards[1].whole.change == pytest.approx((without - base).mean(), abs=1e-4)


def test_an_expert_of_zero_heads_does_nothing_yet(found):
    card = found.cards[2]
    assert card.whole.change == 0 and not card.layers
    assert card.sentence == "Does nothing yet: its heads are still zero."
    assert "E3" not in found.sentence


def test_changes_by_cluster_add_up_to_the_whole(found):
    for card in found.cards:
        rows = card.groups["cluster"]
        mean = sum(row.change * row.examples for row in rows) / sum(row.examples for row in rows)
        assert mean == pytest.approx(card.whole.change, abs=1e-4)


def test_every_card_names_its_strongest_layers_and_places(found):
    for card in found.cards[:2]:
        assert {row.layer for row in card.layers} <= set(found.layers) and len(card.layers) == 4
        gates = [place.gate for place in card.contexts]
        assert gates == sorted(gates, reverse=True) and len({place.text for place in card.contexts}) == len(gates)


def test_an_expert_planted_for_one_label_is_said_to_serve_it(base_folder, easy_corpus, tokenizer, tmp_path):
    """Expert 0 of the first layer speaks in sentences with 'The' (label colour); its head alone is not zero."""

    def change(model: Any) -> None:
        plant(model, tokenizer)
        layer = model.get_base_model().model.layers[0].self_attn.q_proj
        layer.hydralora_router["default"].weight.data *= 8  # nearly one expert for a token
        heads = layer.hydralora_B["default"].weight
        heads.data.view(heads.shape[0], 3, -1)[:, 0] = torch.randn(
            heads.shape[0], 4, generator=torch.Generator().manual_seed(0)
        )

    run = keep_run(base_folder, tmp_path / "run", "hydralora", change)
    cards = measure_experts(run, easy_corpus, tmp_path / "out").cards
    changes = {row.name: abs(row.change) for row in cards[0].groups["label"]}
    assert changes["colour"] > 3 * changes["thing"]
    assert cards[1].sentence == cards[2].sentence == "Does nothing yet: its heads are still zero."


def card_of(whole: float, groups: dict[str, float], norm: float = 1.0, kind: str = "cluster") -> ExpertCard:
    noise = np.random.default_rng(0).normal(0, 0.01, 40)
    rows = [
        GroupChange(
            name=name,
            cluster=number if kind == "cluster" else None,
            **measure_change(noise + change, len(groups)).model_dump(),
        )
        for number, (name, change) in enumerate(groups.items())
    ]
    rows.sort(key=lambda row: -row.change)
    whole_ = measure_change(noise + whole, 4)
    return ExpertCard(
        expert=0, gate=0.5, norm=norm, whole=whole_, groups={kind: rows}, layers=[], contexts=[], sentence=""
    )


@pytest.mark.parametrize(
    "card, begins",
    [
        (
            card_of(0.1, {"C1": 0.4, "C2": 0.0, "C3": 0.0}),
            "Serves C1 (km, miles), quiet elsewhere: muting it changes the loss by +0.099",
        ),
        (card_of(0.1, {"C1": 0.1, "C2": 0.1}), "Serves all clusters alike"),
        (
            card_of(0.1, {"C1": 0.3, "C2": 0.1}),
            "Serves every cluster, C1 (km, miles) most (+0.299) and C2 least (+0.099)",
        ),
        (card_of(0.0, {"C1": 0.0, "C2": 0.0}), "Does nothing yet that can be measured"),
        (card_of(-0.1, {"C1": -0.1, "C2": -0.1}), "Does harm here"),
        (card_of(0.1, {"C1": 0.4}, norm=0.0), "Does nothing yet: its heads are still zero"),
        (card_of(0.05, {"C1": 0.004, "C2": 0.004}), "Serves the corpus as a whole, no cluster by itself beyond chance"),
    ],
)
def test_the_sentence_follows_from_the_numbers(card, begins):
    assert say(card, {0: ["km", "miles"]}).startswith(begins)


def test_a_label_that_is_called_like_a_cluster_gets_no_words_of_it():
    levels = card_of(0.1, {"C1": 0.4, "A2": 0.0, "B1": 0.0}, kind="label")
    assert say(levels, {0: ["km", "miles"], 1: ["door"], 2: ["boat"]}).startswith("Serves C1, quiet elsewhere")


def test_a_card_keeps_the_numbers_of_clusters_and_none_of_labels():
    changes = np.linspace(0.0, 1.0, 24)
    by_cluster = _by_group(changes, Grouping.of_clusters(np.arange(24) % 12), 0)
    assert {row.name: row.cluster for row in by_cluster} == {f"C{n + 1}": n for n in range(12)}
    by_label = _by_group(changes, Grouping.of_labels(["C2", "A1"] * 12), 0)
    assert all("cluster" not in row for row in by_label)
    assert next(row for row in by_label if row.name == "A1").change == pytest.approx(changes[1::2].mean(), abs=1e-5)


def test_noise_is_called_real_at_the_stated_level_only():
    draws = np.random.default_rng(0).normal(0, 1, (300, 24))
    assert sum(sign_flip(row, seed) <= 0.01 for seed, row in enumerate(draws)) <= 9  # of 300, where 3 are expected
    assert sign_flip(np.zeros(5)) == 1.0 and sign_flip(np.full(24, 0.1)) == pytest.approx(1 / 2000)


def test_the_layers_muted_are_those_where_gate_times_norm_is_largest():
    mean = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    plan = choose_mutes(mean, {"a": [0.1, 1.0], "b": [1.0, 0.0], "c": [1.0, 1.0]}, ["a", "b", "c"])
    assert plan == [(0, ""), (1, ""), (0, "b"), (0, "c"), (0, "a"), (1, "c"), (1, "a")]


def test_favourite_places_are_those_with_the_highest_gates(tokenizer):
    ids = torch.tensor([[40, 41, 42, 0], [43, 44, 45, 46]])
    gates = torch.full((2, 2, 4, 2), 0.5)
    gates[:, 1, 2] = torch.tensor([0.9, 0.1])
    gates[:, 0, 3] = torch.tensor([1.0, 0.0])  # padding
    contexts = Contexts(["a", "b"], 2, tokenizer)
    contexts.add(gates, ids, torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]))
    first = contexts.favourites(0)[0]
    assert (first.gate, first.text) == (0.9, tokenizer.decode([45]))
    assert (first.before, first.after) == (tokenizer.decode([43, 44]), tokenizer.decode([46]))
    np.testing.assert_allclose(contexts.mean().sum(1), 1.0)


def test_a_run_without_router_is_refused_and_a_stop_leaves_nothing(run, base_folder, easy_corpus, tmp_path):
    plain = keep_run(base_folder, tmp_path / "run", "lora", randomise)
    with pytest.raises(AdapterError, match="This run has no router, so no expert can be muted"):
        measure_experts(plain, easy_corpus, tmp_path / "out")
    with pytest.raises(StoppedError):
        measure_experts(run, easy_corpus, tmp_path / "out", progress=Progress(should_stop=lambda: True))
    assert not (tmp_path / "out").exists()
