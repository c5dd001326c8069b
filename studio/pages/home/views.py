"""The first page as a workspace: what runs now, what has finished since one was here, what to do next, each corpus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hydralora.plain import without_paths
from jobs.kinds import title_of
from jobs.store.records import Corpus, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.totals import Totals
from jobs.tour import NAME as TOUR
from studio import cards
from studio.cards import Markup
from studio.pages.run.verdict import Judged, judge
from studio.tray import TrayJob, running_jobs
from studio.verdict import Verdict

LOOKED_AT = 40  # newest runs
MOST_NEWS, MOST_NEXT, MOST_CORPORA = 5, 4, 8
DAY = 24 * 3600.0
# What is said of a run that has ended without a result; a stop is somebody's own wish.
UNFINISHED: dict[str, str] = {
    JobStatus.FAILED: "has not ended well",
    JobStatus.LOST: "has not ended well",
    JobStatus.STOPPED: "was stopped, and can go on",
}
NOT_YET = ("is not imported yet", "Look at its columns")  # what is said of a draft, and where it leads
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Step:
    """Something to do: what is so, what it means, and what opens the place to do it."""

    title: str
    about: str
    href: str
    words: str


@dataclass
class Desk:
    """Everything that the workspace is drawn from, read once.

    Args:
        since: Seconds since 1970 from which on something is new.
        totals: How much there is of everything.
    """

    store: Store
    since: float
    totals: Totals

    @cached_property
    def corpora(self) -> list[Corpus]:
        """All corpora, newest first."""
        return self.store.corpora.all()

    @cached_property
    def runs(self) -> list[Run]:
        """The newest runs of the list."""
        return self.store.runs.listed(LOOKED_AT)

    @cached_property
    def running(self) -> list[TrayJob]:
        """Jobs at work that come to an end."""
        return [job for job in running_jobs(self.store) if job.ends] if self.totals.jobs_running else []

    @cached_property
    def news(self) -> list[Run]:
        """Runs that have ended since, newest first."""
        ended = [run for run in self.runs if run.job and (run.job.finished_at or 0) > self.since]
        return sorted(ended, key=lambda run: -(run.job.finished_at or 0) if run.job else 0)

    @cached_property
    def next(self) -> list[Step]:
        """What to do next, the most pressing first."""
        return [step for _, step in zip(range(MOST_NEXT), self.steps(), strict=False)]

    @cached_property
    def judged(self) -> dict[int, Judged]:
        """What is said of each of the newest runs whose answers are measured, by its id."""
        answers = self.store.analyses.of_runs([run.id for run in self.runs], "answers")
        samples = {corpus.id: corpus.is_sample for corpus in self.corpora}
        found = {
            run.id: judge(self.store, run, answers.get(run.id), is_sample=samples.get(run.corpus_id or 0))
            for run in self.runs
        }
        return {run_id: judged for run_id, judged in found.items() if judged is not None}

    def verdict(self, run: Run) -> Verdict | None:
        """The verdict on a run."""
        judged = self.judged.get(run.id)
        return judged.verdict if judged else None

    def steps(self) -> Iterator[Step]:
        """Everything that could be done next, the most pressing first."""
        if any(run.name.startswith(TOUR) and run.job and not run.job.is_finished for run in self.runs):
            about = "Each step says what happens and why, with its pictures."
            yield Step("The sample is being learnt", about, "/tour", "Open the tour")
        for corpus in self.corpora:
            if corpus.is_draft:
                failed = corpus.job is not None and corpus.job.status == JobStatus.FAILED
                about = without_paths(corpus.job.error or "") if failed and corpus.job else ""
                title, way = ("could not be read", "See the way on") if failed else NOT_YET
                about = about or "Its import waits for you. Nothing is lost."
                yield Step(f"{corpus.name} {title}", about, f"/corpora?corpus={corpus.id}", way)
        for run in self.runs:
            if run.job and run.job.status in UNFINISHED:
                why = without_paths(run.job.error or run.job.progress_text)
                yield Step(f"{run.name} {UNFINISHED[run.job.status]}", why, f"/run?run={run.id}", "See what is kept")
        for run in self.runs[:MOST_NEWS]:
            verdict = self.verdict(run)
            if verdict is not None and verdict.weight != "good":
                yield Step(f"{run.name}: {verdict.title}", verdict.next, f"/run?run={run.id}", "Open its answers")
        trained = {run.corpus_id for run in self.runs}
        for corpus in self.corpora:
            if corpus.is_ready and corpus.id not in trained:
                about = f"{corpus.examples:,} examples are ready to train on."
                yield Step(f"{corpus.name} has no run yet", about, f"/new-run?corpus={corpus.id}", "Train on it")
        for run in self.runs:
            if run.summary is not None and not run.is_imported:
                href = f"/run?run={run.id}&tab=chat"
                yield Step(f"Ask {run.name} something", "See which expert writes each word.", href, "Open its chat")
                break

    def best(self, corpus: Corpus) -> tuple[float, int] | None:
        """The largest share of right answers of a corpus' runs, and how many of these are measured."""
        ids = [run.id for run in self.runs if run.corpus_id == corpus.id]
        shares = [self.judged[run_id].share for run_id in ids if run_id in self.judged]
        return (max(shares), len(shares)) if shares else None


