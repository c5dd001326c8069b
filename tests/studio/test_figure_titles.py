"""The title of a figure is what its numbers show, and nothing that chance could have made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hydralora.results import Experts, GroupChange, LayerChange, TokenClasses
from hydralora.results.maps import DISTANCES, GroupTest
from studio.figures import curve_titles, gate_titles, head_titles
from studio.figures.base import elbow
from studio.figures.curves import CURVES, curve, gate_curves
from studio.figures.gates import gate_drift
from studio.figures.laid_over import Bundle, laid_over
from studio.figures.look import Look
from studio.figures.views import VIEWS, Query, analysis_figure
from tests.studio.stored import (
    LAYERS,
    clustering_result,
    compare_result,
    experts_result,
    group_result,
    head_figures,
    map_result,
    routing_result,
    weights_result,
)

LONGEST = gate_titles.LONGEST


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One result of every kind of analysis."""
    for result in (weights_result(), map_result(), routing_result(), experts_result(), compare_result()):
        result.write(tmp_path)
    np.save(tmp_path / DISTANCES, np.full((4, 4), 0.75) - 0.75 * np.eye(4))
    return tmp_path


@pytest.mark.parametrize("kind", VIEWS)
def test_every_view_of_an_analysis_has_a_short_title(folder: Path, kind: str) -> None:
    for view in VIEWS[kind](folder, Query()):
        title = analysis_figure(folder, kind, view, Query()).title
        assert title and len(title) <= LONGEST and not title.endswith("."), (view, title)


@pytest.mark.parametrize("kind", VIEWS)
def test_every_view_of_an_analysis_explains_its_terms(folder: Path, kind: str) -> None:
    for view in VIEWS[kind](folder, Query()):
        terms = json.loads(analysis_figure(folder, kind, view, Query()).to_json())["terms"]
        assert terms and all(name and meaning.endswith(".") for name, meaning in terms), view


@pytest.mark.parametrize("view", CURVES)
def test_every_curve_of_a_training_has_a_short_title(view: str) -> None:
    values = {words: [0.5, 0.25] for words in CURVES[view].lines.values()}
    title = curve(CURVES[view], [1, 20_000], values, Look()).title
    assert title and len(title) <= LONGEST and not title.endswith("."), title


@pytest.mark.parametrize(
    "held, title",
    [
        ([6.3, 2.0, 0.48], "Held-out loss falls from 6.30 to 0.48, still falling"),
        ([6.3, 0.482, 0.48], "Held-out loss falls from 6.30 to 0.48, level at the end"),
        ([6.3, 0.48, 0.61], "Held-out loss rises again: 0.48 at step 2, 0.61 at the end"),
        ([0.5, 0.6, 0.7], "Held-out loss rises from 0.50 to 0.70"),
        ([0.5, 0.502, 0.501], "Held-out loss stays near 0.50"),
        ([0.05], "Held-out loss is 0.05 at step 1"),
    ],
)
def test_the_title_of_the_loss_says_where_the_held_out_loss_went(held: list[float], title: str) -> None:
    known = {"training loss": [(1, 9.0)], "held-out loss": list(enumerate(held, 1))}
    assert curve_titles.loss(known) == title


def test_without_a_held_out_loss_the_training_loss_is_told_with_its_noise() -> None:
    known = {"training loss": [(1, 2.0), (40, 0.5)], "held-out loss": []}
    assert curve_titles.loss(known) == "Training loss 2.00 at first, 0.50 at step 40; batches vary"


def test_the_other_curves_tell_their_ends() -> None:
    assert curve_titles.answers({"right": [(10, 0.1), (40, 0.5)]}) == "50 % right at step 40, 10 % at step 10"
    assert curve_titles.speed({"tokens per second": [(1, 100.0), (2, 1_200.0), (3, 1_300.0)]}).startswith("About 1,200")
    rates = [(1, 1e-4), (10, 2e-4), (40, 2e-5)]
    assert curve_titles.rate({"learning rate": rates}) == "Highest at step 10 (0.0002), 2e-05 now"
    assert curve_titles.rate({"learning rate": [(1, 2e-4)]}) == "The learning rate stays at 0.0002"
    assert curve_titles.ends({"a": [], "norm": [(1, 2.0), (4, 3.0)]}) == "Norm: 2.00 at step 1, 3.00 at step 4"
    margins = {"trained pairs": [(1, 0.0), (4, 3.0)], "held-out pairs": [(1, 0.0), (3, 0.5), (4, 0.2)]}
    assert curve_titles.margin(margins) == "Margin of held-out pairs was 0.50 at step 3, now 0.20"


def test_groups_whose_curves_end_at_the_same_number_are_drawn_and_told_as_open() -> None:
    same = np.array([1, 2]), np.array([0.9, 0.5])
    found = laid_over([Bundle(name, i, [(name, same)]) for i, name in enumerate("ab")], "held-out loss", "nats", Look())
    assert found.title == "Held-out loss: the ends lie within one standard deviation"


