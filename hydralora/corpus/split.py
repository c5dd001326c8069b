"""Which examples of a corpus are trained on and which are held out: by prompt, so no held-out question is learnt."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.corpus.selection import read_excluded
from hydralora.errors import CorpusError


class Split(NamedTuple):
    """Positions in a corpus, each ascending; every example that is not left out is in one of the three.

    Args:
        train: To train on.
        held_out: Only measured.
        leaking: Given to be trained on by the files' own split, but left out: a held-out example has the same prompt.
    """

    train: list[int]
    held_out: list[int]
    leaking: list[int]


def split_examples(corpus: Corpus, train: TrainConfig) -> Split:
    """Split a corpus, as a run's settings say, into what is trained on and what is held out.

    A corpus with its own split keeps it; of its training part, examples whose prompt is also held out are left out.
    Otherwise an example is held out when the hash of its prompt, read as a share of the whole range, falls below
    ``held_out_fraction``. So all answers to one question stay on one side, and the same corpus always splits the same
    way, whatever is left out of it (``selection``). Where all examples have one prompt, none is held out.

    ``split_by`` ``row`` is how versions before this one split, for runs that began so: by the hash of prompt and
    answer.

    Raises:
        CorpusError: When nothing is left to train on, or the list of what is left out is not there.
    """
    has_own, fraction = "held_out" in corpus.manifest.splits, train.held_out_fraction
    prompts = corpus.prompt_hashes() if train.split_by == "prompt" else None
    if has_own:
        is_held_out = corpus.splits() == "held_out"
    elif prompts is None:
        is_held_out = corpus.hashes() / 2.0**64 < fraction
    elif len(prompts) and (prompts == prompts[0]).all():
        is_held_out = np.zeros(len(prompts), bool)
    else:
        is_held_out = prompts / 2.0**64 < fraction
    is_left_out = read_excluded(corpus, train.selection)
    is_held_out = is_held_out & ~is_left_out
    is_leaking = np.zeros(len(is_held_out), bool)
    if has_own and prompts is not None:
        is_leaking = ~is_held_out & ~is_left_out & np.isin(prompts, prompts[is_held_out])
    is_train = ~is_held_out & ~is_leaking & ~is_left_out
    if not is_train.any():
        raise CorpusError(_nothing_left(int(is_leaking.sum()), int(is_left_out.sum())))
    return Split(*(np.flatnonzero(part).tolist() for part in (is_train, is_held_out, is_leaking)))


def _nothing_left(leaking: int, left_out: int) -> str:
    if leaking:
        return (
            f"Nothing is left to train on: all {leaking:,} examples of the training part have a prompt that is held "
            "out too. Give files whose prompts differ, or no split of their own."
        )
    if left_out:
        return f"Nothing is left to train on: {left_out:,} examples are left out. Take some of them back."
    return "Every example is held out. Lower `held_out_fraction`."


def learnt_prompts(corpus: Corpus, train: list[int], held_out: list[int]) -> int:
    """How many held-out examples have a prompt that is also trained on: none of a split by prompt."""
    prompts = corpus.prompt_hashes()
    return int(np.isin(prompts[held_out], prompts[train]).sum())


def training_hash(corpus: Corpus, positions: list[int]) -> str:
    """SHA-256 over the hashes of these examples in order, hexadecimal: the same only for the same training set."""
    return hashlib.sha256(np.ascontiguousarray(corpus.hashes()[positions]).astype("<u8").tobytes()).hexdigest()
