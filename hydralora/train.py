"""Train one adapter on one corpus with `transformers.Trainer`; stop and resume exactly.

The loss falls on answers only. Every step's numbers go to ``on_step``; every ``gate_every``
steps they include the mean gate weights of each routed layer. A checkpoint counts only once
``complete.json`` with the hashes of its files lies beside them, and only such checkpoints are
resumed from.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed

from hydralora.adapt import add_adapter, count_parameters
from hydralora.base import fingerprint, load_base
from hydralora.checkpoints import START, last_checkpoint, step_of, write_json
from hydralora.config import RunConfig
from hydralora.corpus import Corpus, Example, split_examples
from hydralora.errors import StoppedError, TrainingError
from hydralora.groups import only_cluster, read_tasks, task_source
from hydralora.prompt import encode_example
from hydralora.trainer import AdapterTrainer, Plan, StepReporter, StepValues

MAX_EVALUATED = 256  # held-out examples whose loss is measured during training
# Methods whose training differs from the plain loop: module and class.
TRAINERS = {
    "thanora": ("hydralora.thanora", "ThanoraTrainer"),
    "meta_lora": ("hydralora.meta_lora", "MetaTrainer"),
    "lope": ("hydralora.lope", "LopeTrainer"),
    "lora_split": ("hydralora.split", "SplitTrainer"),
    "lorahub": ("hydralora.lorahub", "LorahubTrainer"),
}


def find_trainer(method: str) -> type[AdapterTrainer]:
    """The trainer of a method."""
    module, name = TRAINERS.get(method, ("hydralora.trainer", "AdapterTrainer"))
    found: type[AdapterTrainer] = getattr(import_module(module), name)
    return found


def train_adapter(
    config: RunConfig,
    corpus_folder: Path,
    run_folder: Path,
    *,
    clusters_folder: Path | None = None,
    sources: list[Path] | None = None,
    on_step: Callable[[int, StepValues], None] = lambda step, values: None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[float, str], None] = lambda share, text: None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the adapter that ``config`` describes and keep it in ``run_folder/adapter``.

    Args:
        sources: Folders of the finished adapters that LoRAHub mixes.

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
    train_ids, held_out_ids = only_cluster(train_ids, held_out_ids, config.train.only_cluster, clusters_folder)
    kept, train_rows = _encode(corpus, train_ids, tokenizer, config)
    measured, held_out = _encode(corpus, held_out_ids[:MAX_EVALUATED], tokenizer, config)
    checkpoint = last_checkpoint(run_folder) if resume else None
    tasks = read_tasks(kept, task_source(config), clusters_folder)
    plan = Plan(
        config=config, tokenizer=tokenizer, rows=train_rows, examples=[example for _, example in kept],
        groups=tasks.numbers(kept) if tasks else None, run_folder=run_folder, resumed=checkpoint is not None,
        tasks=tasks, held_out=held_out, held_out_groups=tasks.numbers(measured) if tasks else [],
        sources=sources or [], base_fingerprint=base_mark,
    )  # fmt: skip
    set_seed(config.train.seed)
    model = add_adapter(
        base, config.method, config.adapter, seed=config.train.seed, steps=config.train.max_steps, sources=sources
    )
    model.config.use_cache = False
    counts = count_parameters(model)
    reporter = StepReporter(on_step, should_stop, report)
    trainer_class = find_trainer(config.method)
    arguments = _arguments(config, run_folder, bool(held_out), base.config.get_text_config().hidden_size)
    data, collator = trainer_class.feed(plan, arguments)
    held_out_rows = trainer_class.held_out(plan)
    trainer = trainer_class(
        model=model, args=arguments, train_dataset=data, eval_dataset=held_out_rows or None,
        data_collator=collator, callbacks=[reporter],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # steps are reported, not printed
    trainer.gate_every = config.train.gate_every
    reporter.trainer = trainer
    trainer.prepare(plan)
    if checkpoint is None:
        keep_start(model, run_folder)
    before = _held_out_loss(trainer, held_out_rows) if checkpoint is None else None
    started = time.perf_counter()
    begin = step_of(checkpoint) if checkpoint else 0
    if checkpoint and begin >= config.train.max_steps:  # only keeping the adapter was missed
        trainer._load_from_checkpoint(str(checkpoint))
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
        "skipped_examples": len(train_ids) - len(kept), "trainable": counts.trainable, "router": counts.router,
        "total": counts.total, "seconds": time.perf_counter() - started,
        "resumed_from": begin if checkpoint else None,
    }  # fmt: skip
    save_adapter(model, run_folder / "adapter", {
        "config": config.model_dump(), "base_fingerprint": base_mark, "summary": summary,
        "corpus_hash": corpus.manifest["content_hash"], "versions": _versions(),
        "tasks": tasks.names if tasks else None,
    })  # fmt: skip
    return summary


def keep_start(model: Any, run_folder: Path) -> None:
    """Keep the untrained adapter where it has A and B matrices: the baseline of every picture of them."""
    if any(".hydralora_A." in name or ".lora_A." in name for name, _ in model.named_parameters()):
        model.save_pretrained(run_folder / START, safe_serialization=True)


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
) -> tuple[list[tuple[int, Example]], list[dict[str, list[int]]]]:
    """Positions and examples that fit, and their rows of ids."""
    examples = list(zip(ids, corpus.take(ids), strict=True))
    encoded = [(pair, encode_example(tokenizer, pair[1], config.train.max_length)) for pair in examples]
    kept = [(pair, row) for pair, row in encoded if row is not None]
    if ids and not kept:
        raise TrainingError(
            f"No example fits into {config.train.max_length} tokens: every prompt alone is longer. "
            "Raise `max_length`, or shorten the examples."
        )
    return [pair for pair, _ in kept], [row for _, row in kept]


def learning_rate_for(width: int, method: str = "hydralora") -> float:
    """A peak learning rate by the width of the base: ``0.64 / width``, at most 0.004.

    It gives 1.6e-4 at width 4,096, where the papers use 2e-4, and 0.004 at the starter's 160,
    where it was best of 0.002, 0.004, 0.005 and 0.01 (docs/starter.md). Full fine-tuning moves
    every weight and takes a tenth of it.
    """
    return min(4e-3, 0.64 / max(1, width)) * (0.1 if method == "full" else 1.0)


def _arguments(config: RunConfig, run_folder: Path, has_held_out: bool, width: int) -> TrainingArguments:
    train = config.train
    return TrainingArguments(
        output_dir=str(run_folder / "checkpoints"),
        max_steps=train.max_steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=max(train.batch_size, 16),
        gradient_accumulation_steps=train.accumulation,
        learning_rate=train.learning_rate or learning_rate_for(width, config.method),
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
