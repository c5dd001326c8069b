"""Whether a base lets packed examples see each other."""

from __future__ import annotations

from typing import Any

import torch

from hydralora.errors import TrainingError
from hydralora.tuner.passes import is_seq2seq

CLOSE = 2e-2  # of the largest logit; bfloat16 rounds to 4e-3, and a neighbour that is seen changes far more


@torch.inference_mode()
def check_packing(model: Any) -> None:
    """Make sure that an example in a packed row is read as if it were alone.

    The logits of a short text after another one in its row are compared with those it has by itself.

    Raises:
        TrainingError: When they differ, or the model reads one text and writes another.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise TrainingError("`packing` is on, but this method puts its tokens before each row. Switch it off.")
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if is_seq2seq(inner):
        raise TrainingError("`packing` is on, but this base reads one text and writes another. Switch it off.")
    was_training = model.training
    model.eval()
    try:
        alone, packed = _read_both(model, inner.config.get_text_config().vocab_size)
    finally:
        model.train(was_training)
    gap = float((packed - alone).abs().max() / alone.abs().max().clamp(min=1e-9))
    if not gap < CLOSE:
        raise TrainingError(
            "`packing` is on, but this base lets examples in one row see each other (their logits change by "
            f"{gap:.0%}). Switch it off; `order` by length also saves padding."
        )


def _read_both(model: Any, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``(tokens, vocabulary)`` of a text alone, and after another one in its row."""
    random = torch.Generator().manual_seed(0)
    first, second = (torch.randint(vocabulary, (1, length), generator=random).to(model.device) for length in (11, 7))
    places = torch.cat([torch.arange(11), torch.arange(7)]).unsqueeze(0).to(model.device)
    try:
        packed = model(input_ids=torch.cat([first, second], 1), position_ids=places, use_cache=False).logits
        alone = model(input_ids=second, position_ids=places[:, 11:], use_cache=False).logits
    except TypeError as error:  # no such argument
        raise TrainingError(
            "`packing` is on, but this base takes no `position_ids`, which tell packed examples apart. Switch it off."
        ) from error
    return alone[0].float(), packed[0, 11:].float()