def number_word(count: int) -> str:
    """A count as a word, where it has a short one."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def sentence(desk: Desk) -> str:
    """What is at work, what is new, what waits for a decision."""
    at_work, new = len(desk.running), len(desk.news)
    parts = [f"{number_word(at_work)} {'job runs' if at_work == 1 else 'jobs run'}"] if at_work else []
    parts += [f"{number_word(new)} {'result is' if new == 1 else 'results are'} new"] if new else []
    waits = sum(corpus.is_draft for corpus in desk.corpora)
    parts += [f"{number_word(waits)} {'corpus needs' if waits == 1 else 'corpora need'} a decision"] if waits else []
    if not parts:
        return "Nothing is running, and nothing is new."
    joined = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{joined[0].upper()}{joined[1:]}."


def headline(desk: Desk) -> Markup:
    """The day, and the sentence."""
    today = time.strftime("%A %-d %B")
    return Markup(
        f"<section class='hy-outcome open'><p class='who'>{today}</p><h1>{cards.text(sentence(desk))}</h1></section>"
    )


def runs_now(desk: Desk) -> Markup:
    """Each job at work with its bar, its time, and how it is stopped."""
    if not desk.running:
        return cards.join(cards.section("Runs now"), cards.paragraph("Nothing is at work."))
    rows = []
    for job in desk.running:
        left = f"about {cards.about_span(job.left)} left" if job.left is not None else ""
        title = cards.link(job.href, job.title) if job.href else cards.text(job.title)
        rows.append(
            f"<li><b>{title}</b><span class='time'>{cards.text(left)}</span>"
            f"<span class='about'>{cards.text(job.about or job.words)}</span>"
            f"<button type='button' class='hy-btn' data-act='stop' data-of='{job.id}' "
            f"aria-label='Stop {cards.text(job.title)}'>Stop</button>"
            f"{cards.bar(job.progress, job.title)}</li>"
        )
    return cards.join(cards.section("Runs now"), Markup(f"<ul class='hy-rows'>{''.join(rows)}</ul>"))


def finished(desk: Desk) -> Markup:
    """What has ended since one was here, or the newest results, with what came of each."""
    since = f"Finished since {cards.moment(desk.since)}" if desk.since > time.time() - 30 * DAY else "Finished"
    runs = desk.news or [run for run in desk.runs if run.job and run.job.is_finished]
    more = cards.link("/runs", "All runs" if desk.totals.runs == 1 else f"All {desk.totals.runs:,} runs")
    title = cards.section(since if desk.news else "Finished lately", more)
    if not runs:
        return cards.join(title, cards.paragraph("No training has ended yet."))
    rows = "".join(_result(desk, run) for run in runs[:MOST_NEWS])
    return cards.join(title, Markup(f"<ul class='hy-rows'>{rows}</ul>"))


def _result(desk: Desk, run: Run) -> str:
    verdict = desk.verdict(run)
    title = (
        verdict.title if verdict else "Trained." if run.summary else cards.STATUS_WORDS[run.status].capitalize() + "."
    )
    sign = cards.status(run.status if verdict is None or verdict.weight == "good" else "stopped", " ")
    about = f"{title_of(run.job.kind)}, {cards.moment(run.job.finished_at or 0)}" if run.job else ""
    chat = (
        cards.link(f"/run?run={run.id}&tab=chat", "Chat") if run.summary else cards.link(f"/run?run={run.id}", "Open")
    )
    return (
        f"<li>{sign}<b>{cards.text(title)}</b><span class='time'>{chat}</span>"
        f"<span class='about'>{cards.link(f'/run?run={run.id}', run.name)}, {cards.text(about)}</span></li>"
    )


def what_next(desk: Desk) -> Markup:
    """The numbered list of what to do next."""
    rows = "".join(
        f"<li><b>{cards.text(step.title)}</b><p>{cards.text(step.about)}</p>"
        f"<a class='hy-btn' href='{cards.text(step.href)}'>{cards.text(step.words)}</a></li>"
        for step in desk.next
    )
    rows = (
        rows
        or "<li><b>Bring data</b><p>A table, texts or documents.</p><a class='hy-btn' href='/corpora'>Add data</a></li>"
    )
    return cards.join(cards.section("What to do next"), Markup(f"<ol class='hy-next'>{rows}</ol>"))


def corpora(desk: Desk) -> Markup:
    """Where each corpus stands: its examples, and the best share of right answers."""
    found = []
    for corpus in desk.corpora[:MOST_CORPORA]:
        best = desk.best(corpus)
        score = f"{best[0]:.0%}" if best else "not imported" if corpus.examples is None else "not measured"
        of = f"best of {best[1]} measured {'run' if best[1] == 1 else 'runs'}" if best else ""
        examples = f"{corpus.examples:,} examples" if corpus.examples is not None else ""
        found.append(
            f"<a href='/corpora?corpus={corpus.id}'><b>{cards.text(corpus.name)}</b><span>{examples}</span>"
            f"<strong class='{'good' if best else ''}'>{score}</strong><span>{of}</span></a>"
        )
    if not found:
        return Markup("")
    return cards.join(
        cards.section("Where each corpus stands"), Markup(f"<div class='hy-corpora'>{''.join(found)}</div>")
    )
