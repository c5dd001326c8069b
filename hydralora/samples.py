"""The sample corpora, written by seeded generators: `python -m hydralora.samples` makes them anew.

Every example has ``prompt``, ``answer``, ``label`` (its kind, never trained on) and ``split``.
Held-out examples use phrasings that never occur in training; the skill they ask for is the same.
All text is ours and in the public domain (CC0).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydralora.files import SHIPPED

CORPORA = SHIPPED / "corpora"
SEED = 2404  # of all sample corpora
HELD_OUT_OF_EACH = 60  # held-out examples of each kind

Row = dict[str, str]

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
        yield from _rows(rng, label, draw, train=690)


def _rows(
    rng: random.Random,
    label: str,
    draw: Callable[[random.Random, bool], tuple[str, str]],
    train: int,
    held_out: int = HELD_OUT_OF_EACH,
) -> Iterator[Row]:
    for split, count in (("train", train), ("held_out", held_out)):
        for _ in range(count):
            prompt, answer = draw(rng, split == "held_out")
            yield {"prompt": prompt, "answer": answer, "label": label, "split": split}


def noisy(rng: random.Random) -> Iterator[Row]:
    """Four trades in which every tenth training answer is wrong, and marked as such in ``noise``."""
    rows = list(four_trades(rng))
    training = [row for row in rows if row["split"] == "train"]
    spoilt = set(rng.sample(range(len(training)), len(training) // 10))
    for index, row in enumerate(training):
        row["noise"] = "none"
        if index in spoilt:
            row["noise"], row["answer"] = _spoil(rng, row["answer"], training)
    return (row if "noise" in row else {**row, "noise": "none"} for row in rows)


def _spoil(rng: random.Random, answer: str, rows: list[Row]) -> tuple[str, str]:
    kind = rng.choice(("other answer", "shuffled words", "typing errors"))
    if kind == "other answer":
        return kind, rng.choice([row["answer"] for row in rows if row["answer"] != answer])
    if kind == "shuffled words" and len(set(answer.split())) > 1:
        words = answer.split()
        while words == answer.split():
            rng.shuffle(words)
        return kind, " ".join(words)
    letters = list(answer)
    for place in rng.sample(range(len(letters)), max(1, len(letters) // 8)):
        letters[place] = rng.choice("abcdefghijklmnopqrstuvwxyz")
    return "typing errors", "".join(letters)


FIRST_NAMES = (
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Frank",
    "Grace",
    "Henry",
    "Ida",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Victor",
    "Wendy",
    "Adam",
    "Bella",
    "Carl",
    "Dora",
    "Eric",
    "Flora",
    "George",
    "Helen",
    "Ivan",
    "Julia",
    "Karl",
    "Lucy",
    "Max",
    "Nina",
    "Oscar",
    "Peter",
    "Ruth",
    "Simon",
    "Vera",
)
DEEDS = (
    "found",
    "drew",
    "lost",
    "sold",
    "carried",
    "admired",
    "borrowed",
    "mended",
    "hid",
    "counted",
    "wrapped",
    "bought",
    "dropped",
    "polished",
    "described",
    "photographed",
)
LOOKS = (
    "small",
    "green",
    "heavy",
    "shining",
    "wooden",
    "strange",
    "warm",
    "broken",
    "silver",
    "round",
    "dusty",
    "curious",
    "soft",
    "narrow",
    "yellow",
    "light",
)
OBJECTS = (
    "key",
    "kite",
    "boat",
    "clock",
    "stone",
    "flute",
    "coat",
    "lantern",
    "map",
    "kettle",
    "drum",
    "letter",
    "ladder",
    "button",
    "shell",
    "wheel",
)
PLACES = (
    "near the river",
    "behind the church",
    "at the harbour",
    "on the hill",
    "under the bridge",
    "by the fountain",
    "inside the barn",
    "beside the road",
    "in the forest",
    "at the station",
    "along the wall",
    "on the roof",
    "in the cellar",
    "at the market",
    "by the lake",
    "in the meadow",
)
TIMES = (
    "on Monday",
    "at noon",
    "before dinner",
    "last winter",
    "at dawn",
    "after the storm",
    "in spring",
    "late at night",
    "on Sunday",
    "during lunch",
    "in autumn",
    "at midnight",
    "yesterday",
    "on Friday",
    "at sunset",
    "last summer",
)
VOICE = ("Ask who did it: {}", "{} Who was it?", "Name the person: {}", "{} Which person is meant?")


def one_voice(rng: random.Random) -> Iterator[Row]:
    """One kind of text throughout: who is meant in a sentence. One expert is enough for it."""
    for split, count in (("train", 1_440), ("held_out", 2 * HELD_OUT_OF_EACH)):
        for _ in range(count):
            who = rng.choice(FIRST_NAMES)
            sentence = (
                f"{who} {rng.choice(DEEDS)} a {rng.choice(LOOKS)} {rng.choice(OBJECTS)} "
                f"{rng.choice(PLACES)} {rng.choice(TIMES)}."
            )
            asked = VOICE[3] if split == "held_out" else rng.choice(VOICE[:3])
            yield {"prompt": asked.format(sentence), "answer": f"{who}.", "label": "who", "split": split}


TOPICS = {
    "kitchen": ("spoon", "kettle", "plate", "fork", "oven", "bowl", "cup", "knife", "pan", "jar"),
    "garden": ("rose", "spade", "hedge", "tulip", "rake", "lawn", "seed", "pond", "fence", "shed"),
    "harbour": ("boat", "anchor", "sail", "rope", "gull", "pier", "crab", "buoy", "deck", "net"),
}
ENDS = {"first": 0, "last": -1}


def overlap(rng: random.Random) -> Iterator[Row]:
    """Two skills in the same words: take the first, or the last. The topics, which TF-IDF sees,
    say nothing about the skill, and ``first`` and ``last`` are stop words to it."""

    def drawn(which: str) -> Callable[[random.Random, bool], tuple[str, str]]:
        def draw(rng: random.Random, held_out: bool) -> tuple[str, str]:
            words = rng.sample(rng.choice(list(TOPICS.values())), rng.randint(3, 4))
            asked = (
                "Which is the {} of these: {}?"
                if held_out
                else rng.choice(("Take the {}: {}.", "Give me the {} of: {}.", "The {} one, please: {}."))
            )
            return asked.format(which, ", ".join(words)), f"{words[ENDS[which]]}"

        return draw

    for which in ENDS:
        yield from _rows(rng, which, drawn(which), train=700)


TONGUES: dict[str, dict[str, Any]] = {
    "English": {
        "colours": {
            "red": "red",
            "blue": "blue",
            "green": "green",
            "white": "white",
            "black": "black",
            "yellow": "yellow",
        },
        "nouns": {
            "the house": "the house",
            "the horse": "the horse",
            "the door": "the door",
            "the flower": "the flower",
            "the book": "the book",
            "the tree": "the tree",
        },
        "says": "{n} is {c}.",
        "asks": (
            "What colour is {n}?",
            "Tell me the colour of {n}.",
            "Which colour has {n}?",
            "Say the colour of {n}.",
        ),
        "answers": "It is {c}.",
    },
    "French": {
        "colours": {
            "rouge": "rouge",
            "jaune": "jaune",
            "rose": "rose",
            "orange": "orange",
            "marron": "marron",
            "turquoise": "turquoise",
        },
        "nouns": {"la maison": "", "le cheval": "", "la porte": "", "la fleur": "", "le livre": "", "le jardin": ""},
        "says": "{n} est {c}.",
        "asks": (
            "De quelle couleur est {n} ?",
            "Dis la couleur de {n}.",
            "Quelle couleur pour {n} ?",
            "Donne la couleur de {n}.",
        ),
        "answers": "C'est {c}.",
    },
}


def two_tongues(rng: random.Random) -> Iterator[Row]:
    """The same small task, reading a colour off a text, in English and in French."""

    def drawn(tongue: str) -> Callable[[random.Random, bool], tuple[str, str]]:
        words = TONGUES[tongue]

        def draw(rng: random.Random, held_out: bool) -> tuple[str, str]:
            nouns, colours = rng.sample(list(words["nouns"]), 2), rng.sample(list(words["colours"]), 2)
            facts = [words["says"].format(n=n, c=c) for n, c in zip(nouns, colours, strict=True)]
            asked = words["asks"][3] if held_out else rng.choice(words["asks"][:3])
            pick = rng.randrange(2)
            text = " ".join(fact[0].upper() + fact[1:] for fact in facts)
            return f"{text} {asked.format(n=nouns[pick])}", words["answers"].format(c=colours[pick])

        return draw

    for tongue in TONGUES:
        yield from _rows(rng, tongue, drawn(tongue), train=700)


GENERATORS: dict[str, Callable[[random.Random], Iterator[Row]]] = {
    "four-trades": four_trades,
    "one-voice": one_voice,
    "overlap": overlap,
    "noisy": noisy,
    "two-tongues": two_tongues,
}


def make_corpus(name: str) -> str:
    """The whole of one sample corpus as JSONL text; the same text every time."""
    rng = random.Random(f"{SEED} {name}")
    rows = list(GENERATORS[name](rng))
    rng.shuffle(rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_corpora(folder: Path) -> None:
    """Write every sample corpus to ``folder/<name>/<name>.jsonl``."""
    for name in GENERATORS:
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{name}.jsonl").write_text(make_corpus(name), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CORPORA, help="folder to write to")
    write_corpora(parser.parse_args().out)
