"""Handlers of pages, called as methods: no browser, no server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import gradio as gr
import pytest
from starlette.datastructures import QueryParams

from hydralora.errors import UserError
from hydralora.results import AnswerRow, Answers, Score
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.tour import Tour
from studio.pages.corpora.page import CorporaPage
from studio.pages.endpoint import SURE as SURE_OF_KEY
from studio.pages.endpoint import EndpointPage
from studio.pages.home.first import drawn_answers, recorded
from studio.pages.home.page import HomePage
from studio.pages.home.views import Desk
from studio.pages.new_run.page import NewRunPage
from studio.pages.page import SURE, Page
from studio.pages.run.page import CANCEL, RunPage
from studio.pages.tour.page import TourPage
from tests.studio.stored import LAYERS, Stored, weights_result

Kind = TypeVar("Kind", bound=Page)


def test_the_answers_of_the_first_page_stand_there_before_any_script_has_loaded() -> None:
    drawn = drawn_answers()
    for answer in recorded()["answers"]:
        assert answer["question"] in drawn
    assert drawn.count("class='tok hy-e") == sum(len(answer["tokens"]) for answer in recorded()["answers"])
    assert not any(mark in drawn for mark in ("{{", "${"))  # which Gradio runs as JavaScript


class Opened:
    """Draws pages over a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, kind: type[Kind]) -> Kind:
        with gr.Blocks() as blocks:
            return kind(blocks, self.store)


@pytest.fixture
def draw(store: Store) -> Iterator[Opened]:
    yield Opened(store)


def asking(**query: object) -> gr.Request:
    """A request for an address such as ``?run=1``."""
    request = gr.Request()
    request.query_params = QueryParams({name: str(value) for name, value in query.items()})  # type: ignore[attr-defined]
    return request


def drawn_run(page: RunPage, known: str = "", **query: object) -> dict[Any, Any]:
    """What a run's page draws at an address such as ``?run=1&tab=chat``."""
    return page.draw(asking(**query), page.choosers.corpus.value, "", *(pick.value for pick in page.own_picks), known)


def part_of(page: RunPage, title: str) -> Any:
    """The first part of a tab."""
    return next(part for part in page.parts if part.title == title)


def test_a_corpus_is_opened_with_its_facts_and_rows(draw: Opened, stored: Stored) -> None:
    corpus, page = stored.corpus(), draw(CorporaPage)
    changes = page.draw(asking(corpus=corpus.id))
    assert changes[page.watch]["of"] == f"corpora,corpus-{corpus.id}"
    drawn = page.fill_selection(asking(corpus=corpus.id), "", [], [], [], [], "", "", "", 0, "")
    assert "question 0" in drawn[page.selection.rows]


@pytest.mark.parametrize("is_sure", [False, None, "yes", 1])
def test_nothing_is_deleted_before_the_box_is_ticked(draw: Opened, stored: Stored, is_sure: Any) -> None:
    run = stored.run(stored.corpus())
    with pytest.raises(UserError, match=SURE):
        draw(RunPage).delete_run(asking(run=run.id), is_sure)
    assert stored.store.runs.get(run.id) == run


def test_a_finished_run_cannot_be_stopped_or_resumed(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    changes = drawn_run(page, run=run.id)
    assert not changes[page.stop].visible and not changes[page.resume].visible
    assert changes[page.bar]["current"] == "answers"


def test_a_stopped_run_can_be_resumed(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), status=JobStatus.STOPPED), draw(RunPage)
    changes = drawn_run(page, run=run.id)
    assert changes[page.resume].visible and "Stopped" in changes[page.head]
    page.resume_run(asking(run=run.id))
    assert stored.store.runs.get(run.id).status == JobStatus.QUEUED


def test_a_run_that_ran_out_of_memory_goes_on_in_smaller_parts_by_one_click(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), finished=False, train={"batch_size": 8}), draw(RunPage)
    stored.end(run.job, status=JobStatus.FAILED, error_kind="memory", error="Out of memory.")
    changes = drawn_run(page, run=run.id)
    assert "Out of memory. No step was kept." in changes[page.head]
    button = changes[page.smaller]
    assert button.visible and button.value == "Go on with 4 at once"
    page.resume_smaller(asking(run=run.id))
    again = stored.store.runs.get(run.id)
    assert again.status == JobStatus.QUEUED and again.job.payload["config"] == again.stored_config
    assert (again.config.train.batch_size, again.config.train.accumulation) == (4, 2)


def test_a_run_that_holds_one_example_at_once_cannot_go_on_smaller(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), finished=False, train={"batch_size": 1}), draw(RunPage)
    stored.end(run.job, status=JobStatus.FAILED, error_kind="memory", error="Out of memory.")
    assert not drawn_run(page, run=run.id)[page.smaller].visible
    with pytest.raises(UserError, match="a forward pass holds one example"):
        page.resume_smaller(asking(run=run.id))
    assert stored.store.runs.get(run.id).status == JobStatus.FAILED


