"""What single texts look like: blank and very short answers, control marks, languages, outliers of length."""

from __future__ import annotations

import numpy as np

from hydralora.corpus.quality.table import Found, Texts
from hydralora.results.quality import UNTOLD

SHORT_SHARE = 0.03  # of the median length of answers: below that an answer is very short
SHORT_MEDIAN = 60  # characters of the median answer from which short ones stand out
FAR = 6.0  # robust standard deviations of the logarithm of the length
RARE = 0.1  # share below which a language is one that some texts have by mistake


def find_blank(texts: Texts) -> list[Found]:
    """Answers that hold no word, or only a word that stands for nothing."""
    places = np.flatnonzero(texts.facts.is_blank)
    return [
        Found(
            "blank",
            "{} have an answer that says nothing.",
            "No letter stands in it, or only a word such as `n/a`. The model would learn to give such answers.",
            places,
            places,
            "Leave out",
        )
    ]


def find_short(texts: Texts) -> list[Found]:
    """Answers that are very short beside most."""
    lengths = texts.facts.answers
    median = float(np.median(lengths)) if len(lengths) else 0.0
    least = SHORT_SHARE * median if median >= SHORT_MEDIAN else 0.0
    short = np.flatnonzero((lengths < least) & ~texts.facts.is_blank)
    return [
        Found(
            "short",
            "{} have a very short answer.",
            f"Half of all answers have {median:,.0f} characters or more, these less than {SHORT_SHARE * median:,.0f}. "
            "Look whether they were cut off.",
            short,
            short,
            "Leave out",
        )
    ]


def find_marks(texts: Texts) -> list[Found]:
    """Texts that hold marks of a chat template."""
    names = ", ".join(f"`{mark.strip()}`" for mark, _ in texts.facts.marks.most_common(3))
    places = np.flatnonzero(texts.facts.has_marks)
    return [
        Found(
            "marks",
            "{} hold marks of a chat template.",
            f"Most often {names}. They are trained on as plain text, and the model may learn to write them. Import the "
            "file with the parts of the template as columns, or leave these out.",
            places,
            places,
            "Leave out",
        )
    ]


def find_outliers(texts: Texts) -> list[Found]:
    """Texts that are far longer than the rest: more than ``FAR`` robust deviations of ``log(characters)``."""
    logs = np.log(np.maximum(texts.facts.characters, 1))
    middle = np.median(logs) if len(logs) else 0.0
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))) if len(logs) else 1.0, 0.1)
    places = np.flatnonzero(logs - middle > FAR * spread)
    return [
        Found(
            "outliers",
            "{} are far longer than the rest.",
            "Several texts may have run together, as after a lost quote. Look at them before they weigh on training.",
            places,
            places,
            "Leave out",
        )
    ]


def count_languages(texts: Texts) -> dict[str, int]:
    """How many examples are in each language, the most frequent first; those whose language is not told aside."""
    numbers, counts = np.unique(texts.facts.languages, return_counts=True)
    told = [(texts.facts.names[number], int(n)) for number, n in zip(numbers, counts, strict=True) if number != UNTOLD]
    return dict(sorted(told, key=lambda item: (-item[1], item[0])))


def find_rare_languages(texts: Texts) -> list[Found]:
    """Texts in a language that few others are in."""
    counts = count_languages(texts)
    told = sum(counts.values())
    if not told:
        return []
    rare = [texts.facts.names.index(name) for name, count in counts.items() if count < RARE * told]
    main = next(iter(counts))
    return [
        Found(
            "languages",
            "{} of " + f"{told:,} whose language can be told may be in a rare one.",
            f"Most are in `{main}` ({counts[main] / told:.0%}). Short texts, names and code are easily taken for "
            "another language; look before you leave any out.",
            np.flatnonzero(np.isin(texts.facts.languages, rare)),
        )
    ]
