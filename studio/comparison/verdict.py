"""What a comparison says in words: which group is right more often, or that it is open, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field

from studio.comparison.groups import Compared, Group
from studio.comparison.scores import Row, best_first, exact_difference, loss_difference
from studio.comparison.scores import apart as apart_of
from studio.comparison.settings import ROWS
from studio.comparison.statistics import MARGIN, Difference

LIKE_SIZE = 0.05  # share by which trained weights may differ and still be called equal
FASTER = 1.1  # times as many tokens per second, from which it is said
Piece = tuple[str, int | None]  # words, and the group in whose colour they stand


@dataclass(frozen=True)
class Verdict:
    """The headline in pieces, the sentences below it, and what makes the comparison unfair."""

    title: list[Piece]
    body: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The headline as plain text."""
        return "".join(words for words, _ in self.title)


def verdict_of(compared: Compared, rows: list[Row]) -> Verdict:
    """The verdict on what is compared."""
    warnings = _warnings(compared, rows)
    ranked = best_first(rows)
    if len(compared.lines) == 1:
        return Verdict([("One run. Choose another to compare it with.", None)], [], warnings)
    if not ranked:
        return Verdict([("Nothing is measured yet.", None)], ["Scores appear when the runs are finished."], warnings)
    if len(compared.groups) == 1:
        return Verdict(_alone(rows[0]), [f"All runs are one group, {rows[0].group.runs_words}."], warnings)
    if ranked[0].exact is None:
        return _by_loss(ranked, warnings)
    if len(ranked) == 1:
        others = [row.group.name for row in rows if row.exact is None]
        left = f"The answers of {_and(others)} are not measured yet."
        return Verdict(_alone(ranked[0]), [left], warnings)
    return _by_answers(compared, rows, ranked, warnings)


def percent(share: float) -> str:
    """``79 %``."""
    return f"{100 * share:.0f} %"


def points(value: float, digits: int = 1) -> str:
    """A difference of shares in points, with its sign."""
    written = f"{100 * value:+.{digits}f}".replace("-", "−")
    return "0" if written.strip("+−0.") == "" else written


def _alone(row: Row) -> list[Piece]:
    if row.exact is None:
        return [(f"{row.group.name}: held-out loss ", None), (f"{row.loss.mean:.3f}" if row.loss else "–", 0)]
    spread = f" ± {100 * row.exact.sd:.1f}" if row.exact.sd is not None else ""
    return [(f"{row.group.name} ", None), (percent(row.exact.mean) + spread, row.group.index), (" right.", None)]


def _by_answers(compared: Compared, rows: list[Row], ranked: list[Row], warnings: list[str]) -> Verdict:
    count = len(ranked) - 1
    best, second = ranked[0], ranked[1]
    found = exact_difference(second.group, best.group, comparisons=count)
    if found is None:
        title = [*_named(best, " and "), *_named(second, ":"), (" not the same questions.", None)]
        reason = "They were asked different questions, so that their scores are not compared."
        return Verdict(title, [reason], warnings)
    apart, questions = found
    title = [*_named(best, ", "), *_named(second, ": "), (_told(apart, questions), None)]
    body = [_interval(best.group, second.group, apart, questions), *_others(ranked, count)]
    body += [*_cost(best, second), *_experts(best, second)]
    if min(len(best.group.scores), len(second.group.scores)) == 1:
        body.append("One of them has a single seed: another seed may differ.")
    return Verdict(title, body, warnings)


def _named(row: Row, after: str) -> list[Piece]:
    assert row.exact is not None
    return [(f"{row.group.name} ", None), (percent(row.exact.mean), row.group.index), (after, None)]


def _told(apart: Difference, questions: int) -> str:
    if apart.told == "more":
        return "the first is right more often."
    if apart.told == "equal":
        return f"equal within {100 * MARGIN:.0f} points."
    if apart.by == "runs":
        return "open, seeds vary as much."
    return f"open, {questions:,} questions cannot tell them apart."


def _interval(best: Group, second: Group, apart: Difference, questions: int) -> str:
    if best.name == second.name or apart.low is None or apart.high is None:
        return ""
    over = "paired by question" if apart.by == "questions" else "over seeds"
    words = (
        f"{best.name} is {points(apart.value).lstrip('+')} points ahead on {questions:,} common questions, 95 % "
        f"interval {points(apart.low)} to {points(apart.high)} ({over})."
    )
    if apart.told == "open" and apart.by == "runs":
        return f"{words} More seeds would narrow it."
    if apart.needed is None or apart.needed <= questions:
        return words
    size = max(abs(apart.value), 0.01)
    return f"{words} To tell a difference of {100 * size:.1f} points takes about {_rounded(apart.needed)} questions."


