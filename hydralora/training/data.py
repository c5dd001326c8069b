"""What a run is trained and measured on: the split of a corpus, encoded for a base."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hydralora.answering import spread
from hydralora.bases.fingerprint import Fingerprint
from hydralora.config import RunConfig, TrainConfig
from hydralora.corpus.batches import Encoded
from hydralora.corpus.encode import cut, encode_telling, split
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.pairs import cut_pair, encode_pair, pair_tokens
from hydralora.corpus.split import split_examples, training_hash
from hydralora.corpus.tasks import Placed, Tasks, only_cluster, read_clusters, read_tasks
from hydralora.errors import TrainingError
from hydralora.results import TrainingSet
from hydralora.training.presets import planned_steps
from hydralora.training.trainer import Plan, Question

MAX_EVALUATED = 256  # held-out examples whose loss is measured during training


@dataclass(frozen=True)
class Data:
    """What is trained on and what is only measured, encoded.

    Args:
        training_set: What of the corpus that is, with what was left out or cut.
        kept: Positions and examples of ``rows``; a text that is trained on in pieces stands here once for each.
        measured: Positions and examples of ``held_out``, at most ``MAX_EVALUATED`` rows.
        tasks: Where the method learns from tasks.
        clusters: Cluster of every row, where rows are drawn by them.
    """

    training_set: TrainingSet
    kept: Placed
    rows: list[Encoded]
    measured: Placed
    held_out: list[Encoded]
    tasks: Tasks | None
    clusters: list[int] | None

    def plan(
        self,
        config: RunConfig,
        tokenizer: Any,
        run_folder: Path,
        *,
        resumed: bool,
        sources: list[Path],
        mark: Fingerprint,
    ) -> Plan:
        """What a method may look at before training begins; ``mark`` is the base's fingerprint."""
        return Plan(
            config=config,
            tokenizer=tokenizer,
            rows=self.rows,
            examples=[example for _, example in self.kept],
            groups=self.tasks.numbers(self.kept) if self.tasks else None,
            run_folder=run_folder,
            resumed=resumed,
            tasks=self.tasks,
            held_out=self.held_out,
            held_out_groups=self.tasks.numbers(self.measured) if self.tasks else [],
            sources=sources,
            base_fingerprint=mark,
            clusters=self.clusters,
            questions=self._questions(config),
        )

    def _questions(self, config: RunConfig) -> list[Question]:
        """The held-out questions that are answered at each measurement."""
        has_heads = self.tasks is not None and config.adapter.combined_by == "hard"
        heads = self.tasks.numbers(self.measured) if self.tasks and has_heads else [None] * len(self.measured)
        asked = [Question(example, head) for (_, example), head in zip(self.measured, heads, strict=True)]
        asked = [question for question in asked if question.example.prompt]
        return [asked[place] for place in spread(range(len(asked)), config.train.answered)]


def read_data(config: RunConfig, corpus: Corpus, tokenizer: Any, clusters_folder: Path | None) -> Data:
    """Split and encode a corpus as a run wants it.

    Raises:
        TrainingError: When no example fits, or the tasks of the method or the clusters are not there.
    """
    train = config.train
    sides = split_examples(corpus, train)
    train_ids, held_out_ids = only_cluster(sides.train, sides.held_out, train.only_cluster, clusters_folder)
    found = _encode(corpus, train_ids, tokenizer, train)
    measured = _encode(corpus, held_out_ids[:MAX_EVALUATED], tokenizer, train)
    del measured.kept[MAX_EVALUATED:], measured.rows[MAX_EVALUATED:]  # a text in pieces may be thousands of rows
    positions = [position for position, _ in found.kept]
    each = list(dict.fromkeys(positions))
    training_set = TrainingSet(
        hash=training_hash(corpus, each),
        corpus_hash=corpus.manifest.content_hash,
        examples=len(each),
        held_out=len(held_out_ids),
        skipped=len(train_ids) - len(each) - found.unpaired,
        unpaired=found.unpaired,
        pairs=len(each) if train.objective == "dpo" else 0,
        cut=found.cut,
        partly=found.partly,
        split=found.split,
        pieces=found.split + len(positions) - len(each),
        leaking=len(sides.leaking),
        steps=planned_steps(train, len(positions)),
        encoded=_encoded_hash(found.rows, measured.rows),
    )
    return Data(
        training_set,
        found.kept,
        found.rows,
        measured.kept,
        measured.rows,
        read_tasks(found.kept, config.adapter.task_source, clusters_folder),
        _clusters(train, positions, clusters_folder),
    )


