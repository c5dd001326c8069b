"""What one look at every text of a corpus tells: a few numbers of each, so that no check holds the texts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from hydralora.corpus.examples import Example
from hydralora.corpus.quality.languages import MOST_TOLD, Teller
from hydralora.corpus.quality.sketches import BANDS, bands_of, short_names, sketch
from hydralora.results.quality import UNTOLD

# How chat templates of well-known families mark roles and ends; a text that holds one was made with a template.
MARK = re.compile(
    r"<\|[a-z_]{2,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<[|｜](?:begin|end|User|Assistant)[^<>]{0,30}[|｜]>"
    r"|^### (?:Instruction|Response|Input|Human|Assistant):",
    re.MULTILINE,
)
NOTHING = re.compile(r"[\W_]*|n/?a|none|null|nan|tbd|todo|unknown|\[removed\]|\[deleted\]", re.IGNORECASE)


@dataclass
class Facts:
    """Of each example, ``(examples,)``: characters of its text and of its answer, whether it is plain text, whether
    its answer says nothing, whether it holds marks of a template, whether it is a pair of answers, a name of its system
    text, and its language.

    Args:
        marks: How many examples hold each mark.
        names: Of the languages, by the numbers in ``languages``; ``UNTOLD`` is none.
        texts: Names of the bands of each distinct text, ``(distinct, BANDS)``.
        prompts: Those of each distinct prompt; ``(0, BANDS)`` where nothing is held out.
    """

    characters: np.ndarray
    answers: np.ndarray
    is_plain: np.ndarray
    is_blank: np.ndarray
    has_marks: np.ndarray
    is_pair: np.ndarray
    systems: np.ndarray
    languages: np.ndarray
    marks: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    texts: np.ndarray = field(default_factory=lambda: np.zeros((0, BANDS), np.uint32))
    prompts: np.ndarray = field(default_factory=lambda: np.zeros((0, BANDS), np.uint32))

    @classmethod
    def of_none(cls, count: int) -> Facts:
        """Room for the facts of ``count`` examples."""
        return cls(
            characters=np.zeros(count, np.int32),
            answers=np.zeros(count, np.int32),
            is_plain=np.zeros(count, bool),
            is_blank=np.zeros(count, bool),
            has_marks=np.zeros(count, bool),
            is_pair=np.zeros(count, bool),
            systems=np.zeros(count, np.uint64),
            languages=np.full(count, UNTOLD, np.int16),
        )


def read_facts(
    parts: Iterator[tuple[int, list[Example]]],
    count: int,
    is_text: np.ndarray,
    is_prompt: np.ndarray,
    step: Callable[[float], None] = lambda share: None,
) -> Facts:
    """Look at every text once.

    Args:
        parts: Some examples at a time, with the place of the first of them.
        is_text: Whether an example's text is to be sketched, ``(examples,)``; ``is_prompt`` the same of its prompt.
    """
    facts, teller = Facts.of_none(count), Teller()
    facts.names = teller.names
    texts, prompts = _Bands(int(is_text.sum())), _Bands(int(is_prompt.sum()))
    for begin, examples in parts:
        step(begin / count)
        places = slice(begin, begin + len(examples))
        _look(facts, places, examples)
        whole = [example.text() for example in examples]
        facts.characters[places] = [len(text) for text in whole]
        if begin < MOST_TOLD:
            facts.languages[places] = teller.tell(whole)
        texts.add([text for text, is_meant in zip(whole, is_text[places], strict=True) if is_meant])
        prompts.add([asked(e) for e, is_meant in zip(examples, is_prompt[places], strict=True) if is_meant])
    facts.texts, facts.prompts = texts.names, prompts.names
    return facts


def asked(example: Example) -> str:
    """The prompt of an example, for plain text the text."""
    return example.prompt or example.answer


class _Bands:
    """Names of the bands of texts that come a few at a time, ``(count, BANDS)`` of 32 bits in the end."""

    def __init__(self, count: int) -> None:
        self.names, self._end = np.empty((count, BANDS), np.uint32), 0

    def add(self, texts: list[str]) -> None:
        if texts:
            self.names[self._end : self._end + len(texts)] = short_names(bands_of(sketch(texts)))
            self._end += len(texts)


def _look(facts: Facts, places: slice, examples: list[Example]) -> None:
    """Everything that is told of one example alone, but its language."""
    facts.answers[places] = [len(example.answer) for example in examples]
    facts.is_plain[places] = [example.is_text for example in examples]
    facts.is_pair[places] = [example.is_pair for example in examples]
    facts.is_blank[places] = [bool(NOTHING.fullmatch(example.answer.strip())) for example in examples]
    facts.systems[places] = [_name_of(example.system) for example in examples]
    marks = [_marks_in(example) for example in examples]
    facts.has_marks[places] = [bool(own) for own in marks]
    for own in filter(None, marks):
        facts.marks.update(own)


def _marks_in(example: Example) -> set[str]:
    """Different marks of templates in all its parts."""
    texts = [part for part in example.parts() if "<" in part or "[" in part or "###" in part]
    return {mark for part in texts for mark in MARK.findall(part)}


def _name_of(system: str) -> int:
    """A number that is equal for equal system texts."""
    return int.from_bytes(hashlib.blake2b(system.encode(), digest_size=8).digest()) if system else 0
