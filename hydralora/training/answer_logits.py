"""Logits of the tokens that carry loss, and of no others: where a vocabulary is large, most of a step's memory.

The prompt of an example needs no logits: nothing is learnt there. A causal model of transformers takes the places
whose logits are wanted (``logits_to_keep``) and the labels of just these (``shift_labels``); the loss is the same.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from hydralora.corpus.encode import IGNORED

LOG = logging.getLogger(__name__)
CLOSE = 1e-3  # by which the loss may differ, of its size: numbers of another shape are added in another order
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError)  # of a model that does not take these places


def keep_answers(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments of the model that ask for logits where at least one row of the batch predicts an answer's token.

    Args:
        inputs: With ``labels`` ``(batch, tokens)``.
    """
    predicted = F.pad(inputs["labels"], (0, 1), value=IGNORED)[:, 1:]  # a token's label is the next one
    places = (predicted != IGNORED).any(0).nonzero()[:, 0]
    if not len(places):
        return inputs
    return {**inputs, "logits_to_keep": places, "shift_labels": predicted[:, places].contiguous()}


@torch.no_grad()
def can_keep_answers(model: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether the loss of this model is the same with fewer logits: tried on a row, or on the batch where a row
    alone is refused, since models differ.

    Args:
        model: As it is called in training, in evaluation mode so that nothing is drawn.
        inputs: A batch on the model's device.
    """
    inner = getattr(model, "module", model)  # of several processes
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    takes = inspect.signature(inner.forward).parameters
    if inner.config.is_encoder_decoder or "logits_to_keep" not in takes:
        return False
    row = int((inputs["labels"] != IGNORED).any(1).int().argmax())
    one = {name: value[row : row + 1] for name, value in inputs.items()}  # all logits of a batch may be too many
    for given in (one, inputs):  # some methods know the batch by its size
        try:
            whole, kept = (float(model(**wanted).loss) for wanted in (given, keep_answers(given)))
        except torch.OutOfMemoryError:
            raise
        except REFUSALS as refusal:
            LOG.info("Logits of all tokens are computed: %s", str(refusal).partition("\n")[0])
        else:
            return abs(whole - kept) <= CLOSE * max(1.0, abs(whole))
    return False
