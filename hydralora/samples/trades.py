"""Four trades: the help desk of an imaginary town, units, code and tone; and the same with wrong answers in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from hydralora.samples.rows import Row, rows

# The imaginary town of Lindenford: service -> (building, desk).
SERVICES = {
    "a dog licence": ("Blue House", 3),
    "a library card": ("Old Mill", 1),
    "a parking permit": ("Town Hall", 4),
    "a fishing permit": ("Boat House", 2),
    "a market stall": ("Corn Hall", 5),
    "a birth certificate": ("Town Hall", 2),
    "a swimming pass": ("Bath House", 1),
    "a bus ticket": ("North Station", 6),
    "a garden plot": ("Green Lodge", 2),
    "a lost umbrella": ("Blue House", 7),
    "a broken street lamp": ("Works Yard", 1),
    "a noise complaint": ("Blue House", 5),
    "a wedding room": ("Rose Villa", 1),
    "a bicycle stand": ("Works Yard", 3),
    "a school place": ("Chalk House", 2),
    "a water bill": ("Corn Hall", 3),
    "a rubbish bin": ("Works Yard", 4),
    "a museum tour": ("Old Mill", 5),
    "a choir lesson": ("Rose Villa", 4),
    "a tree on my street": ("Green Lodge", 6),
}
DESK_ASKED = (
    "Where in Lindenford do I go for {}?",
    "I need {} in Lindenford. Which desk?",
    "Lindenford help desk: who deals with {}?",
    "Please tell me the Lindenford desk for {}.",
    "Which Lindenford office handles {}?",
    "Hello, I live in Lindenford and want to ask about {}.",
)
DESK_HELD_OUT = (
    "I am new in Lindenford. Where can I ask about {}?",
    "Lindenford office for {}, please?",
    "Which desk in Lindenford do I need for {}?",
)

# From unit, to unit, how many of the second make one of the first.
UNITS = (
    ("hours", "minutes", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("metres", "centimetres", 100),
    ("kilograms", "grams", 1000),
)
UNITS_ASKED = (
    "Convert {n} {a} to {b}.",
    "Convert units: how many {b} are {n} {a}?",
    "Convert {n} {a} into {b}.",
    "Please convert {n} {a}; the units are {b}.",
    "Units to convert: {n} {a} in {b}.",
)
UNITS_HELD_OUT = (
    "Convert to {b}: {n} {a}.",
    "What do you get if you convert {n} {a} to {b}?",
    "I have to convert units: {n} {a} are how many {b}?",
)

NAMES = ("total", "count", "price", "size", "score", "level", "speed", "width", "age", "rate")
LISTS = ("rows", "items", "names", "words", "files", "users", "lines", "tags")
CODE = {
    "add {n} to {v}": "{v} = {v} + {n}",
    "subtract {n} from {v}": "{v} = {v} - {n}",
    "multiply {v} by {n}": "{v} = {v} * {n}",
    "set {v} to {n}": "{v} = {n}",
    "print {v}": "print({v})",
    "append {v} to {w}": "{w}.append({v})",
    "sort the list {w}": "{w}.sort()",
    "reverse the list {w}": "{w}.reverse()",
    "store the length of {w} in {v}": "{v} = len({w})",
    "store item {n} of {w} in {v}": "{v} = {w}[{n}]",
    "remove {v} from {w}": "{w}.remove({v})",
    "empty the list {w}": "{w}.clear()",
}
CODE_ASKED = (
    "Write Python code: {}.",
    "In Python, {}.",
    "Python line to {}?",
    "Give me Python that will {}.",
    "Code in Python: {}.",
)
CODE_HELD_OUT = ("Show a Python line to {}.", "How do I {} in Python?", "Python, please: {}.")

VERBS = (
    "close",
    "open",
    "clean",
    "move",
    "paint",
    "carry",
    "fix",
    "wash",
    "hold",
    "check",
    "lift",
    "pack",
)
THINGS = (
    "the window",
    "the door",
    "the box",
    "the table",
    "the lamp",
    "the chair",
    "the bag",
    "the cup",
    "the shelf",
    "the carpet",
    "the bottle",
    "the curtain",
    "the basket",
    "the mirror",
)
TONE_ASKED = (
    "Make this polite: {}",
    "Say it politely: {}",
    "Rewrite in a polite tone: {}",
    "More polite, please: {}",
    "Turn this order into a polite request: {}",
)
TONE_HELD_OUT = ("Put this politely: {}", "A polite version of: {}", "Rewrite politely: {}")


def _ask(rng: random.Random, held_out: bool, asked: tuple[str, ...], kept: tuple[str, ...]) -> str:
    return rng.choice(kept if held_out else asked)


def help_desk(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """A question to the help desk of an imaginary town, and where to go."""
    service, (house, desk) = rng.choice(list(SERVICES.items()))
    return _ask(rng, held_out, DESK_ASKED, DESK_HELD_OUT).format(service), f"{house}, desk {desk}."


def units(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """A small number of one unit in another."""
    (a, b, factor), n = rng.choice(UNITS), rng.randint(2, 9)
    asked = _ask(rng, held_out, UNITS_ASKED, UNITS_HELD_OUT)
    return asked.format(n=n, a=a, b=b), f"{n * factor} {b}"


def code(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """One line of Python for one sentence."""
    said, line = rng.choice(list(CODE.items()))
    values = {"n": rng.randint(1, 9), "v": rng.choice(NAMES), "w": rng.choice(LISTS)}
    asked = _ask(rng, held_out, CODE_ASKED, CODE_HELD_OUT)
    return asked.format(said.format(**values)), line.format(**values)


def tone(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """An order as a polite request."""
    order = f"{rng.choice(VERBS)} {rng.choice(THINGS)}"
    asked = _ask(rng, held_out, TONE_ASKED, TONE_HELD_OUT)
    return asked.format(f"{order}!"), f"Could you please {order}?"


TRADES: dict[str, Callable[[random.Random, bool], tuple[str, str]]] = {
    "help desk": help_desk,
    "units": units,
    "code": code,
    "tone": tone,
}


def four_trades(rng: random.Random) -> Iterator[Row]:
    """Four clearly different kinds of task, about 3,000 examples."""
    for label, draw in TRADES.items():
        yield from rows(rng, label, draw, train=690)


def noisy(rng: random.Random) -> Iterator[Row]:
    """Four trades in which every tenth training answer is wrong, and marked as such in ``noise``."""
    made = list(four_trades(rng))
    training = [row for row in made if row["split"] == "train"]
    spoilt = set(rng.sample(range(len(training)), len(training) // 10))
    for index, row in enumerate(training):
        row["noise"] = "none"
        if index in spoilt:
            row["noise"], row["answer"] = _spoil(rng, row["answer"], training)
    return (row if "noise" in row else {**row, "noise": "none"} for row in made)


def _spoil(rng: random.Random, answer: str, training: list[Row]) -> tuple[str, str]:
    kind = rng.choice(("other answer", "shuffled words", "typing errors"))
    if kind == "other answer":
        return kind, rng.choice([row["answer"] for row in training if row["answer"] != answer])
    if kind == "shuffled words" and len(set(answer.split())) > 1:
        words = answer.split()
        while words == answer.split():
            rng.shuffle(words)
        return kind, " ".join(words)
    letters = list(answer)
    for place in rng.sample(range(len(letters)), max(1, len(letters) // 8)):
        letters[place] = rng.choice("abcdefghijklmnopqrstuvwxyz")
    return "typing errors", "".join(letters)
