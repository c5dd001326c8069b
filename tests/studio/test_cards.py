"""Pieces of pages: a state is told by sign and word, the header says where one is, nothing given becomes HTML."""

from __future__ import annotations

import re

import pytest

from jobs.store.status import JobStatus
from studio import cards

PAGES, MORE = [("Data", "/corpora"), ("Runs", "/runs")], [("Chat", "/chat")]
HOSTILE = "<img src=x onerror=alert(1)>'\""


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_state_is_told_by_a_sign_and_a_word(status: JobStatus) -> None:
    found = re.fullmatch(r"<span class='hy-status \w+'><i aria-hidden='true'>(.)</i>(\w+)</span>", cards.status(status))
    assert found and found[1] != "·"


def test_states_that_differ_in_colour_differ_in_their_words() -> None:
    assert len({cards.STATUS_WORDS[status] for status in JobStatus}) == len(JobStatus)


def test_the_header_says_which_page_this_is() -> None:
    found = cards.header(PAGES, MORE, "/chat", has_sign_out=False)
    assert re.findall(r"<a href='([^']*)' aria-current='page'>", found) == ["/chat"]
    assert "aria-current" not in cards.header(PAGES, MORE, "/", has_sign_out=False)


@pytest.mark.parametrize("signs_in", [True, False])
def test_only_who_signs_in_can_sign_out(signs_in: bool) -> None:
    assert ("Sign out" in cards.header(PAGES, MORE, "/", has_sign_out=signs_in)) == signs_in


@pytest.mark.parametrize("share, percent", [(-1.0, 0), (0.0, 0), (0.504, 50), (2.0, 100)])
def test_a_bar_ends_at_its_ends(share: float, percent: int) -> None:
    found = cards.progress(share, "words")
    assert f"aria-valuenow='{percent}'" in found and f"--share:{percent}%" in found


def test_experts_and_clusters_have_their_names_beside_their_shapes() -> None:
    assert cards.expert(0, "29%") == "<span class='hy-chip hy-e1'>E1 29%</span>"
    assert cards.expert(8) == "<span class='hy-chip hy-other'>E9</span>"
    assert cards.cluster(11) == "<span class='hy-chip hy-c12'>C12</span>"


def test_nothing_given_becomes_html() -> None:
    made = (
        cards.head(HOSTILE, HOSTILE),
        cards.card(HOSTILE, HOSTILE, HOSTILE),
        cards.empty(HOSTILE, HOSTILE),
        cards.note("bad", HOSTILE, HOSTILE),
        cards.status(HOSTILE),
        cards.progress(0.5, HOSTILE),
        cards.link(HOSTILE, HOSTILE),
        cards.words([HOSTILE]),
        cards.expert(0, HOSTILE),
        cards.table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        cards.long_text(HOSTILE),
        cards.side(HOSTILE, HOSTILE, HOSTILE),
        cards.side_list(HOSTILE, [(HOSTILE, HOSTILE, HOSTILE)], HOSTILE),
        cards.paragraph(HOSTILE),
        cards.section(HOSTILE, HOSTILE),
        cards.bar(0.5, HOSTILE),
        cards.log(HOSTILE),
        cards.header([(HOSTILE, HOSTILE)], [(HOSTILE, HOSTILE)], HOSTILE, has_sign_out=True),
    )
    assert [piece for piece in made if "<img" in piece or "='\"" in piece] == []
