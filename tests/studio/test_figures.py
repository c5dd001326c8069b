"""Figures show the numbers they were given, name chance, and stay readable where there is much to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydralora.errors import UserError
from hydralora.results import Context, Heads
from studio.figures.base import MARGIN, Figure
from studio.figures.curves import CURVES, curve, gate_curves
from studio.figures.gates import gate_drift, gate_heatmap, group_heatmap, muted_groups, muted_layers
from studio.figures.heads import comparison_by_layer, head_similarity, matrix_map, similarity_by_layer
from studio.figures.look import Look
from studio.figures.views import NothingToShow, Query, analysis_figure
from studio.pages.run.experts import expert_cards
from studio.pages.run.heads import nearest
from tests.studio.stored import (
    LAYERS,
    compare_result,
    experts_result,
    group_result,
    head_figures,
    map_result,
    routing_result,
    weights_result,
)

SEVEN_B = [
    f"model.layers.{i}.{part}"
    for i in range(32)
    for part in (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    )
]


def drawn(figure: Figure) -> Any:
    return json.loads(figure.to_json())["figure"]["data"]


def test_a_large_model_is_drawn_as_kinds_by_blocks_with_every_number_in_its_place() -> None:
    routing = routing_result(4, SEVEN_B)
    figure = gate_heatmap(routing)
    (grid,) = drawn(figure)
    assert len(grid["z"]) == 7 * 4 and len(grid["x"]) == 32
    row = grid["y"].index("down E3")
    place, expert = grid["customdata"][row][5]
    assert (SEVEN_B[place], expert) == ("model.layers.5.mlp.down_proj", 2)
    assert grid["z"][row][5] == pytest.approx(routing.mean[place][2], abs=1e-4)
    assert len(figure.to_json()) < 100_000


def test_a_group_cell_carries_its_group_and_expert() -> None:
    (grid,) = drawn(group_heatmap(group_result(), "cluster"))
    assert grid["customdata"][1][0] == [1, 0]


def test_drift_of_the_gates_is_half_the_sum_of_changes() -> None:
    gates = [{"layers.0.q": [0.5, 0.5]}, {"layers.0.q": [0.8, 0.2]}]
    (grid,) = drawn(gate_drift([1, 6], gates))
    assert grid["z"][0] == [0.0, pytest.approx(0.3)] and grid["x"] == ["1", "6"]


def test_cells_without_a_number_stay_empty() -> None:
    layers = [head_figures(LAYERS[0], 0), head_figures(LAYERS[1], 1, kind="down_proj")]
    (grid,) = drawn(similarity_by_layer(layers))
    assert grid["z"] == [[0.25, None], [None, 0.25]]


@pytest.mark.parametrize(
    "what, level", [("update_cosine", "0.30"), ("head_cosine", "0.30"), ("overlap", "0.40"), ("cka", "0.40")]
)
def test_every_similarity_of_heads_stands_beside_its_chance(what: str, level: str) -> None:
    aid = head_similarity(weights_result().layers, 0, what).aid
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
    found = map_result(runs=("run 1", "run 2"))
    assert [trace["name"] for trace in drawn(matrix_map(found))] == ["run 1", "run 2"]
    assert [trace["name"] for trace in drawn(matrix_map(map_result()))] == ["E1", "E2"]


def test_runs_are_shown_layer_by_layer_beside_chance() -> None:
    names = [trace["name"] for trace in drawn(comparison_by_layer(compare_result()))]
    assert names == ["A", "A chance", "B", "B chance", "BA", "BA chance"]


def test_a_stored_step_is_drawn_from_its_own_file(tmp_path: Path) -> None:
    layers = [head_figures(name, index, update_norm=[0.5, 0.5]) for index, name in enumerate(LAYERS)]
    Heads(layers=layers, sentence="").write(tmp_path, step=0)
    weights_result().write(tmp_path)
    marks = drawn(analysis_figure(tmp_path, "weights", "norms", Query(step=0)))
    assert marks[1]["y"] == [0.5, 0.5] and drawn(analysis_figure(tmp_path, "weights", "norms", Query()))[1]["y"] == [
        2.0,
        2.0,
    ]


def test_similarity_of_one_kind_is_read_from_the_stored_distances(tmp_path: Path) -> None:
    map_result().write(tmp_path)
    np.save(tmp_path / "distances.npy", np.full((4, 4), 0.75) - 0.75 * np.eye(4))
    (grid,) = drawn(analysis_figure(tmp_path, "map", "similarity", Query(kind="up_proj")))
    assert grid["z"][0] == [1.0, 0.25, 0.25, 0.25] and grid["x"][1] == "L0 E2"


def test_a_grouping_that_was_not_measured_is_said(tmp_path: Path) -> None:
    experts_result().write(tmp_path)
    compare_result().write(tmp_path)
    with pytest.raises(NothingToShow, match="no label column"):
        analysis_figure(tmp_path, "experts", "groups", Query(group="label"))
    with pytest.raises(UserError, match="no part called 'C'"):
        analysis_figure(tmp_path, "compare", "runs", Query(part="C"))


def test_hostile_text_on_a_card_is_shown_as_text() -> None:
    context = Context(gate=0.9, text="<img src=x onerror=alert(1)>", before="<script>", after="${1}")
    shown = str(expert_cards(experts_result(context=context), 1))
    assert "<img" not in shown and "<script" not in shown and "&lt;img" in shown
    assert "Serves C1, quiet elsewhere." in shown and "<b>+0.20</b> loss without it ± 0.01" in shown


@pytest.mark.parametrize(
    "steps, share, at", [([0, 50, 100], 1.0, 2), ([0, 50, 100], 0.45, 1), ([0, 50, 100], 0.0, 0), ([7], 0.3, 0)]
)
def test_the_slider_finds_the_nearest_stored_step(steps: list[int], share: float, at: int) -> None:
    assert nearest(steps, share) == at


def test_a_smoothed_curve_has_its_own_values_faint_behind_it() -> None:
    values = {"tokens per second": [1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0]}
    found = curve(CURVES["speed"], list(range(10)), values, Look(smooth=0.3))
    raw, line = drawn(found)
    assert raw["y"] == values["tokens per second"] and raw["opacity"] < 0.5 and raw["hoverinfo"] == "skip"
    assert max(line["y"][2:-2]) - min(line["y"][2:-2]) < 0.5 and "Smoothed over 30% of the steps" in found.aid
    assert len(drawn(curve(CURVES["speed"], list(range(10)), values, Look()))) == 1
    assert [row[1] for row in found.rows] == values["tokens per second"]


def test_a_log_scale_is_taken_only_where_every_value_is_above_zero() -> None:
    losses = {"training loss": [4.0, 2.0, 0.5], "held-out loss": [None, 3.0, 1.0]}
    layout = curve(CURVES["loss"], [1, 2, 3], losses, Look(log=True)).figure.layout
    low, high = layout.yaxis.range
    assert layout.yaxis.type == "log" and low < np.log10(0.5) and np.log10(4.0) < high
    assert all(low <= note.y <= high for note in layout.annotations)
    shares = curve(CURVES["answers"], [1, 2], {"right": [0.0, 0.5]}, Look(log=True))
    assert shares.figure.layout.yaxis.type is None and "not logarithmic" in shares.aid


def test_names_at_the_ends_of_lines_stay_apart_and_inside_however_many_there_are() -> None:
    for ends in ([0.97, 0.98, 0.99, 1.0], [0.01] * 8, [1 / 64] * 64):
        layout = gate_curves([1, 2], [ends, ends], "all").figure.layout
        low, high = layout.yaxis.range
        px = (layout.height - MARGIN["t"] - MARGIN["b"]) / (high - low)
        places = sorted(note.y for note in layout.annotations if note.text.startswith("<b>"))
        assert low <= places[0] and places[-1] <= high + 1e-9
        assert min(np.diff(places)) * px > 14
