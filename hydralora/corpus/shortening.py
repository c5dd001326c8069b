"""Examples that are longer than a run can take, made shorter: what is left out of them, and where.

Two remedies, each for one example at a time, both counted as training counts (``encode_whole``):

- The end of the last answer goes. It then ends where a line or a sentence does, else where a word does, and with the
  token that ends an answer, so that the model learns to stop.
- The middle of the longest text before the first answer goes, where that text alone leaves no room for an answer:
  what is asked mostly stands at one of its ends. ``GAP`` marks the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from hydralora.bases.load import load_tokenizer, positions_of
from hydralora.config import Learn, TrainConfig
from hydralora.corpus.edits import keep_layer, read_edits, wording_of
from hydralora.corpus.encode import encode_whole, is_left_out, prompt_tokens
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.turns import Turn, turns_of, with_turn
from hydralora.progress import SILENT, Progress
from hydralora.results.quality import Shortened

GAP = " [...] "
LEAST = 0.5  # of what fits an answer keeps at least this much, to end with a line or a sentence
LONGEST_WORD = 40  # characters; what is longer is of a script without spaces
LEAST_ANSWER = 0.5  # of all tokens: an answer gives way to its prompt no further
ENDS = (
    re.compile(r"(?=\n)|(?<=[.!?…])[\"'”’»)\]]*(?=\s)|(?<=[。！？])[”’」』）]*"),  # of lines and sentences
    re.compile(r"(?=\s)"),  # of words
)
TRIES = 12  # how often the room is measured again: what a template adds may depend on the text


def shorten_rows(
    corpus_folder: Path, positions: np.ndarray, train: TrainConfig, base: str, progress: Progress = SILENT
) -> Shortened:
    """Shorten examples of a corpus to what a run with these settings takes, and keep them as a layer of edits.

    The layer holds the edits of ``train.edits`` too; nobody reads it before it is made the newest.

    Args:
        positions: Of the examples, ascending, ``(rows,)``.

    Raises:
        CorpusError: When the layer of edits that it would lie over is gone.
        BaseModelError: When the tokenizer cannot be loaded, or its template refuses a conversation.
        StoppedError: When asked to stop.
    """
    corpus, imported = Corpus(corpus_folder, train.edits), Corpus(corpus_folder, "")
    tokenizer, max_length = load_tokenizer(base), min(train.max_length, positions_of(base))
    edited = read_edits(corpus_folder, train.edits, len(corpus)).wordings()
    changed, as_they_are = [], 0
    for number, position in enumerate(positions.tolist()):
        progress.step(number / len(positions), "Shortening examples", "The shortening")
        (example,), (before,) = corpus.take([position]), imported.take([position])
        after = shortened(tokenizer, example, max_length, train.learn)
        if after is None or after == example:
            as_they_are += after is None
            continue
        edited[position] = wording_of(before, after)
        changed.append(position)
    layer = keep_layer(corpus_folder, edited, imported.take(sorted(edited)))
    return Shortened(
        corpus_hash=corpus.manifest.content_hash,
        layer=layer,
        edits=train.edits,
        positions=changed,
        left=as_they_are,
        max_length=max_length,
    )


def shortened(
    tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, learn: Learn = "all"
) -> Example | None:
    """The example within ``max_length`` tokens; as it is where it fits, None where leaving out text is no remedy.

    That is so where the answer calls tools, or where no single text before it is long enough to be the reason.

    Raises:
        BaseModelError: When the base's chat template refuses the conversation.
    """
    fitting = _Fitting(tokenizer, max_length, learn)
    whole, before = fitting.measure(example)
    is_unfit = is_left_out(before, max_length)
    if whole <= max_length and not is_unfit:
        return example
    if is_unfit:
        room = max(1, min(whole - before, int(LEAST_ANSWER * max_length)))
        return fitting.shorten_answer(example, before + room, lambda one: fitting.shorten_prompt(one, max_length))
    return fitting.shorten_answer(example, max_length)


class _Fitting:
    """Texts of examples cut until the examples fit."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, learn: Learn) -> None:
        self.tokenizer, self.max_length, self.learn = tokenizer, max_length, learn

    def measure(self, example: Example) -> tuple[int, int]:
        """Tokens of an example, and of them those before its first answer."""
        encoded = encode_whole(self.tokenizer, example, self.learn)
        return len(encoded["labels"]), prompt_tokens(encoded)

    def shorten_answer(
        self, example: Example, most: int, then: Callable[[Example], Example | None] = lambda one: one
    ) -> Example | None:
        """The example with so much of its last answer that it has at most ``most`` tokens, handed on to ``then``."""
        if turns_of(example)[-1].calls:
            return None
        offsets, text = self._ends_of_tokens(example.answer), example.answer

        def with_beginning(room: int) -> Example | None:
            kept = _beginning(text, offsets[room - 1]) if room > 0 else ""
            return replace(example, answer=kept) if kept else None

        found = self._cut_until_it_fits(example, most, len(offsets), with_beginning)
        return then(found) if found else None

    def shorten_prompt(self, example: Example, most: int) -> Example | None:
        """The example without the middle of its longest text that is no answer, at most ``most`` tokens long."""
        longest = max(self._asked(example), key=lambda turn: len(turn.text), default=None)
        if longest is None:
            return None
        offsets, text, place = self._ends_of_tokens(longest.text), longest.text, longest.place

        def with_both_ends(room: int) -> Example | None:
            if room < 2:
                return None
            left, right = offsets[(room + 1) // 2 - 1], offsets[len(offsets) - room // 2 - 1]
            return with_turn(example, place, _without_middle(text, left, right))

        return self._cut_until_it_fits(example, most, len(offsets), with_both_ends)

    def _cut_until_it_fits(
        self, example: Example, most: int, room: int, cut: Callable[[int], Example | None]
    ) -> Example | None:
        """The example with at most ``most`` tokens; ``cut`` leaves so many tokens of one text, of ``room`` at first."""
        found: Example | None = example
        for _ in range(TRIES):
            if found is None or (over := self.measure(found)[0] - most) <= 0:
                return found
            room -= over
            found = cut(room)
        return None

    def _asked(self, example: Example) -> list[Turn]:
        """Its turns that are no answers and call no tools."""
        return [turn for turn in turns_of(example) if turn.role != "assistant" and not turn.calls and turn.text]

    def _ends_of_tokens(self, text: str) -> list[int]:
        """Where each token of a text alone ends, in characters; ``(tokens,)``."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        return [end for _, end in encoded["offset_mapping"]]


def _beginning(text: str, size: int) -> str:
    """As much of the first ``size`` characters as ends like a line or a sentence, else like a word, else all of them;
    without white space at its end."""
    if size >= len(text):
        return text
    for ends in ENDS:
        kept = text[: max((found.end() for found in ends.finditer(text) if found.end() <= size), default=0)].rstrip()
        if len(kept) >= LEAST * size:
            return kept
    return text[:size].rstrip()


def _without_middle(text: str, left: int, right: int) -> str:
    """A text whose characters from ``left`` to ``right`` are left out, and what is left of words at both ends."""
    head, tail = text[:left], text[right:]
    if not text[left].isspace() and (word := re.search(r"\s(\S*)\Z", head[-LONGEST_WORD:])):
        head = head[: len(head) - len(word[1])]
    if not text[right - 1].isspace() and (word := re.match(r"(\S*)\s", tail[:LONGEST_WORD])):
        tail = tail[len(word[1]) :]
    return f"{head.rstrip()}{GAP}{tail.lstrip()}"