def test_nothing_is_drawn_again_where_nothing_has_changed(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    seen = drawn_run(page, run=run.id)[page.stamp]
    assert drawn_run(page, seen, run=run.id) == {}


def test_a_tab_is_measured_when_it_is_opened_and_no_sooner(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)

    def asked() -> set[str]:
        return {job.kind for job in stored.store.queue.jobs() if job.run_id == run.id} - {"train"}

    drawn_run(page, run=run.id, tab="training")
    assert asked() == set()
    drawn_run(page, run=run.id, tab="routing")
    assert asked() == {"routing"}
    drawn_run(page, run=run.id, tab="weights")
    assert asked() == {"routing", "weights", "map"}


def test_a_run_that_trains_shows_its_training_first_and_says_when_the_rest_comes(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), finished=False), draw(RunPage)
    changes = drawn_run(page, run=run.id)
    assert changes[page.bar]["current"] == "training" and changes[page.stop].visible
    assert "Next in the queue" in changes[page.head]
    early = drawn_run(page, run=run.id, tab="experts")
    assert "when the training has ended" in early[part_of(page, "Experts").verdict]
    assert not [job for job in stored.store.queue.jobs() if job.kind == "experts"]


def test_nothing_is_exported_before_the_ways_to_do_it_are_known(draw: Opened, stored: Stored) -> None:
    page, run = draw(RunPage), stored.run(stored.corpus())
    start = part_of(page, "Export").start
    assert not start.interactive
    assert drawn_run(page, run=run.id, tab="export")[start].interactive


def test_the_way_to_export_that_is_chosen_stays_while_an_export_goes_on(draw: Opened, stored: Stored) -> None:
    page, run = draw(RunPage), stored.run(stored.corpus())
    how = part_of(page, "Export").how
    at_first = drawn_run(page, run=run.id, tab="export")[how]
    ways = [way for _, way in at_first.choices]
    assert at_first.value == ways[0] and len(ways) > 1
    how.value = ways[1]  # chosen by somebody
    assert "value" not in drawn_run(page, run=run.id, tab="export")[how]._constructor_args[0]


def test_the_chat_of_a_run_is_told_its_run_and_the_layer_that_is_chosen_for_all_tabs(
    draw: Opened, stored: Stored
) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    stored.analysis(run, "weights", weights_result())
    values = [pick.value for pick in page.own_picks]
    chat = part_of(page, "Chat").chat
    changes = page.draw(asking(run=run.id, tab="chat"), page.choosers.corpus.value, LAYERS[1], *values, "")
    assert changes[chat] == {"run": run.id, "layer": LAYERS[1]}


@pytest.mark.parametrize("tab", ["nothing", "<img src=x>", "", "a" * 300])
def test_a_tab_that_there_is_not_opens_the_first_one(draw: Opened, stored: Stored, tab: str) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    assert drawn_run(page, run=run.id, tab=tab)[page.bar]["current"] == "answers"


ANSWERED = Answers(
    examples=3,
    scores={
        "base": Score(exact_match=0.0, hits=[False] * 3, by_label={"tone": 0.0, "<b>code</b>": 0.0}),
        "tuned": Score(exact_match=0.33, hits=[True, False, False], by_label={"tone": 0.5, "<b>code</b>": 0.0}),
    },
    sentence="Right on 33 % of 3 held-out questions; was 0 %.",
    rows=[
        AnswerRow(id=0, prompt="first", wanted="a", label="tone", base="b", tuned="a"),
        AnswerRow(id=1, prompt="second", wanted="rate + 6", label="tone", base="b", tuned="rate + 9"),
        AnswerRow(id=2, prompt="third", wanted="a", label="<b>code</b>", base="b", tuned="<i>x</i>"),
    ],
)


