"""What narrows a selection, held against the plainest way to compute the same: one example after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydralora.config import TrainConfig
from hydralora.corpus import narrowing
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.clusters.layout import beside, lay_out
from hydralora.corpus.clusters.places import LARGEST, Places, on_map, read_places
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.loop import points_inside
from hydralora.corpus.quality.findings import read_finding
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.query import MOST_CORNERS, Query
from hydralora.errors import CorpusError
from hydralora.results.clusters import ASSIGNMENTS
from tests.hydralora.conftest import write_lines

TEXTS = [
    "100 % of it_all",
    "100 x of itXall",
    'she said "no" \' or 1=1; --',
    "C:\\temp\\n* (a|b)+ [c]{2} ^$ .",
    "中文在这里，没有空格",
    "ÄRGER, Straße und ΣΟΦΟΣ",
    "a\ttab and\nsome lines",
    "a plain line",
]
NEEDLES = [
    "%",
    "_",
    "it_",
    '"no"',
    "' or 1",
    "\\n",
    ".*",
    "(a|b)",
    "[c]{2}",
    "^$",
    "中文",
    "没有空",
    "ärger",
    "STRASSE",
]
NEEDLES += ["straße", "σοφοσ", "\t", "\nsome", "A PLAIN", "zebra", "\0", "\ud800", "\U0001f600", "a" * 500]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Pairs, texts and conversations with those texts in each place, over several batches of the file."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"prompt": f"{i} {text}", "answer": "yes", "label": f"l{i % 3}"} for i, text in enumerate(TEXTS)]
    rows += [{"prompt": "what?", "answer": f"{text} {i}", "label": ""} for i, text in enumerate(TEXTS)]
    rows += [{"prompt": f"filler {i}", "answer": "no", "label": "l1"} for i in range(2_000)]
    rows += rows[:3]
    import_corpus([write_lines(folder / "rows.jsonl", rows)], folder / "corpus")
    return Corpus(folder / "corpus")


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("talks")
    rows = [
        {
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": "first"},
                {"role": "user", "content": "and then?"},
                {"role": "assistant", "content": "done"},
            ]
        }
        for text in TEXTS
    ]
    rows += [{"messages": [{"role": "user", "content": "alone"}, {"role": "assistant", "content": "here"}]}] * 3
    import_corpus([write_lines(folder / "talks.jsonl", rows)], folder / "corpus")
    return Corpus(folder / "corpus")


@pytest.mark.parametrize("needle", NEEDLES, ids=[ascii(needle)[:20] for needle in NEEDLES])
@pytest.mark.parametrize("which", ["corpus", "talks"])
def test_a_search_finds_what_a_look_at_every_text_finds(
    which: str, needle: str, request: pytest.FixtureRequest
) -> None:
    corpus: Corpus = request.getfixturevalue(which)
    sought = re.compile(re.escape(needle), re.IGNORECASE)
    wanted = [
        any(sought.search(part) for part in (e.prompt, e.answer, *(text for _, text in e.history))) for e in corpus
    ]
    assert narrowing.search_texts(corpus, needle).tolist() == wanted


@settings(max_examples=40, deadline=None)
@given(needle=st.text(st.characters(codec="utf-8", exclude_characters="İıſK"), min_size=1, max_size=4))
def test_a_search_finds_no_text_that_does_not_hold_it(corpus: Corpus, needle: str) -> None:
    found = corpus.take(np.flatnonzero(narrowing.search_texts(corpus, needle)).tolist())
    assert all(needle.casefold() in f"{e.prompt}\n{e.answer}".casefold() for e in found)


def test_labels_and_lengths_are_those_of_the_examples(corpus: Corpus) -> None:
    examples = list(corpus)
    assert narrowing.with_labels(corpus, ["l0", "l2"]).tolist() == [e.label in ("l0", "l2") for e in examples]
    assert narrowing.characters(corpus).tolist() == [len(e.prompt) + len(e.answer) for e in examples]
    assert narrowing.between(np.array([0, 5, 9, -1]), 5, None).tolist() == [False, True, True, False]
    assert narrowing.between(np.array([0, 5, 9, -1]), None, 5).tolist() == [True, True, False, False]


def test_flags_and_tokens_are_those_of_the_report(tmp_path: Path) -> None:
    rows = [{"prompt": f"Where is house {i}?", "answer": "There. " * (60 if i == 7 else 2)} for i in range(20)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", [*rows, rows[0]])], tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="No tokens were counted yet"):
        narrowing.in_range_of_tokens(corpus, 1, None)
    assert narrowing.findings_of(corpus.folder) == {}
    check_corpus(corpus.folder, TrainConfig(max_length=64, held_out_fraction=0.0), base="starter")
    found = narrowing.findings_of(corpus.folder)
    assert {kind: places.tolist() for kind, places in found.items()} == {
        kind: read_finding(corpus.folder, kind).tolist() for kind in found
    }
    assert found["cut"].tolist() == [7] == np.flatnonzero(narrowing.in_range_of_tokens(corpus, 65, None)).tolist()
    assert narrowing.in_range_of_tokens(corpus, None, 64).sum() == 20
    with pytest.raises(CorpusError, match="found no 'nonsense'"):
        narrowing.with_flags(found, ["nonsense"], len(corpus))


GERMAN = "Die alte Leiter steht seit vielen Jahren hinter der blauen Tür, und niemand weiß, wem sie gehört."
ENGLISH = "The old ladder has stood behind the blue door for many years, and nobody knows who it belongs to."


def test_rows_of_a_language_are_those_of_the_report_and_short_ones_have_none(tmp_path: Path) -> None:
    texts = [f"{ENGLISH} {i}" for i in range(6)] + [f"{GERMAN} {i}" for i in range(3)] + ["yes", "no"]
    rows = [{"prompt": text, "answer": "ok"} for text in texts]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="Languages were not told yet"):
        narrowing.with_languages(corpus, ["en"])
    report = check_corpus(corpus.folder, TrainConfig())
    told = narrowing.languages(corpus)
    assert told is not None and list(told.counts().items()) == [("en", 6), ("de", 3), ("none", 2)]
    assert told.counts(narrowing.mask_of(np.array([0, 6, 7]), 11)) == {"en": 1, "de": 2, "none": 0}
    assert np.flatnonzero(narrowing.with_languages(corpus, ["de", "none"])).tolist() == [6, 7, 8, 9, 10]
    assert (report.sampled, report.untold, report.languages["de"]) == (9, 2, pytest.approx(1 / 3))
    with pytest.raises(CorpusError, match="no language 'fr'; it found: en, de, none"):
        narrowing.with_languages(corpus, ["fr"])


# The loop

corner = st.tuples(st.integers(-20, 120), st.integers(-20, 120))


def by_hand(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The even-odd rule for one point, edge by edge."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if min(y1, y2) <= y < max(y1, y2) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


@settings(max_examples=150, deadline=None)
@given(corners=st.lists(corner, min_size=3, max_size=12), seed=st.integers(0, 1_000))
def test_a_loop_holds_the_points_that_a_count_of_crossings_holds(corners: list[tuple[int, int]], seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 101, (2, 60)) + 0.25
    assert points_inside(x, y, corners).tolist() == [by_hand(a, b, corners) for a, b in zip(x, y, strict=True)]


def test_a_square_counts_every_one_of_many_points_once() -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(200), np.arange(100)))
    inside = points_inside(x, y, [(-1, -1), (100, -1), (100, 1_000), (-1, 1_000)])
    assert inside.sum() == 100 * 100
    assert not (inside & points_inside(x, y, [(100, -1), (300, -1), (300, 1_000), (100, 1_000)])).any()


def test_a_loop_of_no_area_holds_nothing() -> None:
    x, y = np.arange(50), np.arange(50)
    assert not points_inside(x, y, [(0, 0), (50, 0), (20, 0)]).any()
    assert not points_inside(np.zeros(0), np.zeros(0), [(0, 0), (1, 0), (0, 1)]).any()


# Places


def test_places_keep_their_order_on_the_map_and_reach_its_edges() -> None:
    values = np.array([0.5, -2.0, 3.0, np.nan, 0.25])
    placed = on_map(values)
    assert placed.min() == 0 and placed.max() == LARGEST and placed[0] > placed[4]
    assert on_map(np.full(3, 7.0)).tolist() == [LARGEST // 2] * 3


def test_a_point_takes_five_bytes_and_clusters_beyond_a_byte_are_told_as_the_last() -> None:
    packed = Places(np.array([0, 300]), np.array([1, 65_535]), np.array([2, 3])).packed()
    assert packed == bytes([1, 0, 255, 255, 2, 0, 3, 0, 0, 255])


def test_damaged_files_of_a_clustering_are_named(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    for content in (None, b"PAR1 nonsense"):
        if content:
            (tmp_path / "7" / ASSIGNMENTS).write_bytes(content)
        with pytest.raises(CorpusError, match=r"The files of clustering 7 are gone or damaged\. Cluster the corpus"):
            read_places(tmp_path / "7")
    table = pa.table({"example": [0, 1], "cluster": [0, 1], "x": [0.0, 1.0], "y": [1.0, 0.0]})
    pq.write_table(table, tmp_path / "7" / ASSIGNMENTS)
    assert read_places(tmp_path / "7").cluster.tolist() == [0, 1]


# The question


def test_a_query_says_what_it_asks_for() -> None:
    query = Query(
        search=" descal ", clusters=[4], flags=["cut"], min_tokens=5, left_out="no", loop=[(0, 0), (9, 0), (0, 9)]
    )
    assert query.words() == "“descal”; C5; cut; at least 5 tokens; not left out; a loop on the map"
    assert Query().is_empty and Query(search="  ").is_empty and not query.is_empty
    assert Query.model_validate(query.dump()) == query


@pytest.mark.parametrize(
    "hostile",
    [
        {"loop": [[0, 0], [1, 1]]},
        {"loop": [[0, 0], [1, float("nan")], [2, 2]]},
        {"loop": [[0, 0], [1, float("inf")], [2, 2]]},
        {"loop": [[0, 0], [1, 1e300], [2, 2]]},
        {"loop": [[0, 0]] * (MOST_CORNERS + 1)},
        {"loop": [[0, 0, 0]] * 3},
        {"rows": [-1]},
        {"rows": [2**70]},
        {"rows": ["../../etc"]},
        {"search": "x" * 501},
        {"search": {"path": "/etc/passwd"}},
        {"clusters": [-1]},
        {"left_out": "maybe"},
        {"min_length": -1},
        {"min_tokens": 1e9},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_query_refuses_what_it_cannot_mean(hostile: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Query.model_validate(hostile)


def test_umap_places_every_row_keeps_copies_together_and_is_read_in_the_place_of_svd(tmp_path: Path) -> None:
    rows = [{"prompt": f"How far is run {i} of the river race?", "answer": f"{i} miles"} for i in range(20)]
    rows += [{"prompt": f"Which paint has door {i} here?", "answer": "red paint"} for i in range(20)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", [*rows, rows[3]])], tmp_path / "corpus")
    cluster_corpus(tmp_path / "corpus", tmp_path / "1", k=2)
    before = read_places(tmp_path / "1")
    assert before.by == "SVD"
    assert lay_out(tmp_path / "corpus", tmp_path / "1").examples == 41
    after = read_places(tmp_path / "1")
    assert after.by == "UMAP" and after.cluster.tolist() == before.cluster.tolist()
    assert (after.x[3], after.y[3]) == (after.x[40], after.y[40])
    assert len({*zip(after.x.tolist(), after.y.tolist(), strict=True)}) == 40
    lay_out(tmp_path / "corpus", tmp_path / "1")
    assert read_places(tmp_path / "1").packed() == after.packed()


def test_a_text_beside_the_fitted_ones_stands_among_its_nearest() -> None:
    sample = np.eye(6, dtype=np.float32)
    placed = np.array([[i, -i] for i in range(6)], dtype=np.float32)
    points = np.concatenate([sample, (sample[:3] / 3).sum(0, keepdims=True)]).astype(np.float32)
    flat = beside(points, sample, placed)
    assert np.allclose(flat[:6], placed, atol=1e-3) and np.allclose(flat[6], [1, -1], atol=1e-3)


def test_too_few_texts_keep_their_map(tmp_path: Path) -> None:
    rows = [{"prompt": f"door {i}", "answer": "red"} for i in range(5)]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    cluster_corpus(tmp_path / "corpus", tmp_path / "1", k=1)
    with pytest.raises(CorpusError, match="5 distinct texts; a map by UMAP needs 12"):
        lay_out(tmp_path / "corpus", tmp_path / "1")
    assert read_places(tmp_path / "1").by == "SVD"
