"""A finished run, loaded to be looked into, and the examples it is measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hydralora.adapters.build import open_adapter
from hydralora.bases.load import load_base
from hydralora.config import TrainConfig
from hydralora.corpus.batches import Encoded
from hydralora.corpus.encode import encode_example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.split import split_examples
from hydralora.corpus.tasks import Placed
from hydralora.errors import AdapterError
from hydralora.results import AdapterFacts


def facts_of(run_folder: Path) -> AdapterFacts:
    """What is known of a finished run.

    Raises:
        AdapterError: When it has no adapter yet.
    """
    facts = AdapterFacts.find(run_folder / "adapter")
    if facts is None:
        raise AdapterError("This run has no finished adapter yet. Wait for it, or resume it.")
    return facts


def load_run(run_folder: Path, adapter: Path | None = None) -> tuple[Any, Any, AdapterFacts]:
    """Model with its adapter, tokenizer and facts of a finished run or one of its checkpoints.

    Raises:
        AdapterError: When it has no adapter yet, or that does not fit its base.
        BaseModelError: When the base cannot be loaded.
    """
    final, facts = run_folder / "adapter", facts_of(run_folder)
    base, tokenizer = load_base(facts.config.base, dtype=facts.config.train.dtype)
    return open_adapter(base, adapter or final), tokenizer, facts


def corpus_of(facts: AdapterFacts, folder: Path) -> Corpus:
    """The corpus in a folder for a look by a run: its own with the edits it began with, another one as it is now."""
    corpus = Corpus(folder)
    return Corpus(folder, facts.config.train.edits) if _is_own(facts, corpus) else corpus


def _is_own(facts: AdapterFacts, corpus: Corpus) -> bool:
    return corpus.manifest.content_hash == facts.corpus_hash


def settings_on(facts: AdapterFacts, corpus: Corpus) -> TrainConfig:
    """The run's training settings, for a look at a corpus; of another one than its own, the run leaves nothing out."""
    train = facts.config.train
    return train if _is_own(facts, corpus) else train.model_copy(update={"selection": ""})


def fitting_examples(
    corpus: Corpus, tokenizer: Any, train: TrainConfig, limit: int, seed: int
) -> tuple[Placed, list[Encoded]]:
    """Examples that fit the model, by position, and their ids and labels; ``choose_examples`` says which.

    Raises:
        AdapterError: When none fits.
    """
    ids = choose_examples(corpus, train, limit, seed)
    encoded = [
        (i, e, encode_example(tokenizer, e, train.max_length, train.learn))
        for i, e in zip(ids, corpus.take(ids), strict=True)
    ]
    fitting = [((i, e), row) for i, e, row in encoded if row is not None]
    if not fitting:
        raise AdapterError("No example fits this model. Choose another corpus.")
    return [pair for pair, _ in fitting], [row for _, row in fitting]


def choose_examples(corpus: Corpus, train: TrainConfig, limit: int, seed: int) -> list[int]:
    """Up to ``limit`` positions: held-out ones first, then a seeded draw of the others."""
    split = split_examples(corpus, train)
    rng = np.random.default_rng(seed)
    drawn = [int(i) for part in (split.held_out, split.train) for i in rng.permutation(part)]
    return sorted(drawn[:limit])