def test_an_expert_leads_where_it_is_beyond_the_noise_of_batches() -> None:
    steps = list(range(12))
    apart = [[0.25 + 0.02 * t, 0.25, 0.25, 0.25 - 0.02 * t] for t in steps]
    assert gate_curves(steps, apart, "all").title == "E1 leads with 47 % at step 11; an equal share is 25 %"
    noisy = [[0.25 + 0.1 * (-1) ** t, 0.25 - 0.1 * (-1) ** t, 0.25, 0.25] for t in steps]
    assert gate_curves(steps, noisy, "all").title == "At step 11 all experts are near an equal share (25 %)"


def test_the_map_of_the_gates_names_its_largest_cell_or_none() -> None:
    assert gate_titles.by_layer(routing_result()) == "L0 up leans most on E2: 67 %; an equal share is 50 %"
    even = routing_result(4).model_copy(update={"mean": [[0.26, 0.25, 0.25, 0.24]] * 2})
    assert gate_titles.by_layer(even) == "Every layer uses all experts nearly alike: 26 % at most, equal is 25 %"
    assert gate_titles.by_layer(even.model_copy(update={"dead": [2]})) == "E3 is hardly used in any layer"
    assert "E1 takes more than 90 %" in gate_titles.by_layer(even.model_copy(update={"dominant": [0]}))


def test_a_group_stands_out_only_where_groups_differ_beyond_chance() -> None:
    found = group_result(names=["units", "colours"])
    assert gate_titles.by_group(found, "label") == "E2 is used most in units: 67 %, elsewhere 33 %"
    assert gate_titles.agreement(found, "label") == "Routing follows the labels: R² 0.50, chance stays below 0.10"
    by_chance = found.model_copy(update={"real": False, "r2": [0.05, 0.05]})
    assert gate_titles.by_group(by_chance, "label") == "Routing differs between labels no more than by chance"
    assert gate_titles.agreement(by_chance, "label").startswith("Routing does not follow the labels: R² 0.05, chance")


def test_a_kind_of_token_stands_out_where_enough_tokens_were_seen() -> None:
    few = TokenClasses(names=["digits", "words"], counts=[9, 900], mean=[[0.75, 0.25], [0.5, 0.5]])
    assert gate_titles.token_classes(few) == "No kind of token stands out beyond chance"
    many = few.model_copy(update={"counts": [900, 900]})
    assert gate_titles.token_classes(many) == "E1 is used most for digits: 75 %, elsewhere 50 %"


def test_layers_with_few_experts_are_told_by_their_number() -> None:
    found = routing_result(4)
    assert gate_titles.effective(found) == "Every layer uses 1.5 of 4 experts"
    uneven = found.model_copy(update={"effective_experts": [3.4, 1.2]})
    assert gate_titles.effective(uneven) == "L1 up uses 1.2 of 4 experts, the fewest; L0 up 3.4"
    sharp = found.model_copy(update={"histogram": [[[0.8, 0.0, 0.0, 0.2]] * 4] * 2})
    assert gate_titles.distribution(sharp, 0) == "L0 up: 80 % of tokens give one expert more than 50 %"


def test_gates_that_only_follow_their_batches_have_not_moved() -> None:
    def gates(*shares: float) -> list[dict[str, list[float]]]:
        return [{LAYERS[0]: [share, 1 - share], LAYERS[1]: [0.5, 0.5]} for share in shares]

    steps = [10, 20, 30, 40, 50]
    assert gate_drift(steps, gates(0.5, 0.55, 0.6, 0.65, 0.7)).title == (
        "L0 up has moved most: 20 % of its shares since step 10"
    )
    assert gate_drift(steps, gates(0.5, 0.7, 0.5, 0.7, 0.6)).title.startswith("No layer has moved beyond the noise")
    assert gate_drift(steps[:2], gates(0.5, 0.9)).title.startswith("Recorded 2 times only")


def muted(changes: dict[str, tuple[float, float]]) -> Experts:
    """Experts with the change of each group; what is above 0.1 in size is beyond chance."""
    found = experts_result()
    rows = [
        [
            GroupChange(name=name, change=values[e], half_width=0.01, p=0.01, real=abs(values[e]) > 0.1, examples=9)
            for name, values in changes.items()
        ]
        for e in range(2)
    ]
    cards = [card.model_copy(update={"groups": {"label": mine}}) for card, mine in zip(found.cards, rows, strict=True)]
    return found.model_copy(update={"cards": cards})


@pytest.mark.parametrize(
    "changes, title",
    [
        ({"unit conversion": (0.0, 0.53), "colours": (0.01, 0.0)}, "E2 serves unit conversion"),
        ({"units": (0.2, 0.0), "colours": (0.0, 0.4)}, "E2 serves colours, E1 serves units"),
        ({"units": (0.2, 0.0), "colours": (0.4, 0.0)}, "E1 is missed most in colours: +0.40 loss without it"),
        ({"units": (0.02, 0.0), "colours": (0.04, 0.0)}, "No expert is missed in any label beyond chance"),
        ({"units": (-0.2, 0.0), "colours": (0.0, 0.0)}, "E1 does harm in units: -0.20 loss without it"),
    ],
)
def test_an_expert_serves_the_one_group_that_misses_it(changes: dict[str, tuple[float, float]], title: str) -> None:
    assert gate_titles.muted_groups(muted(changes), "label") == title


