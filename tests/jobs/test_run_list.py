"""The list of runs: found, sorted, paged, tagged and archived by the database; scores and curves of many runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from hydralora.results import AnswerRow, Answers, Score
from jobs.home import DATABASE_VARIABLE, Home
from jobs.store.positions import packed
from jobs.store.run_list import MOST_TAGS, PAGE, RunQuery
from jobs.store.store import Store
from jobs.store.tables import AnalysisRow, CorpusRow, JobRow, RunRow, ScoreRow, StepRow
from tests.jobs.conftest import counting
from tests.postgresql import kept_in
from tests.studio.stored import Stored

pytestmark = pytest.mark.databases

MANY, STEPS = 1_000, 60
ANSWERS = Answers(
    examples=3,
    scores={
        "base": Score(exact_match=1 / 3, hits=[True, False, False], by_label={"tone": 0.5}),
        "tuned": Score(exact_match=2 / 3, hits=[True, False, True], by_label={"tone": 1.0}),
    },
    sentence="Right on two of three.",
    rows=[AnswerRow(id=i, prompt="q", wanted="a", label="tone" if i else "", base="b", tuned="a") for i in (2, 0, 1)],
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A thousand finished runs of two methods and two bases, with scores."""
    with kept_in(request.param, request) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATABASE_VARIABLE, url)
        store = Store(Home(tmp_path_factory.mktemp("many") / "home"))
        _fill(store)
        patch.delenv(DATABASE_VARIABLE)
        yield store


def _fill(store: Store) -> None:
    with Session(store.engine) as session, session.begin():
        session.add(CorpusRow(name="trades", is_sample=False))
        session.flush()
        for number in range(1, MANY + 1):
            job = JobRow(kind="train", lane="heavy", status="succeeded", run_id=number)
            adapter = {"r": number % 9 + 1} if number % 2 else {"num_experts": 4, "rank": 8}
            config = {"method": "lora" if number % 2 else "hydralora", "adapter": adapter, "train": {"seed": number}}
            config["base"] = "starter" if number % 5 else "other"
            session.add(job)
            session.flush()
            summary = {"held_out_loss": number / 100, "seconds": 60.0}
            run = {"corpus_id": 1, "config": config, "job_id": job.id, "summary": summary}
            session.add(RunRow(id=number, name=f"run {number}", **run))
            session.flush()
            analysis = AnalysisRow(run_id=number, kind="answers", params={}, question=str(number))
            session.add(analysis)
            session.flush()
            hits = np.arange(100) < number % 100
            score = {"questions": 100, "exact": number % 100, "base_exact": 0, "by_label": {}}
            score |= {"positions": packed(np.arange(100)), "hits": np.packbits(hits).tobytes()}
            session.add(ScoreRow(run_id=number, analysis_id=analysis.id, **score))


