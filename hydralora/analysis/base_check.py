"""A base is loaded once and looked at: whether its parts belong together, and what its template can do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hydralora.bases.facts import mark_of
from hydralora.bases.load import context_length, load_base, locate
from hydralora.config import TrainConfig
from hydralora.corpus.encode import CANNOT_MASK, can_mask, encode_text, end_of_turn
from hydralora.corpus.examples import Example
from hydralora.corpus.rendering import Renderer
from hydralora.progress import SILENT, Progress
from hydralora.results.bases import BaseCheck, Problem

ENGLISH = (
    "The small town lies on a river. In the morning people walk over the bridge to the market, where they buy bread, "
    "milk and apples. When it rains they stay at home, read a book and drink tea."
)
ASKED = Example("What is the capital of France?", "The capital of France is Paris.", "Answer in one sentence.")
SCRIPTS = {  # what is written and read again, by what it is
    "accents": "Zoë naïvely ate the crème brûlée.",
    "Cyrillic": "Столица Франции находится на Сене.",
    "Chinese": "法国的首都是巴黎。",
    "Arabic": "عاصمة فرنسا هي باريس.",
    "code": "def f(x):\n    return {'a': x ** 2}",
}
MANY_TOKENS = 2.5  # for each English word: more than twice as many as models need whose vocabulary knows English


def check_base(base: str, *, dtype: str = "auto", progress: Progress = SILENT) -> BaseCheck:
    """Load a base, read one English text with it, render an exchange, and say what is wrong.

    Raises:
        BaseModelError: When it cannot be loaded at all, or its template refuses the exchange.
        StoppedError: When asked to stop.
    """
    progress.step(0.1, "Loading the base", "The check")
    renderer = Renderer(base, 2**20, has_talks=False)
    pieces, _ = renderer.pieces(ASKED)
    tokenizer = renderer.tokenizer
    problems = [*_of_template(tokenizer), *_of_vocabulary(tokenizer)]
    model, _ = load_base(base, dtype=dtype)
    progress.step(0.7, "Reading a text with it", "The check")
    ids = encode_text(tokenizer, ENGLISH)
    rows = model.get_input_embeddings().weight.shape[0]
    problems += _of_size(tokenizer, model, rows)
    loss = _loss(model, tokenizer, ids) if max(ids) < rows else None
    chance = math.log(rows)
    problems += _of_loss(loss, chance)
    problems.sort(key=lambda one: one.weight != "wrong")
    return BaseCheck(
        sentence=_sentence(problems),
        example=[(piece.text, piece.learned) for piece in pieces],
        tokens=sum(piece.tokens or 0 for piece in pieces),
        end=str(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))),
        tokens_per_word=len(ids) / len(ENGLISH.split()),
        loss=loss,
        chance=chance,
        mark=mark_of(Path(locate(base).folder)),
        problems=problems,
    )


@torch.inference_mode()
def _loss(model: Any, tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> float:
    """Nats per token of a text, as the model reads it."""
    begin = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    row = torch.tensor([[*begin, *ids]], device=model.device)
    return float(model(input_ids=row, labels=row).loss)


def _of_template(tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """What the chat template lacks."""
    if not tokenizer.chat_template:
        return [
            Problem(
                weight="note",
                title="It has no chat template.",
                advice="Prompts are written as Question: and Answer: lines, in training and in the chat alike.",
            )
        ]
    found = []
    if not can_mask(tokenizer):
        found.append(
            Problem(weight="note", title="Of a conversation only the last answer is learnt.", advice=CANNOT_MASK)
        )
    end, own = end_of_turn(tokenizer), int(tokenizer.eos_token_id)
    if end == own and not _ends_with(tokenizer, end):
        found.append(
            Problem(
                weight="note",
                title="Its template writes no token at the end of an answer.",
                advice=f"Answers are ended by {tokenizer.eos_token!r} in training, so that the model learns to stop.",
            )
        )
    return found


def _ends_with(tokenizer: PreTrainedTokenizerBase, end: int) -> bool:
    text = str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenize=False
        )
    )
    return str(tokenizer.convert_ids_to_tokens(end)) in text.rpartition("b")[2]


def _of_vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    """Texts that do not come back as they were written, and English in pieces."""
    changed = [
        name for name, text in SCRIPTS.items() if tokenizer.decode(encode_text(tokenizer, text)).strip() != text.strip()
    ]
    found = []
    if changed:
        found.append(
            Problem(
                weight="note",
                title=f"Its vocabulary does not hold every character: {', '.join(changed)}.",
                advice="Such texts are read with gaps, so they can be neither learnt nor written whole.",
            )
        )
    per_word = len(encode_text(tokenizer, ENGLISH)) / len(ENGLISH.split())
    if per_word > MANY_TOKENS:
        found.append(
            Problem(
                weight="note",
                title=f"An English word takes {per_word:.1f} tokens.",
                advice="Its vocabulary is of a small world. Texts outside of it are long, and hardly learnt.",
            )
        )
    return found


def _of_size(tokenizer: PreTrainedTokenizerBase, model: Any, rows: int) -> list[Problem]:
    """A tokenizer that is larger than the model, and a model that is short."""
    found = []
    if len(tokenizer) > rows:
        found.append(
            Problem(
                weight="wrong",
                title=f"The tokenizer has {len(tokenizer):,} tokens and the model {rows:,} embeddings.",
                advice="They do not belong together. Get both from one place.",
            )
        )
    wanted = TrainConfig().max_length
    if context_length(model) < wanted:
        found.append(
            Problem(
                weight="note",
                title=f"It reads {context_length(model):,} tokens at once.",
                advice=f"Fewer than the {wanted} of a new run: longer examples are cut there.",
            )
        )
    return found


def _of_loss(loss: float | None, chance: float) -> list[Problem]:
    """A model that reads English worse than a die."""
    if loss is None or (math.isfinite(loss) and loss < chance):
        return []
    advice = "Either it has not been trained on English, or tokenizer and weights do not belong together."
    if not math.isfinite(loss):
        advice = "Its weights are damaged, or too large for this number format. Take float32, or get it again."
    title = f"A plain English text has a loss of {loss:.1f}, no better than guessing ({chance:.1f})."
    return [Problem(weight="note" if math.isfinite(loss) else "wrong", title=title, advice=advice)]


def _sentence(problems: list[Problem]) -> str:
    wrong = sum(one.weight == "wrong" for one in problems)
    if wrong:
        return f"It cannot be used as it is: {problems[0].title}"
    notes = len(problems)
    return (
        f"It can be used; {notes} {'thing' if notes == 1 else 'things'} to know."
        if notes
        else "Nothing is wrong with it."
    )
