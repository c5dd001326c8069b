"""Clusters are the same for the same seed, and the suggested number fits corpora of known make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hydralora.corpus.clusters.choice import Choice, compare_choices, find_elbow, single_threads, suggest_experts
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.clusters.vectors import fit_spaces
from hydralora.corpus.imports import import_corpus
from hydralora.errors import CorpusError, StoppedError
from hydralora.progress import Progress
from hydralora.results import Clusters
from tests.hydralora.conftest import write_lines

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "corpora"
WORDS = {
    "sea": "boat sail anchor harbour wave tide",
    "farm": "cow barn hay tractor field plough",
    "sky": "cloud rain thunder wind storm sun",
}


def planted(count: int, seed: int = 0) -> list[dict[str, str]]:
    """``count`` examples of each of three kinds that share no word."""
    rng = np.random.default_rng(seed)
    rows = []
    for label, words in WORDS.items():
        for _ in range(count):
            drawn = rng.choice(words.split(), 4)
            rows.append({"prompt": " ".join(drawn[:2]), "answer": " ".join(drawn[2:]), "label": label})
    return [rows[i] for i in rng.permutation(len(rows))]


def keep(folder: Path, rows: list[dict[str, str]]) -> Path:
    import_corpus([write_lines(folder / "rows.jsonl", rows)], folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="module")
def three_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(tmp_path_factory.mktemp("planted"), planted(60))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Clusters of a shipped sample corpus, by name."""
    found: dict[str, dict[str, Any]] = {}

    def cluster(name: str) -> dict[str, Any]:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            import_corpus([SAMPLES / name / f"{name}.jsonl"], folder / "corpus")
            found[name] = cluster_corpus(folder / "corpus", folder / "clusters")
        return found[name]

    return cluster


def assignments(folder: Path) -> dict[str, list[Any]]:
    return pq.read_table(folder / "assignments.parquet").to_pydict()


@pytest.mark.parametrize(("name", "experts"), [("four-trades", 4), ("noisy", 4), ("two-tongues", 2), ("one-voice", 1)])
def test_the_suggested_number_of_experts_fits_the_sample(samples, name, experts):
    assert samples(name).suggested_k == experts


@pytest.mark.parametrize(("name", "least"), [("four-trades", 1.0), ("two-tongues", 1.0), ("noisy", 0.97)])
def test_clusters_of_the_sample_agree_with_its_labels(samples, name, least):
    assert samples(name).nmi >= least - 1e-9


def test_one_voice_needs_one_expert_and_says_why(samples):
    found = samples("one-voice")
    assert found.k == 1 and found.reason.startswith("One expert is enough")


def test_planted_kinds_are_found_with_their_words(three_kinds, tmp_path):
    found = cluster_corpus(three_kinds, tmp_path / "clusters")
    assert (found.k, found.nmi, found.sizes) == (3, pytest.approx(1.0), [60, 60, 60])
    assert {frozenset(words) for words in found.words} == {frozenset(w.split()) for w in WORDS.values()}


def test_the_threads_that_try_numbers_of_clusters_start_none_of_their_own():
    with threadpool_limits(1), single_threads(1) as pool:
        assert {library["num_threads"] for library in pool.submit(threadpool_info).result()} == {1}


