"""The auxiliary losses of an adapter, for a Trainer that computes its loss itself."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


class AddsAuxiliaryLoss:
    """Put before a Trainer, it adds what the model has not added itself: ``class Mine(AddsAuxiliaryLoss, SFTTrainer)``.

    A routed model that gives a loss adds the losses of its routers to it, so the Trainer of transformers needs nothing.
    TRL's trainers take log-probabilities from the model and compute a loss of their own, which holds none of them.
    """

    accelerator: Any
    current_gradient_accumulation_steps: int

    def auxiliary_loss(self, model: torch.nn.Module) -> Tensor | None:
        """What a method adds to every loss, beside the losses of routers; None where it adds nothing."""
        return None

    def compute_loss(  # type: ignore[no-untyped-def]
        self, model, inputs, return_outputs=False, num_items_in_batch=None, **more
    ):
        """The Trainer's loss, while training with what is left to add."""
        inner = self.accelerator.unwrap_model(model)  # several processes wrap it
        collecting = getattr(getattr(inner, "base_model", None), "collecting_losses", None)
        with collecting() if callable(collecting) else nullcontext([]) as left:
            found = super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch, **more
            )
        loss, outputs = found if return_outputs else (found, None)
        extra = self.auxiliary_loss(inner) if model.training else None
        for each in left if extra is None else [*left, extra]:
            # The language loss is already a share of the whole accumulated batch; these are not.
            loss = loss + each / (self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1)
        return (loss, outputs) if return_outputs else loss
