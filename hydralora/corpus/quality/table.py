"""The texts of a corpus that are looked at, and what a check finds among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.quality.facts import Facts, read_facts
from hydralora.results.quality import Finding

SHOWN = 20


@dataclass
class Texts:
    """Examples that are not left out, with their positions in the corpus and their side of the split.

    Shapes: all arrays are ``(examples,)``. The examples themselves stay in the corpus: ``parts`` and ``some`` read
    them a batch at a time.
    """

    corpus: Corpus
    positions: np.ndarray
    hashes: np.ndarray  # of prompt and answer
    prompts: np.ndarray  # of the prompt alone
    is_held_out: np.ndarray
    is_leaking: np.ndarray  # given to be trained on by the files, but a held-out example has the same prompt
    facts: Facts = field(default_factory=lambda: Facts.of_none(0))

    def __len__(self) -> int:
        return len(self.positions)

    def parts(self) -> Iterator[tuple[int, list[Example]]]:
        """All examples, some at a time, with the place of the first of them."""
        begin = 0
        for examples in self.corpus.stream(self.positions):
            yield begin, examples
            begin += len(examples)

    def some(self, places: np.ndarray) -> Iterator[list[Example]]:
        """The examples at these places, ascending, some at a time."""
        return self.corpus.stream(self.positions[places])

    def look(self, step: Callable[[float], None] = lambda share: None) -> None:
        """Read every text once, for what the checks want to know of it."""
        is_text, is_prompt = np.zeros(len(self), bool), np.zeros(len(self), bool)
        is_text[first_places(self.hashes)] = True
        if self.is_held_out.any():
            is_prompt[first_places(self.prompts)] = True
        self.facts = read_facts(self.parts(), len(self), is_text, is_prompt, step)


def first_places(hashes: np.ndarray) -> np.ndarray:
    """Where each different number stands first, ascending, ``(different,)``."""
    return np.sort(np.unique(hashes, return_index=True)[1])


@dataclass
class Found:
    """What one check finds: places among the texts, and those of them that may be left out as the remedy; another one
    may be to shorten them.

    ``title`` and ``advice`` are sentences; ``{}`` in the title stands for the number of examples.
    """

    kind: str
    title: str
    advice: str
    places: np.ndarray
    removable: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    action: str = ""
    shortens: bool = False

    def finding(self, texts: Texts) -> Finding:
        """As a part of the report."""
        places = np.unique(self.places)
        count = f"{len(places):,} {'example' if len(places) == 1 else 'examples'}"
        return Finding(
            kind=self.kind,
            count=len(places),
            title=self.title.format(count),
            advice=self.advice,
            removable=len(np.unique(self.removable)),
            action=self.action if len(self.removable) else "",
            shortens=len(places) if self.shortens else 0,
            examples=texts.positions[places[:SHOWN]].tolist(),
        )
