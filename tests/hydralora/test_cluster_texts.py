"""Clusters are made of distinct texts without template text, in any script; and each row says why it lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.clusters.naming import class_weights, telling_terms
from hydralora.corpus.clusters.templates import find_templates
from hydralora.corpus.clusters.weights import counted
from hydralora.corpus.clusters.why import LENGTH, TERMS, explain_row
from hydralora.corpus.clusters.words import Vocabulary, split_words
from hydralora.corpus.imports import import_corpus
from hydralora.errors import CorpusError
from tests.hydralora.conftest import write_lines

TRADES = {
    "bread": "flour oven dough loaf crust yeast rye bake",
    "law": "judge court clause verdict lawyer appeal trial jury",
    "sea": "anchor sail harbour mast tide deck rope wave",
}
TEMPLATES = (
    "Below is an instruction that describes a task. Write a fitting response.\n{}\nResponse: {}",
    "You are a helpful assistant who answers briefly.\nUser: {}\nAssistant: {}",
    "Please read the following with care and reply as well as you can: {} Here is my reply: {}",
)
DISHES, STARS = "豆腐 萝卜 牛肉 面条 茄子 鸡蛋", "木星 彗星 月球 火星 土星 行星"


def rows_of(count: int, template: str = "{} {}", seed: int = 0) -> list[dict[str, str]]:
    """``count`` rows of each trade, in one phrasing."""
    rng = np.random.default_rng(seed)
    rows = []
    for label, words in TRADES.items():
        for _ in range(count):
            drawn = rng.choice(words.split(), 6)
            text = template.format(" ".join(drawn[:4]), " ".join(drawn[4:]))
            rows.append({"prompt": text, "answer": "yes", "label": label})
    return [rows[i] for i in rng.permutation(len(rows))]


def keep(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(exist_ok=True)
    import_corpus([write_lines(folder / "rows.jsonl", rows)], folder / "corpus")
    return folder / "corpus"


@pytest.mark.parametrize("templates", [TEMPLATES[:2], TEMPLATES])
def test_templates_wrapped_around_the_rows_change_no_cluster(tmp_path, templates):
    rows = [row for i, template in enumerate(templates) for row in rows_of(50, template, seed=i)]
    found = cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters")
    assert (found.suggested_k, found.nmi) == (3, pytest.approx(1.0))
    assert {word for words in found.words for word in words} <= set(" ".join(TRADES.values()).split())


def test_an_instruction_of_one_kind_of_row_is_no_template():
    texts = [row["prompt"] + (" answer in the old way" if row["label"] == "law" else "") for row in rows_of(50)]
    vocabulary = Vocabulary(split_words(pa.array(texts))[1])
    assert not find_templates(vocabulary.number(pa.array(texts)), 0).runs.size


def test_copies_weigh_nothing(tmp_path):
    rows = rows_of(40)
    plain = cluster_corpus(keep(tmp_path / "plain", rows), tmp_path / "first")
    copied = cluster_corpus(keep(tmp_path / "copied", rows + [rows[0]] * 900), tmp_path / "second")
    assert (copied.suggested_k, copied.distinct, sorted(copied.words)) == (plain.k, plain.distinct, sorted(plain.words))
    assert copied.examples == 1_020 and copied.sizes[0] >= 940


def test_three_odd_rows_ask_for_no_cluster(tmp_path):
    odd = [{"prompt": text, "answer": "-", "label": "odd"} for text in ("9f3ac41e 77d0b1", "a01bc3 ff9e", "ha " * 30)]
    found = cluster_corpus(keep(tmp_path, rows_of(70) + odd), tmp_path / "clusters")
    assert found.suggested_k == 3 and min(found.sizes) >= 70


def test_ten_rows_are_one_cluster(tmp_path):
    found = cluster_corpus(keep(tmp_path, rows_of(4)[:10]), tmp_path / "clusters")
    assert found.suggested_k == 1 and "fewer than 40 distinct texts" in found.reason


def test_a_script_without_spaces_is_told_by_words_not_by_clauses(tmp_path):
    rng = np.random.default_rng(0)
    phrases = {
        "cook": (DISHES, "今天我们学习怎样做{}和{}，先洗干净再炒。"),
        "sky": (STARS, "望远镜可以看到{}上面的{}，非常遥远。"),
    }
    rows = [
        {"text": phrase.format(*rng.choice(words.split(), 2)) + "".join(rng.choice(words.split(), 3)), "label": label}
        for label, (words, phrase) in phrases.items()
        for _ in range(40)
    ]
    found = cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters", k=2)
    assert found.nmi == pytest.approx(1.0)
    assert max(len(word) for words in found.words for word in words) <= 2


def test_small_words_of_a_language_name_no_cluster(tmp_path):
    nouns = {"garten": "Rosen Beet Spaten Hecke Kompost Tomaten", "bahn": "Zug Gleis Signal Weiche Wagen Schaffner"}
    phrases = (
        "Ich glaube, mit {} und mit {} haben wir uns sehr viel vorgenommen.",
        "Ob {} oder {} besser ist, kann man so nicht sagen.",
        "Nach dem langen Winter ist {} auch für {} nicht ohne Sorgen.",
    )
    rng = np.random.default_rng(0)
    rows = [
        {
            "text": " ".join(p.format(*rng.choice(words.split(), 2)) for p in rng.permutation(phrases)[:2]),
            "label": label,
        }
        for label, words in nouns.items()
        for _ in range(60)
    ]
    found = cluster_corpus(keep(tmp_path, rows), tmp_path / "clusters", k=2)
    assert found.nmi == pytest.approx(1.0)
    assert {word for words in found.words for word in words} <= set(" ".join(nouns.values()).lower().split())


def test_class_based_weights_are_those_of_the_formula():
    from scipy.sparse import csr_matrix

    counts = csr_matrix(np.array([[3.0, 1.0], [0.0, 4.0]]))
    assert class_weights(counts)[0, 0] == pytest.approx(3 / 4 * np.log(1 + 4 / 3))
    assert [terms.tolist() for terms in telling_terms(counts)] == [[0], [1]]


@pytest.mark.parametrize("method", ["hdbscan", "dbscan"])
def test_density_finds_the_planted_kinds_and_says_what_is_noise(tmp_path, method):
    found = cluster_corpus(keep(tmp_path, rows_of(60)), tmp_path / "clusters", method=method)
    table = pq.read_table(tmp_path / "clusters" / "assignments.parquet")
    assert found.noise == sum(table["noise"].to_pylist()) and sum(found.sizes) == 180
    assert found.method == method and found.k >= 3 and min(table["cluster"].to_pylist()) == 0


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"method": "guess"}, "`method` must be one of kmeans, embeddings, hdbscan, dbscan, got 'guess'"),
        ({"method": "dbscan", "k": 3}, "DBSCAN finds the number of clusters by itself"),
        ({"method": "dbscan", "options": {"radius": -1}}, "`radius`: input should be greater than 0, got -1"),
        ({"options": {"radius": 1}}, "`radius` is not a setting here"),
    ],
)
def test_a_wrong_method_or_option_is_refused_in_a_sentence(tmp_path, asked, sentence):
    with pytest.raises(CorpusError, match=sentence):
        cluster_corpus(keep(tmp_path, rows_of(10)), tmp_path / "clusters", **asked)


@pytest.fixture(scope="module")
def trades(tmp_path_factory):
    """A corpus of three trades with a row of two, its clusters and their folders."""
    folder = tmp_path_factory.mktemp("trades")
    between = {"prompt": "judge court clause anchor sail harbour mast", "answer": "yes", "label": "sea"}
    corpus = keep(folder, [*rows_of(60), between])
    return corpus, folder / "clusters", cluster_corpus(corpus, folder / "clusters", k=3)


def test_the_words_of_a_row_say_why_it_lies_there(trades):
    corpus, clusters, found = trades
    why = explain_row(corpus, clusters, 0)
    words = [term.term for term in why.terms if term.own > term.other]
    assert words and set(words) <= set(found.words[why.cluster]) | set(TRADES[found.labels[0]].split()) | {
        word for text in TRADES.values() for word in text.split()
    }
    assert why.terms[0].own > why.terms[0].other and why.other != why.cluster


def test_what_words_say_adds_up_to_the_product_with_the_centre(trades):
    corpus, clusters, _ = trades
    for example in (0, 1, 2):
        why = explain_row(corpus, clusters, example)
        assert sum(term.own for term in why.terms) > sum(term.other for term in why.terms)


def test_a_row_between_two_kinds_is_borderline(trades):
    corpus, clusters, found = trades
    why = explain_row(corpus, clusters, 180)
    assert 180 in found.borderline[why.cluster] and 180 not in found.typical[why.cluster]
    assert why.margin < 0.5 * explain_row(corpus, clusters, found.typical[why.cluster][0]).margin


def test_a_tenth_of_a_word_weighs_less_than_the_first_and_less_in_a_long_text() -> None:
    counts, usual = np.array([1.0, 2.0, 10.0]), 40.0
    weights = counted(counts, 40.0, usual)
    assert weights == pytest.approx([1 / 2.2, 2 / 3.2, 10 / 11.2])
    assert (counted(counts, 80.0, usual) < weights).all() and (counted(counts, 20.0, usual) > weights).all()
    assert counted(counts, 40.0, None) == pytest.approx(1 + np.log(counts))


def test_rows_of_clusters_that_keep_no_length_of_texts_are_still_explained(trades, tmp_path):
    corpus, clusters, _ = trades
    earlier = tmp_path / "earlier"
    shutil.copytree(clusters, earlier)
    table = pq.read_table(earlier / TERMS)
    assert float(table.schema.metadata[LENGTH]) > 1
    pq.write_table(table.replace_schema_metadata(None), earlier / TERMS)
    before, now = explain_row(corpus, earlier, 0), explain_row(corpus, clusters, 0)
    assert {term.term for term in before.terms} == {term.term for term in now.terms} and before.other == now.other


def test_where_there_is_one_cluster_no_other_is_named(tmp_path):
    corpus = keep(tmp_path, rows_of(10))
    cluster_corpus(corpus, tmp_path / "clusters", k=1)
    why = explain_row(corpus, tmp_path / "clusters", 3)
    assert (why.cluster, why.other, why.margin) == (0, None, 0.0) and why.terms


def test_labels_are_counted_by_cluster(trades):
    _, _, found = trades
    assert [sum(row) for row in found.label_table] == [61, 60, 60] and found.labels[0] == "sea"
    assert np.array(found.label_table).sum(0).tolist() == found.sizes and found.ari > 0.95


def test_an_example_outside_the_corpus_is_refused(trades):
    corpus, clusters, _ = trades
    with pytest.raises(CorpusError, match="Example 999 is outside this corpus of 181"):
        explain_row(corpus, clusters, 999)


def test_clusters_of_an_earlier_version_say_that_they_keep_no_words(trades, tmp_path):
    with pytest.raises(CorpusError, match=r"or by an earlier version\. Cluster the corpus again"):
        explain_row(trades[0], tmp_path, 0)
