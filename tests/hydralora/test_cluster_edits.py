"""Edits of clusters: what each keeps, what it changes, and that a grouping is called by what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from hydralora.analysis.groups import read_groups_of
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.clusters.edits import LONGEST_NAME, merge_clusters, rename_cluster
from hydralora.corpus.clusters.grouping import FOLDER, Grouped, open_grouping
from hydralora.corpus.clusters.labels import mutual_information, rand_index
from hydralora.corpus.clusters.splitting import split_cluster
from hydralora.corpus.clusters.why import explain_rows
from hydralora.corpus.folder import Corpus
from hydralora.corpus.tasks import only_cluster, read_clusters, read_tasks
from hydralora.errors import CorpusError, TrainingError
from hydralora.results import Clusters
from hydralora.results.clusters import ASSIGNMENTS
from tests.hydralora.test_clusters import keep, planted


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 examples of three kinds, clustered into three beside the corpus."""
    folder = keep(tmp_path_factory.mktemp("edits"), planted(60))
    cluster_corpus(folder, folder.parent / "clusters", k=3)
    return folder


@pytest.fixture
def three(corpus: Path) -> Grouped:
    folder = corpus.parent / "clusters"
    return Grouped.read(folder, Clusters.read(folder))


def split(corpus: Path, number: int, k: int | None = None, folder: Path | None = None) -> tuple[Clusters, str]:
    return split_cluster(corpus, folder or corpus.parent / "clusters", number, k=k, asked_k=3)


def opened(corpus: Path, name: str) -> Grouped:
    folder = open_grouping(corpus, name)
    return Grouped.read(folder, Clusters.read(folder))


def test_a_merged_cluster_has_the_number_of_its_largest_part_and_all_its_rows(three: Grouped, corpus: Path) -> None:
    after = merge_clusters(three, [2, 0], corpus)
    sizes = three.result.sizes
    kept = 0 if sizes[0] >= sizes[2] else 2
    assert after.result.all_numbers == sorted({kept, 1}) and after.result.k == 2
    assert after.result.sizes[after.result.place(kept)] == sizes[0] + sizes[2]
    assert (after.cluster[three.cluster == 1] == 1).all() and set(after.cluster) == {kept, 1}


def test_sizes_add_up_to_the_corpus_whatever_is_edited(three: Grouped, corpus: Path) -> None:
    _, name = split(corpus, 1, 2)
    for after in (merge_clusters(three, [0, 1], corpus), opened(corpus, name)):
        counts = np.bincount(after.cluster, minlength=10)
        assert sum(after.result.sizes) == len(Corpus(corpus)) == 180
        assert after.result.sizes == [counts[number] for number in after.result.all_numbers]


def test_a_split_divides_its_own_cluster_only(three: Grouped, corpus: Path) -> None:
    result, name = split(corpus, 1, 3)
    after = opened(corpus, name)
    assert (after.cluster[three.cluster != 1] == three.cluster[three.cluster != 1]).all()
    parts = np.bincount(after.cluster[three.cluster == 1], minlength=5)
    assert result.all_numbers == [0, 1, 2, 3, 4] and parts[0] == parts[2] == 0
    assert parts[1] >= parts[3] >= parts[4] > 0  # the largest part keeps the number
    assert result.branches == [three.result.shown_name(1)]
    assert [result.paths[result.place(n)] for n in (0, 1, 3, 4)] == [[], [0], [0], [0]]


def test_a_number_is_never_given_twice(corpus: Path) -> None:
    result, name = split(corpus, 1, 2)
    merged = merge_clusters(opened(corpus, name), [0, 3], corpus)  # the new number is gone again
    again, _ = split(corpus, 0, 2, open_grouping(corpus, merged.write(corpus, "a")))
    assert result.all_numbers == [0, 1, 2, 3] and again.all_numbers == [0, 1, 2, 4]


def test_a_split_without_a_number_has_two_parts_at_least_and_the_same_ones_again(corpus: Path) -> None:
    result, name = split(corpus, 0)
    assert result.k >= 4 and split(corpus, 0)[1] == name


def test_equal_groupings_have_one_name_whatever_led_to_them(three: Grouped, corpus: Path) -> None:
    named = merge_clusters(rename_cluster(three, 1, "Farm"), [0, 2], corpus)
    later = rename_cluster(merge_clusters(three, [2, 0], corpus), 1, "Farm")
    one_by_one = merge_clusters(merge_clusters(three, [0, 1], corpus), [0, 2], corpus)
    assert named.name == later.name != three.name
    assert one_by_one.name == merge_clusters(three, [2, 1, 0], corpus).name
    assert rename_cluster(named, 1, "Field").name != named.name
    assert rename_cluster(named, 1, "").name == merge_clusters(three, [0, 2], corpus).name


def test_a_grouping_is_read_as_a_clustering_is(three: Grouped, corpus: Path) -> None:
    after = rename_cluster(merge_clusters(three, [0, 2], corpus), 1, "Farm")
    folder = open_grouping(corpus, after.write(corpus, "b"))
    assert (read_clusters(folder) == after.cluster).all()
    examples = list(enumerate(Corpus(corpus)))[:40]
    groups = read_groups_of(examples, folder)["cluster"]
    assert sorted(groups.names) == sorted(["C1" if 0 in after.cluster else "C3", "C2 Farm"])
    tasks = read_tasks(examples, "cluster", folder)
    assert tasks is not None and tasks.names == [f"C{number + 1}" for number in after.result.all_numbers]
    train, held_out = only_cluster(list(range(180)), [], 2, folder)
    assert set(after.cluster[train]) == {1} and held_out == []
    with pytest.raises(TrainingError, match=r"No training example lies in cluster C\d; the corpus has C\d, C\d\."):
        only_cluster(list(range(180)), [], 3 if 0 in after.cluster else 1, folder)


