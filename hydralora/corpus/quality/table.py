"""The texts of a corpus that are looked at, and what a check finds among them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hydralora.corpus.examples import Example
from hydralora.results.quality import Finding

SHOWN = 20


@dataclass
class Texts:
    """Examples that are not left out, with their positions in the corpus and their side of the split.

    Shapes: all but ``examples`` are ``(examples,)``.
    """

    examples: list[Example]
    positions: np.ndarray
    hashes: np.ndarray  # of prompt and answer
    prompts: np.ndarray  # of the prompt alone
    is_held_out: np.ndarray
    is_leaking: np.ndarray  # given to be trained on by the files, but a held-out example has the same prompt

    def __len__(self) -> int:
        return len(self.examples)


@dataclass
class Found:
    """What one check finds: places among the texts, and those of them that may be left out as the remedy.

    ``title`` and ``advice`` are sentences; ``{}`` in the title stands for the number of examples.
    """

    kind: str
    title: str
    advice: str
    places: np.ndarray
    removable: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    action: str = ""

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
            examples=texts.positions[places[:SHOWN]].tolist(),
        )
