"""Maps repeat themselves, planted groups are found, and noise is labelled as noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples

from hydralora.analysis import maps
from hydralora.analysis.maps import (
    LAYOUTS,
    check_grouping,
    draw_map,
    find_groups,
    matrix_distances,
    mean_silhouette,
    neighbour_stability,
    place_points,
)
from hydralora.errors import AdapterError, StoppedError
from hydralora.progress import Progress
from tests.hydralora.planted import EXPERTS, LAYERS, random_heads, write_adapter


@pytest.fixture
def by_layer(tmp_path):
    """An adapter whose heads are alike within each layer."""
    return {"run 1": write_adapter(tmp_path / "by_layer", random_heads(0, by_layer=1.0))}


@pytest.fixture
def noise(tmp_path):
    return {"run 1": write_adapter(tmp_path / "noise", random_heads(0))}


def test_distances_are_one_minus_the_absolute_cosine(noise):
    points, distances = matrix_distances(noise, "B")
    heads = random_heads(0)
    flat = [heads[f"model.layers.{point.layer}.self_attn.q_proj"][point.expert].flatten() for point in points]
    expected = [[1 - abs(float(torch.cosine_similarity(a, b, dim=0))) for b in flat] for a in flat]
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert len(points) == LAYERS * EXPERTS


def test_a_map_of_a_has_one_point_for_each_layer(noise):
    points, distances = matrix_distances(noise, "A")
    assert [point.layer for point in points] == list(range(LAYERS)) and distances.shape == (
        LAYERS,
        LAYERS,
    )
    assert {point.expert for point in points} == {-1}


def test_matrices_of_different_shapes_are_at_distance_one(tmp_path):
    heads = {"layers.0.up_proj": torch.randn(4, 10, 2), "layers.0.down_proj": torch.randn(4, 12, 2)}
    points, distances = matrix_distances({"run": write_adapter(tmp_path, heads)}, "B")
    kinds = np.array([point.kind for point in points])
    assert (distances[kinds == "up_proj"][:, kinds == "down_proj"] == 1.0).all()
    assert (distances.diagonal() == 0).all()


def test_a_sign_or_a_scale_makes_no_distance(tmp_path):
    heads = torch.randn(1, 10, 2)
    stack = torch.cat([heads, -heads, 5 * heads, torch.randn(1, 10, 2)])
    _, distances = matrix_distances({"run": write_adapter(tmp_path, {"layers.0.q": stack})}, "B")
    np.testing.assert_allclose(distances[:3, :3], 0.0, atol=1e-6)


def test_untrained_heads_can_be_placed(tmp_path):
    adapter = write_adapter(tmp_path, {f"layers.{i}.q": torch.zeros(3, 10, 2) for i in range(3)})
    found = draw_map({"run": adapter}, "B", "pca")
    assert np.isfinite(found.x).all() and found.sentence.startswith("No structure beyond chance")


def test_too_few_matrices_are_refused(tmp_path):
    adapter = write_adapter(tmp_path, {"layers.0.q": torch.randn(3, 10, 2)})
    with pytest.raises(AdapterError, match="A map needs at least four matrices; there are 3"):
        matrix_distances({"run": adapter}, "B")


def test_unknown_matrices_and_layouts_are_refused(noise):
    with pytest.raises(AdapterError, match="`which` must be one of A, B, got 'C'"):
        draw_map(noise, "C")
    with pytest.raises(AdapterError, match="`layout` must be one of pca, tsne, umap, got 'circle'"):
        draw_map(noise, "B", "circle")


def test_pca_keeps_the_distances_of_flat_points():
    flat = np.random.default_rng(0).normal(size=(12, 2))
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    place = place_points(distances, "pca")
    np.testing.assert_allclose(np.linalg.norm(place[:, None] - place[None], axis=-1), distances, atol=1e-9)


@pytest.mark.parametrize(
    "layout", [pytest.param(layout, marks=pytest.mark.long) if layout == "umap" else layout for layout in LAYOUTS]
)
def test_the_same_seed_gives_the_same_map(layout, by_layer):
    first, second = (draw_map(by_layer, "B", layout, seed=4) for _ in range(2))
    assert first == second and len(first.x) == len(first.y) == LAYERS * EXPERTS
    assert np.isfinite([first.x, first.y]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_smallest_map_can_be_drawn(layout, tmp_path):
    adapter = write_adapter(tmp_path, {"layers.0.q": torch.randn(4, 10, 2)})
    assert len(draw_map({"run": adapter}, "B", layout).x) == 4


@pytest.mark.parametrize("layout", ["pca", "tsne"])
def test_planted_groups_are_found(layout, by_layer):
    found = draw_map(by_layer, "B", layout)
    real = {finding.by for finding in found.findings if finding.real}
    assert real == {"layer"} and found.sentence.startswith("The B matrices group by layer (p = 0.001)")


def test_planted_groups_lie_together_on_the_picture(by_layer):
    found = draw_map(by_layer, "B", "tsne")
    place = np.stack([found.x, found.y], 1)
    gaps = np.linalg.norm(place[:, None] - place[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    layers = np.array([point.layer for point in found.points])
    assert (layers[gaps.argmin(1)] == layers).mean() > 0.9


def test_groups_along_experts_are_found(tmp_path):
    adapter = write_adapter(tmp_path, random_heads(0, by_expert=1.0))
    real = {f.by for f in draw_map({"run": adapter}, "B").findings if f.real}
    assert real == {"expert"}


def test_runs_that_share_a_part_are_told_apart(tmp_path):
    adapters = {}
    for run in (1, 2):
        heads, part = (
            random_heads(run),
            torch.randn(40, 4, generator=torch.Generator().manual_seed(run)),
        )
        adapters[f"run {run}"] = write_adapter(tmp_path / str(run), {k: v + part for k, v in heads.items()})
    assert "run" in {f.by for f in draw_map(adapters, "B", similarity="subspace").findings if f.real}


def test_raw_matrices_of_two_runs_are_not_compared(noise):
    with pytest.raises(AdapterError, match="Raw matrices of two runs cannot be compared"):
        matrix_distances({**noise, "run 2": noise["run 1"]}, "B")


def test_subspace_distances_do_not_change_when_a_head_is_mixed(tmp_path):
    heads = random_heads(0)
    mixed = {name: stack @ (torch.randn(4, 4) + 2 * torch.eye(4)) for name, stack in heads.items()}
    adapters = {"run": write_adapter(tmp_path / "1", heads)}, {"run": write_adapter(tmp_path / "2", mixed)}
    first, second = (matrix_distances(adapter, "B", "subspace")[1] for adapter in adapters)
    np.testing.assert_allclose(first, second, atol=1e-5)
    q = torch.linalg.qr(torch.cat([stack for stack in heads.values()])).Q
    expected = 1 - (q[0].T @ q[5]).square().sum() / 4
    np.testing.assert_allclose(first[0, 5], expected, atol=1e-5)


def test_the_silhouette_equals_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 3))
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    groups = np.r_[rng.integers(0, 4, 29), 4]  # one point alone
    expected = silhouette_samples(distances, groups, metric="precomputed").mean()
    assert mean_silhouette(distances, groups) == pytest.approx(expected, abs=1e-12)


def test_a_map_says_how_far_it_is_and_can_be_stopped(noise):
    said: list[str] = []
    with pytest.raises(StoppedError):
        draw_map(noise, "B", progress=Progress(lambda share, text: said.append(text), lambda: len(said) > 6))
    assert said[0] == "1 of 6 layers read" and said[6] == "Testing groups against shuffled labels"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_of_noise_is_labelled_as_noise(layout, noise):
    found = draw_map(noise, "B", layout)
    assert found.sentence.startswith("No structure beyond chance: the B matrices do not group by layer or expert")
    assert not any(finding.real for finding in found.findings)


def test_a_hundred_random_adapters_give_hardly_a_false_finding(tmp_path, monkeypatch):
    """At a level of 1 % per map one of a hundred is expected; four or more would be far too many (p = 0.018)."""
    monkeypatch.setattr(maps, "PERMUTATIONS", 299)
    false = 0
    for seed in range(100):
        heads = {name: stack for name, stack in list(random_heads(seed).items())[:4]}
        points, distances = matrix_distances({"run": write_adapter(tmp_path / str(seed), heads)}, "B")
        false += any(finding.real for finding in find_groups(points, distances, seed))
    assert false <= 3


def test_p_values_of_noise_are_spread_over_the_whole_range():
    rng = np.random.default_rng(0)
    values = []
    for seed in range(8):
        flat = rng.normal(size=(16, 5))
        distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
        values.append(check_grouping(distances, list("aabbccdd") * 2, ["q"] * 16, seed)[1])
    assert min(values) > 0.01 and max(values) > 0.5


def test_kinds_of_layers_are_no_finding_by_themselves(tmp_path):
    generator = torch.Generator().manual_seed(0)
    heads = {
        f"layers.{i}.{kind}": torch.randn(2, out, 2, generator=generator)
        for i in range(4)
        for kind, out in (("up_proj", 20), ("down_proj", 24))
    }
    found = draw_map({"run": write_adapter(tmp_path, heads)}, "B")
    assert not any(finding.real for finding in found.findings)


def test_the_same_map_keeps_all_neighbours_and_a_shuffled_one_few():
    rng = np.random.default_rng(0)
    place = rng.normal(size=(60, 2))
    assert neighbour_stability([place, place * 3 + 1]) == 1.0
    assert neighbour_stability([place, rng.permutation(place)]) < 0.3


def test_pca_has_no_seed_to_depend_on(by_layer):
    first, second = (draw_map(by_layer, "B", "pca", seed=seed) for seed in (0, 1))
    assert first.x == second.x and first.stability == 1.0