@pytest.mark.parametrize("sort", ["created", "exact", "method", "rank", "corpus"])
def test_a_page_takes_few_statements_however_many_runs_there_are(many: Store, sort: str) -> None:
    with counting(many) as said:
        page = many.run_list.page(RunQuery(sort=sort))
    assert len(page.lines) == PAGE and (page.found, page.pages) == (MANY, MANY // PAGE)
    assert len(said) <= 6, said  # of the ten that a page may take; the changes it watches are one more


def test_the_best_stand_first_and_what_was_never_measured_last(many: Store) -> None:
    best = many.run_list.page(RunQuery(sort="exact"))
    assert [line.score.exact for line in best.lines if line.score][:3] == [99, 99, 99]
    ranks = many.run_list.page(RunQuery(sort="rank", descending=False)).lines
    assert [line.setting("adapter", "r", "rank") for line in ranks][:2] == [1, 1]
    last = many.run_list.page(RunQuery(sort="experts", descending=False, page=99)).lines
    assert {line.method for line in last} == {"hydralora"}  # a LoRA has one


def test_filters_meet_all_at_once_and_are_no_patterns(many: Store) -> None:
    found = many.run_list.page(RunQuery(base="other", method="lora", corpus_id=1))
    assert found.found == MANY // 10 and {line.base for line in found.lines} == {"other"}
    assert many.run_list.page(RunQuery(text="run 77 lora")).found > 0
    assert many.run_list.page(RunQuery(text="%")).found == 0
    assert found.choices["method"] == {"lora": "lora", "hydralora": "hydralora"}
    assert found.choices["corpus"] == {"1": "trades"}


def test_an_order_that_there_is_not_is_refused_with_those_that_are(many: Store) -> None:
    with pytest.raises(UserError, match=r"sorted by 'luck'.*exact"):
        many.run_list.page(RunQuery(sort="luck"))


def test_tags_are_found_taken_off_and_bounded(many: Store) -> None:
    assert many.run_list.tag([3, 4, 5_000], add=["equal size", "best"]) == 2
    assert many.run_list.lines([4])[0].tags == ("best", "equal size")
    assert {line.id for line in many.run_list.page(RunQuery(tag="best")).lines} == {3, 4}
    assert {line.id for line in many.run_list.page(RunQuery(text="equal")).lines} == {3, 4}
    many.run_list.tag([3, 4], remove=["best", "equal size"])
    assert many.run_list.page(RunQuery(tag="best")).found == 0
    with pytest.raises(UserError, match=f"more than {MOST_TAGS} tags"):
        many.run_list.tag([3], add=[f"tag {i}" for i in range(MOST_TAGS + 1)])
    with pytest.raises(UserError, match="no comma, got 3"):
        many.run_list.tag([3], add=["a,b"])


def test_archived_runs_leave_the_list_and_come_back(many: Store) -> None:
    assert many.run_list.archive([7, 8, 5_000]) == 2 and many.run_list.archive([7]) == 0
    page = many.run_list.page(RunQuery(archived=True))
    assert ({line.id for line in page.lines}, page.whole, page.archived) == ({7, 8}, MANY - 2, 2)
    assert many.runs.get(7).archived_at is not None
    assert many.run_list.archive([7, 8], back=True) == 2
    assert many.run_list.page(RunQuery()).found == MANY


def test_lines_come_in_the_order_asked_for_and_without_those_that_are_gone(many: Store) -> None:
    with counting(many) as said:
        lines = many.run_list.lines([9, 2, 5_000, 9, -1])
    assert [line.id for line in lines] == [9, 2] and len(said) <= 3, said


def test_a_score_is_kept_when_answers_end_and_filled_in_for_earlier_ones(store: Store) -> None:
    stored = Stored(store)
    run = stored.run(stored.corpus())
    analysis = stored.analysis(run, "answers", ANSWERS)
    (line,) = store.run_list.lines([run.id])
    assert line.score is not None and (line.score.exact, line.score.base_exact) == (2, 1)
    assert line.score.asked.tolist() == [0, 1, 2] and line.score.right.tolist() == [False, True, True]
    assert line.score.by_label == {"tone": [2, 2]}
    with Session(store.engine) as session, session.begin():  # as an earlier version left it
        session.delete(session.get(ScoreRow, run.id))
    assert store.run_list.fill_scores() == 1 and store.run_list.fill_scores() == 0
    again = store.run_list.lines([run.id])[0].score
    assert again is not None and again.analysis_id == analysis.id
    store.runs.delete(run.id)
    assert store.run_list.lines([run.id]) == []


def test_curves_of_many_runs_are_thinned_evenly_and_keep_their_ends(store: Store) -> None:
    stored = Stored(store)
    corpus = stored.corpus()
    runs = [stored.run(corpus, f"run {n}").id for n in range(3)]
    with store.engine.begin() as connection:
        for run_id in runs[:2]:
            steps = [
                {"run_id": run_id, "step": n, "loss": float(n), "eval_loss": n / 2 if n % 7 == 0 else None}
                for n in range(1, STEPS + 1)
            ]
            connection.execute(insert(StepRow), steps)
    with counting(store) as said:
        found = store.curves.of(runs, "loss", 10)
    assert set(found) == set(runs[:2]) and len(said) <= 3, said
    steps, values = found[runs[0]]
    assert (steps[0], steps[-1]) == (1, STEPS) and len(steps) == 10 and values.tolist() == steps.tolist()
    steps, values = store.curves.of(runs, "eval_loss", 100)[runs[1]]
    assert steps.tolist() == list(range(7, STEPS, 7)) and values[0] == 3.5


def test_a_remembered_curve_is_read_anew_when_its_run_goes_on(store: Store) -> None:
    stored = Stored(store)
    run = stored.run(stored.corpus())
    with store.engine.begin() as connection:
        connection.execute(insert(StepRow), [{"run_id": run.id, "step": 1, "loss": 1.0}])
    assert store.curves.of([run.id], "loss")[run.id][0].tolist() == [1]
    with store.engine.begin() as connection:
        connection.execute(insert(StepRow), [{"run_id": run.id, "step": 2, "loss": 0.5}])
    assert store.curves.of([run.id], "loss")[run.id][0].tolist() == [1, 2]