def _rounded(count: int) -> str:
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{round(count / step) * step:,}"


def _others(ranked: list[Row], count: int) -> list[str]:
    """How the further groups stand to the best one."""
    told: dict[str, list[str]] = {"less": [], "open": [], "equal": []}
    for row in ranked[2:]:
        found = exact_difference(ranked[0].group, row.group, comparisons=count)
        if found is not None and row.exact is not None:
            kind = found[0].told if found[0].told in told else "open"
            told[kind].append(f"{row.group.name} ({percent(row.exact.mean)})")
    words = {"less": "Right less often: {}.", "open": "Open against: {}.", "equal": "Equal to it: {}."}
    return [words[kind].format(_and(names)) for kind, names in told.items() if names]


def _and(names: list[str], most: int = 4) -> str:
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _cost(best: Row, second: Row) -> list[str]:
    """Which of two is faster."""
    if best.speed is None or second.speed is None or min(best.speed.mean, second.speed.mean) <= 0:
        return []
    fast, slow = sorted((best, second), key=lambda row: -row.speed.mean if row.speed else 0.0)
    assert fast.speed is not None and slow.speed is not None
    times = fast.speed.mean / slow.speed.mean
    found = apart_of(slow.speed, fast.speed)
    is_chance = min(fast.speed.runs, slow.speed.runs) > 1 and not (found and found[1])
    return [f"{fast.group.name} trains {times:.1f} times as fast."] if times >= FASTER and not is_chance else []


def _experts(best: Row, second: Row) -> list[str]:
    """Whether only one of them has experts."""
    have = [row for row in (best, second) if row.group.lines[0].setting("adapter", "num_experts")]
    return [f"Only {have[0].group.name} has experts to look at."] if len(have) == 1 else []


def _by_loss(ranked: list[Row], warnings: list[str]) -> Verdict:
    best, second = ranked[0], ranked[-1] if len(ranked) == 1 else ranked[1]
    assert best.loss is not None and second.loss is not None
    unasked = "Their answers are not measured yet, so that only the loss can be compared."
    title: list[Piece] = [(f"{best.group.name} ", None), (f"{best.loss.mean:.3f}", best.group.index)]
    if best is second:
        return Verdict([*title, (" held-out loss.", None)], [unasked], warnings)
    apart = loss_difference(second.group, best.group)
    told = "lower loss" if apart is not None and apart.told == "less" else "open which has the lower loss"
    title += [(f", {second.group.name} ", None), (f"{second.loss.mean:.3f}", second.group.index), (f": {told}.", None)]
    if apart is None or apart.low is None or apart.high is None:
        return Verdict(
            title, ["One run each has no spread that a difference could be held against.", unasked], warnings
        )
    interval = f"Difference {apart.value:+.3f}, 95 % interval {apart.low:+.3f} to {apart.high:+.3f} (over seeds)."
    return Verdict(title, [interval.replace("-", "−"), unasked], warnings)


def _warnings(compared: Compared, rows: list[Row]) -> list[str]:
    """What makes the comparison unfair."""
    found = [_size(rows)]
    varying = compared.differing
    if ROWS in varying:
        found.append("The runs did not learn the same rows: examples were left out, edited or held out otherwise.")
    if "corpus" in varying:
        found.append("The runs are on different corpora.")
    if "base" in varying:
        found.append("The runs are on different bases.")
    return list(filter(None, found))


def _size(rows: list[Row]) -> str:
    """That the groups train different numbers of weights, and by how much."""
    sized = sorted((row for row in rows if row.weights), key=lambda row: row.weights or 0.0)
    if len(sized) < 2 or (sized[-1].weights or 0.0) <= (1 + LIKE_SIZE) * (sized[0].weights or 0.0):
        return ""
    small, large = sized[0], sized[-1]
    times = (large.weights or 0.0) / (small.weights or 1.0)
    how = f"{times:.1f} times as many weights as" if times >= 1.5 else f"{100 * (times - 1):.0f} % more weights than"
    return (
        f"Sizes differ: {large.group.name} trains {how} {small.group.name} "
        f"({large.weights or 0:,.0f} and {small.weights or 0:,.0f}, routers included)."
    )
