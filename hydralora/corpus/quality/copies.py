"""Copies, near copies, contradictions and leaks between what is trained on and what is held out.

Near copies share most of their three-word pieces: sketches (``hydralora.corpus.quality.sketches``) propose pairs and
decide. Sketches of all texts are kept as names of bands only; those of candidates are made a second time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hydralora.corpus.examples import Example
from hydralora.corpus.quality.facts import asked
from hydralora.corpus.quality.sketches import PERMUTATIONS, candidates_among, near_ones_of, nearest, sketch
from hydralora.corpus.quality.table import Found, Texts, first_places

SYSTEM_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: spreads the names of system texts over those of prompts


def find_copies(texts: Texts) -> list[Found]:
    """Examples that are equal to an earlier one."""
    copies = np.delete(np.arange(len(texts)), first_places(texts.hashes))
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
    places = np.sort(order[several])
    places = places[~texts.facts.is_plain[places]]
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
    return np.asarray(texts.prompts + texts.facts.systems * SYSTEM_FACTOR)


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
    places = first_places(texts.hashes)[candidates_among(texts.facts.texts)]
    near = places[nearest(_sketches(texts, places, Example.text)) >= 0]
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
    places = first_places(texts.prompts)[candidates_among(texts.facts.prompts)]
    pairs = near_ones_of(_sketches(texts, places, asked), texts.is_held_out[places])
    leaking = np.isin(texts.prompts, texts.prompts[places[pairs]]) & ~texts.is_held_out & ~texts.is_leaking
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


def _sketches(texts: Texts, places: np.ndarray, part: Callable[[Example], str]) -> np.ndarray:
    """Sketches of a part of the examples at these places, ``(places, PERMUTATIONS)``."""
    sketches, end = np.empty((len(places), PERMUTATIONS), np.uint32), 0
    for examples in texts.some(places):
        sketches[end : end + len(examples)] = sketch([part(example) for example in examples])
        end += len(examples)
    return sketches
