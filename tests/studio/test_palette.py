"""Colours: seen by everybody, on every surface, in light and in dark, and told apart."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from hydralora.results import cluster_name
from studio.figures import palette
from studio.figures.base import heatmap
from studio.figures.curves import CURVES, curve, gate_curves
from studio.figures.look import Look
from studio.figures.palette import CLUSTERS, EXPERTS, SURFACES, TOKENS, Mode, colour_values, resolved, stylesheet
from tests.javascript.node import STATIC, from_module

MODES: tuple[Mode, ...] = ("light", "dark")
STATES = ("ok", "warn", "bad", "busy")
TEXTS = ("ink", "ink2", *STATES, *(f"e{i}-text" for i in range(1, len(EXPERTS) + 1)))
SHAPES = (
    "edge",
    "focus",
    *(f"e{i}" for i in range(1, len(EXPERTS) + 1)),
    *(f"c{i}" for i in range(1, len(CLUSTERS) + 1)),
)


def linear(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def mixed(colour: str, ground: str, share: float) -> str:
    """A colour laid over a ground, as ``color-mix(in srgb, ...)`` does."""
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast, https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_seen_on_every_surface(name: str, mode: Mode) -> None:
    values = colour_values(mode)
    assert min(contrast(values[name], values[surface]) for surface in SURFACES) >= 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_read_on_every_surface(name: str, mode: Mode) -> None:
    values = colour_values(mode)
    assert min(contrast(values[name], values[surface]) for surface in SURFACES) >= 4.5


@pytest.mark.parametrize("mode", MODES)
def test_words_are_read_on_their_own_grounds(mode: Mode) -> None:
    values = colour_values(mode)
    assert contrast(values["onink"], values["ink"]) >= 4.5
    assert contrast(values["ink"], values["bub"]) >= 4.5
    assert contrast(values["ink"], values["heat"]) >= 4.5


@pytest.mark.parametrize("mode", MODES)
def test_a_token_is_read_on_the_tint_of_every_expert(mode: Mode) -> None:
    tints = re.findall(r"--token-tint: (\d+)%", (STATIC / "studio.css").read_text("utf-8"))
    share = int(tints[MODES.index(mode)]) / 100
    values = colour_values(mode)
    for i in range(1, len(EXPERTS) + 1):
        assert contrast(values["ink"], mixed(values[f"e{i}"], values["ground"], share)) >= 7


# Machado, Oliveira and Fernandes 2009, severity 1.0.
SIGHTS = {
    "usual": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
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


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 of two L*a*b* colours (Sharma, Wu and Dalal 2005, https://doi.org/10.1002/col.20070)."""
    mean_c = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    c1, c2 = (float(np.hypot(colour[1] * (1 + g), colour[2])) for colour in (one, other))
    h1, h2 = (float(np.degrees(np.arctan2(colour[2], colour[1] * (1 + g)))) % 360 for colour in (one, other))
    turn = h2 - h1 - 360 * round((h2 - h1) / 360)
    light, chroma, mean_h = (one[0] + other[0]) / 2, (c1 + c2) / 2, (h1 + turn / 2) % 360
    cosines = [np.cos(np.radians(k * mean_h + shift)) for k, shift in ((1, -30), (2, 0), (3, 6), (4, -63))]
    t = 1 + float(np.array([-0.17, 0.24, 0.32, -0.20]) @ cosines)
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    rotation = (
        -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2))))
    )
    parts = (other[0] - one[0]) / s_l, (c2 - c1) / s_c, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / s_h
    return float(np.sqrt(sum(part**2 for part in parts) + rotation * parts[1] * parts[2]))


def test_the_distance_is_that_of_its_authors() -> None:
    assert distance(np.array([50, 2.6772, -79.7751]), np.array([50, 0, -82.7485])) == pytest.approx(2.0425, abs=1e-4)
    assert distance(np.array([60.2574, -34.0099, 36.2677]), np.array([60.4626, -34.1751, 39.4387])) == pytest.approx(
        1.2644, abs=1e-4
    )


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("colours, least", [(EXPERTS, 13.3), (CLUSTERS, 9.5)], ids=["experts", "clusters"])
def test_colours_stay_apart(colours: tuple[tuple[str, str], ...], least: float, mode: Mode, sight: str) -> None:
    place = MODES.index(mode)
    seen = [lab(np.array(SIGHTS[sight]) @ linear(colour[place])) for colour in colours]
    assert min(distance(a, b) for i, a in enumerate(seen) for b in seen[:i]) > least


