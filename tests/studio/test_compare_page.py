"""The pages Runs and Compare: what they draw for an address, what their buttons do, and what an address cannot do."""

from __future__ import annotations

import csv
import io
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from hydralora.results import AnswerRow, Answers, Score
from jobs.breakdown import find_breakdown
from jobs.repeats import equal_lora, start_equal_lora, start_seeds
from jobs.store.records import Run
from jobs.store.store import Store
from studio.comparison.address import written
from studio.pages.common import known_bases
from studio.pages.compare.page import ComparePage
from studio.pages.home.views import Desk
from studio.pages.runs.page import RunsPage
from tests.jobs.conftest import counting
from tests.studio.pages import opened, words
from tests.studio.stored import SUMMARY, Stored, compare_result, map_result, routing_result

HOSTILE = "<img src=x onerror=alert(1)>"


def answers(right: list[bool], label: str = "tone") -> Answers:
    """What a run answered: the wanted colour where it is right."""
    share = sum(right) / len(right)
    return Answers(
        examples=len(right),
        scores={
            "base": Score(exact_match=0.0, hits=[False] * len(right), by_label={label: 0.0}),
            "tuned": Score(exact_match=share, hits=right, by_label={label: share}),
        },
        sentence="Measured.",
        rows=[
            AnswerRow(id=i, prompt=f"question {i}", wanted="red", label=label, base="", tuned="red" if hit else HOSTILE)
            for i, hit in enumerate(right)
        ],
    )


@pytest.fixture
def pair(stored: Stored) -> tuple[Run, Run]:
    """Two finished runs of two methods on one corpus, both asked the same four questions."""
    corpus = stored.corpus()
    stored.clustering(corpus)
    first = stored.run(corpus, "Hydra")
    second = stored.run(corpus, "Plain", method="lora", adapter={"r": 8})
    stored.analysis(first, "answers", answers([True, True, False, True]))
    stored.analysis(second, "answers", answers([True, False, False, False]))
    return first, second


def drawn(client: TestClient, query: str, page: str = "compare") -> str:
    """Everything that a page draws at an address."""
    return words(opened(client, page, "draw", query=query))


def test_the_list_shows_scores_and_escapes_names(client: TestClient, pair: tuple[Run, Run]) -> None:
    client.app.state.store.runs.rename(pair[0].id, HOSTILE)
    found = drawn(client, "", "runs")
    assert "75 %" in found and "Plain" in found
    assert "<img" not in found and "&lt;img" in found


def test_the_list_follows_its_address(client: TestClient, pair: tuple[Run, Run]) -> None:
    found = drawn(client, "?method=lora&sort=-exact&q=plain", "runs")
    assert "Plain" in found and f"data-tick='{pair[0].id}'" not in found and "aria-sort='descending'" in found
    assert "No run is like that" in drawn(client, "?q=nobody", "runs")
    assert "data-tick" in drawn(client, "?sort=luck&page=99&corpus=x", "runs")


def test_an_empty_studio_says_where_to_begin(tmp_path: Any) -> None:
    from jobs.home import Home

    store = Store(Home(tmp_path / "home"))
    with gr.Blocks() as blocks:
        runs, page = RunsPage(blocks, store), ComparePage(blocks, store)
    assert "No runs yet" in runs.draw(None, "")[runs.table]  # type: ignore[arg-type]
    assert "Choose runs to compare" in page.draw(None, "")[page.top]  # type: ignore[arg-type]


def test_what_is_ticked_is_tagged_and_archived(stored: Stored, pair: tuple[Run, Run]) -> None:
    store = stored.store
    with gr.Blocks() as blocks:
        page = RunsPage(blocks, store)
    ids = [run.id for run in pair]
    assert page.do("tag", ids, " best ") == "2 runs have the tag now."
    assert [line.tags for line in store.run_list.lines(ids)] == [("best",), ("best",)]
    page.do("untag", ids[:1], "best")
    assert "1 run is archived" in page.do("archive", ids[:1], "")
    assert "1 run is back" in page.do("unarchive", ids[:1], "")
    with pytest.raises(UserError, match="Tick a run"):
        page.do("tag", [], "best")


