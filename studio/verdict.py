"""What a run is good for, in one sentence from its answers to unseen questions, and what to do next.

The share that was right is compared with the base's on the same questions by an exact sign test of those that only one
of the two has right (McNemar 1947, https://doi.org/10.1007/BF02295996): a difference that the questions cannot tell is
called open.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import comb
from typing import Literal

from hydralora.results import Answers, RunSummary

TELLING = 0.05  # below this a difference is no chance
GOOD, POOR = 0.6, 0.25  # shares of right answers
SAME = 0.95  # share of equal answers from which a model says one thing only
WEAK, FEWEST = 0.15, 8  # a kind is weak when it lies so far below the whole, of so many questions at least
LONG = 6  # words of wanted answers from which exact matches say little
SHOWN = 40  # characters of an answer that is quoted
MANY = 0.1  # share of examples from which a loss of text is the first thing to mend


@dataclass(frozen=True)
class Verdict:
    """A headline with its weight, what stands behind it, and what to do next."""

    weight: Literal["good", "warn", "bad"]
    title: str
    body: str
    next: str


def verdict_of(answers: Answers, summary: RunSummary, *, is_small_world: bool = False) -> Verdict:
    """The verdict on a run.

    Args:
        is_small_world: Whether its base knows its sample corpora only, and this is not one of them.
    """
    base, tuned = answers.scores["base"], answers.scores["tuned"]
    is_free = _is_free(answers)
    chance = sign_test(base.hits, tuned.hits)
    said, share = _most_said(answers)
    weak = _weak_kinds(answers)
    title = f"Right on {tuned.exact_match:.0%} of {answers.examples:,} unseen questions, was {base.exact_match:.0%}."
    if is_free:
        title = (
            f"Like the wanted answers by {tuned.rouge_l or 0:.0%} on {answers.examples:,} unseen questions, was "
            f"{base.rouge_l or 0:.0%}."
        )
    if weak:
        title += f" Weak on {', '.join(f'{name} ({found:.0%})' for name, found in weak)}."
    pieces = []
    if said is not None:
        pieces.append(f"It gives the same answer, “{said}”, to {share:.0%} of the questions.")
    if is_free:
        pieces.append("Long free answers rarely match exactly, so ROUGE-L is told: the words in common, in order.")
    elif chance >= TELLING:
        pieces.append("Open: so few questions differ that they cannot tell this from chance.")
    weight = _weight(answers, is_free, is_better=chance < TELLING, is_constant=said is not None)
    return Verdict(weight, title, " ".join(pieces), _next(summary, weak, weight, is_small_world))


def sign_test(first: list[bool], second: list[bool]) -> float:
    """The chance, two-sided, that questions which only one of two has right fall as unevenly by lot."""
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    count = gained + lost
    if not count:
        return 1.0
    tail = sum(comb(count, k) for k in range(min(gained, lost) + 1)) / 2**count
    return min(1.0, 2 * tail)


def _is_free(answers: Answers) -> bool:
    """Whether wanted answers are so long and so rarely met that exact matches say little."""
    tuned = answers.scores["tuned"]
    words = sorted(len(row.wanted.split()) for row in answers.rows)
    return tuned.rouge_l is not None and tuned.exact_match < POOR and words[len(words) // 2] >= LONG


def _most_said(answers: Answers) -> tuple[str | None, float]:
    """The one answer that it gives to nearly everything, where other ones are wanted, and its share."""
    said, count = Counter(row.tuned.strip() for row in answers.rows).most_common(1)[0]
    wanted = Counter(row.wanted.strip() for row in answers.rows).most_common(1)[0][1]
    share = count / len(answers.rows)
    return (said[:SHOWN] or "nothing" if share >= SAME and wanted < count else None), share


def _weak_kinds(answers: Answers) -> list[tuple[str, float]]:
    """The labels that are answered worst, two at most."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for row, hit in zip(answers.rows, answers.scores["tuned"].hits, strict=True):
        kinds[row.label].append(hit)
    shares = {name: sum(hits) / len(hits) for name, hits in kinds.items() if name and len(hits) >= FEWEST}
    limit = answers.scores["tuned"].exact_match - WEAK
    return sorted(((n, s) for n, s in shares.items() if s < limit), key=lambda one: one[1])[:2]


def _weight(answers: Answers, is_free: bool, *, is_better: bool, is_constant: bool) -> Literal["good", "warn", "bad"]:
    base, tuned = answers.scores["base"], answers.scores["tuned"]
    if is_free:
        return "good" if (tuned.rouge_l or 0) > (base.rouge_l or 0) * 1.1 else "warn"
    if tuned.exact_match < POOR or (is_constant and tuned.exact_match < GOOD):
        return "bad" if not is_better or is_constant else "warn"
    return "good" if is_better and tuned.exact_match >= GOOD and not is_constant else "warn"


def _next(summary: RunSummary, weak: list[tuple[str, float]], weight: str, is_small_world: bool) -> str:
    """The first thing that would help."""
    if is_small_world and weight != "good":
        return "Train a real language model, such as SmolLM2-135M-Instruct: the starter knows its sample corpora only."
    examples = max(1, summary.train_examples)
    if summary.cut_examples + summary.skipped_examples > MANY * examples:
        lost = summary.cut_examples + summary.skipped_examples
        return f"Raise `max_length`: {lost:,} of {examples:,} examples were cut or left out."
    if summary.overfitting:
        return f"Train for about {summary.best_step:,} steps, or give it more data: it overfits."
    if weight != "good" and summary.best_step == summary.steps:
        return "Train longer, or with more data: the held-out loss was lowest at the end."
    if weight == "bad":
        return "Read the wrong answers, and whether the corpus says what you want to be answered."
    if weak:
        return f"Read the wrong answers on {weak[0][0]}, or add examples of it."
    return "Ask it in the chat, and look which expert speaks."
