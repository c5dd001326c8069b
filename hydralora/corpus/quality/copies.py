"""Copies, near copies, contradictions and leaks between what is trained on and what is held out.

Near copies share most of their three-word pieces: MinHash (Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900) with locality-sensitive hashing proposes pairs, and the estimated Jaccard
index decides.
"""

from __future__ import annotations

import re

import numpy as np
from rensa import RMinHash, RMinHashLSH

from hydralora.corpus.quality.table import Found, Texts

PERMUTATIONS, BANDS, SEED = 128, 16, 42
NEAR = 0.8  # Jaccard index from which two texts are near copies
MOST_COMPARED = 50  # candidates of one text
BUDGET = 20_000_000  # candidates of all texts
MOST_CHARACTERS = 4_000  # of one text
LETTERS = 5  # of a piece where a text has hardly a space; else a piece is three words
WORD = re.compile(r"\w+")


def find_copies(texts: Texts) -> list[Found]:
    """Examples that are equal to an earlier one."""
    _, first = np.unique(texts.hashes, return_index=True)
    is_first = np.zeros(len(texts), bool)
    is_first[first] = True
    copies = np.flatnonzero(~is_first)
    return [
        Found(
            "copies",
            "{} are copies of another.",
            "A copy counts twice in training and teaches nothing more. Keep one of each.",
            copies,
            copies,
            "Keep one of each",
        )
    ]


def find_contradictions(texts: Texts) -> list[Found]:
    """Examples with one prompt and different answers."""
    asked, known = _asked(texts), np.flatnonzero(~texts.is_leaking)
    order = known[np.lexsort((texts.hashes[known], asked[known]))]
    prompts, hashes = asked[order], texts.hashes[order]
    begins = np.flatnonzero(np.r_[True, prompts[1:] != prompts[:-1]])
    kinds = np.add.reduceat(np.r_[True, hashes[1:] != hashes[:-1]], begins) if len(order) else begins
    sizes = np.diff(np.r_[begins, len(order)])
    several = np.repeat(kinds > 1, sizes)
    is_plain = np.array([not example.prompt for example in texts.examples], bool)
    places = np.sort(order[several])
    places = places[~is_plain[places]]
    _, first = np.unique(asked[places], return_index=True)
    later = np.delete(places, first)
    return [
        Found(
            "contradictions",
            "{} answer a prompt that is answered in another way too.",
            "That is right where a question has several good answers; else the model learns to waver.",
            places,
            later,
            "Keep the first answer of each",
        )
    ]


def _asked(texts: Texts) -> np.ndarray:
    """A number for each prompt together with its system text: another one may want another answer; ``(examples,)``."""
    systems: dict[str, int] = {}
    numbers = np.array([systems.setdefault(e.system, len(systems)) for e in texts.examples], np.uint64)
    return np.unique(np.stack([texts.prompts, numbers]), axis=1, return_inverse=True)[1].reshape(-1)


def find_shared(texts: Texts) -> list[Found]:
    """Examples that the files give to be trained on, though a held-out one has the same prompt."""
    return [
        Found(
            "held out",
            "{} would be left out of training.",
            "The files hold out another example with the same prompt, so these would be asked and learnt.",
            np.flatnonzero(texts.is_leaking),
        )
    ]


def find_near_copies(texts: Texts) -> list[Found]:
    """Examples that differ little from an earlier one, equal ones aside; and held-out ones that differ little from one
    that is trained on."""
    _, first = np.unique(texts.hashes, return_index=True)
    distinct = np.sort(first)
    nearest = _nearest([_pieces(texts.examples[place].text()) for place in distinct])
    near = distinct[nearest >= 0]
    return [
        Found(
            "near copies",
            "{} differ from another in a few words only.",
            "They are counted like copies by a model that learns by repetition. Keep one of each.",
            near,
            near,
            "Keep one of each",
        )
    ]


def find_leaks(texts: Texts) -> list[Found]:
    """Examples to train on whose prompt hardly differs from one that is held out; equal prompts are split apart."""
    if not texts.is_held_out.any():
        return []
    _, first = np.unique(texts.prompts, return_index=True)
    distinct = np.sort(first)
    pieces = [_pieces(texts.examples[place].prompt or texts.examples[place].answer) for place in distinct]
    pairs = _near_pairs(pieces, texts.is_held_out[distinct])
    leaking = np.isin(texts.prompts, texts.prompts[distinct[pairs]]) & ~texts.is_held_out & ~texts.is_leaking
    places = np.flatnonzero(leaking)
    return [
        Found(
            "leaks",
            "{} to train on have nearly the same prompt as one that is held out.",
            "The score on held-out questions is too high then. Leave them out of training.",
            places,
            places,
            "Leave out of training",
        )
    ]


def _pieces(text: str) -> list[str]:
    """The set of pieces of a text: three words each, or five characters where it has hardly a space."""
    text = text[:MOST_CHARACTERS].casefold()
    words = WORD.findall(text)
    if len(words) * 12 < len(text):
        text = "".join(words)
        return [text[i : i + LETTERS] for i in range(max(1, len(text) - LETTERS + 1))]
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False))) or [" ".join(words)]


def _nearest(pieces: list[list[str]]) -> np.ndarray:
    """For each text an earlier one that it is nearly a copy of, -1 where there is none; ``(texts,)``.

    A copy does not enter the index, so thousands made from one template are compared with one of them. At most
    ``BUDGET`` candidates are looked at: texts beyond that are taken for no copies.
    """
    hashes, index = RMinHash.from_token_sets(pieces, PERMUTATIONS, SEED), RMinHashLSH(NEAR, PERMUTATIONS, BANDS)
    nearest = np.full(len(pieces), -1, np.int64)
    left = BUDGET
    for place, own in enumerate(hashes):
        others = index.query(own) if left > 0 else []
        left -= len(others)
        near = next((other for other in others[:MOST_COMPARED] if own.jaccard(hashes[other]) >= NEAR), -1)
        nearest[place] = near
        if near < 0:
            index.insert(place, own)
    return nearest


def _near_pairs(pieces: list[list[str]], is_held_out: np.ndarray) -> np.ndarray:
    """Places of the training part that are near one of the held-out part."""
    hashes, index = RMinHash.from_token_sets(pieces, PERMUTATIONS, SEED), RMinHashLSH(NEAR, PERMUTATIONS, BANDS)
    for place in np.flatnonzero(is_held_out):
        index.insert(int(place), hashes[place])
    found, left = [], BUDGET
    for place in np.flatnonzero(~is_held_out):
        others = index.query(hashes[place]) if left > 0 else []
        left -= len(others)
        if any(hashes[place].jaccard(hashes[other]) >= NEAR for other in others[:MOST_COMPARED]):
            found.append(place)
    return np.array(found, np.int64)
