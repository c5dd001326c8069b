"""Prompts that stand in another corpus too: what is trained on here is no fair question there, nor the other way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hydralora.corpus.folder import Corpus
from hydralora.corpus.quality.table import Found, Texts
from hydralora.errors import CorpusError
from hydralora.plain import shortened

NAMED = 3  # corpora that are told of, those with most in common first
NAME_CHARACTERS = 60


def find_elsewhere(texts: Texts, others: Mapping[str, Path]) -> list[Found]:
    """Examples to train on whose prompt is one of another corpus, letter by letter (white space at the ends aside).

    Args:
        others: Folders of the other corpora, by name; one that is gone meanwhile is passed over.
    """
    asked = texts.prompts[~texts.is_held_out & ~texts.is_leaking]
    shared: dict[str, np.ndarray] = {}
    for name, folder in others.items():
        try:
            common = np.intersect1d(asked, Corpus(folder).prompt_hashes())
        except (CorpusError, OSError):
            continue  # deleted, or read again, while this one was looked at
        if len(common):
            shared[name] = common
    everywhere = np.concatenate([np.zeros(0, np.uint64), *shared.values()])
    is_meant = np.isin(texts.prompts, everywhere) & ~texts.is_held_out & ~texts.is_leaking
    places = np.flatnonzero(is_meant)
    return [
        Found(
            "elsewhere",
            "{} to train on have the same prompt as an example of another corpus.",
            f"{_names(shared)} Measured there, a run would be asked what it has learnt. Leave them out where you mean "
            "to measure on that corpus.",
            places,
            places,
            "Leave out of training",
        )
    ]


def _names(shared: Mapping[str, np.ndarray]) -> str:
    """Which corpora share most prompts, and how many."""
    most = sorted(shared.items(), key=lambda item: -len(item[1]))
    told = [f"'{shortened(name, NAME_CHARACTERS)}' ({len(common):,} prompts)" for name, common in most[:NAMED]]
    more = f" and {len(most) - NAMED:,} more" if len(most) > NAMED else ""
    return f"They stand in {', '.join(told)}{more}." if told else ""
