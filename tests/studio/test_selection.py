"""The selection on the page of a corpus and at its addresses: what it counts, shows, names, leaves out and sends."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hydralora.config import TrainConfig
from hydralora.corpus.clusters.places import read_places
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.store.records import Corpus
from jobs.store.store import Store
from studio.pages.corpora.page import CorporaPage
from studio.pages.corpora.selection import SelectionPart
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking

EVIL = "<script>alert(1)</script>"
FIELDS: dict[str, Any] = {
    "search": "",
    "labels": [],
    "clusters": [],
    "flags": [],
    "languages": [],
    "least": "",
    "most": "",
    "left_out": "",
    "saved": 0,
    "picked": "",
}
ALL = [[-1, -1], [70_000, -1], [70_000, 70_000], [-1, 70_000]]


def values(**changed: Any) -> list[Any]:
    return list({**FIELDS, **changed}.values())


class Event:
    """What the map sends."""

    def __init__(self, data: Any) -> None:
        self._data = data


@pytest.fixture
def page(store: Store) -> CorporaPage:
    with gr.Blocks() as blocks:
        return CorporaPage(blocks, store)


@pytest.fixture
def part(page: CorporaPage) -> SelectionPart:
    return page.selection


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    """25 rows, clustered by parity; every fifth is hostile."""
    rows = [
        {"prompt": f"{EVIL if i % 5 == 0 else 'plain'} {i}", "answer": f"=answer {i}", "label": "ab"[i % 2]}
        for i in range(25)
    ]
    made = stored.corpus(rows=rows)
    stored.clustering(made, [[EVIL], ["boat"]])
    return made


def test_search_and_facets_give_a_true_count_and_a_page_of_rows(part: SelectionPart, corpus: Corpus) -> None:
    shown = part.narrow(asking(corpus=corpus.id), *values(search="PLAIN", labels=["a"]))
    assert "10 rows of 25 selected" in shown[part.count] and "Page 1 of 1" in shown[part.rows]
    assert ">24<" in shown[part.rows] and ">25<" not in shown[part.rows]
    shown = part.narrow(asking(corpus=corpus.id), *values(least="12", most="14", clusters=[1]))
    sizes = [len(e.prompt) + len(e.answer) for e in Rows(part.store.home.corpus(corpus.id))]
    wanted = sum(12 <= size <= 14 and place % 2 == 1 for place, size in enumerate(sizes))
    assert f"{wanted} rows of 25 selected" in shown[part.count]


def test_nothing_selected_says_what_to_do(part: SelectionPart, corpus: Corpus) -> None:
    shown = part.narrow(asking(corpus=corpus.id), *values(search="zebra"))
    assert "0 rows of 25" in shown[part.count] and "press Clear" in shown[part.rows] and shown[part.exports] == ""
    assert not shown[part.exclude].interactive and not shown[part.keep].interactive


def test_a_loop_a_click_and_the_fields_are_one_selection(part: SelectionPart, corpus: Corpus) -> None:
    looped = part.pick(asking(corpus=corpus.id), Event({"kind": "loop", "loop": ALL}), *values(labels=["b"]))
    assert "12 rows of 25 selected" in looped[part.count] and json.loads(looped[part.picked])["loop"] == ALL
    clicked = part.pick(asking(corpus=corpus.id), Event({"kind": "click", "rows": [7]}), *values())
    assert "1 row of 25 selected" in clicked[part.count]
    again = part.narrow(asking(corpus=corpus.id), *values(labels=["b"], picked=clicked[part.picked]))
    assert "1 row of 25 selected" in again[part.count]
    mask = np.unpackbits(np.frombuffer(base64.b64decode(again[part.map]["selected"]), np.uint8), bitorder="little")
    assert np.flatnonzero(mask).tolist() == [7]


def test_rows_do_not_turn_beyond_the_last_page_of_the_selection(part: SelectionPart, corpus: Corpus) -> None:
    asked, request = values(search="plain"), asking(corpus=corpus.id)
    assert part.next_rows(request, 1, *asked)[part.number] == 2
    assert part.next_rows(request, 2, *asked)[part.number] == 2
    assert part.previous_rows(request, 1, *asked)[part.number] == 1
    assert (
        part.show_rows(request, 1e300, *asked)[part.number] == part.show_rows(request, None, *asked)[part.number] == 1
    )


def test_a_selection_is_left_out_with_its_words_and_the_run_has_the_rest(
    part: SelectionPart, stored: Stored, corpus: Corpus
) -> None:
    part.leave_out(asking(corpus=corpus.id), *values(labels=["b"]))
    (made,) = stored.store.exclusions.all(corpus.id)
    assert (made.count, made.reason) == (12, "b")
    shown = part.narrow(asking(corpus=corpus.id), *values(left_out="yes"))
    assert "12 rows of 25 selected" in shown[part.count] and "12 left out already" in shown[part.count]
    run = stored.run(corpus, finished=False)
    assert run.config.train.selection == stored.store.exclusions.name(corpus.id) != ""


def test_languages_are_a_facet_with_counts_once_the_corpus_was_checked(
    page: CorporaPage, part: SelectionPart, stored: Stored
) -> None:
    texts = [
        "Where is the old ladder of the harbour kept at night?",
        "Wo steht die alte Leiter des Hafens in der Nacht?",
    ]
    corpus = stored.corpus(rows=[{"prompt": f"{texts[i % 3 == 0]} {i}", "answer": "There"} for i in range(12)])
    facet = page.fill_selection(asking(corpus=corpus.id), *values())[part.languages]
    assert not facet.interactive and "Check this corpus" in facet.info
    check_corpus(stored.store.home.corpus(corpus.id), TrainConfig())
    facet = page.fill_selection(asking(corpus=corpus.id), *values())[part.languages]
    assert facet.choices == [("English (en): 8 rows", "en"), ("German (de): 4 rows", "de")] and facet.interactive
    shown = part.narrow(asking(corpus=corpus.id), *values(languages=["de"]))
    assert "4 rows of 12 selected" in shown[part.count]
    part.leave_out(asking(corpus=corpus.id), *values(languages=["de"]))
    assert stored.store.exclusions.all(corpus.id)[0].reason == "language de"


def test_not_everything_is_left_out_by_a_slip(part: SelectionPart, corpus: Corpus) -> None:
    with pytest.raises(UserError, match="Every row is selected"):
        part.leave_out(asking(corpus=corpus.id), *values())


def test_a_named_selection_is_listed_opened_by_its_address_and_deleted(
    page: CorporaPage, part: SelectionPart, stored: Stored, corpus: Corpus
) -> None:
    before = page.draw(asking(corpus=corpus.id))[page.stamp]
    part.name_it(asking(corpus=corpus.id), "evens", *values(clusters=[0]))
    assert page.draw(asking(corpus=corpus.id), before)[page.stamp] != before
    (made,) = stored.store.selections.all(corpus.id)
    drawn = page.fill_selection(asking(corpus=corpus.id, selection=made.id), *values())
    assert ("evens (13 rows)", made.id) in drawn[part.saved].choices and drawn[part.saved].value == made.id
    assert "13 rows of 25 selected" in drawn[part.count] and drawn[part.forget].visible
    part.forget_name(asking(corpus=corpus.id), made.id)
    assert stored.store.selections.all(corpus.id) == []


def test_a_name_of_another_corpus_is_not_deleted(part: SelectionPart, stored: Stored, corpus: Corpus) -> None:
    theirs = stored.store.selections.add(stored.corpus("Other").id, "theirs", Query())
    for given in (theirs.id, None, "1", [1]):
        with pytest.raises(UserError, match="Choose the named selection"):
            part.forget_name(asking(corpus=corpus.id), given)
    assert stored.store.selections.get(theirs.id) == theirs


def test_clear_empties_every_field(part: SelectionPart, corpus: Corpus) -> None:
    cleared = part.clear_all(asking(corpus=corpus.id))
    assert [cleared[field] for field in part.fields] == values() and "All 25 rows" in cleared[part.count]


def test_texts_and_names_enter_the_page_as_text(part: SelectionPart, stored: Stored, corpus: Corpus) -> None:
    stored.store.selections.add(corpus.id, EVIL, Query(rows=[1]))
    drawn = part.draw(corpus, None, *values(search=EVIL))
    html = "".join(drawn[piece] for piece in (part.count, part.exports, part.rows))
    assert "<script" not in html and "&lt;script&gt;" in html


def test_a_corpus_without_clusters_has_no_map_and_says_when_it_comes(part: SelectionPart, stored: Stored) -> None:
    shown = part.draw(stored.corpus(), None, *values())
    assert shown[part.map]["src"] is None and "after clustering" in shown[part.map]["empty"]
    assert not shown[part.clusters].visible


@pytest.mark.parametrize(
    "hostile",
    [
        {"search": "x" * 501},
        {"labels": "a"},
        {"labels": [{"path": "/etc/passwd"}]},
        {"clusters": [-1]},
        {"clusters": [99]},
        {"flags": ["../quality"]},
        {"least": "-1"},
        {"least": "1e9"},
        {"least": "nan"},
        {"left_out": "perhaps"},
        {"saved": 987_654},
        {"saved": "1 OR 1=1"},
        {"picked": "[" * 1_000},
        {"picked": '{"search": "x"}'},
        {"picked": '{"loop": [[0, 0], [NaN, 1], [2, 2]]}'},
        {"picked": '{"loop": [[0, 0], [1e999, 1], [2, 2]]}'},
        {"picked": '{"rows": [-5]}'},
        {"picked": '{"rows": [1.5]}'},
    ],
    ids=str,
)
def test_what_the_fields_cannot_hold_is_refused_in_a_sentence(
    part: SelectionPart, corpus: Corpus, hostile: dict[str, Any]
) -> None:
    with pytest.raises(UserError) as refusal:
        part.narrow(asking(corpus=corpus.id), *values(**hostile))
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "sent", [None, 7, [], {"loop": "x"}, {"rows": [10**9]}, {"rows": {"a": 1}}, {"loop": [[0]] * 9}]
)
def test_what_no_map_would_send_selects_nothing_wrong(part: SelectionPart, corpus: Corpus, sent: Any) -> None:
    try:
        shown = part.pick(asking(corpus=corpus.id), Event(sent), *values())
    except UserError:
        return
    assert "All 25 rows" in shown[part.count] or "0 rows of 25" in shown[part.count]


# Addresses


def test_all_points_are_sent_at_five_bytes_and_once(client: TestClient, stored: Stored, corpus: Corpus) -> None:
    clustering = stored.store.clusterings.latest(corpus.id, finished=True)
    assert clustering is not None
    address = f"/ui/clusterings/{clustering.id}/points"
    reply = client.get(address)
    assert reply.content == read_places(stored.home.clustering(clustering.id)).packed() and len(reply.content) == 5 * 25
    again = client.get(address, headers={"If-None-Match": reply.headers["etag"]})
    assert again.status_code == 304 and again.content == b""


def test_an_unfinished_clustering_has_no_points_yet(client: TestClient, stored: Stored) -> None:
    waiting = stored.store.clusterings.add(stored.corpus().id, 2)
    reply = client.get(f"/ui/clusterings/{waiting.id}/points")
    assert (reply.status_code, reply.json()["detail"]) == (400, "This clustering is not finished yet. Wait for it.")


def test_a_clustering_whose_files_are_gone_says_so(client: TestClient, stored: Stored) -> None:
    clustering = stored.clustering(stored.corpus())
    (stored.home.clustering(clustering.id) / "assignments.parquet").unlink()
    reply = client.get(f"/ui/clusterings/{clustering.id}/points")
    assert reply.status_code == 400
    assert reply.json()["detail"].endswith("are gone or damaged. Cluster the corpus again.")


def test_a_row_is_sent_as_text_cut_for_showing(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus(rows=[{"prompt": EVIL, "answer": "a" * 5_000}, {"prompt": "b", "answer": "c"}])
    row = client.get(f"/ui/corpora/{corpus.id}/rows/0").json()
    assert row["prompt"] == EVIL and len(row["answer"]) < 600 and row["position"] == 0
    assert "outside this corpus" in client.get(f"/ui/corpora/{corpus.id}/rows/2").json()["detail"]
    assert client.get(f"/ui/corpora/{corpus.id}/rows/-1").status_code == 422


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_what_is_selected_is_exported_and_imported_again_as_it_was(
    client: TestClient, stored: Stored, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    asked = quote(json.dumps({"labels": ["b"], "loop": ALL}))
    reply = client.get(f"/ui/corpora/{corpus.id}/selected.{name}?select={asked}")
    assert reply.status_code == 200 and f"selected.{name}" in reply.headers["content-disposition"]
    (file := tmp_path / f"back.{name}").write_bytes(reply.content)
    assert import_corpus([file], tmp_path / "back").examples == 12
    mark = "'" if name == "csv" else ""  # what a spreadsheet would run is defused
    assert [e.answer for e in Rows(tmp_path / "back")] == [f"{mark}=answer {i}" for i in range(1, 25, 2)]
    assert [e.label for e in Rows(tmp_path / "back")] == ["b"] * 12


def test_the_links_of_the_page_export_what_is_selected(client: TestClient, part: SelectionPart, corpus: Corpus) -> None:
    shown = part.narrow(asking(corpus=corpus.id), *values(search="plain", labels=["a"]))
    address = shown[part.exports].split("href='")[1].split("'")[0].replace("&amp;", "&")
    assert len(client.get(address).text.splitlines()) == 10


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("{", "select"),
        ("[]", "select"),
        ('{"search": "zebra"}', "nothing to export"),
        ('{"loop": [[0,0],[NaN,1],[2,2]]}', "select"),
        ('{"path": "/etc/passwd"}', "not a setting here"),
        (json.dumps({"loop": [[0, 0]] * 401}), "select"),
        ("x" * 20_001, "select"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_query_that_is_none_is_refused_in_a_sentence(
    client: TestClient, corpus: Corpus, select: str, words: str
) -> None:
    reply = client.get(f"/ui/corpora/{corpus.id}/selected.jsonl?select={quote(select)}")
    assert 400 <= reply.status_code < 500 and words in reply.json()["detail"]


@pytest.mark.parametrize("address", ["rows/0", "selected.jsonl"])
def test_a_corpus_that_does_not_exist_is_named(client: TestClient, address: str) -> None:
    reply = client.get(f"/ui/corpora/987654/{address}")
    assert reply.status_code == 400 and "does not exist" in reply.json()["detail"]


def test_a_loop_of_a_million_corners_is_refused_before_it_is_looked_at(client: TestClient, corpus: Corpus) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": "x", "event_data": {"loop": [[0, 0]] * 1_000_000}}
    reply = client.post("/gradio_api/run/predict", content=json.dumps(body))
    assert reply.status_code in (413, 422)


def test_the_rows_can_be_placed_by_umap_once_and_the_page_says_how_far_that_is(
    page: CorporaPage, part: SelectionPart, stored: Stored, corpus: Corpus
) -> None:
    bare = stored.corpus("Bare")
    assert part.draw(corpus, None, *values())[part.spread].visible
    before = page.draw(asking(corpus=corpus.id))[page.stamp]
    part.start_layout(asking(corpus=corpus.id))
    assert page.draw(asking(corpus=corpus.id), before)[page.stamp] != before
    waiting = part.draw(corpus, None, *values())
    assert "Waiting" in waiting[part.spreading] and not waiting[part.spread].visible
    with pytest.raises(UserError, match="places its rows already"):
        part.start_layout(asking(corpus=corpus.id))
    with pytest.raises(UserError, match="has no clusters and no map yet"):
        part.start_layout(asking(corpus=bare.id))