def test_titles_that_name_many_groups_stay_short() -> None:
    names = ["a very long name of a first group of texts", "a very long name of a second group of texts"]
    title = gate_titles.muted_groups(muted({names[0]: (0.3, 0.0), names[1]: (0.0, 0.4)}), "label")
    assert title == "E2 serves a very long name of a secon… and 1 more"


def test_a_layer_is_named_where_an_expert_is_missed_there_beyond_chance() -> None:
    found = experts_result()
    assert gate_titles.muted_layers(found) == "No expert is missed in a single layer beyond chance"
    row = LayerChange(layer=LAYERS[1], change=0.12, half_width=0.01, p=0.01, real=True, examples=9)
    card = found.cards[1].model_copy(update={"layers": [row]})
    missed = found.model_copy(update={"cards": [found.cards[0], card]})
    assert gate_titles.muted_layers(missed) == "E2 is missed most in L1 up: +0.120 loss without it"


def cosine(value: float, experts: int = 3) -> list[list[float]]:
    return (np.full((experts, experts), value) + (1 - value) * np.eye(experts)).tolist()


@pytest.mark.parametrize(
    "values, title",
    [
        (cosine(0.97), "Heads of L0 up are near-copies (cosine 0.97 or more)"),
        (cosine(0.12), "Heads of L0 up are no more alike than random (cosine 0.12 at most)"),
        ([[1, 0.1, 0.6], [0.1, 1, 0.2], [0.6, 0.2, 1]], "E1 and E3 of L0 up are most alike (cosine 0.60, chance 0.30)"),
    ],
)
def test_heads_are_alike_only_beyond_random_ones(values: list[list[float]], title: str) -> None:
    layer = head_figures(LAYERS[0], 0, 3, update_cosine=values)
    assert head_titles.heads(layer, "update_cosine", "cosine") == title


def test_layers_are_counted_in_which_heads_are_alike_beyond_chance() -> None:
    layers = [head_figures(LAYERS[0], 0), head_figures(LAYERS[1], 1, update_cosine=cosine(0.97, 2))]
    title = head_titles.by_layer(layers, "update_cosine", "cosine")
    assert title == "Heads are alike beyond chance in 1 of 2 layers, most in L1 up (0.97)"
    none = head_titles.by_layer(layers[:1], "update_cosine", "cosine")
    assert none == "No layer's heads are more alike than random ones (cosine 0.25 at most)"


def test_a_head_with_a_small_update_has_learnt_least() -> None:
    layers = [head_figures(LAYERS[0], 0, 3, update_norm=[1.0, 0.1, 1.0])]
    assert head_titles.norms(layers) == "E2 has learnt least: its updates have 10 % of the others' size"
    alike = [head_figures(LAYERS[0], 0, 3, update_norm=[1.0, 0.9, 1.1])]
    assert head_titles.norms(alike) == "All heads have learnt: mean norms lie between 0.9 and 1.1"


def test_drift_tells_how_far_each_part_moved() -> None:
    rows = weights_result().drift
    assert head_titles.drift(rows) == "By step 4 training moved A by 40 % and the router by 80 % of its size"
    one = [rows[1].model_copy(update={"a_moved": None, "router_moved": None})]
    assert head_titles.drift(one) == "At step 4 heads are alike by 0.50; chance reaches 0.10"


def test_a_map_names_what_its_matrices_group_by_beyond_chance() -> None:
    assert head_titles.matrix_map(map_result()) == "Heads B lie together by nothing beyond chance"
    tests = [
        GroupTest(by="layer", silhouette=0.4, p=0.001, real=True),
        GroupTest(by="run", silhouette=0, p=1, real=False),
    ]
    found = map_result().model_copy(update={"findings": tests})
    assert head_titles.matrix_map(found) == "Heads B lie together by layer, beyond chance"


def test_runs_that_began_with_the_same_numbers_are_not_said_to_have_found_the_same() -> None:
    found = compare_result()
    assert head_titles.runs(found, "BA") == "What the runs change is alike beyond chance (0.90; chance 0.20)"
    assert head_titles.runs_by_layer(found) == "Alike beyond chance, of 2 layers: read in 2, write in 2, change in 2"
    same = found.parts["A"].model_copy(update={"start": 1.0})
    began = found.model_copy(update={"parts": {**found.parts, "A": same}})
    assert head_titles.runs(began, "A") == "What the runs read began as the same numbers (one seed): 0.90 now"


def test_a_number_of_clusters_is_suggested_only_where_one_stands_out() -> None:
    found = clustering_result([["door"], ["boat"]], [2, 2])
    assert elbow(found).title == "2 clusters are suggested (silhouette 0.75)"
    unclear = found.model_copy(update={"is_clear": False, "low_k": 2, "high_k": 9})
    assert elbow(unclear).title == "No number stands out between 2 and 9; 2 is a start"
