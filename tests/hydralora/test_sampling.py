"""Epochs, and clusters that are drawn by a power of their size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydralora.bounds import MOST_STEPS
from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.results import TrainingSet
from hydralora.results.clusters import ASSIGNMENTS
from hydralora.training.presets import planned_steps
from hydralora.training.sampling import ClusterSampler, cluster_shares
from hydralora.training.train import train_adapter
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


@given(SIZES, st.floats(0, 1))
def test_shares_add_up_and_an_empty_cluster_has_none(sizes: list[int], power: float) -> None:
    shares = cluster_shares(np.array(sizes), power)
    assert shares.sum() == pytest.approx(1) and all(
        (share > 0) == (size > 0) for share, size in zip(shares, sizes, strict=True)
    )


def test_power_one_is_by_size_a_half_by_its_root_and_nought_alike() -> None:
    sizes = np.array([100, 400])
    found = {power: cluster_shares(sizes, power).tolist() for power in (1.0, 0.5, 0.0)}
    assert found == {1.0: [0.2, 0.8], 0.5: pytest.approx([1 / 3, 2 / 3]), 0.0: [0.5, 0.5]}


@given(SIZES, st.floats(0, 1), st.integers(0, 9))
def test_no_example_of_a_cluster_is_drawn_twice_more_than_another(sizes: list[int], power: float, seed: int) -> None:
    clusters = [cluster for cluster, size in enumerate(sizes) for _ in range(size)]
    drawn = Counter(ClusterSampler(clusters, power, seed))
    assert sum(drawn.values()) == len(clusters)
    for cluster in set(clusters):
        times = [drawn[place] for place, own in enumerate(clusters) if own == cluster]
        assert max(times) - min(times) <= 1


def test_a_pass_is_the_same_for_its_seed_and_number_and_another_for_the_next() -> None:
    clusters = [0] * 30 + [1] * 10
    one, two = ClusterSampler(clusters, 0.5, 3), ClusterSampler(clusters, 0.5, 3)
    assert list(one) == list(two)
    two.set_epoch(1)
    assert list(one) != list(two)


@pytest.fixture
def clusters(easy_corpus: Path, tmp_path: Path) -> Path:
    """A folder of clusters, of which the first holds four examples and the second all others."""
    folder = tmp_path / "clusters"
    folder.mkdir()
    count = len(Corpus(easy_corpus))
    pq.write_table(pa.table({"cluster": [0] * 4 + [1] * (count - 4)}), folder / ASSIGNMENTS)
    return folder


def test_a_run_draws_clusters_alike_says_so_and_goes_on_bit_for_bit(
    base_folder: Path, easy_corpus: Path, clusters: Path, tmp_path: Path
) -> None:
    config = make_config(base_folder, cluster_power=0.0, held_out_fraction=0.0, max_steps=12, save_every=0)
    steps = Recorder()
    summary = train_adapter(config, easy_corpus, tmp_path / "whole", clusters_folder=clusters)
    assert "C1 8, C2 0.53" in summary.note  # 32 of 64 drawn from 4, and from 60
    with pytest.raises(StoppedError):
        stopping = Progress(should_stop=stop_after(10, steps))  # in the second pass
        train_adapter(config, easy_corpus, tmp_path / "two", clusters_folder=clusters, on_step=steps, progress=stopping)
    train_adapter(config, easy_corpus, tmp_path / "two", clusters_folder=clusters, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "two")


def test_clusters_that_are_not_there_cannot_be_drawn_by(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"`cluster_power` is 0.5, but the corpus has no clusters"):
        train_adapter(make_config(base_folder, cluster_power=0.5), easy_corpus, tmp_path)


def test_one_order_at_a_time(base_folder: Path, easy_corpus: Path, clusters: Path, tmp_path: Path) -> None:
    config = make_config(base_folder, cluster_power=0.5, order="by length")
    with pytest.raises(TrainingError, match="drawn by one of them"):
        train_adapter(config, easy_corpus, tmp_path, clusters_folder=clusters)


@pytest.mark.parametrize(
    "epochs, batch, accumulation, examples, steps",
    [(0.0, 8, 1, 100, 200), (1.0, 8, 1, 64, 8), (1.0, 8, 1, 65, 9), (2.5, 8, 2, 64, 10), (0.01, 8, 1, 64, 1)],
)
def test_epochs_are_steps_over_all_examples(
    epochs: float, batch: int, accumulation: int, examples: int, steps: int
) -> None:
    train = TrainConfig(epochs=epochs, batch_size=batch, accumulation=accumulation)
    assert planned_steps(train, examples) == steps


def test_more_steps_than_a_run_may_have_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"`epochs` is 10000, which is 10,000,000,000 steps"):
        planned_steps(TrainConfig(epochs=10_000, batch_size=1), MOST_STEPS)


def test_a_run_of_two_epochs_sees_every_example_twice(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    steps = Recorder()
    config = make_config(base_folder, epochs=2.0, held_out_fraction=0.0, scheduler="linear", save_every=0)
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    assert summary.steps == 16 == TrainingSet.read(tmp_path).steps  # 64 examples, 8 at a time
    assert steps.curve[-1][2] < 0.1 * max(rate for *_, rate in steps.curve)  # the rate falls over these steps
