"""What a new studio shows: what it is in one sentence, answers in the colours of their experts, and two ways to begin.

The answers and curves were recorded from one run on the sample (``data/recipes/first_page.py``); nothing is invented.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from hydralora.bases.packages import SMOLLM2
from hydralora.corpus.formats import known_names
from jobs.store.bases import is_hub_allowed
from studio import cards
from studio.cards import Markup
from studio.figures.palette import expert_class
from studio.pages.home import sketch
from studio.pages.tour.views import whole_minutes

RECORDED = Path(__file__).with_name("recorded.json")
ABOUT = "Three unseen questions that the sample model got right. Point at a word."  # as first-answers.js says it
SENTENCE = "Teach a language model with your own examples, and see which expert writes each word."


@functools.cache
def recorded() -> dict[str, Any]:
    """Answers, places of examples, losses and shares of one run on the sample."""
    return dict(json.loads(RECORDED.read_text("utf-8")))


def answers() -> dict[str, Any]:
    """The value of ``FirstAnswers``."""
    return {"experts": recorded()["experts"], "answers": recorded()["answers"]}


def drawn_answers() -> Markup:
    """The same as they look before any script has loaded."""
    pieces = [Markup(f"<p class='hy-quiet'>{ABOUT}</p>")]
    for answer in recorded()["answers"]:
        words = [_word(token, shares) for token, shares in answer["tokens"]]
        asked = Markup(f"<div class='hy-msg user'><div class='body'>{cards.text(answer['question'])}</div></div>")
        pieces += [asked, Markup(f"<div class='hy-msg assistant'><div class='body'>{cards.join(*words)}</div></div>")]
    return cards.join(*pieces)


def _word(token: str, shares: list[float]) -> Markup:
    leader = max(range(len(shares)), key=shares.__getitem__)
    return Markup(f"<span class='tok {expert_class(leader)}'>{cards.text(token)}</span>")


def ways() -> Markup:
    """The sentence, and the two ways."""
    return Markup(
        f"<section class='hy-hero'><h1>{SENTENCE}</h1>"
        "<button type='button' class='hy-way main' data-act='sample' id='try-sample'><span><b>Try the sample</b>"
        "four-trades: 3,000 short questions of four kinds. About 4 min on this computer, explained step by step."
        "</span><i aria-hidden='true'>→</i></button>"
        f"{_real()}"
        "<a class='hy-way' href='/corpora' id='bring-data'><span><b>Bring your data</b>"
        f"{cards.text(known_names())}. You see what the model will see before anything is imported."
        "</span><i aria-hidden='true'>↑</i></a>"
        "<p class='hy-quiet'>Everything stays on this computer. No account, no graphics card needed.</p></section>"
    )


def _real() -> str:
    """The sample with a real language model, where one may be fetched."""
    if not is_hub_allowed():
        return ""
    return (
        "<button type='button' class='hy-way' data-act='real-sample' id='try-real-sample'><span>"
        f"<b>Try it with a real language model</b>The same with {cards.text(SMOLLM2.title)}, fetched once "
        f"({SMOLLM2.megabytes} MB). About {whole_minutes(SMOLLM2.name, fetches=True)} min."
        "</span><i aria-hidden='true'>→</i></button>"
    )


def moments() -> Markup:
    """What happens in the tour, in three small pictures."""
    found = recorded()
    steps = found["steps"]
    first, last = found["loss"][0], found["loss"][-1]
    most = max(range(found["experts"]), key=lambda e: found["shares"][-1][e])
    share = found["shares"][-1][most]
    told = (
        ("1. Your examples fall into kinds", "Similar questions gather.", sketch.points(found["points"])),
        ("2. The model learns", f"Its loss falls from {first:.1f} to {last:.2f}.", sketch.curve(steps, found["loss"])),
        (
            "3. The experts divide the work",
            f"From equal shares, E{most + 1} comes to {share:.0%} in {found['layer']}.",
            sketch.shares(steps, found["shares"]),
        ),
    )
    parts = "".join(f"<div><h3>{cards.text(a)}</h3><p>{cards.text(b)}</p>{c}</div>" for a, b, c in told)
    return Markup(
        f"<section class='hy-moments'><h2 class='hy-section'>What happens in those four minutes</h2>"
        f"<div>{parts}</div></section>"
    )