def test_wrong_answers_of_one_kind_are_found_and_what_differs_is_underlined(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    stored.analysis(run, "answers", ANSWERED)
    tab = part_of(page, "Answers")
    chosen = {tab.which: "wrong", tab.label: "tone", tab.words: "RATE"}
    values = [chosen.get(pick, pick.value) for pick in page.own_picks]
    changes = page.draw(asking(run=run.id), page.choosers.corpus.value, "", *values, "")
    assert "second" in changes[tab.rows] and "first" not in changes[tab.rows] and "third" not in changes[tab.rows]
    assert "rate + <u>9</u>" in changes[tab.rows] and "1 of 3" in changes[tab.rows]
    everything = drawn_run(page, run=run.id)[tab.rows]
    assert "<i>" not in everything.replace("<i aria-hidden", "") and "&lt;i&gt;" in everything


def test_a_new_run_starts_with_what_the_form_holds(draw: Opened, stored: Stored) -> None:
    corpus, page = stored.corpus(), draw(NewRunPage)
    values = {name: component.value for name, component in page.inputs.items()} | {"max_steps": 7, "r": 2}
    opened = page.begin(corpus.id, "Mine", "starter", "hydralora", *values.values())
    run = stored.store.runs.get(int(opened[page.opened]))
    assert (run.name, run.config.train.max_steps, run.config.adapter.model_dump()["r"]) == ("Mine", 7, 2)


def test_a_training_cannot_be_started_before_the_form_is_filled(draw: Opened, stored: Stored) -> None:
    stored.corpus()
    page = draw(NewRunPage)
    assert not page.start.interactive
    filled = page.load(asking())
    assert filled[page.start].interactive


def test_a_method_without_experts_hides_their_number(draw: Opened, stored: Stored) -> None:
    page = draw(NewRunPage)
    changes = page.pick_method("lora", stored.corpus().id)
    assert changes[page.inputs["num_experts"]]["visible"] is False
    assert "field-num_experts" not in json.loads(changes[page.filled])


def test_published_settings_fill_only_the_fields_of_the_method(draw: Opened) -> None:
    page = draw(NewRunPage)
    changes = page.pick_published("hydralora", "released script")
    assert changes[page.inputs["r"]] == 4 and changes[page.inputs["lora_alpha"]] == 32.0
    assert page.inputs["sharpness"] not in changes


PACE = (10, 0.0, 4, 1, 0, 0.1)  # of `studio.pages.new_run.pace`


def test_a_time_is_offered_only_where_the_speed_is_not_known(draw: Opened, stored: Stored) -> None:
    corpus, pace = stored.corpus(), draw(NewRunPage).pace
    before = pace.guess(corpus.id, "starter", "hydralora", *PACE)
    assert before[pace.clock].visible and "not known yet" in before[pace.estimate]
    pace.time_steps(corpus.id, "starter", "hydralora", *PACE)
    waiting = pace.guess(corpus.id, "starter", "hydralora", *PACE)
    assert not waiting[pace.clock].visible


def test_what_only_waits_can_be_cancelled(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus()), draw(RunPage)
    changes = drawn_run(page, run=run.id, tab="weights")
    assert changes[page.stop_looks].value == CANCEL and changes[page.stop_looks].visible
    page.stop_all(asking(run=run.id))
    waiting = stored.store.queue.jobs(statuses=[JobStatus.QUEUED])
    assert not [job for job in waiting if job.run_id == run.id]


def test_the_first_page_tells_what_is_new_and_what_to_do_next(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus("Told"), "<i>Counted</i>"), draw(HomePage)
    stored.corpus("Untrained")
    drawn = page.draw("0")
    assert f"/run?run={run.id}" in drawn[page.finished] and "<i>" not in drawn[page.finished]
    steps = [step.title for step in Desk(stored.store, 0.0, stored.store.totals()).steps()]
    assert "Untrained has no run yet" in steps and "Told has no run yet" not in steps
    later = page.draw(str(int(time.time()) + 60))
    assert "new" not in later[page.head].replace("nothing is new", "") and "new" in drawn[page.head]


@pytest.mark.parametrize("sent", [None, [], {}, {"act": "stop", "of": None}, {"act": "stop", "of": "1"}, {"act": 7}])
def test_an_act_that_names_no_job_stops_none(draw: Opened, stored: Stored, sent: Any) -> None:
    run, page = stored.run(stored.corpus(), finished=False), draw(HomePage)
    with suppress(UserError):
        page.act(gr.EventData(None, sent))
    assert stored.store.runs.get(run.id).status == JobStatus.QUEUED


def test_a_job_is_stopped_from_the_first_page(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), finished=False), draw(HomePage)
    page.act(gr.EventData(None, {"act": "stop", "of": run.job.id}))
    assert stored.store.runs.get(run.id).status == JobStatus.STOPPED


def test_a_run_that_somebody_stopped_is_not_called_one_that_ended_badly(draw: Opened, stored: Stored) -> None:
    corpus = stored.corpus()
    stopped, failed = (stored.run(corpus, name, finished=False) for name in ("Stopped", "Failed"))
    stored.store.runs.stop(stopped.id)
    stored.end(failed.job, status=JobStatus.FAILED, error="No.")
    titles = [step.title for step in Desk(stored.store, 0.0, stored.store.totals()).steps()]
    assert "Stopped was stopped, and can go on" in titles and "Failed has not ended well" in titles


