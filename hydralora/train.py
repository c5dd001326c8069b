"""Train one adapter on one corpus with `transformers.Trainer`; stop and resume exactly.

The loss falls on answers only. Every step's numbers go to ``on_step``; every ``gate_every``
steps they include the mean gate weights of each routed layer. A checkpoint counts only once
``complete.json`` with the hashes of its files lies beside them, and only such checkpoints are
resumed from.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from hydralora.adapt import add_adapter, count_parameters
from hydralora.base import fingerprint, load_base
from hydralora.config import RunConfig
from hydralora.corpus import Corpus, split_examples
from hydralora.errors import StoppedError, TrainingError
from hydralora.gates import GateCapture
from hydralora.prompt import IGNORED, encode_example

MAX_EVALUATED = 256  # held-out examples whose loss is measured during training
COMPLETE = "complete.json"

StepValues = dict[str, Any]


class Collator:
    """Pad a batch on the right: ids, labels and mask ``(batch, longest)``."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        longest = max(len(example["input_ids"]) for example in examples)

        def padded(name: str, filler: int) -> Tensor:
            return torch.tensor(
                [example[name] + [filler] * (longest - len(example[name])) for example in examples]
            )

        mask = [[1] * len(e["input_ids"]) + [0] * (longest - len(e["input_ids"])) for e in examples]
        return {"input_ids": padded("input_ids", self.pad_id), "labels": padded("labels", IGNORED),
                "attention_mask": torch.tensor(mask)}  # fmt: skip


class AdapterTrainer(Trainer):
    """The Trainer with an adapter's auxiliary loss and its gate weights."""

    gate_every = 0
    tokens_seen = 0  # not padding, since the last logged step
    gate_means: dict[str, list[float]] | None = None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """Mean loss per answer token, plus the tuner's auxiliary loss while training."""
        recording = model.training and self._records_gates()
        if model.training:
            self.tokens_seen += int(inputs["attention_mask"].sum())
        with GateCapture(model, enabled=recording) as capture:
            loss, outputs = super().compute_loss(
                model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
            )
            if recording and capture.names:
                self.gate_means = mean_gates(capture, inputs["attention_mask"])
        extra = auxiliary_loss(model) if model.training else None
        if extra is not None:
            # The language loss is already a share of the whole accumulated batch; ours is not.
            parts = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            loss = loss + extra / parts
        return (loss, outputs) if return_outputs else loss

    def _records_gates(self) -> bool:
        return bool(self.gate_every) and (self.state.global_step + 1) % self.gate_every == 0


def auxiliary_loss(model: torch.nn.Module) -> Tensor | None:
    """The extra loss the adapter asks for (balance, orthogonality), or None."""
    tuner = getattr(model, "base_model", None)
    compute = getattr(tuner, "auxiliary_loss", None)
    return compute() if callable(compute) else None


def mean_gates(capture: GateCapture, mask: Tensor) -> dict[str, list[float]]:
    """Mean gate weights per layer over the tokens that are not padding, each of length N."""
    gates = capture.take()  # (layers, batch, tokens, experts)
    weight = mask[None, :, :, None].to(gates)
    means = (gates * weight).sum((1, 2)) / weight.sum((1, 2))
    return {name: row for name, row in zip(capture.names, means.cpu().tolist(), strict=True)}