def test_the_same_seed_gives_the_same_clusters_byte_for_byte(three_kinds, tmp_path):
    for name in ("first", "second"):
        cluster_corpus(three_kinds, tmp_path / name, seed=3)
    for file in ("clusters.json", "assignments.parquet"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_clusters_are_numbered_from_the_largest(tmp_path):
    rows = [row for i, row in enumerate(planted(60)) if row["label"] == "sea" or i % 3]
    found = cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters", k=3)
    assert found.sizes == sorted(found.sizes, reverse=True) and found.sizes[0] == 60


def test_what_is_written_agrees_with_what_is_returned(three_kinds, tmp_path):
    found = cluster_corpus(three_kinds, tmp_path / "clusters", k=4)
    table = assignments(tmp_path / "clusters")
    assert Clusters.read(tmp_path / "clusters") == found
    assert table["example"] == list(range(180))
    assert np.bincount(table["cluster"]).tolist() == found.sizes and found.k == 4


def test_typical_examples_are_the_nearest_of_their_cluster(three_kinds, tmp_path):
    found = cluster_corpus(three_kinds, tmp_path / "clusters", k=3)
    table = assignments(tmp_path / "clusters")
    cluster, distance = np.array(table["cluster"]), np.array(table["distance"])
    for number, typical in enumerate(found.typical):
        assert (cluster[typical] == number).all() and len(typical) == 5
        assert max(distance[typical]) <= np.sort(distance[cluster == number])[4] + 1e-6


def test_a_chosen_number_leaves_the_suggestion_alone(three_kinds, tmp_path):
    found = cluster_corpus(three_kinds, tmp_path / "clusters", k=5)
    assert (found.k, found.suggested_k, len(found.sizes)) == (5, 3, 5)


def test_one_cluster_can_be_asked_for(three_kinds, tmp_path):
    found = cluster_corpus(three_kinds, tmp_path / "clusters", k=1)
    assert found.sizes == [180] and len(found.words[0]) == 8


@pytest.mark.parametrize("k", [0, -1, 181, 10_000])
def test_more_clusters_than_examples_are_refused(three_kinds, tmp_path, k):
    with pytest.raises(CorpusError, match=f"`k` must be between 1 and .*distinct examples, got {k}\\."):
        cluster_corpus(three_kinds, tmp_path / "clusters", k=k)
    assert list(tmp_path.iterdir()) == []


def test_copies_do_not_count_as_distinct_examples(tmp_path):
    corpus = keep(tmp_path, planted(1) * 4)
    with pytest.raises(CorpusError, match="between 1 and 3, the number of distinct examples, got 5"):
        cluster_corpus(corpus, tmp_path / "clusters", k=5)


def test_a_corpus_of_one_text_many_times_needs_one_expert(tmp_path):
    corpus = keep(tmp_path, [{"prompt": "boat sail", "answer": "tide"}] * 30)
    assert cluster_corpus(corpus, tmp_path / "clusters").k == 1


@pytest.mark.parametrize("count", [2, 3])
def test_the_smallest_corpora_have_one_cluster(tmp_path, count):
    corpus = keep(tmp_path, [{"prompt": f"w{i}", "answer": f"v{i}"} for i in range(count)])
    found = cluster_corpus(corpus, tmp_path / "clusters")
    assert found.k == 1 and found.sizes == [count]


def test_texts_without_words_are_refused_plainly(tmp_path):
    corpus = keep(tmp_path, [{"prompt": "?!" * (i + 1), "answer": "--"} for i in range(5)])
    with pytest.raises(CorpusError, match="The examples hold no words to compare"):
        cluster_corpus(corpus, tmp_path / "clusters")
    assert not (tmp_path / "clusters").exists()


def test_some_texts_without_words_are_placed_like_others(tmp_path):
    rows = [*planted(20), *({"prompt": "?!", "answer": "-" * i} for i in range(1, 6))]
    found = cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters", k=3)
    assert sum(found.sizes) == 65
    assert np.isfinite(assignments(tmp_path / "clusters")["x"]).all()


def test_texts_of_stop_words_alone_are_compared_by_them(tmp_path):
    corpus = keep(
        tmp_path,
        [{"prompt": "to be or", "answer": "not to be"}, {"prompt": "the very same", "answer": "and so on"}] * 3,
    )
    assert sum(cluster_corpus(corpus, tmp_path / "clusters").sizes) == 6


def test_words_of_other_scripts_count():
    space, rows, _ = fit_spaces(pa.array(["кот сидит дома", "собака бежит", "猫 家", "ねこ いえ"]), seed=0)
    assert {"кот", "猫", "ねこ"} <= set(space.terms()) and rows.shape[0] == 4


def test_labels_are_compared_only_where_there_are_several(tmp_path):
    rows = [{"prompt": row["prompt"], "answer": row["answer"]} for row in planted(20)]
    assert cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters").nmi is None


def test_a_stop_leaves_nothing_and_keeps_the_earlier_clusters(three_kinds, tmp_path):
    with pytest.raises(StoppedError):
        cluster_corpus(three_kinds, tmp_path / "clusters", progress=Progress(should_stop=lambda: True))
    assert list(tmp_path.iterdir()) == []
    cluster_corpus(three_kinds, tmp_path / "clusters", k=2)
    with pytest.raises(StoppedError):
        cluster_corpus(three_kinds, tmp_path / "clusters", k=3, progress=Progress(should_stop=lambda: True))
    assert len(set(assignments(tmp_path / "clusters")["cluster"])) == 2


def test_progress_only_grows(three_kinds, tmp_path):
    shares: list[float] = []
    cluster_corpus(three_kinds, tmp_path / "clusters", progress=Progress(lambda share, text: shares.append(share)))
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 1


def test_the_elbow_is_the_point_farthest_below_the_line():
    assert find_elbow([100.0, 60.0, 20.0, 15.0, 10.0]) == 3
    assert find_elbow([100.0, 60.0]) == 1


def clear(k: int) -> Choice:
    return Choice(k, strength=0.95, gap=5.0, smallest=0.1, recurring=1.0)


def test_of_clear_numbers_the_strongest_is_suggested_and_the_larger_of_equals():
    found = suggest_experts([Choice(1), clear(2), Choice(3, strength=0.5), clear(4), Choice(5, strength=0.5)])
    assert (found.k, found.low, found.high, found.is_clear) == (4, 4, 4, True)
    assert suggest_experts([Choice(1), clear(2), replace(clear(3), strength=0.9)]).k == 2


@pytest.mark.parametrize("less", [{"strength": 0.79}, {"gap": 3.4}, {"smallest": 0.019}])
def test_a_number_that_fails_one_measure_is_not_clear(less):
    assert not replace(clear(3), **less).is_clear


def test_a_structure_without_a_number_gives_a_range_and_a_default():
    shares = (0.0, 0.1, 0.4, 0.3, 0.35, 0.05)
    found = suggest_experts([Choice(k, strength=0.5, recurring=share) for k, share in enumerate(shares, 1)])
    assert (found.k, found.low, found.high, found.is_clear) == (4, 3, 5, False)
    assert found.reason.startswith("Unclear: 3 to 5.")


def test_without_a_structure_one_is_suggested():
    found = suggest_experts([Choice(1), Choice(2, strength=0.5, recurring=0.1)])
    assert found.k == 1 and "at most 10% of the texts" in found.reason


def test_the_planted_number_comes_back_in_halves():
    points = np.repeat(np.eye(3), 40, axis=0) + np.random.default_rng(0).normal(0, 0.02, (120, 3))
    found, elbows = compare_choices(points, 6, 0, lambda k: None)
    assert [choice.k for choice in found if choice.is_clear][-1] == 3
    assert found[2].strength == pytest.approx(1.0) and elbows == [3] * 15
    assert [c.inertia for c in found] == sorted((c.inertia for c in found), reverse=True)
