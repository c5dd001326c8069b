"""Clusters beside the labels of a corpus: a table, and two measures of how well they agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from hydralora.corpus.folder import Corpus

MOST_LABELS = 100  # that the table lists, the most frequent first


def compare_labels(corpus: Corpus, cluster: np.ndarray) -> dict[str, Any]:
    """``nmi``, ``ari`` and the table of labels and clusters, where the corpus has several labels that repeat.

    Args:
        cluster: Cluster of every example, ``(examples,)``.
    """
    column = pa.concat_arrays([batch.column(0) for batch in corpus.columns("label")]).dictionary_encode()
    names, label = column.dictionary.to_pylist(), column.indices.to_numpy()
    known = np.isin(label, [place for place, name in enumerate(names) if name])
    label, cluster = label[known], cluster[known]
    different = len(np.unique(label))
    if different < 2 or different > len(label) // 2:
        return {}
    counts = np.zeros((len(names), int(cluster.max()) + 1), dtype=np.int64)
    np.add.at(counts, (label, cluster), 1)
    listed = np.argsort(-counts.sum(1), kind="stable")[: min(different, MOST_LABELS)]
    return {
        "nmi": float(normalized_mutual_info_score(label, cluster)),
        "ari": float(adjusted_rand_score(label, cluster)),
        "labels": [names[place] for place in listed],
        "label_table": counts[listed].tolist(),
    }
