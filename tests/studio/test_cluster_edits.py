"""Hands on the clusters by page and by command: the list as a tree, forms, refusals, and what New run makes of it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import gradio as gr
import pytest

from hydralora.corpus.clusters.edits import LONGEST_NAME
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.store.records import Corpus
from jobs.store.store import Store
from studio.cluster_tree import cluster_tree, flattened
from studio.clusterings import find_cluster
from studio.pages.corpora.cluster_views import cluster_list, edits_table, label_table
from studio.pages.corpora.clusters import Clusters
from studio.pages.corpora.page import CorporaPage
from studio.pages.corpora.selection_views import map_of
from studio.pages.new_run.page import NewRunPage
from studio.pages.new_run.views import about_corpus
from tests.security.hostile import TEXTS
from tests.studio.commands import Commands
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page(store: Store) -> CorporaPage:
    with gr.Blocks() as blocks:
        return CorporaPage(blocks, store)


@pytest.fixture
def part(page: CorporaPage) -> Clusters:
    return page.clusters


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    """60 examples of three kinds in three clusters of 20."""
    return stored.kinds()


@pytest.fixture(scope="module")
def untouched(store: Store) -> Corpus:
    """The same, for what is refused: nothing changes it."""
    return Stored(store).kinds(name="Untouched")


def press(part: Clusters, corpus: Corpus, act: Any, *of: Any) -> dict[Any, Any]:
    """What a button of the list does."""
    event = gr.EventData(None, {"act": act, "of": list(of)})
    return part.act(asking(corpus=corpus.id), event)


def listed(part: Clusters, corpus: Corpus) -> str:
    return str(part.draw(corpus)[part.list])


def test_a_corpus_that_was_not_clustered_shows_no_list(part: Clusters, stored: Stored) -> None:
    assert part.draw(stored.corpus())[part.whole].visible is False
    assert part.draw(None)[part.whole].visible is False


def test_every_cluster_is_listed_with_its_mark_name_words_and_rows(part: Clusters, corpus: Corpus) -> None:
    html = listed(part, corpus)
    assert all(f"hy-c{n}'>C{n}</span>" in html for n in (1, 2, 3)) and html.count("<span class='num'>20</span>") == 3
    assert html.count("data-act='rename'") == 3 and "aria-label='What to do with C2'" in html


def test_ticked_clusters_are_merged_and_undo_says_what_it_takes_back(part: Clusters, corpus: Corpus) -> None:
    assert press(part, corpus, "merge", 0, 2)[part.stamp] == ""
    drawn = part.draw(corpus)
    assert drawn[part.undo].value.startswith("Undo: Merged C1 and C3 into C") and not drawn[part.redo].visible
    part.take_back(asking(corpus=corpus.id))
    drawn = part.draw(corpus)
    assert not drawn[part.undo].visible and drawn[part.redo].value.startswith("Redo: Merged C1 and C3")
    part.make_again(asking(corpus=corpus.id))
    assert part.draw(corpus)[part.list].count("data-tick=") == 2


def test_a_name_is_asked_for_in_a_form_and_kept(part: Clusters, corpus: Corpus) -> None:
    form = press(part, corpus, "rename", 1)
    assert form[part.number] == "1" and form[part.renaming].visible and not form[part.splitting].visible
    assert form[part.name].label == "Name of C2"
    part.save_name(asking(corpus=corpus.id), form[part.number], "Weather")
    assert "<b>Weather</b>" in listed(part, corpus) and "What to do with C2 Weather" in listed(part, corpus)


def test_a_split_shows_as_a_tree(part: Clusters, corpus: Corpus, stored: Stored) -> None:
    stored.store.cluster_edits.rename(corpus.id, 0, "First")
    assert press(part, corpus, "split", 0)[part.splitting].visible
    part.begin_split(asking(corpus=corpus.id), "0", 2)
    drawn = part.draw(corpus)
    assert "Waiting for its turn" in drawn[part.state] and "Split C1 First into 2" in drawn[part.state]
    stored.work(stored.store.clusterings.clustered(corpus.id).edits[0].job)
    clustering = stored.store.clusterings.clustered(corpus.id)
    tree = flattened(cluster_tree(clustering.clusters))
    assert [(depth, node.number) for depth, node in tree] == [(0, None), (1, 0), (1, 3), (0, 1), (0, 2)]
    assert tree[0][1].name == "First" and tree[0][1].rows == 20
    assert "<b>First</b><span class='words'>split into 2</span>" in listed(part, corpus)
    assert part.draw(corpus)[part.state] == ""


def test_a_branch_with_one_part_left_is_none(stored: Stored, corpus: Corpus) -> None:
    edits = stored.store.cluster_edits
    stored.work(edits.split(corpus.id, 0, 2).job)
    stored.work(edits.split(corpus.id, 3, 2).job)
    tree = cluster_tree(stored.store.clusterings.clustered(corpus.id).clusters)
    assert [leaf.number for leaf in tree[0].leaves()] == [0, 3, 4] and len(tree[0].parts) == 2
    edits.merge(corpus.id, [3, 4])
    tree = cluster_tree(stored.store.clusterings.clustered(corpus.id).clusters)
    assert [part.number for part in tree[0].parts] == [0, 3]
    edits.merge(corpus.id, [0, 3])
    assert [node.number for node in cluster_tree(stored.store.clusterings.clustered(corpus.id).clusters)] == [0, 1, 2]


def test_typical_and_borderline_rows_say_why_they_are_there(part: Clusters, corpus: Corpus) -> None:
    for kind in ("typical", "borderline"):
        rows = press(part, corpus, kind, 1)[part.rows]
        assert f"{kind.capitalize()} rows of C2" in rows and "lies in C2; C" in rows and "class='hy-words'" in rows


def test_a_cluster_that_is_left_out_says_so_and_is_not_left_out_twice(part: Clusters, corpus: Corpus) -> None:
    press(part, corpus, "exclude", 2)
    html = listed(part, corpus)
    assert html.count("<em>left out</em>") == 1 and html.count("data-act='exclude'") == 2
    with pytest.raises(UserError, match="left out already"):
        press(part, corpus, "exclude", 2)


def test_labels_stand_beside_clusters_with_both_measures(part: Clusters, corpus: Corpus, stored: Stored) -> None:
    assert "(NMI) 1.00, adjusted Rand index (ARI) 1.00" in part.draw(corpus)[part.labels]
    press(part, corpus, "merge", 0, 1)
    table = label_table(stored.store.clusterings.clustered(corpus.id).clusters)
    assert "(NMI) 1.00" not in table and table.count("<b>20</b>") == 3 and "sea" in table


@pytest.mark.parametrize(
    ("act", "of", "words"),
    [
        ("merge", [1], "takes two clusters at least"),
        ("merge", [], "Choose a cluster"),
        ("merge", ["0", "1"], "Choose a cluster"),
        ("merge", [0, 99], "There is no cluster C100"),
        ("rename", [0, 1], "nothing called 'rename'"),
        ("delete", [0], "nothing called 'delete'"),
        (7, [0], "nothing called ''"),
        ("typical", [True], "Choose a cluster"),
    ],
)
def test_what_no_button_sends_is_refused(
    part: Clusters, untouched: Corpus, act: Any, of: list[Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        press(part, untouched, act, *of)


@pytest.mark.parametrize("sent", [None, "x", [], {"act": "merge"}, {"act": "merge", "of": {"0": 1}}])
def test_an_event_of_another_form_is_refused(part: Clusters, untouched: Corpus, sent: Any) -> None:
    with pytest.raises(UserError, match="Choose a cluster"):
        part.act(asking(corpus=untouched.id), gr.EventData(None, sent))


@pytest.mark.parametrize("number", ["", "x", "-1", "1e3", "٣", "9" * 40, None, 5.5])
def test_a_form_about_no_cluster_is_refused(part: Clusters, untouched: Corpus, number: Any) -> None:
    with pytest.raises(UserError, match=r"Choose a cluster|There is no cluster"):
        part.save_name(asking(corpus=untouched.id), number, "Weather")


def test_a_small_cluster_is_not_split(part: Clusters, stored: Stored) -> None:
    corpus = stored.kinds(each=3)
    with pytest.raises(UserError, match="has 3 rows; a split into 2 takes 4 at least"):
        part.begin_split(asking(corpus=corpus.id), "0", 0)


def test_hostile_names_are_text_wherever_they_stand(part: Clusters, corpus: Corpus, stored: Stored) -> None:
    press(part, corpus, "exclude", 0)
    for text in (*TEXTS, EVIL):
        with contextlib.suppress(UserError):  # too long, empty, or the same once more: refused in a sentence
            part.save_name(asking(corpus=corpus.id), "0", text)
        clustering = stored.store.clusterings.clustered(corpus.id)
        assert len(clustering.clusters.given_name(0)) <= LONGEST_NAME
        drawn = [listed(part, corpus), edits_table(clustering), press(part, corpus, "typical", 0)[part.rows]]
        drawn.append(about_corpus(stored.store, corpus)[0])
        assert all("<img" not in html and "<script" not in html and "\x1b" not in html for html in drawn)
    assert stored.store.clusterings.clustered(corpus.id).clusters.given_name(0) == EVIL


def test_names_are_escaped_in_attributes_too(part: Clusters, corpus: Corpus, stored: Stored) -> None:
    stored.store.cluster_edits.rename(corpus.id, 0, "a' onclick='alert(1)")
    html = cluster_list(stored.store.clusterings.clustered(corpus.id))
    assert "onclick='alert" not in html and "a&#x27; onclick=&#x27;alert(1)" in html


def test_a_new_run_has_as_many_experts_as_there_are_clusters_and_says_why(
    store: Store, part: Clusters, corpus: Corpus
) -> None:
    with gr.Blocks() as blocks:
        form = NewRunPage(blocks, store)
    press(part, corpus, "merge", 0, 2)
    opened = form.load(asking(corpus=corpus.id))
    assert json.loads(opened[form.filled])["field-num_experts"] == 2
    note = opened[form.corpus_note]
    assert "chosen number of experts: 2" in note and "You merged C1 and C3 into C" in note and ": 2 clusters." in note
    store.cluster_edits.undo(corpus.id)
    assert json.loads(form.load(asking(corpus=corpus.id))[form.filled])["field-num_experts"] == 3


def test_the_map_is_drawn_as_the_clusters_stand(corpus: Corpus, stored: Stored) -> None:
    def drawn() -> dict[str, Any]:
        selections = stored.store.selections
        return map_of(selections.membership(corpus.id), corpus.id, Query(), selections.find(corpus.id, Query()))

    before = drawn()
    edit = stored.store.cluster_edits.merge(corpus.id, [0, 2])
    stored.store.cluster_edits.rename(corpus.id, edit.details["kept"], "Both")
    after = drawn()
    sizes = [cluster["size"] for cluster in before["clusters"]]
    assert before["src"] != after["src"] and after["clusters"][edit.details["kept"]]["size"] == sizes[0] + sizes[2]
    assert sorted(cluster["name"][3:] for cluster in after["clusters"] if cluster["size"])[0].startswith("Both")


def test_a_page_that_is_open_looks_anew_after_an_edit(page: CorporaPage, corpus: Corpus, stored: Stored) -> None:
    known = page.draw(asking(corpus=corpus.id))[page.stamp]
    assert page.stamp not in page.draw(asking(corpus=corpus.id), known)
    stored.store.cluster_edits.rename(corpus.id, 0, "First")
    assert page.draw(asking(corpus=corpus.id), known)[page.stamp] != known


@pytest.mark.parametrize("text", ["C2", "c2", "2", "Weather", " weather "])
def test_a_cluster_is_found_by_letter_number_and_name(stored: Stored, corpus: Corpus, text: str) -> None:
    stored.store.cluster_edits.rename(corpus.id, 1, "Weather")
    assert find_cluster(stored.store.clusterings.clustered(corpus.id).clusters, text) == 1


# The command


@pytest.fixture
def studio(stored: Stored) -> Commands:
    return Commands(stored.home.root)


def test_the_command_edits_as_the_page_does(studio: Commands, corpus: Corpus) -> None:
    told = studio.json("corpora", "clusters", corpus.id, "--rename", "C2", "Weather")
    assert told["edit"]["sentence"] == "Renamed C2 to “Weather”" and told["clusters"][1]["given_name"] == "Weather"
    told = studio.json("corpora", "clusters", corpus.id, "--merge", "C1,weather")
    assert len(told["clusters"]) == 2 and told["experts"] == 2 and len(told["grouping"]) == 16
    told = studio.json("corpora", "clusters", corpus.id, "--undo")
    assert len(told["clusters"]) == 3 and told["edit"]["state"] == "taken back"
    assert studio.json("corpora", "clusters", corpus.id, "--redo")["edit"]["state"] == "stands"
    told = studio.json("corpora", "clusters", corpus.id, "--exclude", "C3")
    assert [one["left_out"] for one in told["clusters"]] == [False, True] and told["edits"][0]["by"] == "command"


def test_the_command_shows_list_labels_edits_and_rows(studio: Commands, corpus: Corpus, stored: Stored) -> None:
    stored.work(stored.store.cluster_edits.split(corpus.id, 0, 2).job)
    shown = studio("corpora", "clusters", corpus.id).stdout
    assert "Chosen number of experts: 4." in shown and "  C4" in shown and "--undo takes this back: Split C1" in shown
    assert "NMI 0." in studio("corpora", "clusters", corpus.id, "--labels").stdout
    assert "Split C1 into 2  stands" in studio("corpora", "clusters", corpus.id, "--list").stdout
    rows = studio.json("corpora", "clusters", corpus.id, "--rows", "C2")
    assert rows["cluster"] == "C2" and {why["cluster"] for why in rows["typical"]} == {1}
    assert "Typical rows of C2" in studio("corpora", "clusters", corpus.id, "--rows", "C2").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--merge", "C1"], "takes two clusters at least"),
        (["--merge", "C1,C9"], "There is no cluster called 'C9'. Choose from: C1, C2 and C3."),
        (["--undo", "--redo"], "Say one thing"),
        (["--k", "3"], "`--k` is the number of parts of `--split`"),
        (["--split", "C1", "--k", "99"], "must be between 2 and 24"),
        (["--rename", "C1", "x" * 60], "at most 40 characters"),
        (["--undo"], "no edit of clusters to take back"),
    ],
)
def test_the_command_refuses_in_a_sentence(studio: Commands, untouched: Corpus, words: list[str], said: str) -> None:
    refused = studio("corpora", "clusters", untouched.id, *words)
    assert refused.returncode == 2 and said in refused.stderr


def test_other_commands_take_the_clusters_as_they_stand(studio: Commands, corpus: Corpus, stored: Stored) -> None:
    stored.store.cluster_edits.rename(corpus.id, 1, "Weather")
    stored.store.cluster_edits.merge(corpus.id, [0, 2])
    gone = ({0, 2} - set(stored.store.clusterings.clustered(corpus.id).clusters.all_numbers)).pop() + 1
    refused = studio("corpora", "exclude", corpus.id, "--cluster", gone)
    assert refused.returncode == 2 and f"There is no cluster C{gone}" in refused.stderr
    assert studio.json("corpora", "exclude", corpus.id, "--cluster", 2)["reason"] == 'cluster "Weather"'
    assert studio.json("corpora", "why", corpus.id, 0)["cluster"] + 1 != gone
