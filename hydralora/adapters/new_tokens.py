"""New tokens: a base with more of them, and those whose embeddings are trained beside an adapter.

A text that becomes one token begins as the mean of the embeddings of the tokens that it was before (Hewitt 2021,
https://nlp.stanford.edu/~johnhew/vocab-expansion.html, takes the mean of all), so that the base reads it at once as
something like its parts; ``trainable_tokens`` of a run then teaches it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hydralora.bases.load import load_base, load_tokenizer, locate, read_config
from hydralora.bases.tokens import check_tokens
from hydralora.corpus.encode import encode_text
from hydralora.errors import AdapterError, BaseModelError
from hydralora.files import written_aside
from hydralora.plain import shown
from hydralora.progress import SILENT, Progress

WHAT = "Adding the tokens"


def extend_base(base: str, tokens: Sequence[str], folder: Path, *, progress: Progress = SILENT) -> list[int]:
    """Write ``base`` with these tokens to ``folder``, whole or not at all, and give the ids of the new ones.

    The weights keep their type; whatever the base read before, it reads as before, but for texts with the new tokens.

    Raises:
        BaseModelError: When a text cannot be a token or is one already, or the base is quantised or cannot be loaded.
        StoppedError: When asked to stop; nothing is kept.
    """
    wanted = check_tokens(tokens)
    tokenizer, config = load_tokenizer(base), read_config(base)
    before = {token: encode_text(tokenizer, token) for token in wanted}
    for token, ids in before.items():
        if len(ids) == 1 or token in tokenizer.get_vocab():
            raise BaseModelError(f"{shown(token)} is one token of this base already. Leave it out.")
    if getattr(config, "quantization_config", None):
        raise BaseModelError("The base is quantised, so its embeddings cannot be added to. Take one that is not.")
    progress.step(0.1, "Loading the base", WHAT)
    model, _ = load_base(base, dtype=str(config.dtype or torch.float32).removeprefix("torch."), device="cpu")
    ids = add_tokens(model, tokenizer, before)
    progress.step(0.6, "Writing safetensors", WHAT)
    with written_aside(folder) as aside:
        aside.mkdir(parents=True)
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        card = locate(base).folder / "README.md"  # which names the licence
        if card.is_file():
            shutil.copyfile(card, aside / card.name)
    return ids


def add_tokens(model: Any, tokenizer: Any, before: dict[str, list[int]]) -> list[int]:
    """Add tokens to a model and its tokenizer in place.

    Args:
        before: Each new token, and the ids that its text has been.

    Returns:
        The ids of the new ones, in their order.
    """
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in before])
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(before))
    if max(ids) >= len(model.get_input_embeddings().weight):  # else the model has rows to spare
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for layer in _tables(model):
        _begin_as_mean(layer.weight, list(before.values()), ids)
    return ids


def _tables(model: Any) -> list[Any]:
    """The embeddings, and the output layer where it has weights of its own."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    return [embedding] if output is None or output.weight is embedding.weight else [embedding, output]


@torch.no_grad()
def _begin_as_mean(weight: Tensor, parts: list[list[int]], ids: list[int]) -> None:
    """Set rows ``ids`` of a ``(vocabulary, width)`` weight to the means of the rows ``parts``."""
    for row, part in zip(ids, parts, strict=True):
        weight[row] = weight[part].float().mean(0).to(weight.dtype)


def token_indices(model: Any, tokenizer: Any, tokens: Sequence[str]) -> list[int] | dict[str, list[int]]:
    """``tokens`` as PEFT's ``trainable_token_indices``: rows of the embeddings, and of the output layer where that has
    weights of its own.

    Raises:
        AdapterError: When a text is not one token, or the tokenizer is not given.
    """
    if tokenizer is None:
        raise AdapterError("`trainable_tokens` names tokens by their text. Give the tokenizer too.")
    ids = [_id_of(tokenizer, token) for token in tokens]
    tables = _tables(model)
    if len(tables) == 1:
        return ids
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)].rpartition(".")[2]: ids for layer in tables}


def _id_of(tokenizer: Any, token: str) -> int:
    known = tokenizer.get_vocab().get(token)
    ids = [known] if known is not None else encode_text(tokenizer, token)
    if len(ids) != 1:
        raise AdapterError(
            f"`trainable_tokens`: {shown(token)} is {len(ids):,} tokens of this base. Add it to the base first: "
            "`python -m studio bases add-tokens`."
        )
    return int(ids[0])