def test_no_two_experts_and_no_two_clusters_with_a_colour_look_the_same() -> None:
    experts = {(palette.expert_colour(i), palette.expert_shape(i)) for i in range(8)}
    clusters = {(palette.cluster_colour(i), palette.cluster_shape(i)) for i in range(12)}
    assert (len(experts), len(clusters)) == (8, 12)
    assert not {shape for _, shape in experts} & {shape for _, shape in clusters}, "an expert is filled, a cluster open"


def test_no_two_groups_with_a_look_of_their_own_look_the_same() -> None:
    looks = {(palette.group_colour(i), palette.group_dash(i)) for i in range(8)}
    assert len(looks) == len({palette.group_shape(i) for i in range(8)}) == 8
    assert palette.group_colour(8) == "var(--other)" and palette.group_class(8) == "hy-other"


def test_what_is_beyond_the_palette_is_grey_and_keeps_its_name() -> None:
    assert (palette.expert_colour(8), palette.cluster_colour(12)) == ("var(--other)", "var(--other)")
    assert (palette.expert_class(8), palette.cluster_class(12)) == ("hy-other", "hy-other-open")
    assert (palette.expert_name(8), cluster_name(12)) == ("E9", "C13")


def test_the_browser_and_the_pages_name_the_same_classes() -> None:
    drawn = from_module("colours", "given.map(module.expertClass)", list(range(12)))
    assert drawn == [palette.expert_class(i) for i in range(12)]


def test_the_stylesheet_has_a_rule_for_every_class() -> None:
    classes = {palette.expert_class(i) for i in range(9)} | {palette.cluster_class(i) for i in range(13)}
    classes |= {palette.group_class(i) for i in range(9)}
    rules = set(re.findall(r"^\.([\w-]+) \{", stylesheet(), re.MULTILINE))
    assert classes == rules


def test_every_colour_that_is_named_anywhere_exists() -> None:
    given = set(re.findall(r"--([\w-]+):", stylesheet()))
    sheet = (STATIC / "studio.css").read_text("utf-8")
    given |= set(re.findall(r"--([\w-]+):", sheet)) | {"font", "font-mono", "share", "hy-top", "low", "high", "at"}
    for path in [*STATIC.rglob("*.js"), STATIC / "studio.css", *STATIC.parent.rglob("*.py")]:
        missing = set(re.findall(r"var\(--([a-z][\w-]*)[,)]", path.read_text("utf-8"))) - given - {"name", "x"}
        assert not missing, path.name


def test_the_stylesheet_writes_no_colour_of_its_own() -> None:
    sheet = re.sub(r"url\([^)]*\)", "", (STATIC / "studio.css").read_text("utf-8"))
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", sheet) == []


def test_a_figure_outside_the_page_has_every_colour_written_out() -> None:
    figures = [
        gate_curves([1, 2], [[0.5, 0.5], [0.6, 0.4]], "all"),
        heatmap([[0.1]], ["a"], ["b"], title="", aid="", name="x", middle=0.5),
        curve(CURVES["speed"], [1, 2], {"tokens per second": [1.0, 0.5]}, Look()),
    ]
    for figure in figures:
        assert "var(--" in figure.to_json()
        assert "var(--" not in figure.drawn().to_json()


def test_a_name_that_is_no_colour_is_refused() -> None:
    with pytest.raises(KeyError):
        resolved({"color": "var(--nosuch)"})


def test_every_token_has_a_value_for_light_and_for_dark() -> None:
    assert all(re.fullmatch(r"#[0-9a-f]{6}", value) for pair in TOKENS.values() for value in pair)
    assert json.loads(json.dumps(colour_values("dark"))) != colour_values("light")