def test_the_tour_never_says_waiting_and_every_step_says_what_happens_and_why(draw: Opened, stored: Stored) -> None:
    page, tour = draw(TourPage), Tour(stored.store)
    assert page.draw("")[page.begin].visible
    tour.begin(minutes=1)
    drawn = page.draw("")
    said = "".join(str(drawn[part]) for part in (page.head, page.steps, page.why))
    assert "step 1 of 4" in said and "What happens" in said and "Why it matters" in said and "left of" in said
    assert "waiting" not in said.lower() and drawn[page.seen] == "under way"
    page.dismiss()
    assert not tour.is_on and page.draw("under way")[page.arrived] == ""


def test_the_tour_is_offered_with_a_real_model_where_models_may_be_fetched(
    draw: Opened, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = draw(TourPage)
    drawn = page.draw("")
    assert drawn[page.real].visible and "93 MB" in drawn[page.choice]["value"]
    page.start_real()
    drawn = page.draw("")
    assert "step 1 of 5" in drawn[page.head] and "Fetch the model" in drawn[page.steps]
    assert not drawn[page.real].visible and not drawn[page.choice]["visible"]
    page.dismiss()
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "0")
    assert not page.draw("")[page.real].visible
    with pytest.raises(UserError, match="by command only"):
        page.start_real()


def test_a_base_is_offered_until_it_is_asked_for(draw: Opened, stored: Stored) -> None:
    page = draw(NewRunPage)
    assert page.draw_bases()[page.offer.get].visible and "93 MB" in page.draw_bases()[page.offer.note]
    page.offer.start()
    job = stored.store.queue.jobs(kind="base")[0]
    assert job.payload == {"packaged": "smollm2-135m-instruct", "name": "smollm2-135m-instruct"}
    assert not page.draw_bases()[page.offer.get].visible and "Waiting" in page.draw_bases()[page.offer.note]


def test_no_base_is_offered_where_nothing_may_be_fetched(
    draw: Opened, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "0")
    page, before = draw(NewRunPage), stored.store.queue.jobs(kind="base")
    assert not page.draw_bases()[page.offer.get].visible and page.draw_bases()[page.offer.note] == ""
    with pytest.raises(UserError, match="fetched by command only"):
        page.offer.start()
    assert stored.store.queue.jobs(kind="base") == before


def test_the_endpoint_is_off_until_it_is_switched_on_and_says_so(draw: Opened, store: Store) -> None:
    page = draw(EndpointPage)
    assert "The endpoint is off." in page.draw(asking())[page.state] and not store.keys.is_on
    page.turn()
    state = page.draw(asking())[page.state]
    assert "The endpoint is on" in state and "/v1" in state and store.keys.is_on
    page.turn()
    assert not store.keys.is_on


def test_a_key_is_shown_to_its_maker_alone_and_can_be_revoked(draw: Opened, store: Store) -> None:
    page = draw(EndpointPage)
    made = page.make("<i>mine</i>")
    secret = made[page.secret].value
    assert store.keys.find(secret) is not None and "<i>" not in made[page.told]
    drawn = page.draw(asking())
    assert secret not in drawn[page.keys] and secret[-4:] in drawn[page.keys] and "<i>" not in drawn[page.keys]
    with pytest.raises(UserError, match=re.escape(SURE_OF_KEY)):
        page.end("<i>mine</i>", None)
    page.end("<i>mine</i>", True)
    assert store.keys.find(secret) is None


def test_the_endpoints_page_names_what_programs_can_ask(draw: Opened, stored: Stored) -> None:
    run, page = stored.run(stored.corpus(), "<i>Doors</i>"), draw(EndpointPage)
    drawn = page.draw(asking())
    assert f"run-{run.id}" in drawn[page.models] and "<i>" not in drawn[page.models]
    assert f"run-{run.id}" in drawn[page.examples] and "chat/completions" in drawn[page.examples]


PAIRS = [{"prompt": f"question {i}", "chosen": f"answer {i}", "rejected": f"<b>worse</b> {i}"} for i in range(6)]


def test_pairs_are_counted_before_a_run_and_shown_beside_the_rows(draw: Opened, stored: Stored) -> None:
    corpus = stored.corpus("Liked", PAIRS)
    note = draw(NewRunPage).load(asking(corpus=corpus.id))
    assert any("6 of them pairs of a better and a worse answer" in str(value) for value in note.values())
    page = draw(CorporaPage)
    page.draw(asking(corpus=corpus.id))
    drawn = page.fill_selection(asking(corpus=corpus.id), "", [], [], [], [], "", "", "", 0, "")[page.selection.rows]
    assert "Worse answer" in drawn and "&lt;b&gt;worse&lt;/b&gt; 3" in drawn and "<b>worse" not in drawn
    answers = stored.corpus("Plain")
    drawn = page.fill_selection(asking(corpus=answers.id), "", [], [], [], [], "", "", "", 0, "")
    assert "Worse answer" not in drawn[page.selection.rows]
