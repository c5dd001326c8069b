"""Examples as a base will see them: their pieces, what of them is learnt, and what would be cut."""

from __future__ import annotations

from itertools import groupby
from typing import Literal, NamedTuple

from hydralora.bases.load import load_tokenizer
from hydralora.corpus.encode import CANNOT_MASK, IGNORED, can_mask, cut, encode_telling, encode_whole
from hydralora.corpus.examples import Example
from hydralora.plain import shortened
from hydralora.results import Piece

PIECE_CHARACTERS = 4_000  # of a piece that is shown


class Fate(NamedTuple):
    """What training would make of an example.

    ``is_partly``: not all answers are learnt that should be, since the template does not let them be told.
    """

    length: Literal["whole", "cut", "left out"]
    is_partly: bool


class Renderer:
    """Encodes examples for one base, up to a longest length in tokens.

    ``problem`` says what its chat template cannot do.

    Raises:
        BaseModelError: When the base cannot be loaded, or its template takes too long or too much.
    """

    def __init__(self, base: str, max_length: int, *, has_talks: bool) -> None:
        self.tokenizer, self.max_length = load_tokenizer(base), max_length
        self.problem = "" if not has_talks or can_mask(self.tokenizer) else CANNOT_MASK

    def fate(self, example: Example) -> Fate:
        """As ``encode_example`` does it."""
        whole, is_partly = encode_telling(self.tokenizer, example)
        if cut(whole, self.max_length) is None:
            return Fate("left out", False)
        return Fate("cut" if len(whole["labels"]) > self.max_length else "whole", is_partly)

    def pieces(self, example: Example) -> tuple[list[Piece], bool]:
        """The example in pieces, and whether it would be left out."""
        encoded = encode_whole(self.tokenizer, example)
        ids, labels = encoded["input_ids"], encoded["labels"]
        pieces = []
        for (learned, is_cut), group in groupby(
            range(len(ids)), lambda i: (labels[i] != IGNORED, i >= self.max_length)
        ):
            part = [ids[i] for i in group]
            text = shortened(self.tokenizer.decode(part), PIECE_CHARACTERS)
            pieces.append(Piece(text=text, learned=learned, cut=is_cut, tokens=len(part)))
        return pieces, cut(encoded, self.max_length) is None
