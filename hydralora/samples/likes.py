"""Two samples whose kinds lie near each other: two skills in the same words, one skill in two languages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from hydralora.samples.rows import Row, rows

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
        yield from rows(rng, which, drawn(which), train=700)


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
        yield from rows(rng, tongue, drawn(tongue), train=700)
