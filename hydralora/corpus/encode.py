"""From examples and messages to token ids; loss falls on answers only.

A conversation is learnt whole by default: every answer of the assistant carries loss, up to and with the token that
ends its turn in the base's own chat template. ``learn`` says otherwise:

- ``all``: every answer, but those that the file weighs 0.
- ``last``: the last answer of each conversation that the file does not weigh 0.
- ``former``: as versions before conversations were learnt whole: that answer, ended by the tokenizer's end token.

What is learnt of an answer begins exactly where the prompt ends that a chat would render for it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from transformers import PreTrainedTokenizerBase

from hydralora.bases.template_fit import fit_messages
from hydralora.bases.templates import encode_piece, holds_marks, render_prompt, render_whole
from hydralora.config import Learn
from hydralora.corpus.examples import Example, Message, conversation_of
from hydralora.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100  # label of tokens that carry no loss
CANNOT_MASK = (
    "The chat template of the base does not let earlier answers be told from the rest: of a conversation only the last "
    "answer is learnt."
)
PLAIN = {"system": "{}\n\n", "user": "Question: {}\n", "assistant": "Answer: {}\n", "tool": "Result: {}\n"}

Rows = dict[str, list[int]]


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: list[dict[str, Any]] | None = None
) -> list[int]:
    """Token ids up to the place where the answer begins.

    The tokenizer's own chat template, or, for a base model without one, ``Question: ...`` and
    ``Answer:`` lines. Control tokens typed by a person are encoded as plain text.

    Raises:
        BaseModelError: When the template refuses the messages, or takes too long or too much memory.
    """
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    if tokenizer.chat_template:
        return render_prompt(tokenizer, *fit_messages(tokenizer, messages, tools))
    return [*_begin(tokenizer), *encode_text(tokenizer, f"{_plain(messages)}Answer:")]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Plain token ids: no special token is added, none is recognised in the text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode_start(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The same after the token that begins a text, where the tokenizer has one: what a model goes on with."""
    return [*_begin(tokenizer), *encode_text(tokenizer, text)]


def encode_example(
    tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, learn: Learn = "all"
) -> Rows | None:
    """``input_ids`` and ``labels`` of one example, both of at most ``max_length`` tokens.

    Labels are ``IGNORED`` on all but the answers. What does not fit is cut at its end (the last answer then
    has no end token); a prompt that leaves no room for an answer gives None.

    Raises:
        BaseModelError: As ``encode_prompt``.
    """
    return cut(encode_whole(tokenizer, example, learn), max_length)


def cut(whole: Rows, max_length: int) -> Rows | None:
    """Rows of at most ``max_length`` tokens; None where no token of an answer is left."""
    before = prompt_tokens(whole)
    if before == len(whole["labels"]) or is_left_out(before, max_length):
        return None
    return {name: ids[:max_length] for name, ids in whole.items()}


