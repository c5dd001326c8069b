"""LoRAHub: mix finished LoRAs for a new corpus by a few examples and no gradient.

Searches weights w in ``[-bound, bound]^n``, from 0, for the least ``loss(few examples) + penalty * mean |w|``.
One step is one evaluation of that sum. The mixture is kept as a plain LoRA.

Source: Huang et al. 2023, https://arxiv.org/abs/2307.13269; https://github.com/sail-sg/lorahub (bound 1.5,
penalty 0.05, start at 0, A and B averaged apart). The search is SciPy's COBYLA, Powell's trust-region method with a
linear model of the loss, which needs ``n + 1`` tries before it moves. The authors' is Nevergrad's NGOpt, which itself
takes COBYLA with this first radius as long as the tries are few for the number of weights (1.0.12: up to 1,000 of them
at 20 sources); ours draws nothing at random, so the same run gives the same weights and a stopped one goes on exactly.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor
from transformers import TrainerControl
from transformers.trainer_utils import TrainOutput, get_last_checkpoint

from hydralora.adapters.compose import Composition
from hydralora.bases.fingerprint import Fingerprint
from hydralora.corpus.batches import on_device
from hydralora.corpus.encode import IGNORED
from hydralora.files import remove, step_of, write_json
from hydralora.options import HubOptions
from hydralora.training.mixin import TrainsMethod

EVALUATIONS = "evaluations.json"
Tried = tuple[float, list[float]]  # a value and the weights that gave it


class _Enough(Exception):
    """Raised inside the search to end it."""


def search_weights(
    measure: Callable[[list[float]], float],
    count: int,
    *,
    evaluations: int,
    bound: float = 1.5,
    known: Sequence[Tried] = (),
) -> list[float]:
    """The best weights among at most ``evaluations`` tries, the first of which is all zeros.

    Args:
        measure: What is to be made small; may raise ``_Enough``.
        known: What an earlier search has tried, which is not measured again and counts among the tries.
    """
    seen = {np.asarray(weights, dtype=np.float64).tobytes(): value for value, weights in known}
    order = list(known)

    def value(x: Any) -> float:
        point = np.clip(np.asarray(x, dtype=np.float64), -bound, bound)
        key = point.tobytes()
        if key not in seen:
            if len(seen) >= evaluations:
                raise _Enough
            weights = [float(weight) for weight in point]
            seen[key] = measure(weights)
            order.append((seen[key], weights))
        return seen[key]

    start = np.zeros(count)
    try:
        value(start)
        options = {"maxiter": 2 * (evaluations + count + 2), "rhobeg": bound / 3, "tol": 1e-4}
        minimize(value, start, method="COBYLA", bounds=Bounds(-bound, bound), options=options)
    except _Enough:
        pass
    return min(order)[1]


@torch.inference_mode()
def few_shot_loss(model: Any, batches: list[dict[str, Tensor]]) -> float:
    """Mean loss per answer token, in nats; ids, labels and masks are ``(batch, tokens)``."""
    total, tokens = 0.0, 0
    was_training = model.training
    model.eval()
    for batch in batches:
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        total, tokens = total + float(model(**batch).loss) * count, tokens + count
    model.train(was_training)
    return total / max(tokens, 1)


class MixesLoras(TrainsMethod):
    """Before a Trainer: the search in its clothes; steps, held-out loss, checkpoints and stops are told as usual.

    The few examples are drawn from the training data, the same for the same seed. ``max_steps`` is the number of tries.

    Args:
        sources: Folders of the finished LoRAs, in the order in which the adapter was built of them.
        base_fingerprint: Of the base, to refuse sources that were trained on another; None compares nothing.
    """

    takes = HubOptions
    unused = frozenset(
        "optimizer b_rate router_rate neftune_noise order patience epochs packing cluster_power answered".split()
    )
    control: TrainerControl
    args: Any
    model: Any
    tokens_seen = 0

    def __init__(
        self,
        model: Any,
        args: Any,
        *more: Any,
        sources: Sequence[Path | str] = (),
        base_fingerprint: Fingerprint | None = None,
        **named: Any,
    ) -> None:
        super().__init__(model, args, *more, **named)
        self.evaluations: list[Tried] = []
        self.best: Tried = (float("inf"), [])
        folders = [Path(source) for source in sources]
        self.composition = Composition(self.model, folders, self.options.average, base_fingerprint)

    def batches(self) -> list[dict[str, Tensor]]:
        """The few examples, on the device, in batches of the training's size."""
        data: Any = self.train_dataset  # type: ignore[attr-defined]
        shots = min(self.options.shots, len(data))
        rows = [data[place] for place in random.Random(self.args.seed).sample(range(len(data)), shots)]
        collate = self._get_collator_with_removed_columns(self.data_collator)  # type: ignore[attr-defined]
        size = self.args.per_device_train_batch_size
        made = [collate(rows[begin : begin + size]) for begin in range(0, shots, size)]
        return [on_device(batch, self.args.device) for batch in made]

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Search, from the beginning or on from a checkpoint's evaluations."""
        self.state: Any
        self.callback_handler: Any
        self.state.max_steps = self.args.max_steps
        self.state.compute_steps(self.args, self.args.max_steps)
        is_last = resume_from_checkpoint is True
        stored = get_last_checkpoint(self.args.output_dir) if is_last else resume_from_checkpoint
        self.evaluations = _read(Path(str(stored))) if stored else []
        self.best = min(self.evaluations, default=(float("inf"), []))
        self.few = self.batches()
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        search_weights(
            self._measure,
            self.composition.count,
            evaluations=self.args.max_steps,
            bound=self.options.bound,
            known=list(self.evaluations),
        )
        self.composition.set_weights(self.best[1])
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, self.best[0], {"train_loss": self.best[0]})

    def _measure(self, weights: list[float]) -> float:
        self.composition.set_weights(weights)
        value = few_shot_loss(self.model, self.few) + self.options.penalty * float(np.mean(np.abs(weights)))
        self.evaluations.append((value, weights))
        self.best = min(self.best, (value, weights))
        self.state.global_step = step = len(self.evaluations)
        self.tokens_seen += sum(int(batch["attention_mask"].sum()) for batch in self.few)
        self.log({"loss": value})  # type: ignore[attr-defined]
        self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
        if self.control.should_evaluate:
            self.composition.set_weights(self.best[1])
            self.evaluate()  # type: ignore[attr-defined]
        if self.control.should_save:
            self._keep(step)
        if self.control.should_training_stop:
            raise _Enough
        return value

    def _keep(self, step: int) -> None:
        """A checkpoint: the best mixture so far as an adapter, and every evaluation."""
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        remove(folder)  # what is left of one that was cut short
        self.composition.set_weights(self.best[1])
        self.model.save_pretrained(folder, safe_serialization=True)
        write_json(folder / EVALUATIONS, self.evaluations)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)
        kept = self.args.save_total_limit
        for old in sorted(folder.parent.glob("checkpoint-*"), key=step_of)[: -kept if kept else 0]:
            shutil.rmtree(old)


def _read(checkpoint: Path) -> list[Tried]:
    """What the search that left a checkpoint had tried, in order."""
    return [(value, weights) for value, weights in json.loads((checkpoint / EVALUATIONS).read_text("utf-8"))]