def test_an_archived_run_and_what_only_it_has_are_offered_nowhere(
    client: TestClient, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "1")
    corpus = stored.corpus()
    kept = stored.run(corpus, "Kept", base="owner/kept")
    gone = stored.run(corpus, "Gone", base="owner/gone", method="lora", adapter={"r": 8})
    stored.store.run_list.tag([gone.id], add=["put away"])
    stored.store.run_list.archive([gone.id])
    assert "owner/kept" in known_bases(stored.store) and "owner/gone" not in known_bases(stored.store)
    newest = {run.id for run in Desk(stored.store, 0.0, stored.store.totals()).runs}
    assert kept.id in newest and gone.id not in newest
    for page, query in (("compare", f"?runs={kept.id}"), ("run", f"?run={kept.id}"), ("runs", "")):
        found = drawn(client, query, page)
        assert "Kept" in found and "Gone" not in found and "put away" not in found, page
    assert "Gone" in drawn(client, f"?run={gone.id}", "run") and "put away" in drawn(client, "?archived=1", "runs")
    archived = {run["id"]: run["archived"] for run in client.get("/ui/chat/start").json()["runs"]}
    assert archived[gone.id] and not archived[kept.id]


def test_a_page_of_runs_takes_few_statements(stored: Stored, pair: tuple[Run, Run]) -> None:
    with gr.Blocks() as blocks:
        page = RunsPage(blocks, stored.store)
    with counting(stored.store) as said:
        page.draw(None, "")  # type: ignore[arg-type]
    assert len(said) <= 10, said


def test_compare_says_the_verdict_and_what_differs(client: TestClient, pair: tuple[Run, Run]) -> None:
    found = drawn(client, f"?runs={written(run.id for run in pair)}")
    assert "75 %" in found and "open, 4 questions cannot tell them apart." in found
    assert "What differs in the settings" in found and "C1" in found and "4 experts" not in found


def test_runs_that_do_not_exist_are_said_and_the_others_compared(client: TestClient, pair: tuple[Run, Run]) -> None:
    found = drawn(client, f"?runs={pair[0].id},{pair[1].id},987654")
    assert "Run 987654 does not exist" in found and "75 %" in found
    assert "None of these runs exists" in drawn(client, "?runs=987654")
    assert "cannot be compared" in drawn(client, "?runs=1;drop")
    assert "At most 1,000 runs" in drawn(client, "?runs=1-5000")


def test_a_run_deleted_in_another_tab_is_missing_from_the_next_look(
    client: TestClient, stored: Stored, pair: tuple[Run, Run]
) -> None:
    query = f"?runs={pair[0].id},{pair[1].id}"
    drawn(client, query)
    stored.store.runs.delete(pair[1].id)
    found = drawn(client, query)
    assert f"Run {pair[1].id} does not exist" in found and "One run." in found


def test_answers_stand_beside_each_other_with_what_only_one_has_right(
    client: TestClient, pair: tuple[Run, Run]
) -> None:
    runs = f"?runs={pair[0].id},{pair[1].id}&tab=answers"
    found = drawn(client, runs)
    assert "A right, B wrong 2" in found and "A wrong, B right 0" in found
    assert "question 1" in found and "question 0" not in found and "<img" not in found
    assert "No question is like that" in drawn(client, f"{runs}&show=b")
    turned = drawn(client, f"{runs}&a={pair[1].id}&b={pair[0].id}&show=b")
    assert "A wrong, B right 2" in turned