def _clusters(train: TrainConfig, positions: list[int], clusters_folder: Path | None) -> list[int] | None:
    if train.cluster_power == 1.0:
        return None
    cluster = read_clusters(clusters_folder)
    if cluster is None:
        raise TrainingError(
            f"`cluster_power` is {train.cluster_power:g}, but the corpus has no clusters. Cluster it first, or "
            "leave it at 1."
        )
    return [int(number) for number in cluster[positions]]


def _encoded_hash(rows: list[Encoded], held_out: list[Encoded]) -> str:
    """SHA-256 over tokens and labels, which tell where the loss falls, of the rows trained on and of those measured."""
    digest = hashlib.sha256()
    for side in (rows, held_out):
        digest.update(f"{len(side)} rows\n".encode())
        for row in side:
            for name in row:  # in the order in which they were made, alike for all
                digest.update(np.asarray([len(row[name]), *row[name]], dtype="<i8").tobytes())
    return digest.hexdigest()


def settle_training_set(training_set: TrainingSet, run_folder: Path, *, resumed: bool) -> None:
    """Write down what a run is trained on, or, when it goes on, make sure that it still is.

    Raises:
        TrainingError: When a resumed run would go on with other examples, or would learn something else of them.
    """
    if not resumed or not (run_folder / TrainingSet.FILE).exists():  # runs of earlier versions wrote none
        training_set.write(run_folder)
        return
    before = TrainingSet.read(run_folder)
    if before.hash != training_set.hash:
        raise TrainingError(
            f"The training set has changed since this run began: {before.examples:,} examples (hash "
            f"{before.hash[:12]}) then, {training_set.examples:,} (hash {training_set.hash[:12]}) now. Undo the change "
            "to the corpus, or start a new run."
        )
    if before.encoded and before.encoded != training_set.encoded:
        raise TrainingError(
            f"The examples are the same as when this run began, but their tokens, or which of them are learnt, are not "
            f"(hash {before.encoded[:12]} then, {training_set.encoded[:12]} now): the tokenizer, its chat template, "
            "`learn` or `max_length` has changed. Put it back, or start a new run."
        )


@dataclass
class _Encoding:
    """Positions and examples that fit, their rows of ids, how many were cut at their end, of how many not all answers
    are learnt that should be, how many were split into several rows, and how many hold no pair where pairs are
    learnt."""

    kept: Placed = field(default_factory=list)
    rows: list[Encoded] = field(default_factory=list)
    cut: int = 0
    partly: int = 0
    split: int = 0
    unpaired: int = 0

    def add(self, position: int, example: Example, tokenizer: Any, train: TrainConfig) -> None:
        """Encode one example; nothing is added where its prompt leaves no room."""
        if train.objective == "dpo":
            self._add_pair(position, example, tokenizer, train.max_length)
            return
        whole, is_partly = encode_telling(tokenizer, example, train.learn)
        is_longer = len(whole["input_ids"]) > train.max_length
        is_split = is_longer and example.is_text and train.long_texts == "split"
        row = cut(whole, train.max_length)
        rows = split(whole, train.max_length) if is_split else [] if row is None else [row]
        self.kept += [(position, example)] * len(rows)
        self.rows += rows
        self.split += is_split
        if rows:
            self.cut += is_longer and not is_split
            self.partly += is_partly

    def _add_pair(self, position: int, example: Example, tokenizer: Any, max_length: int) -> None:
        if not example.is_pair:
            self.unpaired += 1
            return
        whole = encode_pair(tokenizer, example)
        row = cut_pair(whole, max_length)
        if row is not None:
            self.kept.append((position, example))
            self.rows.append(row)
            self.cut += pair_tokens(whole) > max_length


def _encode(corpus: Corpus, ids: list[int], tokenizer: Any, train: TrainConfig) -> _Encoding:
    """The examples at these positions as they are trained on or measured."""
    found = _Encoding()
    for position, example in zip(ids, corpus.take(ids), strict=True):
        found.add(position, example, tokenizer, train)
    if ids and found.unpaired == len(ids):
        raise TrainingError(
            f"`objective` is dpo, but none of these {len(ids):,} examples holds a better and a worse answer. Train on "
            "others, or set `objective` to answers."
        )
    if ids and not found.kept:
        raise TrainingError(
            f"No example fits into {train.max_length} tokens: every prompt alone is longer. "
            "Raise `max_length`, or shorten the examples."
        )
    return found


def fit_length(config: RunConfig, positions: int) -> RunConfig:
    """The configuration with a longest length that the base has positions for."""
    length = min(config.train.max_length, positions)
    return config.model_copy(update={"train": config.train.model_copy(update={"max_length": length})})


def fit_steps(config: RunConfig, steps: int) -> RunConfig:
    """The configuration with the number of steps that its epochs come to."""
    return config.model_copy(update={"train": config.train.model_copy(update={"max_steps": steps})})