class StepReporter(TrainerCallback):
    """Turns the Trainer's events into ``on_step`` values, stops when asked, seals checkpoints."""

    def __init__(
        self, on_step: Callable[[int, StepValues], None], should_stop: Callable[[], bool],
        report: Callable[[float, str], None],
    ) -> None:  # fmt: skip
        self.on_step, self.should_stop, self.report = on_step, should_stop, report
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
            values = {key: float(logs[key]) for key in ("loss", "learning_rate", "grad_norm") if key in logs}
            values["tokens_per_second"] = self.trainer.tokens_seen / max(now - self._since, 1e-9)
            if self.trainer.gate_means is not None:
                values["gates"] = self.trainer.gate_means
            self.trainer.tokens_seen, self.trainer.gate_means, self._since = 0, None, now
            self.on_step(state.global_step, values)
            self.report(state.global_step / state.max_steps, f"Step {state.global_step:,} of {state.max_steps:,}")
        elif "eval_loss" in logs:
            self.last_eval = (state.global_step, float(logs["eval_loss"]))
            self.on_step(state.global_step, {"eval_loss": self.last_eval[1]})
            self._since = time.perf_counter()

    @staticmethod
    def _check(step: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0)):
            raise TrainingError(
                f"Step {step}: the loss is {logs['loss']} (gradient {logs.get('grad_norm')}), so the "
                "adapter is broken. Lower `learning_rate`, or use `float32`, and start again."
            )

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if self.should_stop() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_training_stop = control.should_save = True

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
        allocate = getattr(getattr(model, "base_model", None), "update_and_allocate", None)
        if allocate is not None:  # AdaLoRA prunes after the step and before gradients are cleared
            allocate(state.global_step)

    def on_save(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        seal_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._since = time.perf_counter()


def seal_checkpoint(folder: Path) -> None:
    """Write the hashes of a checkpoint's files; from now on it can be resumed from."""
    files = {path.name: _file_hash(path) for path in sorted(folder.iterdir()) if path.name != COMPLETE}
    write_json(folder / COMPLETE, {"files": files})


def last_checkpoint(run_folder: Path) -> Path | None:
    """The newest checkpoint that is complete and unchanged since we wrote it, or None."""
    folders = (run_folder / "checkpoints").glob("checkpoint-*")
    for folder in sorted(folders, key=_step_of, reverse=True):
        try:
            files = json.loads((folder / COMPLETE).read_text("utf-8"))["files"]
            if all(_file_hash(folder / name) == digest for name, digest in files.items()):
                return folder
        except (OSError, ValueError, KeyError):
            continue  # cut short while it was written; an older one is looked for
    return None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write aside, flush to disk, then rename: a reader sees the old file or the new one."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def train_adapter(
    config: RunConfig,
    corpus_folder: Path,
    run_folder: Path,
    *,
    clusters_folder: Path | None = None,
    on_step: Callable[[int, StepValues], None] = lambda step, values: None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[float, str], None] = lambda share, text: None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the adapter that ``config`` describes and keep it in ``run_folder/adapter``.

    Returns:
        Summary: steps, losses before and after on the held-out part, parameter counts, seconds.

    Raises:
        TrainingError: When there is nothing to train on or the loss is not a number.
        StoppedError: When ``should_stop`` said so; a checkpoint of the last step is kept.
    """
    report(0.0, f"Loading base model {config.base}")
    set_seed(config.train.seed)
    base, tokenizer = load_base(config.base, dtype=config.train.dtype)
    base_mark = fingerprint(base)
    report(0.0, "Preparing examples")
    corpus = Corpus(corpus_folder)
    train_ids, held_out_ids = split_examples(corpus, config.train.held_out_fraction)
    train_rows, skipped = _encode(corpus, train_ids, tokenizer, config)
    held_out_rows, _ = _encode(corpus, held_out_ids[:MAX_EVALUATED], tokenizer, config)
    set_seed(config.train.seed)
    model = add_adapter(
        base, config.method, config.adapter, seed=config.train.seed, steps=config.train.max_steps
    )
    model.config.use_cache = False
    counts = count_parameters(model)
    reporter = StepReporter(on_step, should_stop, report)
    trainer = AdapterTrainer(
        model=model, args=_arguments(config, run_folder, bool(held_out_rows)),
        train_dataset=train_rows, eval_dataset=held_out_rows or None,
        data_collator=Collator(tokenizer.pad_token_id), callbacks=[reporter],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # steps are reported, not printed
    trainer.gate_every = config.train.gate_every
    reporter.trainer = trainer
    checkpoint = last_checkpoint(run_folder) if resume else None
    before = _held_out_loss(trainer, held_out_rows) if checkpoint is None else None
    started = time.perf_counter()
    begin = _step_of(checkpoint) if checkpoint else 0
    if checkpoint and begin >= config.train.max_steps:  # only keeping the adapter was missed
        model.load_adapter(str(checkpoint), model.active_adapter, is_trainable=True)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step = max(begin, trainer.state.global_step)
    if reporter.stopped and step < config.train.max_steps:
        raise StoppedError(f"Stopped at step {step:,}; a checkpoint is kept and can be resumed.")
    report(1.0, "Saving the adapter")
    measured_at, after = reporter.last_eval
    if measured_at != step:
        after = _held_out_loss(trainer, held_out_rows)
    summary = {
        "steps": step, "held_out_loss_before": before, "held_out_loss": after,
        "train_examples": len(train_rows), "held_out_examples": len(held_out_ids),
        "skipped_examples": skipped, "trainable": counts.trainable, "router": counts.router,
        "total": counts.total, "seconds": time.perf_counter() - started,
        "resumed_from": begin if checkpoint else None,
    }  # fmt: skip
    save_adapter(model, run_folder / "adapter", {
        "config": config.model_dump(), "base_fingerprint": base_mark, "summary": summary,
        "corpus_hash": corpus.manifest["content_hash"], "versions": _versions(),
    })  # fmt: skip
    return summary


def save_adapter(model: Any, folder: Path, facts: dict[str, Any]) -> None:
    """Save beside, with ``run.json``, then rename over the final place."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside, safe_serialization=True)
    write_json(aside / "run.json", facts)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def _encode(
    corpus: Corpus, ids: list[int], tokenizer: Any, config: RunConfig
) -> tuple[list[dict[str, list[int]]], int]:
    rows = [encode_example(tokenizer, e, config.train.max_length) for e in corpus.take(ids)]
    kept = [row for row in rows if row is not None]
    if ids and not kept:
        raise TrainingError(
            f"No example fits into {config.train.max_length} tokens: every prompt alone is longer. "
            "Raise `max_length`, or shorten the examples."
        )
    return kept, len(rows) - len(kept)


def _arguments(config: RunConfig, run_folder: Path, has_held_out: bool) -> TrainingArguments:
    train = config.train
    return TrainingArguments(
        output_dir=str(run_folder / "checkpoints"),
        max_steps=train.max_steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=max(train.batch_size, 16),
        gradient_accumulation_steps=train.accumulation,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.scheduler,
        warmup_steps=int(train.warmup_fraction * train.max_steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        eval_strategy="steps" if has_held_out and train.eval_every else "no",
        eval_steps=train.eval_every or None,
        save_strategy="steps" if train.save_every else "no",
        save_steps=train.save_every or 500,
        save_total_limit=train.keep_checkpoints,
        logging_steps=1,
        logging_nan_inf_filter=False,
        gradient_checkpointing=train.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if train.gradient_checkpointing else None,
        seed=train.seed,
        data_seed=train.seed,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _held_out_loss(trainer: AdapterTrainer, rows: list[Any]) -> float | None:
    return float(trainer.evaluate()["eval_loss"]) if rows else None


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
