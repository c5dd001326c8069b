"""Greedy answers to many questions, and how many of them are right."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rapidfuzz.distance import Indel

from hydralora.bases.load import context_length
from hydralora.corpus.batches import by_length
from hydralora.corpus.encode import encode_prompt, end_tokens
from hydralora.corpus.examples import Example, messages_of
from hydralora.results import Score
from hydralora.tuner.gates import can_cache, choose_heads

EACH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")  # characters of Chinese and Japanese
MAX_TOKENS = 128  # of one answer


def _is_indented(text: str) -> bool:
    return any(line.strip() and line[0].isspace() for line in text.strip().splitlines()[1:])


def is_right(answer: str, wanted: str) -> bool:
    """Whether an answer is the wanted one, white space aside; case counts.

    Where a line is indented, as in code, white space has a meaning and counts, but for that before the whole text.
    """
    if not (_is_indented(answer) or _is_indented(wanted)):
        return answer.split() == wanted.split()
    return _lines_of(answer) == _lines_of(wanted)


def _lines_of(text: str) -> list[str]:
    """The lines of code: what stands at their ends says nothing, what stands before them does."""
    return [line.rstrip() for line in text.strip().splitlines()]


@torch.inference_mode()
def answer_examples(
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    *,
    max_tokens: int = MAX_TOKENS,
    batch_size: int = 32,
    heads: list[int] | None = None,
    report: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Greedy answers, in order; prompts of a batch are padded on the left.

    Examples of similar length share a batch. A prompt that does not fit the context answers "".

    Args:
        heads: For hard LoRA-Split, the head of every example; -1 where its task is not known.
    """
    prompts = [encode_prompt(tokenizer, messages_of(e), e.details().get("tools")) for e in examples]
    room = context_length(model) - 8
    fitting = [i for i, ids in enumerate(prompts) if len(ids) < room]
    answers, done = [""] * len(examples), 0
    for places in by_length([len(prompts[i]) for i in fitting], batch_size):
        chosen = [fitting[place] for place in places]
        ids, mask = _pad_left([prompts[i] for i in chosen], tokenizer.pad_token_id)
        width = ids.shape[1]
        choose_heads(model, torch.tensor([heads[i] for i in chosen], device=model.device) if heads else None)
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=min(max_tokens, context_length(model) - width),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=end_tokens(tokenizer, model),
            use_cache=can_cache(model),
        )
        for i, tokens in zip(chosen, out[:, width:].tolist(), strict=True):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        report(done := done + len(chosen))
    choose_heads(model, None)
    return answers


def answer_room(tokenizer: Any, examples: list[Example]) -> int:
    """Tokens that an answer may have: those of the longest wanted one and a few more, at most ``MAX_TOKENS``."""
    return min(MAX_TOKENS, max(len(tokenizer(example.answer)["input_ids"]) for example in examples) + 8)


def spread(positions: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` of these, evenly spaced."""
    if len(positions) <= limit:
        return list(positions)
    return [positions[int(i * len(positions) / limit)] for i in range(limit)]


def _pad_left(prompts: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask ``(batch, longest)``, every prompt at the right end."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def rouge_l(answer: str, wanted: str) -> float:
    """ROUGE-L F1, ``2 LCS / (m + n)`` over the words of both, 0 to 1 (Lin 2004, https://aclanthology.org/W04-1013,
    with equal weight of recall and precision).

    Words are runs of letters, with their marks, and digits, whatever their case; of Chinese and Japanese each
    character is one.
    """
    first, second = _words(answer), _words(wanted)
    return float(Indel.normalized_similarity(first, second)) if first or second else float(answer == wanted)


def _words(text: str) -> list[str]:
    apart = EACH.sub(r" \g<0> ", text.casefold())
    kept = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in apart)
    return "".join(kept).split()


def score(examples: list[Example], answers: list[str]) -> Score:
    """Exact match: the share of answers that ``is_right``; per label too; and their mean ``rouge_l``."""
    hits = [is_right(a, e.answer) for e, a in zip(examples, answers, strict=True)]
    by_label: dict[str, list[bool]] = defaultdict(list)
    for example, hit in zip(examples, hits, strict=True):
        by_label[example.label or "all"].append(hit)
    return Score(
        exact_match=sum(hits) / max(1, len(hits)),
        rouge_l=sum(rouge_l(a, e.answer) for e, a in zip(examples, answers, strict=True)) / max(1, len(hits)),
        hits=hits,
        by_label={name: sum(found) / len(found) for name, found in sorted(by_label.items())},
    )
