"""What a person has typed or chosen is never replaced by what the studio fills in by itself.

The browser's part of it, which field was touched, is tested in ``tests/javascript/touched.test.js``.
"""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from hydralora.bounds import MOST_EXPERTS
from studio.clusterings import experts_reason, experts_title
from tests.studio.pages import events, opened, outputs
from tests.studio.stored import LAYERS, Stored, clustering_result, weights_result


@pytest.mark.parametrize("handler", ["load", "look", "pick_corpus", "pick_method"])
def test_new_run_fills_no_field_past_the_typing(client: TestClient, stored: Stored, handler: str) -> None:
    corpus = stored.corpus()
    stored.clustering(corpus)
    values = {"pick_corpus": [corpus.id, "hydralora"], "pick_method": ["r_lora", corpus.id]}
    opened(client, "new-run", "load")  # a visitor's choices are those of the page that was opened
    data = opened(client, "new-run", handler, values=values.get(handler))
    for name, value in zip(outputs(client, "new-run", handler), data, strict=True):
        if name and (name.startswith("field-") or name in ("run-corpus", "run-base", "run-method", "run-preset")):
            assert isinstance(value, dict) and "value" not in value, name


def test_the_chosen_number_of_clusters_travels_to_the_new_run(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    row = stored.store.clusterings.add(corpus.id, 3)
    stored.end(row.job, clustering_result([["door"], ["boat"], ["tree"]], [2, 1, 1]).row())
    data = opened(client, "new-run", "load", f"?corpus={corpus.id}")
    assert json.loads(data[-1])["field-num_experts"] == 3
    assert "chosen number of experts: 3" in data[2]
    assert "You clustered it into 3. The measures suggest 2: Two groups lie apart." in data[2]


def test_the_suggested_number_travels_where_none_was_chosen(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    row = stored.store.clusterings.add(corpus.id, None)
    stored.end(row.job, clustering_result([["door"], ["boat"]], [2, 2]).row())
    data = opened(client, "new-run", "load", f"?corpus={corpus.id}")
    assert json.loads(data[-1])["field-num_experts"] == 2
    assert "suggested number of experts: 2" in data[2]


def test_more_clusters_than_experts_end_at_the_largest_number(stored: Stored) -> None:
    corpus = stored.corpus(rows=[{"prompt": f"question {i}", "answer": f"answer {i}"} for i in range(80)])
    row = stored.store.clusterings.add(corpus.id, 70)
    stored.end(row.job, clustering_result([["word"]] * 70, [1] * 70).row())
    done = stored.store.clusterings.get(row.id)
    assert done.experts == MOST_EXPERTS
    assert f"{MOST_EXPERTS} experts cannot be trained" in experts_reason(done)
    assert experts_title(done) == f"chosen number of experts: {MOST_EXPERTS}"


def test_roles_and_rows_stay_while_clusters_are_sought(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    before = opened(client, "corpora", "draw", f"?corpus={corpus.id}")
    stored.store.clusterings.add(corpus.id, 2)
    after = opened(client, "corpora", "draw", f"?corpus={corpus.id}")
    assert after[-3] != before[-3], "the clustering is news"
    assert after[-2:] == before[-2:], "the file is not, nor how it is read"


def test_a_layer_that_is_chosen_stays(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    stored.analysis(run, "weights", weights_result())
    first = next(iter(events(client, "run", "draw").values()))
    values = [component.value for component in first.inputs]
    layer = [component.elem_id for component in first.inputs].index("run-layer")
    place, address = outputs(client, "run", "draw").index("run-layer"), f"?run={run.id}&tab=weights"
    begun = opened(client, "run", "draw", address, values)[place]
    assert [value for _, value in begun["choices"]] == ["", *LAYERS] and "value" not in begun
    values[layer] = LAYERS[1]
    assert "value" not in opened(client, "run", "draw", address, values)[place]
