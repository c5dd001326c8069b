"""The quality report of a corpus: every check, one after the other, and what each finds kept beside it.

Every text is looked at once, a batch at a time; what is kept of it are some 150 bytes. What counts tokens brings torch
with it, so it is loaded only where a base is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.corpus.quality import DECIDING, FOLDER
from hydralora.corpus.quality.copies import find_contradictions, find_copies, find_leaks, find_near_copies, find_shared
from hydralora.corpus.quality.elsewhere import find_elsewhere
from hydralora.corpus.quality.findings import write_findings, write_languages, write_tokens
from hydralora.corpus.quality.table import Found, Texts
from hydralora.corpus.quality.texts import (
    count_languages,
    find_blank,
    find_marks,
    find_outliers,
    find_rare_languages,
    find_short,
)
from hydralora.corpus.selection import read_excluded
from hydralora.corpus.split import split_examples
from hydralora.errors import CorpusError
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress
from hydralora.results.quality import Quality, TokenLengths

if TYPE_CHECKING:
    from hydralora.corpus.quality.lengths import Lengths

CHECKS: tuple[tuple[str, Callable[[Texts], list[Found]]], ...] = (
    ("Looking for prompts that leak", find_shared),
    ("Looking for prompts that leak", find_leaks),
    ("Looking for contradictions", find_contradictions),
    ("Looking for copies", find_copies),
    ("Looking for near copies", find_near_copies),
    ("Looking at answers", find_blank),
    ("Looking at answers", find_short),
    ("Looking for marks of templates", find_marks),
    ("Looking for outliers", find_outliers),
)


def check_corpus(
    corpus_folder: Path,
    train: TrainConfig,
    *,
    base: str = "",
    others: Mapping[str, Path] | None = None,
    progress: Progress = SILENT,
) -> Quality:
    """Check what a run with these settings would train on; writes ``quality/quality.json`` below the corpus' folder.

    Args:
        base: Base model whose tokens are counted; none are where it is empty.
        others: Folders of further corpora, by name: prompts that stand there too are told.

    Raises:
        CorpusError: When nothing is left to check.
        BaseModelError: When the base's tokenizer cannot be loaded, or its template refuses a conversation.
        StoppedError: When asked to stop; nothing is kept.
    """
    corpus, asked = Corpus(corpus_folder, train.edits), train
    progress.report(0.0, "Reading the examples")
    texts = read_texts(corpus, train)
    texts.look(lambda share: progress.step(0.5 * share, "Reading the examples", "The check"))
    unpaired = find_unpaired(texts, train)
    train, lengths, found, told = _measure(texts, train, base, progress.part(0.5, 0.85, ""))
    found += unpaired
    for number, (words, check) in enumerate(CHECKS):
        progress.step(0.85 + 0.1 * number / len(CHECKS), words, "The check")
        found += check(texts)
    progress.step(0.95, "Looking into the other corpora", "The check")
    found += find_elsewhere(texts, others or {})
    found += find_rare_languages(texts)
    kept = [one for one in found if len(one.places)]
    languages = count_languages(texts)
    sampled = sum(languages.values())
    result = Quality(
        sentence=_sentence(texts, kept),
        examples=len(texts),
        train=int((~texts.is_held_out & ~texts.is_leaking).sum()),
        held_out=int(texts.is_held_out.sum()),
        base=base,
        max_length=train.max_length,
        lengths=told,
        languages={name: count / sampled for name, count in languages.items()},
        sampled=sampled,
        untold=len(texts) - sampled,
        findings=[one.finding(texts) for one in kept],
        settings={name: getattr(asked, name) for name in DECIDING},
        corpus_hash=corpus.manifest.content_hash,
        selection=train.selection,
        edits=train.edits,
    )
    _write(corpus_folder / FOLDER, result, texts, kept, lengths)
    return result


def read_texts(corpus: Corpus, train: TrainConfig) -> Texts:
    """The examples that are not left out; ``Texts.look`` reads them.

    Raises:
        CorpusError: When there is none.
    """
    positions = np.flatnonzero(~read_excluded(corpus, train.selection))
    if not len(positions):
        raise CorpusError("Every example is left out. Take some of them back.")
    split = split_examples(corpus, train)
    return Texts(
        corpus=corpus,
        positions=positions,
        hashes=corpus.hashes()[positions],
        prompts=corpus.prompt_hashes()[positions],
        is_held_out=np.isin(positions, split.held_out),
        is_leaking=np.isin(positions, split.leaking),
    )


def find_unpaired(texts: Texts, train: TrainConfig) -> list[Found]:
    """Examples that are no pair, where preferences are learnt."""
    if train.objective != "dpo":
        return []
    advice = "Preferences are learnt (`objective` dpo), and they hold no better and worse answer to one prompt."
    return [Found("unpaired", "{} would be left out of training.", advice, np.flatnonzero(~texts.facts.is_pair))]


def _measure(
    texts: Texts, train: TrainConfig, base: str, progress: Progress
) -> tuple[TrainConfig, Lengths | None, list[Found], TokenLengths | None]:
    """Tokens, where a base is named: the settings within what it takes, tokens, what is too long, and a summary."""
    if not base:
        return train, None, [], None
    from hydralora.bases.load import load_tokenizer, positions_of
    from hydralora.corpus.quality.lengths import count_tokens, find_too_long, summary

    train = train.model_copy(update={"max_length": min(train.max_length, positions_of(base))})
    lengths = count_tokens(
        load_tokenizer(base),
        texts,
        train,
        lambda share: progress.step(share, "Counting tokens", "The check"),
    )
    return train, lengths, find_too_long(lengths, train, texts.facts.is_plain), summary(lengths)


def _sentence(texts: Texts, found: list[Found]) -> str:
    """The whole report in one sentence."""
    if not found:
        return f"Nothing is wrong with these {len(texts):,} examples, as far as was looked."
    places = len(np.unique(np.concatenate([one.places for one in found])))
    return f"{places:,} of {len(texts):,} examples should be looked at, for {len(found)} reasons."


def _write(folder: Path, result: Quality, texts: Texts, found: list[Found], lengths: Lengths | None) -> None:
    """Every example of every finding, and its tokens, then the report beside them."""
    places = [np.unique(one.places) for one in found]
    kinds = [one.kind for one, own in zip(found, places, strict=True) for _ in own]
    removable = [np.isin(own, one.removable) for own, one in zip(places, found, strict=True)]
    with written_aside(folder) as aside:
        aside.mkdir(parents=True)
        everywhere = np.concatenate([np.zeros(0, np.int64), *places])
        write_findings(aside, kinds, texts.positions[everywhere], np.concatenate([np.zeros(0, bool), *removable]))
        if lengths is not None:
            write_tokens(aside, texts.positions, lengths.whole)
        write_languages(aside, texts.positions, texts.facts.languages, texts.facts.names)
        result.write(aside)