def test_labels_are_compared_with_the_clusters_as_they_stand(three: Grouped, corpus: Path) -> None:
    after = merge_clusters(three, [0, 2], corpus).result
    assert three.result.nmi == pytest.approx(1.0) and after.nmi is not None and after.nmi < 0.9
    assert [sum(row) for row in after.label_table] == [60, 60, 60] and len(after.label_table[0]) == 2


def test_agreement_with_labels_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label, cluster = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
    cluster[:150] = label[:150] % 4
    counts = np.zeros((5, 4), dtype=np.int64)
    np.add.at(counts, (label, cluster), 1)
    assert mutual_information(counts) == pytest.approx(normalized_mutual_info_score(label, cluster))
    assert rand_index(counts) == pytest.approx(adjusted_rand_score(label, cluster))
    assert rand_index(counts[:, :1]) == pytest.approx(adjusted_rand_score(label, np.zeros(300)))
    assert (mutual_information(counts[:1, :1]), rand_index(counts[:1, :1])) == (1.0, 1.0)


def test_every_row_says_why_it_is_in_its_edited_cluster(three: Grouped, corpus: Path) -> None:
    after = merge_clusters(three, [0, 2], corpus)
    folder = open_grouping(corpus, after.write(corpus, "c"))
    rows = [int(np.flatnonzero(three.cluster == number)[0]) for number in (0, 1, 2)]
    kept = next(number for number in after.result.all_numbers if number != 1)
    for row, why in zip(rows, explain_rows(corpus, folder, rows), strict=True):
        assert why.cluster == after.cluster[row] and why.other == (kept if why.cluster == 1 else 1)
        text = Corpus(corpus).take([row])[0].text().split()
        assert {term.term for term in why.terms} <= set(text) and why.terms[0].own > why.terms[0].other


def test_rows_that_lay_between_merged_clusters_are_borderline_no_longer(three: Grouped, corpus: Path) -> None:
    after = merge_clusters(three, [0, 2], corpus)
    (kept,) = set(after.result.all_numbers) - {1}
    for row in after.result.borderline[after.result.place(kept)]:
        assert after.other[row] == 1 and np.isfinite(after.margin[row])
    between = np.isin(three.cluster, [0, 2]) & np.isin(three.other, [0, 2])
    assert np.isnan(after.margin[between]).all() and (after.other[between] == -1).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * (LONGEST_NAME + 1), f"at most {LONGEST_NAME} characters, got {LONGEST_NAME + 1}"),
        ("farm", "C1 is called 'farm' already"),
        ("c7", "'c7' is the letter of a cluster"),
    ],
)
def test_a_name_that_no_cluster_can_have_is_refused(three: Grouped, name: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        rename_cluster(rename_cluster(three, 0, "Farm"), 1, name)


def test_a_name_is_one_line_without_control_characters(three: Grouped) -> None:
    after = rename_cluster(three, 0, "  Re\x1b[31mturns\n\u202eand\tmore  ")
    assert after.result.given_name(0) == "Re [31mturns and more"
    assert after.result.title(0) == "C1 Re [31mturns and more" and after.result.title(1) == "C2"


def test_one_cluster_alone_is_not_merged_and_one_that_is_none_is_named(three: Grouped, corpus: Path) -> None:
    with pytest.raises(CorpusError, match="takes two clusters at least, got 1"):
        merge_clusters(three, [1, 1], corpus)
    with pytest.raises(CorpusError, match=r"There is no cluster C9\. Choose from: C1, C2, C3\."):
        merge_clusters(three, [1, 8], corpus)


def test_a_cluster_of_one_text_is_not_split(tmp_path: Path) -> None:
    folder = keep(tmp_path, [{"prompt": word, "answer": word} for word in ("moon", "boat") for _ in range(9)])
    cluster_corpus(folder, tmp_path / "clusters", k=2)
    with pytest.raises(CorpusError, match="C2 holds one distinct text, too few for 2 parts"):
        split_cluster(folder, tmp_path / "clusters", 1, asked_k=2)
    assert not (folder / FOLDER).exists()


def test_clusters_of_an_earlier_version_can_be_merged(three: Grouped, corpus: Path, tmp_path: Path) -> None:
    table = pq.read_table(corpus.parent / "clusters" / ASSIGNMENTS).select(["example", "cluster", "x", "y"])
    pq.write_table(table, tmp_path / ASSIGNMENTS)
    result = three.result.model_copy(update={"names": [], "borderline": []})
    after = merge_clusters(Grouped.read(tmp_path, result), [0, 1], corpus)
    assert after.terms is None and sum(after.result.sizes) == 180 and np.isnan(after.margin).all()


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_grouping_that_is_not_what_it_was_is_refused(three: Grouped, corpus: Path, harm: str) -> None:
    name = merge_clusters(three, [1, 2], corpus).write(corpus, "d")
    folder = corpus / FOLDER / name
    if harm == "gone":
        folder.rename(folder.with_name("0" * 16))
        folder = folder.with_name("0" * 16)
        name = "f" * 16
    else:
        told = json.loads((folder / Clusters.FILE).read_text())
        (folder / Clusters.FILE).write_text(json.dumps({**told, "given_names": ["Evil", ""]}))
    with pytest.raises(CorpusError, match=f"was started with is {harm}"):
        open_grouping(corpus, name)


@pytest.mark.parametrize("name", ["", "../../etc", "ABCDEF0123456789", "0" * 15])
def test_a_grouping_is_called_by_digits_only(corpus: Path, name: str) -> None:
    with pytest.raises(CorpusError, match="16 hexadecimal digits"):
        open_grouping(corpus, name)
