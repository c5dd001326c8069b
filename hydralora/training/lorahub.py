"""LoRAHub: mix finished LoRAs for a new corpus by a few examples and no gradient.

Searches weights w in ``[-bound, bound]^n``, from 0, for the least ``loss(few examples) + penalty * mean |w|``.
One step is one evaluation of that sum. The mixture is kept as a plain LoRA.

Source: Huang et al. 2023, https://arxiv.org/abs/2307.13269; https://github.com/sail-sg/lorahub (bound 1.5,
penalty 0.05, start at 0, A and B averaged apart). Ours: the search is SciPy's COBYQA, a derivative-free
trust-region method that keeps bounds and draws nothing at random, where the authors use Nevergrad's NGOpt; so
the same run gives the same weights and a stopped one goes on exactly.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor
from transformers import TrainerControl, TrainingArguments

from hydralora.adapters.compose import Composition
from hydralora.corpus.batches import Collator, padded_batches
from hydralora.corpus.encode import IGNORED
from hydralora.files import step_of, write_json
from hydralora.methods import HubOptions
from hydralora.training.trainer import AdapterTrainer, Plan

EVALUATIONS = "evaluations.json"


class _Enough(Exception):
    """Raised inside the search to end it."""


def search_weights(
    measure: Callable[[list[float]], float],
    count: int,
    *,
    evaluations: int,
    bound: float = 1.5,
    known: list[float] | None = None,
) -> list[float]:
    """The best weights among at most ``evaluations`` tries, the first of which is all zeros.

    Args:
        measure: What is to be made small; may raise ``_Enough``.
        known: Values of the first tries from an earlier search, which are not measured again.
    """
    seen: dict[bytes, float] = {}
    order: list[tuple[float, list[float]]] = []
    known = known or []

    def value(x: Any) -> float:
        point = np.clip(np.asarray(x, dtype=np.float64), -bound, bound)
        key = point.tobytes()
        if key not in seen:
            if len(seen) >= evaluations:
                raise _Enough
            weights = [float(weight) for weight in point]
            seen[key] = known[len(seen)] if len(seen) < len(known) else measure(weights)
            order.append((seen[key], weights))
        return seen[key]

    start = np.zeros(count)
    try:
        value(start)
        options = {"maxfev": max(evaluations, 2 * count + 3), "initial_tr_radius": bound / 3, "final_tr_radius": 1e-4}
        minimize(value, start, method="COBYQA", bounds=Bounds(-bound, bound), options=options)
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


class LorahubTrainer(AdapterTrainer):
    """The search in the Trainer's clothes: steps, held-out loss, checkpoints and stops are told as usual."""

    control: TrainerControl
    composition: Composition
    batches: list[dict[str, Tensor]]
    options: HubOptions
    unused = frozenset(
        "optimizer b_rate router_rate neftune_noise order patience epochs packing cluster_power answered".split()
    )
    evaluations: list[tuple[float, list[float]]]
    best: tuple[float, list[float]]

    @classmethod
    def feed(cls, plan: Plan, arguments: TrainingArguments) -> tuple[Any, Any]:
        """A few examples, the same for the same seed."""
        shots = min(plan.config.options_as(HubOptions).shots, len(plan.rows))
        return random.Random(plan.config.train.seed).sample(plan.rows, shots), Collator(plan.tokenizer.pad_token_id)

    def prepare(self, plan: Plan) -> None:
        """Read the sources; every weight starts at 0."""
        self.options = plan.config.options_as(HubOptions)
        self.composition = Composition(self.model, plan.sources, self.options.average, plan.base_fingerprint)
        rows, size = list(self.train_dataset), plan.config.train.batch_size
        made = padded_batches(rows, plan.tokenizer.pad_token_id, size, self.model.device)
        self.batches = [batch for _, batch in made]

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Search, from the beginning or on from a checkpoint's evaluations."""
        self.evaluations, self.best, self.state.max_steps = [], (float("inf"), []), self.args.max_steps
        stored = Path(resume_from_checkpoint) / EVALUATIONS if resume_from_checkpoint else None
        known = json.loads(stored.read_text("utf-8")) if stored else []
        tried = [(value, weights) for value, weights in known]
        if tried:
            self.best, self.evaluations = min(tried), tried
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        search_weights(
            self._measure,
            self.composition.count,
            evaluations=self.args.max_steps,
            bound=self.options.bound,
            known=[value for value, _ in tried],
        )
        self.composition.set_weights(self.best[1])

    def _measure(self, weights: list[float]) -> float:
        self.composition.set_weights(weights)
        value = few_shot_loss(self.model, self.batches) + self.options.penalty * float(np.mean(np.abs(weights)))
        self.evaluations.append((value, weights))
        self.best = min(self.best, (value, weights))
        self.state.global_step = step = len(self.evaluations)
        self.tokens_seen += sum(int(batch["attention_mask"].sum()) for batch in self.batches)
        self.log({"loss": value})
        if self.eval_dataset is not None and self.args.eval_steps and step % self.args.eval_steps == 0:
            self.composition.set_weights(self.best[1])
            self.evaluate()
        self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
        regular = self.args.save_strategy == "steps" and step % self.args.save_steps == 0
        if regular or self.control.should_training_stop:
            self._keep(step)
        if self.control.should_training_stop:
            raise _Enough
        return value

    def _keep(self, step: int) -> None:
        """A checkpoint: the best mixture so far as an adapter, and every evaluation."""
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        self.composition.set_weights(self.best[1])
        self.model.save_pretrained(folder, safe_serialization=True)
        write_json(folder / EVALUATIONS, self.evaluations)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)
        for old in sorted(folder.parent.glob("checkpoint-*"), key=step_of)[: -self.args.save_total_limit]:
            shutil.rmtree(old)
