"""How a row of a sample is drawn: some for training, some held out with phrasings of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

HELD_OUT_OF_EACH = 60  # held-out examples of each kind

Row = dict[str, str]


def rows(
    rng: random.Random,
    label: str,
    draw: Callable[[random.Random, bool], tuple[str, str]],
    train: int,
    held_out: int = HELD_OUT_OF_EACH,
) -> Iterator[Row]:
    """Examples of one kind, each as ``draw`` gives it for its part."""
    for split, count in (("train", train), ("held_out", held_out)):
        for _ in range(count):
            prompt, answer = draw(rng, split == "held_out")
            yield {"prompt": prompt, "answer": answer, "label": label, "split": split}