def test_gates_and_weights_are_asked_for_when_their_tab_is_seen_and_shown_when_stored(
    client: TestClient, stored: Stored, pair: tuple[Run, Run]
) -> None:
    first, second = pair
    query = f"?runs={first.id},{second.id}"
    assert stored.store.analyses.find(first.id, "routing") is None
    assert "Waiting for its turn" in drawn(client, f"{query}&tab=experts")
    assert stored.store.analyses.find(first.id, "routing") is not None
    assert "Plain has no router" in drawn(client, f"{query}&tab=experts")
    stored.end_all()
    done = stored.analysis(first, "routing", routing_result())
    assert f"/ui/figures/analyses/{done.id}/layers" in drawn(client, f"{query}&tab=experts")
    stored.end_all()
    rest = {"other_runs": [second.id]}
    compared = stored.analysis(first, "compare", compare_result(), rest)
    params = {"which": "B", "layout": "pca", "seed": 0, "similarity": "subspace", **rest}
    stored.analysis(first, "map", map_result(runs=("run 1", "run 2")), params)
    weights = drawn(client, f"{query}&tab=weights")
    assert f"/ui/figures/analyses/{compared.id}/runs" in weights
    assert "Train one LoRA per cluster (one seed)" in weights and "--breakdown --own-seeds" in weights


def test_one_lora_per_cluster_is_started_from_one_seed_or_from_seeds_of_their_own(
    stored: Stored, pair: tuple[Run, Run]
) -> None:
    with gr.Blocks() as blocks:
        page = ComparePage(blocks, stored.store)

    class Asking:
        query_params = {"runs": str(pair[0].id), "tab": "weights"}  # noqa: RUF012

    for act, own in (("breakdown", False), ("breakdown-own", True)):
        page.act(Asking(), "", gr.EventData(None, {"act": act, "of": str(pair[0].id)}))  # type: ignore[arg-type]
        seeds = {run.config.train.seed for run in find_breakdown(stored.store, pair[0], own_seeds=own)}
        assert len(seeds) == (2 if own else 1)
    drawn_now = str(page.draw(Asking(), "")[page.tabs[3].head])  # type: ignore[arg-type, attr-defined]
    assert "(one seed) is being trained: 0 of 2" in drawn_now and "Train one LoRA" not in drawn_now


def test_figures_and_tables_of_a_comparison_are_served(
    client: TestClient, stored: Stored, pair: tuple[Run, Run]
) -> None:
    for place, run in enumerate(pair):
        stored.steps(run, [{"loss": 2.0 / n, "eval_loss": (1.0 + place) / n, "tokens_per_second": 9.0} for n in (1, 2)])
    runs = f"{pair[0].id},{pair[1].id}"
    curves = client.get(f"/ui/figures/compare/curves?runs={runs}&log=1&single=1&smooth=0.3").json()
    assert curves["title"] == "HydraLoRA ends lowest, at 0.500, one run each" and len(curves["table"]["rows"]) == 2
    for view in ("intervals", "cost", "parallel"):
        found = client.get(f"/ui/figures/compare/{view}?runs={runs}").json()
        assert found["table"]["rows"] and found["title"], view
    for name in ("scores", "runs", "settings", "clusters"):
        table = client.get(f"/ui/compare/{name}.csv?runs={runs}")
        assert table.status_code == 200 and len(list(csv.reader(io.StringIO(table.text)))) >= 3, name
    beside = client.get(f"/ui/compare/answers.csv?runs={runs}&a={pair[0].id}&b={pair[1].id}").text
    assert HOSTILE in beside and len(beside.splitlines()) == 5


@pytest.mark.parametrize(
    "address",
    [
        "/ui/figures/compare/curves?runs=x",
        "/ui/figures/compare/curves?runs=1-9999999",
        "/ui/figures/compare/nothing?runs={runs}",
        "/ui/figures/compare/curves?runs={runs}&of=luck",
        "/ui/figures/compare/cost?runs={runs}&cost=../x",
        "/ui/figures/compare/curves?runs={runs}&by=__class__",
        "/ui/figures/compare/curves?runs=987654",
        "/ui/compare/passwords.csv?runs={runs}",
        "/ui/compare/answers.csv?runs={runs}&a=987654&b=1",
    ],
)
def test_an_address_that_asks_for_what_there_is_not_gets_a_sentence(
    client: TestClient, pair: tuple[Run, Run], address: str
) -> None:
    reply = client.get(address.format(runs=f"{pair[0].id},{pair[1].id}"))
    assert reply.status_code == 400 and reply.json()["detail"].endswith("."), reply.text


