"""From a row of a file to its examples, or to the sentence that says why it can be none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hydralora import limits
from hydralora.corpus.examples import Example
from hydralora.corpus.rows import SPLIT_NAMES, Rejected, Row
from hydralora.corpus.shapes.choices import Choices, labels_of, with_choices
from hydralora.corpus.shapes.messages import Turn, is_messages, tools_of, turns_of
from hydralora.corpus.shapes.preferences import find_worse
from hydralora.corpus.shapes.unfold import Unfolding
from hydralora.corpus.shapes.values import Tally, parsed, text_of
from hydralora.corpus.shapes.wrapped import Family, unwrap, without_end
from hydralora.errors import CorpusError
from hydralora.results import ImportOptions, Roles

GOOD = ("true", "1", "1.0", "yes")


class Content(NamedTuple):
    """What an example is made of, before label, split and place are known."""

    prompt: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    extra: str = ""
    rejected: str = ""


@dataclass
class Converter:
    """Makes examples of the rows of one table, and counts in ``tally`` what it changes.

    Args:
        roles: Which column plays which part.
        source: The table's name, for messages.
        unfolding: Rows inside rows that are laid flat first.
        choices: How an answer names one of several choices.
        family: The chat template that prompts or texts already lie in.
        several_answers: Whether a list in the answer's column holds several right answers, not lines of one.
        good_marks: Whether true in the mark's column means a good answer.
        split: What the file's name says of the split.
        label: What the file's name says of the label.
        has_end_marks: Whether answers end with an end token, which is taken off.
    """

    roles: Roles
    source: str = ""
    options: ImportOptions = field(default_factory=ImportOptions)
    unfolding: Unfolding = field(default_factory=Unfolding)
    choices: Choices | None = None
    family: Family | None = None
    several_answers: bool = False
    good_marks: bool = True
    split: str = ""
    label: str = ""
    has_end_marks: bool = False
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        roles = self.roles
        needed = (*roles.prompt, roles.answer, roles.text, roles.messages)
        self._needed = tuple(column for column in needed if column and not (roles.messages and column == roles.answer))

    def convert(self, row: Row) -> list[Example | Rejected]:
        """The examples of one row; no item where it is marked bad, a ``Rejected`` where it cannot be used."""
        self.tally.rows += 1
        found: list[Example | Rejected] = []
        for values in self.unfolding.rows(row.values) if self.unfolding.column else (row.values,):
            try:
                found += self._examples(row, values)
            except CorpusError as error:
                found.append(self._rejected(row, str(error)))
        self.tally.several += len(found) > 1
        return found

    def _examples(self, row: Row, values: dict[str, Any]) -> Iterator[Example | Rejected]:
        for column in self._needed:
            if column not in values:
                raise CorpusError(f"`{column}` is missing")
        if self.roles.mark and self._is_bad(values.get(self.roles.mark)):
            self.tally.marked_bad += 1
            return
        for content in self._contents(values):
            yield self._finished(row, values, self._paired(content, values))
        self.tally.worse_answers += self._has_worse(values)

    def _is_bad(self, mark: Any) -> bool:
        said = str(mark).strip().lower()
        return mark is not None and said != "" and (said in GOOD) != self.good_marks

    def _contents(self, values: dict[str, Any]) -> Iterator[Content]:
        roles, tally = self.roles, self.tally
        if roles.messages:
            yield self._conversation(self._turns(values), values, roles.messages)
        elif roles.text:
            text = self._without_end(text_of(values[roles.text], tally))
            turns = self._unwrapped(text)
            yield self._conversation(turns, values, roles.text) if turns else self._plain(text)
        elif self.choices is not None:
            yield self._choice(values, self.choices)
        elif self._holds_messages(values):
            yield self._conversation(self._turns_of_pair(values), values, roles.prompt[0])
        else:
            yield from self._pairs(values)

    def _plain(self, text: str) -> Content:
        if not text:
            raise CorpusError(f"`{self.roles.text}` is empty")
        return Content("", text)

    # Columns

    def _pairs(self, values: dict[str, Any]) -> Iterator[Content]:
        prompt = self._prompt(values)
        answers = self._answers(values[self.roles.answer])
        system = text_of(values.get(self.roles.system), self.tally) if self.roles.system else ""
        history = self._history(values.get(self.roles.history)) if self.roles.history else ()
        turns = self._unwrapped(prompt)
        for answer in answers:
            if not answer:
                raise CorpusError(f"`{self.roles.answer}` is empty")
            if turns:
                said = [turn for turn in turns if turn.content or turn.role != "assistant"]
                yield self._conversation([*said, Turn("assistant", answer)], values, self.roles.prompt[0])
            else:
                yield Content(prompt, answer, system, history)

    def _prompt(self, values: dict[str, Any]) -> str:
        parts = [text_of(values[column], self.tally) for column in self.roles.prompt]
        prompt = "\n".join(filter(None, parts)) if len(parts) > 1 else parts[0]
        if not prompt:
            raise CorpusError(f"`{self.roles.prompt[0]}` is empty")
        return prompt

    def _answers(self, value: Any) -> list[str]:
        """Every right answer that is to be learnt: mostly one."""
        if isinstance(value, str) and not self.several_answers:
            return [self._without_end(text_of(value, self.tally))]
        value = parsed(value) if self.several_answers else value
        texts = value.get("text") if isinstance(value, dict) and "value" not in value else None
        if isinstance(texts, str):
            texts = [texts]
        if texts is None and self.several_answers and isinstance(value, list):
            texts = [item.get("text") if isinstance(item, dict) else item for item in value]
        if not isinstance(texts, list):
            return [text_of(value, self.tally)]
        different = list(dict.fromkeys(filter(None, (text_of(text, self.tally) for text in texts)))) or [""]
        if self.options.answers == "each":
            return different
        self.tally.other_answers += len(different) - 1
        return different[:1]

    def _without_end(self, text: str) -> str:
        kept = without_end(text) if self.has_end_marks else text
        self.tally.end_marks += len(kept) != len(text)
        return kept

    def _history(self, pairs: Any) -> tuple[tuple[str, str], ...]:
        return tuple(
            turn
            for pair in (pairs if isinstance(pairs, list) else [])
            if isinstance(pair, list) and len(pair) == 2
            for turn in (("user", text_of(pair[0], self.tally)), ("assistant", text_of(pair[1], self.tally)))
        )

    def _choice(self, values: dict[str, Any], choices: Choices) -> Content:
        texts, question = choices.texts(values, self.tally), self._prompt(values)
        labels = labels_of(values, choices.columns)
        answer = choices.right_one(values[self.roles.answer], texts, labels, self.tally)
        system = text_of(values.get(self.roles.system), self.tally) if self.roles.system else ""
        return Content(with_choices(question, texts), answer, system)

    # Conversations

    def _holds_messages(self, values: dict[str, Any]) -> bool:
        """Prompt or answer as messages (TRL); a text is the usual case, and quickly told."""
        pair = (values[self.roles.prompt[0]], values[self.roles.answer])
        return any(not isinstance(value, str) and is_messages(value) for value in pair)

    def _turns_of_pair(self, values: dict[str, Any]) -> list[Turn]:
        roles = self.roles
        asked = self._side(values[roles.prompt[0]], roles.prompt[0], "user")
        answered = self._side(values[roles.answer], roles.answer, "assistant")
        repeats = answered[: len(asked)] == asked and len(answered) > len(asked)
        return answered if repeats else [*asked, *answered]

    def _side(self, value: Any, column: str, role: str) -> list[Turn]:
        if is_messages(value):
            return turns_of(value, column, self.tally)
        text = text_of(value, self.tally)
        if not text:
            raise CorpusError(f"`{column}` is empty")
        return [Turn(role, text)]

    def _turns(self, values: dict[str, Any]) -> list[Turn]:
        roles = self.roles
        value = values[roles.messages]
        turns = self._unwrapped(value) if isinstance(value, str) else []
        turns = turns or turns_of(value, roles.messages, self.tally)
        if roles.answer and values.get(roles.answer) and turns[-1].role in ("user", "tool"):
            turns += self._side(values[roles.answer], roles.answer, "assistant")
        return turns

    def _unwrapped(self, text: str) -> list[Turn]:
        """The turns of a text that lies in the table's chat template; empty where it does not."""
        if self.family is None or len(text) > limits.MAX_CHARACTERS:
            return []
        turns = unwrap(text, self.family)
        self.tally.unwrapped += turns is not None
        return [Turn(role, content) for role, content in turns or []]

    def _conversation(self, turns: list[Turn], values: dict[str, Any], column: str) -> Content:
        """One example of a conversation; what stands behind its last answer is left out."""
        system = [text_of(values.get(self.roles.system), self.tally)] if self.roles.system else []
        system += [turn.content for turn in turns if turn.role == "system"]
        turns = [turn for turn in turns if turn.role != "system"]
        while turns and turns[-1].role != "assistant":
            turns.pop()
        if len(turns) < 2 or not any(turn.role == "user" for turn in turns):
            raise CorpusError(f"`{column}` holds no user message followed by an answer")
        if not turns[-1].content or not turns[-2].content:
            raise CorpusError(f"`{column}` ends with an empty message")
        if all(turn.more.get("weight") == 0 for turn in turns if turn.role == "assistant"):
            raise CorpusError(f"`{column}` weighs every answer 0, so none is to be learnt")
        *history, asked, answer = turns
        tools = tools_of(values.get(self.roles.tools)) if self.roles.tools else []
        return Content(
            asked.content,
            answer.content,
            "\n".join(filter(None, system)),
            tuple((turn.role, turn.content) for turn in history),
            extra=_extra(turns, tools),
        )

    # Preferences

    def _has_worse(self, values: dict[str, Any]) -> bool:
        return bool(self.roles.rejected and values.get(self.roles.rejected))

    def _paired(self, content: Content, values: dict[str, Any]) -> Content:
        """With the worse answer of the row beside the better one, where both answer the same prompt."""
        if not self._has_worse(values):
            return content
        try:
            worse = find_worse(values[self.roles.rejected], content, self.family, self.tally)
        except CorpusError:  # the better answer is an example without it; the worse one is counted
            worse = ""
        worse = self._without_end(worse)
        is_pair = bool(worse and content.prompt and worse != content.answer)
        self.tally.pairs += is_pair
        self.tally.unpaired += not is_pair
        return content._replace(rejected=worse) if is_pair else content

    # The rest of an example

    def _finished(self, row: Row, values: dict[str, Any], content: Content) -> Example | Rejected:
        """With label and split, unless it is too long or holds half a character."""
        roles = self.roles
        split = row.split or self.split
        if roles.split:
            split = row.split or SPLIT_NAMES.get(text_of(values.get(roles.split), self.tally).lower(), "") or split
        label = text_of(values.get(roles.label), self.tally) if roles.label else self.label
        prompt, answer, system, history, extra, rejected = content
        example = Example(prompt, answer, system, history, label, split, row.number, self.source, extra, rejected)
        kept = "".join(example.parts())
        if not (kept.isascii() and label.isascii()):
            try:
                (kept + label).encode()
            except UnicodeEncodeError:
                return self._rejected(row, "it holds a broken character (half of a pair)")
        if len(kept) > limits.MAX_CHARACTERS:
            return self._rejected(row, f"{len(kept):,} characters are too long; the limit is {limits.MAX_CHARACTERS:,}")
        if len(label) > limits.MAX_LABEL_CHARACTERS:
            most = f"{limits.MAX_LABEL_CHARACTERS:,}"
            return self._rejected(
                row, f"`{roles.label}` holds {len(label):,} characters, which is no label; the limit is {most}"
            )
        return example

    def _rejected(self, row: Row, why: str) -> Rejected:
        return Rejected(row.number, f"Row {row.number}: {why}.", self.source)


def _extra(turns: list[Turn], tools: list[dict[str, Any]]) -> str:
    """What a conversation holds besides its texts, as JSON; empty for most."""
    beside: dict[str, Any] = {str(place): dict(turn.more) for place, turn in enumerate(turns) if turn.more}
    asked = len(turns) - 2
    if turns[asked].role != "user":  # the prompt is one of a user unless it is said otherwise
        beside.setdefault(str(asked), {})["role"] = turns[asked].role
    found = {**({"tools": tools} if tools else {}), **({"messages": beside} if beside else {})}
    return json.dumps(found, ensure_ascii=False) if found else ""
