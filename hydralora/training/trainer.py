"""The Trainer of adapters: batches, the auxiliary loss, gate weights and the report of every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from hydralora.answering import answer_examples, answer_room, score
from hydralora.bases.fingerprint import Fingerprint
from hydralora.config import RunConfig, TrainConfig
from hydralora.corpus.batches import Encoded
from hydralora.corpus.encode import IGNORED
from hydralora.corpus.examples import Example
from hydralora.corpus.tasks import Tasks
from hydralora.errors import TrainingError
from hydralora.files import drop_checkpoints, remove, seal_checkpoint
from hydralora.progress import Progress
from hydralora.training.answer_logits import can_keep_answers, keep_answers
from hydralora.training.auxiliary import AddsAuxiliaryLoss
from hydralora.training.journal import Journal
from hydralora.training.ranks import is_any, is_lead, means_of, sums, wait_for_all
from hydralora.training.rates import rate_groups
from hydralora.training.sampling import ClusterSampler, LengthSampler
from hydralora.training.state import has_state, load_state, save_state
from hydralora.tuner.gates import GateCapture
from hydralora.tuner.passes import tell_padding

StepValues = dict[str, Any]
TOLD = ("loss", "learning_rate", "grad_norm", "margin", "preferred")  # numbers of a step, where the Trainer gives them
MEASURED = ("eval_loss", "eval_exact_match", "eval_margin", "eval_preferred")  # those of a measurement


@dataclass
class Plan:
    """What a method may look at before training begins.

    ``tasks`` are there for methods that learn from tasks (clusters or labels), ``groups`` then holds the task
    number of every row and ``held_out_groups`` of every held-out row (-1 where it is a task never trained on).
    ``clusters`` are those of the rows, where they are drawn by them. ``questions`` are answered at each measurement.
    ``sources`` are the adapters that LoRAHub mixes.
    """

    config: RunConfig
    tokenizer: Any
    rows: list[Encoded]
    examples: list[Example]
    groups: list[int] | None
    run_folder: Path
    resumed: bool
    tasks: Tasks | None = None
    held_out: list[Encoded] = field(default_factory=list)
    held_out_groups: list[int] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    base_fingerprint: Fingerprint | None = None
    clusters: list[int] | None = None
    questions: list[Question] = field(default_factory=list)


class Question(NamedTuple):
    """A held-out question, with the head that answers it where heads belong to tasks (-1: none)."""

    example: Example
    head: int | None


class AdapterTrainer(AddsAuxiliaryLoss, Trainer):
    """The Trainer with an adapter's auxiliary loss and its gate weights."""

    unused: frozenset[str] = frozenset()  # settings of training that the loop of this method does not know
    gate_every = 0
    logs_gates = False  # each expert's mean gate is logged as ``gates/E1`` and so on, for loggers
    tokens_seen = 0  # not padding, since the last logged step
    gate_passes: tuple[dict[str, list[float]], ...] = ()  # mean gates by layer, of each pass of the step so far
    tokenizer: Any = None
    questions: Sequence[Question] = ()
    sampler: ClusterSampler | None = None  # where clusters are not drawn by their size
    rates: TrainConfig | None = None  # where B or the router learn at a rate of their own
    keeps_answers: bool | None = None  # whether logits of answers are enough; tried on the first batch
    measured: tuple[float, int] = (0.0, 0)  # summed loss and answer tokens of the held-out rows so far

    def begin(self, resumed: bool = False) -> None:
        """Called before the first step; a method may look at the data and set its start, but for a run that goes on."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Put back exactly what was being trained; what PEFT saves is not always enough for that."""
        folder = Path(resume_from_checkpoint)
        if has_state(folder):
            load_state(self.model, folder)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint; nothing stays of one of this step that was cut short."""
        if is_lead():
            remove(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
        wait_for_all()
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Put the states of the optimizer back, of the same shapes as what they belong to: kernels do not look.

        Raises:
            TrainingError: When the checkpoint's are of other parameters.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.optimizer is not None:
            check_states(self.optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.sampler is None and self.args.train_sampling_strategy == "group_by_length":
            rows = self.train_dataset if train_dataset is None else train_dataset
            size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            return LengthSampler(self.lengths_of(rows), size, self.args.seed)
        return self.sampler or super()._get_train_sampler(train_dataset)

    def lengths_of(self, rows: Any) -> list[int]:
        """Tokens of each row that is trained on, ``(rows,)``."""
        return [len(row["input_ids"]) for row in rows]

    def gate_means(self) -> dict[str, list[float]]:
        """Mean routing weights by layer over all passes of the step; nothing where none were recorded."""
        passes = self.gate_passes
        names = passes[0] if passes else ()
        return {name: [fmean(shares) for shares in zip(*(one[name] for one in passes), strict=True)] for name in names}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Tell the numbers of a step; with the experts' mean gates over all layers where a logger listens."""
        if self.logs_gates and "loss" in logs and (rows := list(self.gate_means().values())):
            logs |= {f"gates/E{e + 1}": fmean(row[e] for row in rows) for e in range(min(map(len, rows)))}
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Any:
        """The optimizer, with rates of their own for B and the router where they are asked for."""
        if self.rates is not None and self.optimizer is None:  # type: ignore[has-type]
            decayed = self.get_decay_parameter_names(self.model)
            groups = rate_groups(self.model.named_parameters(), self.rates, self.args.learning_rate, decayed)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(groups, **options)
        return super().create_optimizer(model)

    def compute_loss(  # type: ignore[no-untyped-def, override]
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """Mean loss per answer token; while training with the auxiliary losses."""
        recording = model.training and self._records_gates()
        if model.training:
            self.tokens_seen += int(inputs["attention_mask"].sum())
        told = None
        if "position_ids" in inputs:  # packed: a mask would hide where each example begins
            inputs = dict(inputs)
            told = inputs.pop("attention_mask")
        inputs = self._with_fewer_logits(model, inputs)
        if told is not None:  # of the next pass alone, so after what is tried
            tell_padding(self.accelerator.unwrap_model(model), told)
        with GateCapture(model, enabled=recording) as capture:
            found = super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
            if recording and capture.names:
                self.gate_passes = (*self.gate_passes, capture.take_means())
        if not model.training:
            self._add_held_out(found[0] if return_outputs else found, inputs)
        return found

    def _with_fewer_logits(self, model: torch.nn.Module, inputs: Any) -> Any:
        """The batch with logits where answers are predicted only, if this model's loss is the same then and nobody
        else looks at them."""
        if self.label_smoother or self.compute_loss_func or self.compute_metrics:
            return inputs
        if self.keeps_answers is None:
            was_training = model.training
            self.keeps_answers = can_keep_answers(model.eval(), inputs)
            model.train(was_training)
        return keep_answers(inputs) if self.keeps_answers else inputs

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """All held-out rows for every process: where they are shared out, the last batch counts some twice."""
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        return DataLoader(rows, batch_size=self.args.eval_batch_size, collate_fn=self.data_collator)

    def evaluation_loop(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Measure the held-out loss: the mean over all their answer tokens, whatever the batch size.

        The Trainer's own is the mean of the batches' means, which weighs a token by how short its neighbours are.
        """
        self.measured = (0.0, 0)
        output = super().evaluation_loop(*args, **kwargs)
        self._unprepare()
        sums = torch.tensor([self.measured], dtype=torch.float64, device="cpu").to(self.args.device, torch.float32)
        summed, tokens = self.accelerator.gather(sums).sum(0).tolist()
        output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = summed / max(tokens, 1.0)
        if self.questions:
            output.metrics["eval_exact_match"] = self._answer()
        return output

    def _unprepare(self) -> None:
        """Have a model that was measured before its training be prepared anew.

        Accelerate takes it for prepared, and its gradients would not be averaged over the processes.
        """
        if self.args.world_size > 1 and self.model_wrapped is self.model:
            self.accelerator._models.clear()
            if hasattr(self.model, "_is_accelerate_prepared"):
                del self.model._is_accelerate_prepared

    def _answer(self) -> float:
        """Share of the questions that the model, as it is now, answers right."""
        examples = [question.example for question in self.questions]
        heads = [question.head for question in self.questions if question.head is not None]
        model = self.accelerator.unwrap_model(self.model)
        room = answer_room(self.tokenizer, examples)
        answers = answer_examples(model, self.tokenizer, examples, max_tokens=room, heads=heads or None)
        return score(examples, answers).exact_match

    def _add_held_out(self, loss: Tensor, inputs: Any) -> None:
        labels = inputs["labels"]
        is_seq2seq = self.accelerator.unwrap_model(self.model).config.is_encoder_decoder
        predicted = labels if is_seq2seq else labels[:, 1:]  # a causal model predicts nothing for the first token
        tokens = int((predicted != IGNORED).sum())
        if tokens:  # the loss of none is NaN
            self.measured = (self.measured[0] + loss.item() * tokens, self.measured[1] + tokens)

    def _records_gates(self) -> bool:
        return bool(self.gate_every) and (self.state.global_step + 1) % self.gate_every == 0


def check_states(optimizer: Any) -> None:
    """Refuse states of an optimizer that cannot be of their parameters.

    Raises:
        TrainingError: With both shapes of the first.
    """
    plain = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    for weight, state in plain.state.items():
        moment = state.get("exp_avg", state.get("state1"))  # of torch and transformers, of bitsandbytes
        if isinstance(moment, Tensor) and moment.shape != weight.shape:
            raise TrainingError(
                f"The optimizer's state in the checkpoint is of other weights: {tuple(moment.shape)} where "
                f"{tuple(weight.shape)} is trained. Start a new run."
            )


class StepReporter(TrainerCallback):
    """Turns the Trainer's events into ``on_step`` values, stops when asked, seals checkpoints and keeps the newest."""

    def __init__(
        self,
        on_step: Callable[[int, StepValues], None],
        progress: Progress,
        journal: Journal,
        keep: int,
        on_checkpoint: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        self.on_step, self.progress, self.journal, self.keep = on_step, progress, journal, keep
        self.on_checkpoint = on_checkpoint
        self.trainer: AdapterTrainer
        self.stopped = False
        self.last_eval: tuple[int, float | None] = (-1, None)  # step, held-out loss
        self._since = time.perf_counter()

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        self._since = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
        logs = logs or {}
        if "loss" in logs:
            self._check(state.global_step, logs)
            now = time.perf_counter()
            values: StepValues = {key: float(logs[key]) for key in TOLD if key in logs}
            values["tokens_per_second"] = sums([self.trainer.tokens_seen])[0] / max(now - self._since, 1e-9)
            if gates := self.trainer.gate_means():
                values["gates"] = means_of(gates)
            self.trainer.tokens_seen, self.trainer.gate_passes, self._since = 0, (), now
            self.on_step(state.global_step, values)
            self.progress.report(
                state.global_step / state.max_steps, f"Step {state.global_step:,} of {state.max_steps:,}"
            )
        elif "eval_loss" in logs:
            self.last_eval = (state.global_step, float(logs["eval_loss"]))
            measured = {name: float(logs[name]) for name in MEASURED if name in logs}
            self.on_step(state.global_step, measured)
            self._since = time.perf_counter()

    @staticmethod
    def _check(step: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            raise TrainingError(
                f"Step {step}: the loss is {logs['loss']:.4g} (gradient {logs.get('grad_norm', 0.0):.4g}), so the "
                "adapter is broken. Lower `learning_rate`, or use `float32`, and start again."
            )

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if is_any(self.progress.should_stop()) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_training_stop = control.should_save = True

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
        allocate = getattr(getattr(model, "base_model", None), "update_and_allocate", None)
        if allocate is not None:  # AdaLoRA prunes after the step and before gradients are cleared
            allocate(state.global_step)

    def on_save(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        wait_for_all()  # for the random state of each
        if is_lead():
            save_state(self.trainer.model, folder)
            self.journal.write(folder)
            seal_checkpoint(folder)
            drop_checkpoints(folder.parent, self.keep, best=Path(state.best_model_checkpoint or "").name)
            self.on_checkpoint(folder)
        wait_for_all()
        self._since = time.perf_counter()
