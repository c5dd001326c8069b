"""How many tokens examples have: estimated for all from their parts, counted exactly near the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from transformers import PreTrainedTokenizerBase

from hydralora.config import Learn, TrainConfig
from hydralora.corpus.encode import encode_whole, is_left_out, prompt_tokens
from hydralora.corpus.examples import Example
from hydralora.corpus.pairs import encode_pair, pair_tokens
from hydralora.corpus.quality.table import Found, Texts
from hydralora.results.quality import TokenLengths
from hydralora.threads import in_order

CALIBRATION = 64  # examples that are encoded exactly, spread over the corpus
MARGIN = 2  # tokens beyond the largest error of the calibration that still count as near
POWERS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass
class Lengths:
    """Tokens of each example, whole and before its first answer; ``(examples,)`` both."""

    whole: np.ndarray
    prompt: np.ndarray


def count_tokens(
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    train: TrainConfig,
    step: Callable[[float], None] = lambda share: None,
) -> Lengths:
    """Tokens of every example as training would encode it.

    A chat template is rendered for one conversation at a time, which is slow. So the tokens of the parts are counted
    for all at once, and what the template adds is fitted, ``a + b * parts``, to ``CALIBRATION`` examples that are
    encoded as in training. Every example whose estimate is as near to ``max_length`` as the worst of these was to the
    truth is encoded as in training too, so what is said to be cut is exact unless a template is wilder than all those.
    Of a pair the longer side counts; where pairs are learnt, what is none has no tokens.

    Raises:
        BaseModelError: When the template refuses a conversation.
    """
    estimate, parts, is_talk = _estimate(tokenizer, texts, train, step)
    is_learnt = texts.facts.is_pair if train.objective == "dpo" else np.ones(len(texts), bool)
    groups = [np.flatnonzero(is_talk & is_learnt), np.flatnonzero(~is_talk & is_learnt)]
    near = [_fit(tokenizer, texts, group, parts, estimate, train) for group in groups]
    step(0.7)
    places = np.sort(np.concatenate(near))
    counted = _encode(tokenizer, texts, places, train)
    estimate.whole[places], estimate.prompt[places] = counted.whole, counted.prompt
    return Lengths(np.rint(estimate.whole).astype(np.int64), np.rint(estimate.prompt).astype(np.int64))


def _fit(
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    group: np.ndarray,
    parts: np.ndarray,
    estimate: Lengths,
    train: TrainConfig,
) -> np.ndarray:
    """Add what a template adds to the estimates of a group of alike examples; gives those to be counted exactly."""
    if not len(group):
        return group
    is_sample = np.zeros(len(group), bool)
    is_sample[np.unique(np.linspace(0, len(group) - 1, min(len(group), CALIBRATION)).astype(int))] = True
    places, is_near = group[is_sample], is_sample.copy()
    exact = _encode(tokenizer, texts, places, train)
    matrix = np.column_stack([np.ones(len(group)), parts[group]])
    for known, values in ((exact.whole, estimate.whole), (exact.prompt, estimate.prompt)):
        values[group] += matrix @ np.linalg.lstsq(matrix[is_sample], known - values[places], rcond=None)[0]
        error = np.abs(values[places] - known).max()
        is_near |= np.abs(values[group] - train.max_length) <= 2 * error + MARGIN
    return group[is_near]


def _estimate(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, train: TrainConfig, step: Callable[[float], None]
) -> tuple[Lengths, np.ndarray, np.ndarray]:
    """Tokens of the parts of each example, how many parts it has, and whether it is a conversation; ``(examples,)``."""
    count = len(texts)
    whole, prompt, parts = np.zeros(count), np.zeros(count), np.zeros(count, np.int32)
    is_talk = np.zeros(count, bool)
    tokenizer.backend_tokenizer.encode_special_tokens = True  # as plain text
    is_dpo = train.objective == "dpo"
    for begin, examples, found in in_order(partial(_counts_of, tokenizer, is_dpo), texts.parts()):
        counts = iter(found)
        for place, example in enumerate(examples, begin):
            tokens = [next(counts) for _ in example.parts()]
            worse = next(counts) if is_dpo else 0
            if is_dpo and not example.is_pair:
                continue
            whole[place], parts[place], is_talk[place] = (
                sum(tokens) + max(0, worse - tokens[_parts_before(example, "last")] if is_dpo else 0),
                len(tokens),
                bool(example.history or example.extra),
            )
            before = _parts_before(example, "last" if is_dpo else train.learn)
            prompt[place] = sum(tokens[:before]) if example.prompt else 0
        step(0.6 * (begin + len(examples)) / count)
    return Lengths(whole, prompt), parts, is_talk


def _parts_before(example: Example, learn: Learn) -> int:
    """How many of ``Example.parts`` stand before the first answer that is learnt: two for each message of history."""
    roles = [role for role, _ in example.history]
    if learn == "all" and "assistant" in roles:
        return 1 + 2 * roles.index("assistant")
    return 2 + 2 * len(roles)


def _counts_of(
    tokenizer: PreTrainedTokenizerBase, has_worse: bool, part: tuple[int, list[Example]]
) -> tuple[int, list[Example], list[int]]:
    """Tokens of each text of some examples alone, as ``encode_text`` gives them; ids are not even copied out of the
    tokenizer."""
    begin, examples = part
    worse = [[example.rejected] * has_worse for example in examples]
    parts = [text for example, more in zip(examples, worse, strict=True) for text in (*example.parts(), *more)]
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(parts, add_special_tokens=False)
    return begin, examples, [len(tokens) for tokens in encoded]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Texts, places: np.ndarray, train: TrainConfig) -> Lengths:
    """Tokens of the examples at these places, ascending, encoded as in training; ``(places,)`` both."""
    whole, prompt = np.zeros(len(places)), np.zeros(len(places))
    for number, example in enumerate(chain.from_iterable(texts.some(places))):
        if train.objective == "dpo":
            pair = encode_pair(tokenizer, example)
            whole[number], prompt[number] = pair_tokens(pair), len(pair["prompt_ids"])
            continue
        encoded = encode_whole(tokenizer, example, train.learn)
        whole[number], prompt[number] = len(encoded["labels"]), prompt_tokens(encoded)
    return Lengths(whole, prompt)


def summary(lengths: Lengths) -> TokenLengths:
    """The lengths in a few numbers."""
    whole = lengths.whole[lengths.whole > 0] if lengths.whole.any() else lengths.whole
    return TokenLengths(
        median=int(np.median(whole)),
        p95=int(np.quantile(whole, 0.95, method="higher")),
        longest=int(whole.max()),
        whole_at={str(power): int((whole <= power).sum()) for power in POWERS},
    )


def find_too_long(lengths: Lengths, train: TrainConfig, is_text: np.ndarray) -> list[Found]:
    """Examples that lose their end at ``max_length`` tokens, those whose prompt alone does not fit, and plain texts
    that are trained on in pieces; ``is_text`` says which are plain, ``(examples,)``."""
    most = f"{train.max_length:,}"
    is_longer = lengths.whole > train.max_length
    is_split = is_longer & is_text & (train.long_texts == "split")
    is_unfit = is_left_out(lengths.prompt, train.max_length) & ~is_split
    is_cut = is_longer & ~is_unfit & ~is_split
    cut = np.flatnonzero(is_cut)
    enough = int(lengths.whole[is_cut].max()) if len(cut) else train.max_length
    return [
        Found(
            "cut",
            "{} would lose their end in training.",
            f"They are longer than {most} tokens, so their last words and the token that ends an answer are "
            f"cut off: the model does not learn to stop there. Set `max_length` to {enough:,} to keep all whole, "
            "shorten them to where a sentence ends, or leave them out.",
            cut,
            cut,
            "Leave out",
            shortens=True,
        ),
        Found(
            "unfit",
            "{} would be left out of training.",
            f"Their prompt alone is longer than {most} tokens. Raise `max_length`, or shorten them: the middle of the "
            "longest text before the answer goes.",
            np.flatnonzero(is_unfit),
            shortens=True,
        ),
        Found(
            "pieces",
            "{} would be trained on in pieces.",
            f"They are plain texts of more than {most} tokens. Each is split into pieces that follow each other, "
            "and nothing is lost. Set `long_texts` to cut to train on their beginnings alone.",
            np.flatnonzero(is_split),
        ),
    ]
