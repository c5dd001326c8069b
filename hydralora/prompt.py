"""From examples and messages to token ids; loss falls on the answer only."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from hydralora.corpus import Example

IGNORED = -100  # label of tokens that carry no loss
PLAIN = {"system": "{}\n\n", "user": "Question: {}\n", "assistant": "Answer: {}\n"}


def messages_of(example: Example) -> list[dict[str, str]]:
    """The conversation before the answer: system text, history, prompt."""
    messages = [{"role": "system", "content": example.system}] if example.system else []
    messages += [{"role": role, "content": content} for role, content in example.history]
    return [*messages, {"role": "user", "content": example.prompt}]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Token ids up to the place where the answer begins.

    The tokenizer's own chat template, or, for a base model without one, ``Question: ...`` and
    ``Answer:`` lines. Control tokens typed by a person are encoded as plain text.
    """
    if tokenizer.chat_template:
        ids: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False,
            sanitize_control_tokens=True,
        )  # fmt: skip
        return list(ids)
    text = "".join(PLAIN[message["role"]].format(message["content"]) for message in messages)
    return [*_begin(tokenizer), *encode_text(tokenizer, f"{text}Answer:")]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Plain token ids: no special token is added, none is recognised in the text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode_example(
    tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int
) -> dict[str, list[int]] | None:
    """``input_ids`` and ``labels`` of one example, both of at most ``max_length`` tokens.

    Labels are ``IGNORED`` on the prompt. An answer that does not fit is cut at its end (and then
    has no end token); a prompt that leaves no room for an answer gives None.
    """
    if example.prompt:
        prompt = encode_prompt(tokenizer, messages_of(example))
        space = "" if tokenizer.chat_template else " "
        answer = encode_text(tokenizer, space + example.answer)
    else:
        prompt, answer = _begin(tokenizer), encode_text(tokenizer, example.answer)
    if len(prompt) + 1 >= max_length:
        return None
    ids = [*prompt, *answer, tokenizer.eos_token_id][:max_length]
    labels = [IGNORED] * len(prompt) + ids[len(prompt) :]
    return {"input_ids": ids, "labels": labels}


def _begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