def split(whole: Rows, max_length: int) -> list[Rows]:
    """Rows of at most ``max_length`` tokens that follow each other in ``whole``, as equal in length as can be.

    Nothing is lost or doubled: one behind the other they are the whole. The first token of each further piece is read
    and not learnt.
    """
    count = len(whole["labels"])
    borders = np.linspace(0, count, -(-count // max_length) + 1).astype(int)
    return [{name: ids[a:b] for name, ids in whole.items()} for a, b in pairwise(borders)]


def prompt_tokens(whole: Rows) -> int:
    """Tokens before the first that is learnt; all of them where none is."""
    return next((i for i, label in enumerate(whole["labels"]) if label != IGNORED), len(whole["labels"]))


@overload
def is_left_out(prompt_tokens: int, max_length: int) -> bool: ...
@overload
def is_left_out(prompt_tokens: np.ndarray, max_length: int) -> np.ndarray: ...
def is_left_out(prompt_tokens: int | np.ndarray, max_length: int) -> bool | np.ndarray:
    """Whether so many tokens before the first answer leave no room for it; for one example or ``(examples,)``."""
    return prompt_tokens + 1 >= max_length


def encode_whole(tokenizer: PreTrainedTokenizerBase, example: Example, learn: Learn = "all") -> Rows:
    """``input_ids`` and ``labels`` of one example, however long.

    Raises:
        BaseModelError: As ``encode_prompt``.
    """
    return encode_telling(tokenizer, example, learn)[0]


def encode_telling(tokenizer: PreTrainedTokenizerBase, example: Example, learn: Learn = "all") -> tuple[Rows, bool]:
    """As ``encode_whole``, and whether answers are not learnt that ``learn`` asks for: where the template does not let
    them be told from the rest.

    Raises:
        BaseModelError: As ``encode_prompt``.
    """
    messages = conversation_of(example)
    learnt = _learnt(messages, learn)
    is_conversation = bool(example.history or example.extra)
    if is_conversation and learn != "former":
        found = _encode_turns(tokenizer, example, learnt)
        if found is not None and (prompt_tokens(found[0]) < len(found[0]["labels"]) or not any(learnt)):
            return found
    return _encode_last(tokenizer, example, messages, learnt, learn), sum(learnt) > 1


def _learnt(messages: list[Message], learn: Learn) -> list[bool]:
    """Which answers are to carry loss."""
    weighed = [message.get("weight", 1) != 0 for message in messages if message["role"] == "assistant"]
    if learn == "all" or not any(weighed):
        return weighed
    last = max(i for i, is_weighed in enumerate(weighed) if is_weighed)
    return [i == last for i in range(len(weighed))]


def _encode_last(
    tokenizer: PreTrainedTokenizerBase, example: Example, messages: list[Message], learnt: list[bool], learn: Learn
) -> Rows:
    """The last answer that is to be learnt, behind the prompt of a chat; what follows on it is left out."""
    if not example.prompt:  # plain text
        ids = [*_begin(tokenizer), *encode_text(tokenizer, example.answer), tokenizer.eos_token_id]
        return {"input_ids": ids, "labels": [IGNORED] * len(_begin(tokenizer)) + ids[len(_begin(tokenizer)) :]}
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    wanted = [i for i, is_learnt in zip(answers, learnt, strict=True) if is_learnt and i > 0]
    place = wanted[-1] if wanted else answers[-1]
    prompt = encode_prompt(tokenizer, messages[:place], example.details().get("tools"))
    space = "" if tokenizer.chat_template else " "
    said = messages[place].get("text", messages[place]["content"])
    answer = encode_text(tokenizer, f"{space}{said}")
    answer.append(tokenizer.eos_token_id if learn == "former" else end_of_turn(tokenizer))
    labels = answer if wanted else [IGNORED] * len(answer)
    return {"input_ids": [*prompt, *answer], "labels": [IGNORED] * len(prompt) + labels}


def can_mask(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the answers of a conversation can be told from the rest in the template's own text.

    Where they cannot, only the last one is learnt.

    Raises:
        BaseModelError: As ``encode_prompt``.
    """
    if not tokenizer.chat_template:
        return True
    asked = ("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")
    return render_whole(tokenizer, [{"role": r, "content": c} for r, c in asked])[0].spans is not None


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer in the chat template, or the tokenizer's end token where that writes none."""
    if not tokenizer.chat_template:
        return int(tokenizer.eos_token_id)
    return _end_of_template(_Known(tokenizer))


def end_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """The tokens at which an answer ends: the tokenizer's end token, that of a turn in its chat template, and those
    that the model's own generation settings name."""
    named = getattr(model.generation_config, "eos_token_id", None)
    more = [named] if isinstance(named, int) else [token for token in named or [] if isinstance(token, int)]
    return list(dict.fromkeys([int(tokenizer.eos_token_id), end_of_turn(tokenizer), *more]))


class _Known:
    """A tokenizer as a key: the same one, with the same template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.key = tokenizer, (id(tokenizer), str(tokenizer.chat_template))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.key == other.key


@lru_cache(maxsize=8)
def _end_of_template(known: _Known) -> int:
    tokenizer, said = known.tokenizer, "two"
    try:
        whole, _ = render_whole(tokenizer, [{"role": "user", "content": "one"}, {"role": "assistant", "content": said}])
    except BaseModelError:  # what is wrong with it is said where a prompt is rendered
        return int(tokenizer.eos_token_id)
    behind = whole.text.rpartition(said)[2]
    found = _first_special(tokenizer, encode_piece(tokenizer, behind, is_first=False))
    return int(tokenizer.eos_token_id) if found is None else found


def _first_special(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> int | None:
    """The first added token: templates end a turn with one."""
    return next((token for token in ids if token in tokenizer.added_tokens_decoder), None)


def _encode_turns(tokenizer: PreTrainedTokenizerBase, example: Example, learnt: list[bool]) -> tuple[Rows, bool] | None:
    """A conversation with loss on its answers, and whether some of ``learnt`` carry none; None where the template does
    not tell them from the rest."""
    messages = [{key: value for key, value in m.items() if key != "weight"} for m in conversation_of(example)]
    if not tokenizer.chat_template:
        return _encode_plain_turns(tokenizer, messages, learnt), False
    fitted = fit_messages(tokenizer, messages, example.details().get("tools"))
    whole, written = render_whole(tokenizer, *fitted)
    if whole.spans is None or len(whole.spans) != len(learnt):
        return None
    contents = [str(message.get("content") or "") for message in written if message["role"] == "assistant"]
    turns = _Turns(tokenizer, whole.text, whole.spans, contents)
    return turns.encode(learnt), turns.is_partly


def _plain(messages: list[Message]) -> str:
    texts = [(message["role"], message.get("text", message["content"])) for message in messages]
    return "".join(PLAIN[role].format(text) for role, text in texts)


def _encode_plain_turns(tokenizer: PreTrainedTokenizerBase, messages: list[Message], learnt: list[bool]) -> Rows:
    """Without a template: what stands between two answers, and each answer behind its ``Answer:``."""
    ids, labels = _begin(tokenizer), [IGNORED] * len(_begin(tokenizer))
    waiting, behind = [], ""
    for message in messages:
        if message["role"] != "assistant":
            waiting.append(message)
            continue
        before = encode_text(tokenizer, f"{behind}{_plain(waiting)}Answer:")
        answer = encode_text(tokenizer, f" {message.get('text', message['content'])}")
        is_learnt, learnt = learnt[0], learnt[1:]
        answer += [] if learnt else [tokenizer.eos_token_id]
        ids += [*before, *answer]
        labels += [IGNORED] * len(before) + (answer if is_learnt else [IGNORED] * len(answer))
        waiting, behind = [], "\n"
    return {"input_ids": ids, "labels": labels}


class _Turns:
    """The text of a conversation cut at its answers, each piece encoded alone: an answer begins where the chat lets
    it begin."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, text: str, spans: list[tuple[int, int]], contents: list[str]
    ) -> None:
        self.tokenizer, self.text, self.spans, self.contents = tokenizer, text, spans, contents
        self.end = end_of_turn(tokenizer)
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.is_partly = False  # whether an answer that was to be learnt is not

    def encode(self, learnt: list[bool]) -> Rows:
        """Ids with labels; ``learnt`` says which answers carry loss. What stands behind the last one is left out."""
        done = 0
        for number, ((begin, end), content) in enumerate(zip(self.spans, self.contents, strict=True)):
            self._say(self._piece(self.text[done:begin]), 0)
            is_last = number + 1 == len(self.spans)
            after = len(self.text) if is_last else self.spans[number + 1][0]
            done = self._answer(begin, end, after, content, learnt[number], is_last)
        return {"input_ids": self.ids, "labels": self.labels}

    def _answer(self, begin: int, end: int, after: int, content: str, is_learnt: bool, is_last: bool) -> int:
        """One answer with the end of its turn; gives where the text goes on."""
        span, bare = self.text[begin:end], content.strip()
        if bare and bare in span:
            place = span.index(bare)
            ids, is_as_written = self._own_words(span[:place], content, is_last)
            ids, rest = self._with_end(ids, self._piece(self.text[begin + place + len(bare) : after]), is_last)
            self.is_partly |= is_learnt and not is_as_written
            is_learnt &= is_as_written
        else:  # written in another form, as calls of tools are
            ids, rest = self._other_form(span, self._piece(self.text[end:after]), is_last)
        self._say(ids, len(ids) * is_learnt)
        self._say([] if is_last else rest, 0)
        return after

    def _own_words(self, head: str, content: str, is_last: bool) -> tuple[list[int], bool]:
        """An answer behind what the template writes in front of it, and whether that is the answer of the file.

        White space that the template takes off is put back before the last one. Before an earlier one it is not: the
        chat's prompt for the answers behind it has none.
        """
        bare, own = content.strip(), content[: len(content) - len(content.lstrip())]
        is_taken_off = not head.endswith(own)
        if not is_taken_off:
            head = head[: len(head) - len(own)]
        elif is_last:
            head = head if head.strip() else ""
        else:
            own = ""
        if head.strip():
            return [*self._piece(head), *self._text(own, bare)], is_last or not is_taken_off
        return self._text(head + own, bare), is_last or not is_taken_off

    def _other_form(self, span: str, behind: list[int], is_last: bool) -> tuple[list[int], list[int]]:
        """All that stands where an answer is, to the end of its turn, and what is left."""
        ids = self._piece(span)
        if self.end not in ids:
            return self._with_end(ids, behind, is_last)
        done = len(ids) - ids[::-1].index(self.end)
        return ids[:done], [*ids[done:], *behind]

    def _with_end(self, ids: list[int], rest: list[int], is_last: bool) -> tuple[list[int], list[int]]:
        """An answer with the token that ends its turn, where only white space stands between them, and what is left."""
        place = rest.index(self.end) if self.end in rest else -1
        if place >= 0 and not self.tokenizer.decode(rest[:place]).strip():
            return [*ids, *rest[: place + 1]], rest[place + 1 :]
        return ([*ids, self.end] if is_last else ids), rest

    def _text(self, lead: str, bare: str) -> list[int]:
        return self._piece(lead + bare) if holds_marks(bare) else encode_text(self.tokenizer, lead + bare)

    def _piece(self, text: str) -> list[int]:
        return encode_piece(self.tokenizer, text, is_first=not self.ids)

    def _say(self, ids: list[int], learnt: int) -> None:
        self.ids += ids
        self.labels += ids if learnt else [IGNORED] * len(ids)


def _begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
