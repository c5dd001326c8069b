"""What a comparison says: grouped how, told apart or open, on which questions, at what size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hydralora.errors import UserError
from hydralora.results import RunSummary
from jobs.store.positions import packed
from jobs.store.run_list import RunLine
from jobs.store.scores import Score
from studio.comparison.address import MOST, parse_ids, written
from studio.comparison.answers import Pair, apart
from studio.comparison.groups import EACH, SETTINGS, common_questions, compare
from studio.comparison.scores import exact_difference, score_rows
from studio.comparison.settings import NONE, differing
from studio.comparison.statistics import compare_hits, compare_values, welch, wilson
from studio.comparison.verdict import verdict_of

QUESTIONS = 240


def hits(right: int, of: int = QUESTIONS, *, from_end: bool = False) -> np.ndarray:
    """So many right answers, at the beginning or at the end."""
    found = np.arange(of) < right
    return found[::-1] if from_end else found


def line(
    run_id: int,
    right: np.ndarray | None = None,
    method: str = "hydralora",
    seed: int = 1,
    corpus_id: int = 1,
    positions: np.ndarray | None = None,
    summary: dict[str, Any] | None = None,
    **adapter: Any,
) -> RunLine:
    """A finished run as the list gives it."""
    config = {"base": "starter", "method": method, "adapter": {"r": 8, **adapter}, "train": {"seed": seed}}
    asked = np.arange(QUESTIONS if right is None else len(right)) if positions is None else positions
    score = None
    if right is not None:
        count = int(right.sum())
        score = Score(
            run_id, run_id, len(right), count, 0, packed(asked), np.packbits(right).tobytes(), {"tone": [1, 2]}
        )
    facts = RunSummary(**{"held_out_loss": 0.5, "seconds": 60.0, "trainable": 1_000, **(summary or {})})
    return RunLine(
        *(
            run_id,
            f"run {run_id}",
            corpus_id,
            "trades",
            None,
            config,
            facts,
            None,
            0.0,
            "succeeded",
            1.0,
            None,
            None,
            False,
        ),
        score=score,
        tags=(),
    )


def test_ids_are_written_in_ranges_and_read_again() -> None:
    assert written([4, 5, 6, 9, 2]) == "4-6,9,2" and parse_ids("4-6,9,2") == [4, 5, 6, 9, 2]
    assert parse_ids(" 3, 3 ,,1") == [3, 1] and parse_ids("") == []
    assert len(parse_ids(f"1-{MOST}")) == MOST


@pytest.mark.parametrize("text", ["x", "3-1", "0", "-4", "1-", "1;2", "9" * 25, "1-5-9", "²"])
def test_what_names_no_runs_is_refused_with_its_words(text: str) -> None:
    with pytest.raises(UserError, match="names no runs"):
        parse_ids(text)


def test_no_more_runs_than_allowed_are_named_however_they_are_written() -> None:
    for text in (f"1-{MOST + 1}", "1-2000000000", f"1-{MOST},{MOST + 1}"):
        with pytest.raises(UserError, match="At most 1,000 runs"):
            parse_ids(text)


def test_runs_that_differ_in_their_seed_alone_are_one_group() -> None:
    lines = [line(1, seed=1), line(2, seed=2), line(3, method="lora", r=21), line(4, method="lora", seed=2, r=21)]
    found = compare(lines)
    assert [[one.id for one in group.lines] for group in found.groups] == [[1, 2], [3, 4]]
    assert [group.name for group in found.groups] == ["HydraLoRA", "LoRA"]
    assert found.groups[0].runs_words == "2 seeds" and set(found.differing) == {"method", "adapter.r", "train.seed"}
    assert [len(group.lines) for group in compare(lines, EACH).groups] == [1, 1, 1, 1]
    assert [group.name for group in compare(lines, "adapter.r").groups] == ["r 8", "r 21"]


def test_groups_are_named_by_what_tells_them_apart() -> None:
    lines = [line(1, num_experts=4), line(2, num_experts=8), line(3, method="lora")]
    assert [group.name for group in compare(lines).groups] == ["HydraLoRA 4 experts", "HydraLoRA 8 experts", "LoRA"]


def test_grouping_by_what_no_run_has_is_refused() -> None:
    with pytest.raises(UserError, match="not grouped by"):
        compare([line(1)], "adapter.colour")


def test_a_difference_that_the_questions_cannot_tell_is_open_and_never_equal() -> None:
    found = compare_hits(hits(30, 60)[None], hits(33, 60)[None])
    assert found.told == "open" and found.low is not None and found.low < 0 < found.value
    assert found.needed is not None and found.needed > 60
    rows = score_rows(compare([line(1, hits(30, 60)), line(2, hits(33, 60), method="lora")]), {})
    verdict = verdict_of(compare([line(1, hits(30, 60)), line(2, hits(33, 60), method="lora")]), rows)
    assert "open, 60 questions cannot tell them apart" in verdict.text and "equal" not in verdict.text


def test_the_same_answers_to_many_questions_are_equal_within_the_margin() -> None:
    same = hits(800, 1_000)
    assert compare_hits(same[None], same[None]).told == "equal"
    nearly = same.copy()
    nearly[:3] = False
    assert compare_hits(same[None], nearly[None]).told == "equal"


def test_a_clear_difference_is_told_with_its_interval() -> None:
    found = compare_hits(hits(100)[None], hits(160)[None])
    assert found.told == "more" and found.low is not None and 0 < found.low < 0.25 < (found.high or 0)
    assert compare_hits(hits(160)[None], hits(100)[None]).told == "less"
    lines = [line(1, hits(100)), line(2, hits(160), method="lora")]
    compared = compare(lines)
    assert (
        verdict_of(compared, score_rows(compared, {})).text
        == "LoRA 67 %, HydraLoRA 42 %: the first is right more often."
    )


def test_seeds_that_vary_as_much_leave_a_difference_open_that_questions_would_tell() -> None:
    first = np.stack([hits(60), hits(180)])
    second = np.stack([hits(100), hits(190)])
    found = compare_hits(first, second)
    assert found.p < 0.05 and found.told == "open" and found.by == "runs"


def test_many_comparisons_ask_for_surer_differences() -> None:
    base, better = hits(100), hits(106)
    assert compare_hits(base[None], better[None]).told == "more"  # six against none: p = 0.03
    assert compare_hits(base[None], better[None], comparisons=5).told == "open"


def test_only_questions_that_all_were_asked_are_compared() -> None:
    first = line(1, hits(50, 100), positions=np.arange(100))
    second = line(2, hits(100, 100), method="lora", positions=np.arange(40, 140))
    groups = compare([first, second]).groups
    shared = common_questions(groups)
    assert shared is not None and (shared[0], len(shared)) == (40, 60)
    found = exact_difference(*groups)
    assert found is not None and found[1] == 60 and found[0].value == pytest.approx(50 / 60)
    elsewhere = line(3, hits(9), method="lora", corpus_id=2)
    assert exact_difference(groups[0], compare([elsewhere]).groups[0]) is None


def test_one_run_each_has_no_spread_to_hold_a_loss_against() -> None:
    alone = np.array([0.5])
    assert compare_values(alone, np.array([0.4])).told == "open" and welch(alone, np.array([0.4, 0.5])) is None
    assert compare_values(np.array([0.50, 0.51]), np.array([0.40, 0.41])).told == "less"
    assert welch(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(4.303 * np.sqrt(0.5), rel=1e-3)


def test_an_interval_of_a_share_stays_within_it() -> None:
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    low, high = wilson(81, 240)  # as R's prop.test(81, 240, correct = FALSE)
    assert (round(low, 4), round(high, 4)) == (0.2807, 0.3995)


def test_different_sizes_are_said_with_both_numbers() -> None:
    lines = [
        line(1, hits(100), summary={"trainable": 327_680, "router": 28_160}),
        line(2, hits(101), method="lora", summary={"trainable": 136_960}),
    ]
    compared = compare(lines)
    (warning,) = verdict_of(compared, score_rows(compared, {})).warnings
    assert "2.6 times as many weights" in warning and "355,840" in warning and "136,960" in warning


def test_other_rows_and_other_corpora_are_said() -> None:
    lines = [line(1, hits(9), summary={"training_hash": "a"}), line(2, hits(9), seed=2, summary={"training_hash": "b"})]
    compared = compare(lines)
    assert len(compared.groups) == 1
    assert "did not learn the same rows" in verdict_of(compared, score_rows(compared, {})).warnings[0]


def test_settings_differ_where_they_are_written_differently_and_only_there() -> None:
    column = {"one": [1, 1.0], "yes": [1, True], "same": [0.5, 0.5], "words": ["a", "a"], "list": [[1], [1.0]]}
    assert list(differing([{name: values[run] for name, values in column.items()} for run in (0, 1)])) == [
        *("one", "yes", "list")
    ]
    assert list(differing([{"a": None, "b": "x"}, {"a": NONE}])) == ["a", "b"]


def test_without_answers_the_loss_is_compared_and_said_to_be_all_there_is() -> None:
    compared = compare([line(1), line(2, method="lora", summary={"held_out_loss": 0.4})])
    verdict = verdict_of(compared, score_rows(compared, {}))
    assert verdict.text == "LoRA 0.400, HydraLoRA 0.500: open which has the lower loss."
    assert "not measured yet" in " ".join(verdict.body)


def test_the_words_that_differ_are_told_and_nothing_is_lost() -> None:
    first, second = apart("Old Mill, desk 4", "Old Mill, desk 1")
    assert [text for text, differs in first if differs] == ["4"]
    assert "".join(text for text, _ in second) == "Old Mill, desk 1"
    assert apart("", "x") == ([], [("x", True)])


def test_a_filter_keeps_what_only_one_has_right() -> None:
    pair = Pair(0, "q", "a", "", "a", "b", True, False)
    assert [pair.is_in(which) for which in ("a", "b", "differ", "all")] == [True, False, True, True]
    assert SETTINGS != EACH
