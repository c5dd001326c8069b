"""What a clustering says, in the same words on page and command; and the command that explains one row."""

from __future__ import annotations

import pytest

from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.errors import UserError
from jobs.store.records import Clustering
from studio.clusterings import experts_reason, noise_sentence
from tests.studio.commands import Commands
from tests.studio.stored import Stored, clustering_result

WORDS = [["door"], ["boat"]]


def kept(stored: Stored, k: int | None, **found: object) -> Clustering:
    """A finished clustering with some of its result changed."""
    row = stored.store.clusterings.add(stored.corpus().id, k)
    stored.end(row.job, clustering_result(WORDS, [2, 2]).model_copy(update=found).dump())
    return stored.store.clusterings.get(row.id)


def test_the_elbow_of_the_paper_stands_beside_the_reason(stored: Stored) -> None:
    said = experts_reason(kept(stored, None, elbow_trials=[3] * 10 + [4] * 5))
    assert said == "Two groups lie apart. The elbow of the paper lies between 3 and 4 in 15 trials."


@pytest.mark.parametrize(("k", "inside"), [(3, "within"), (4, "outside")])
def test_a_choice_says_whether_it_lies_in_the_unclear_range(stored: Stored, k: int, inside: str) -> None:
    found = kept(stored, k, is_clear=False, low_k=2, high_k=3)
    assert experts_reason(found).startswith(f"You clustered it into {k}. That is {inside} the range of the measures")


def test_noise_is_counted_and_named_with_its_method() -> None:
    found = clustering_result(WORDS, [2, 2]).model_copy(update={"noise": 1, "method": "dbscan"})
    assert noise_sentence(found) == "1 example is noise to DBSCAN and counted with the nearest cluster."


def test_method_and_options_reach_the_job(stored: Stored) -> None:
    made = stored.store.clusterings.add(stored.corpus().id, None, method="dbscan", options={"radius": "0.5"})
    assert made.job is not None
    assert made.job.payload["method"] == "dbscan"
    assert made.job.payload["options"] == {"radius": 0.5, "min_samples": 5}


def test_a_method_that_finds_its_number_takes_none(stored: Stored) -> None:
    with pytest.raises(UserError, match="HDBSCAN finds the number of clusters by itself"):
        stored.store.clusterings.add(stored.corpus().id, 2, method="hdbscan")


def test_the_command_says_why_a_row_lies_in_its_cluster(stored: Stored) -> None:
    kinds = ("boat sail anchor", "cow barn hay")
    rows = [{"prompt": f"{kinds[i % 2]} {i}", "answer": "yes"} for i in range(60)]
    corpus = stored.corpus(rows=rows)
    row = stored.store.clusterings.add(corpus.id, 2)
    folders = stored.home.corpus(corpus.id), stored.home.clustering(row.id)
    stored.end(row.job, cluster_corpus(*folders, k=2).dump())
    studio = Commands(stored.home.root)
    found = studio.json("corpora", "why", corpus.id, 0)
    assert found["example"] == 0 and {"boat", "sail", "anchor"} <= {term["term"] for term in found["terms"][:3]}
    assert "Example 0 lies in C" in studio("corpora", "why", corpus.id, 0).stdout


def test_an_option_without_a_value_is_refused(stored: Stored) -> None:
    refused = Commands(stored.home.root)("corpora", "cluster", stored.corpus().id, "--option", "radius")
    assert refused.returncode == 2 and "`--option` must be NAME=VALUE, got 'radius'" in refused.stderr


def test_without_clusters_the_command_says_what_to_run(stored: Stored) -> None:
    corpus = stored.corpus()
    refused = Commands(stored.home.root)("corpora", "why", corpus.id, 0)
    assert refused.returncode == 2 and f"Run `corpora cluster {corpus.id}` first" in refused.stderr
