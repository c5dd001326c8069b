"""What single texts look like: blank and very short answers, control marks, languages, outliers of length."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from py3langid import classify

from hydralora.corpus.quality.table import Found, Texts

SHORT_SHARE = 0.03  # of the median length of answers: below that an answer is very short
SHORT_MEDIAN = 60  # characters of the median answer from which short ones stand out
FAR = 6.0  # robust standard deviations of the logarithm of the length
MOST_SAMPLED = 1_000  # texts whose language is told
TOLD_FROM = 20  # characters that tell a language
RARE = 0.1  # share below which a language is one that some texts have by mistake
# How chat templates of well-known families mark roles and ends; a text that holds one was made with a template.
MARK = re.compile(
    r"<\|[a-z_]{2,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<[|｜](?:begin|end|User|Assistant)[^<>]{0,30}[|｜]>"
    r"|^### (?:Instruction|Response|Input|Human|Assistant):",
    re.MULTILINE,
)
NOTHING = re.compile(r"[\W_]*|n/?a|none|null|nan|tbd|todo|unknown|\[removed\]|\[deleted\]", re.IGNORECASE)


def find_blank(texts: Texts) -> list[Found]:
    """Answers that hold no word, or only a word that stands for nothing."""
    places = np.array([i for i, e in enumerate(texts.examples) if NOTHING.fullmatch(e.answer.strip())], np.int64)
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
    lengths = np.array([len(example.answer) for example in texts.examples])
    median = float(np.median(lengths)) if len(lengths) else 0.0
    short = np.flatnonzero(lengths < SHORT_SHARE * median) if median >= SHORT_MEDIAN else np.zeros(0, np.int64)
    short = np.array([i for i in short if not NOTHING.fullmatch(texts.examples[i].answer.strip())], np.int64)
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
    places, seen = [], Counter[str]()
    for place, example in enumerate(texts.examples):
        marks = {mark for part in example.parts() for mark in MARK.findall(part)}
        if marks:
            places.append(place)
            seen.update(marks)
    names = ", ".join(f"`{mark.strip()}`" for mark, _ in seen.most_common(3))
    return [
        Found(
            "marks",
            "{} hold marks of a chat template.",
            f"Most often {names}. They are trained on as plain text, and the model may learn to write them. Import the "
            "file with the parts of the template as columns, or leave these out.",
            np.array(places, np.int64),
            np.array(places, np.int64),
            "Leave out",
        )
    ]


def find_outliers(texts: Texts) -> list[Found]:
    """Texts that are far longer than the rest: more than ``FAR`` robust deviations of ``log(characters)``."""
    logs = np.log([max(1, len(example.text())) for example in texts.examples])
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


def tell_languages(texts: Texts, seed: int = 0) -> tuple[dict[str, float], int, list[Found]]:
    """Share of each language in a seeded sample, the size of that, and the sampled texts of rare languages."""
    long = [i for i, example in enumerate(texts.examples) if len(example.text()) >= TOLD_FROM]
    if not long:
        return {}, 0, []
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(long, min(len(long), MOST_SAMPLED), replace=False))
    told = [classify(texts.examples[i].text()[:1_000])[0] for i in sample]
    shares = {name: count / len(told) for name, count in Counter(told).most_common()}
    rare = np.array([i for i, name in zip(sample, told, strict=True) if shares[name] < RARE], np.int64)
    return shares, len(sample), [_rare_languages(shares, rare, len(sample))]


def _rare_languages(shares: dict[str, float], rare: np.ndarray, sampled: int) -> Found:
    main = next(iter(shares))
    return Found(
        "languages",
        "{} of " + f"{sampled:,} that were looked at seem to be in a rare language.",
        f"Most are in `{main}` ({shares[main]:.0%}). Short texts, names and code are easily taken for another "
        "language; look before you leave any out.",
        rare,
    )