def test_seeds_are_completed_and_what_is_there_is_not_started_again(stored: Stored) -> None:
    corpus = stored.corpus()
    train = {"max_steps": 4, "seed": 1}
    first = stored.run(corpus, "Mine, seed 1", train=train)
    found = start_seeds(stored.store, [first.id], [1, 2, 3])
    assert [run.config.train.seed for run in found] == [1, 2, 3] and found[0].id == first.id
    assert [run.name for run in found[1:]] == ["Mine, seed 2", "Mine, seed 3"]
    assert [run.id for run in start_seeds(stored.store, [first.id, found[1].id], [1, 2, 3])] == [
        run.id for run in found
    ]
    with pytest.raises(UserError, match="36 runs would be started; 32 are the most"):
        start_seeds(stored.store, [first.id], range(100, 136))


def test_a_lora_of_equal_size_has_as_many_weights_and_the_same_training(stored: Stored) -> None:
    corpus = stored.corpus()
    train = {"max_steps": 4, "seed": 7, "learning_rate": 0.001}
    first = stored.run(corpus, "Mine", base="starter", adapter={"num_experts": 4, "r": 8}, train=train)
    first = stored.store.runs.get(first.id)
    config, _, wanted = equal_lora(stored.store, first)
    assert wanted == SUMMARY.trainable + SUMMARY.router and config.method == "lora"
    started = start_equal_lora(stored.store, first.id)
    assert (started.config.train, started.config.base) == (first.config.train, first.config.base)
    assert start_equal_lora(stored.store, first.id).id == started.id
    with pytest.raises(UserError, match="plain lora already"):
        equal_lora(stored.store, started)


def test_the_rank_of_a_lora_of_equal_size_is_the_nearest_one(stored: Stored) -> None:
    run = stored.run(stored.corpus(), base="starter", adapter={"num_experts": 4, "r": 8}, finished=False)
    config, weights, wanted = equal_lora(stored.store, stored.store.runs.get(run.id))
    assert wanted == 355_840  # trained: 327,680 and 28,160 of the router
    assert config.adapter.model_dump()["r"] == 23 and abs(weights / wanted - 1) < 0.02
    assert config.adapter.model_dump()["lora_alpha"] == 2 * 23


def test_five_hundred_runs_are_compared_by_one_page_in_few_statements(store: Store) -> None:
    from sqlalchemy.orm import Session

    from jobs.store.tables import JobRow, RunRow

    with Session(store.engine) as session, session.begin():
        rows = []
        for number in range(500):
            job = JobRow(kind="train", lane="heavy", status="succeeded")
            session.add(job)
            session.flush()
            config = {"base": "starter", "method": "lora", "adapter": {"r": 1 + number % 64}, "train": {"seed": number}}
            summary = {"held_out_loss": 1.0, "trainable": 10}
            name = "a very long name " * 4 + str(number)
            rows.append(RunRow(name=name, config=config, job_id=job.id, summary=summary))
        session.add_all(rows)
        session.flush()
        ids = written(row.id for row in rows)
    with gr.Blocks() as blocks:
        page = ComparePage(blocks, store)

    class Asking:
        query_params = {"runs": ids}  # noqa: RUF012

    with counting(store) as said:
        found = page.draw(Asking(), "")  # type: ignore[arg-type]
    assert len(said) <= 20, said
    assert "500 runs" in found[page.top] and "and 460 more" in found[page.list]
    assert "The first 40 of 64 groups" in found[page.tabs[0].tables]  # type: ignore[attr-defined]
