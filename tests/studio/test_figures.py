"""Figures show the numbers they were given, name chance, and stay readable where there is much to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydralora.errors import UserError
from studio.figures import Figure
from studio.figures_gates import gate_drift, gate_heatmap, group_heatmap, muted_groups, muted_layers
from studio.figures_heads import comparison_by_layer, head_similarity, matrix_map, similarity_by_layer
from studio.pages.inspect_experts import expert_cards
from studio.pages.inspect_heads import nearest
from studio.palette import (
    CLUSTER_COLOURS,
    EXPERT_COLOURS,
    cluster_colour,
    cluster_shape,
    expert_colour,
    expert_shape,
)
from studio.views import NothingToShow, Query, analysis_figure
from tests.studio.stored import compare_result, experts_result, group_result, map_result, routing_result, weights_result

SEVEN_B = [f"model.layers.{i}.{part}" for i in range(32)
           for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")]  # fmt: skip


def drawn(figure: Figure) -> Any:
    return json.loads(figure.to_json())["figure"]["data"]


def write(folder: Path, **results: dict[str, Any]) -> Path:
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result), "utf-8")
    return folder


def test_a_large_model_is_drawn_as_kinds_by_blocks_with_every_number_in_its_place() -> None:
    routing = routing_result(4, SEVEN_B)
    figure = gate_heatmap(routing)
    (grid,) = drawn(figure)
    assert len(grid["z"]) == 7 * 4 and len(grid["x"]) == 32
    row = grid["y"].index("down E3")
    place, expert = grid["customdata"][row][5]
    assert (SEVEN_B[place], expert) == ("model.layers.5.mlp.down_proj", 2)
    assert grid["z"][row][5] == pytest.approx(routing["mean"][place][2], abs=1e-4)
    assert len(figure.to_json()) < 100_000


def test_a_group_cell_carries_its_group_and_expert() -> None:
    (grid,) = drawn(group_heatmap(group_result(), "cluster"))
    assert grid["customdata"][1][0] == [1, 0]


def test_drift_of_the_gates_is_half_the_sum_of_changes() -> None:
    gates = [{"layers.0.q": [0.5, 0.5]}, {"layers.0.q": [0.8, 0.2]}]
    (grid,) = drawn(gate_drift([1, 6], gates))
    assert grid["z"][0] == [0.0, pytest.approx(0.3)] and grid["x"] == ["1", "6"]


def test_cells_without_a_number_stay_empty() -> None:
    layers = weights_result()["layers"]
    layers[1]["kind"] = "down_proj"
    (grid,) = drawn(similarity_by_layer(layers))
    assert grid["z"] == [[0.25, None], [None, 0.25]]


@pytest.mark.parametrize(
    "what, level", [("update_cosine", "0.30"), ("head_cosine", "0.30"), ("overlap", "0.40"), ("cka", "0.40")]
)
def test_every_likeness_of_heads_stands_beside_its_chance(what: str, level: str) -> None:
    aid = head_similarity(weights_result()["layers"], 0, what).aid
    assert f"stay below {level} in 99 of 100 draws" in aid


def test_muted_experts_are_shown_as_measured() -> None:
    found = experts_result()
    (grid,) = drawn(muted_groups(found, "cluster"))
    assert (
        grid["z"] == [[0.5, 0.0], [0.0, 0.5]] and "2 of 4 cells are beyond chance" in muted_groups(found, "cluster").aid
    )
    marks = drawn(muted_layers(found))
    assert [mark["name"] for mark in marks] == ["E1", "E2"] and marks[0]["error_y"]["array"] == [0.01, 0.01]


def test_a_map_of_several_runs_is_coloured_by_run() -> None:
    found = map_result()
    for point in found["points"][2:]:
        point["run"] = "run 2"
    assert [trace["name"] for trace in drawn(matrix_map(found))] == ["run 1", "run 2"]
    assert [trace["name"] for trace in drawn(matrix_map(map_result()))] == ["E1", "E2"]


def test_runs_are_shown_layer_by_layer_beside_chance() -> None:
    names = [trace["name"] for trace in drawn(comparison_by_layer(compare_result()))]
    assert names == ["A", "A chance", "B", "B chance", "BA", "BA chance"]


def test_a_stored_step_is_drawn_from_its_own_file(tmp_path: Path) -> None:
    early = weights_result()
    for layer in early["layers"]:
        layer["update_norm"] = [0.5, 0.5]
    write(tmp_path, weights=weights_result(), **{"weights-0": early})
    marks = drawn(analysis_figure(tmp_path, "weights", "norms", Query(step=0)))
    assert marks[1]["y"] == [0.5, 0.5] and drawn(analysis_figure(tmp_path, "weights", "norms", Query()))[1]["y"] == [
        2.0,
        2.0,
    ]


def test_likeness_of_one_kind_is_read_from_the_stored_distances(tmp_path: Path) -> None:
    write(tmp_path, map=map_result())
    np.save(tmp_path / "distances.npy", np.full((4, 4), 0.75) - 0.75 * np.eye(4))
    (grid,) = drawn(analysis_figure(tmp_path, "map", "likeness", Query(kind="up_proj")))
    assert grid["z"][0] == [1.0, 0.25, 0.25, 0.25] and grid["x"][1] == "L0 E2"


def test_a_grouping_that_was_not_measured_is_said(tmp_path: Path) -> None:
    write(tmp_path, experts=experts_result(), compare=compare_result())
    with pytest.raises(NothingToShow, match="no label column"):
        analysis_figure(tmp_path, "experts", "groups", Query(group="label"))
    with pytest.raises(UserError, match="no part called 'C'"):
        analysis_figure(tmp_path, "compare", "runs", Query(part="C"))


def test_hostile_text_on_a_card_is_shown_as_text() -> None:
    found = experts_result()
    found["cards"][0]["contexts"][0] = {
        "gate": 0.9,
        "text": "<img src=x onerror=alert(1)>",
        "before": "<script>",
        "after": "${1}",
    }
    shown = str(expert_cards(found))
    assert "<img" not in shown and "<script" not in shown and "&lt;img" in shown
    assert "Serves C1, quiet elsewhere." in shown and "+0.2000 ± 0.0100" in shown


@pytest.mark.parametrize(
    "steps, share, at", [([0, 50, 100], 1.0, 2), ([0, 50, 100], 0.45, 1), ([0, 50, 100], 0.0, 0), ([7], 0.3, 0)]
)
def test_the_slider_finds_the_nearest_stored_step(steps: list[int], share: float, at: int) -> None:
    assert nearest(steps, share) == at


def test_no_two_experts_and_no_two_clusters_look_the_same() -> None:
    assert len({(expert_colour(i), expert_shape(i)) for i in range(64)}) == 64
    assert len({(cluster_colour(i), cluster_shape(i)) for i in range(64)}) == 64


def luminance(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes 2009, severity 1.0.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65 of linear RGB."""
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    x, y, z = matrix @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("palette, least", [(EXPERT_COLOURS, 15), (CLUSTER_COLOURS, 13)], ids=["experts", "clusters"])
def test_colours_stay_apart_under_colour_blindness(palette: tuple[str, ...], least: float, blindness: str) -> None:
    seen = [lab(np.array(BLINDNESS[blindness]) @ luminance(colour)) for colour in palette]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(gaps) > least  # CIE 1976 colour difference; 2.3 is just visible
