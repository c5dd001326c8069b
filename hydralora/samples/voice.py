"""One kind of text throughout: who is meant in a sentence."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hydralora.samples.rows import HELD_OUT_OF_EACH, Row

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
