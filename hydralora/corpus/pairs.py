"""Preferences as token ids: one prompt with a better and a worse answer."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from hydralora.corpus.encode import Rows, encode_whole, is_left_out, prompt_tokens
from hydralora.corpus.examples import Example


def encode_pair(tokenizer: PreTrainedTokenizerBase, example: Example) -> Rows:
    """``prompt_ids`` ``(prompt,)``, ``chosen_ids`` and ``rejected_ids`` ``(answer,)`` of an example that is a pair.

    The last answer alone is compared, up to and with the token that ends its turn; of a conversation the earlier
    answers are part of the prompt. The prompt is what both sides begin with, at most up to the first token of an
    answer.

    Raises:
        BaseModelError: When the base's chat template refuses the conversation.
    """
    better = encode_whole(tokenizer, example, "last")
    worse = encode_whole(tokenizer, replace(example, answer=example.rejected), "last")
    most = min(prompt_tokens(better), prompt_tokens(worse))
    sides = [side["input_ids"] for side in (better, worse)]
    common = next((i for i, (a, b) in enumerate(zip(*sides, strict=False)) if a != b), most)
    begin = min(most, common)
    return {"prompt_ids": sides[0][:begin], "chosen_ids": sides[0][begin:], "rejected_ids": sides[1][begin:]}


def cut_pair(pair: Rows, max_length: int) -> Rows | None:
    """A pair whose sides have at most ``max_length`` tokens each, prompt included; None where no room for an answer is
    left, or nothing in which they differ."""
    prompt = len(pair["prompt_ids"])
    if is_left_out(prompt, max_length):
        return None
    room = max_length - prompt
    better, worse = pair["chosen_ids"][:room], pair["rejected_ids"][:room]
    return None if better == worse else {**pair, "chosen_ids": better, "rejected_ids": worse}


def pair_tokens(pair: Rows) -> int:
    """Tokens of the longer side with its prompt."""
    return len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))
