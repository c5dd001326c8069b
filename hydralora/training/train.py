"""Train one adapter on one corpus with `transformers.Trainer`; stop and resume exactly.

The loss falls on answers only. Every step's numbers go to ``on_step``; every ``gate_every``
steps they include the mean gate weights of each routed layer. A checkpoint counts only once
``complete.json`` with the hashes of its files lies beside them, and only such checkpoints are
resumed from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState

from hydralora.adapters.build import add_adapter, count_parameters
from hydralora.bases.load import context_length, fingerprint, load_base
from hydralora.config import RunConfig, TrainConfig
from hydralora.corpus.batches import Encoded
from hydralora.corpus.encode import CANNOT_MASK, can_mask, cut, encode_telling
from hydralora.corpus.folder import Corpus
from hydralora.corpus.split import split_examples, training_hash
from hydralora.corpus.tasks import Placed, Tasks, only_cluster, read_tasks
from hydralora.errors import StoppedError, TrainingError
from hydralora.files import START, last_checkpoint, step_of, written_aside
from hydralora.methods import METHODS
from hydralora.progress import SILENT, Progress
from hydralora.results import AdapterFacts, RunSummary, TrainingSet
from hydralora.training.trainer import AdapterTrainer, Plan, StepReporter, StepValues

log = logging.getLogger(__name__)
OPTIMIZERS = {  # by the names of `transformers.training_args.OptimizerNames`
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
}
FROM_BITSANDBYTES = ("adamw_8bit", "lion")
MAX_EVALUATED = 256  # held-out examples whose loss is measured during training


def find_trainer(method: str) -> type[AdapterTrainer]:
    """The trainer of a method."""
    module, _, name = METHODS[method].trainer.rpartition(".")
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
    progress: Progress = SILENT,
    resume: bool = False,
) -> RunSummary:
    """Train the adapter that ``config`` describes and keep it in ``run_folder/adapter``.

    Args:
        sources: Folders of the finished adapters that LoRAHub mixes.

    Returns:
        Summary: steps, losses before and after on the held-out part, parameter counts, seconds.

    Raises:
        TrainingError: When there is nothing to train on or the loss is not a number.
        StoppedError: When a stop was asked for; a checkpoint of the last step is kept.
    """
    progress.report(0.0, f"Loading base model {config.base}")
    set_seed(config.train.seed)
    base, tokenizer = load_base(config.base, dtype=config.train.dtype)
    given_length = config.train.max_length
    config = fit_length(config, context_length(base))
    mark = fingerprint(base)
    progress.report(0.0, "Preparing examples")
    corpus, checkpoint = Corpus(corpus_folder, config.train.edits), last_checkpoint(run_folder) if resume else None
    data = read_data(config, corpus, tokenizer, clusters_folder)
    settle_training_set(data.training_set, run_folder, resumed=checkpoint is not None)
    for count, why in data.training_set.losses:
        log.warning("%s %s", count, why)
    plan = data.plan(config, tokenizer, run_folder, resumed=checkpoint is not None, sources=sources or [], mark=mark)
    set_seed(config.train.seed)
    width = base.config.get_text_config().hidden_size
    model = add_adapter(
        base, config.method, config.adapter, seed=config.train.seed, steps=config.train.max_steps, sources=sources
    )
    model.config.use_cache = False
    counts = count_parameters(model)
    reporter = StepReporter(on_step, progress)
    trainer, measured = make_trainer(model, plan, reporter, width)
    if checkpoint is None:
        keep_start(model, run_folder)
    before = _held_out_loss(trainer, measured) if checkpoint is None else None
    started = time.perf_counter()
    step = _train(trainer, reporter, checkpoint, config.train.max_steps)
    progress.report(1.0, "Saving the adapter")
    measured_at, after = reporter.last_eval
    summary = RunSummary(
        steps=step,
        held_out_loss_before=before,
        held_out_loss=after if measured_at == step else _held_out_loss(trainer, measured),
        train_examples=len(data.rows),
        held_out_examples=data.training_set.held_out,
        skipped_examples=data.training_set.skipped,
        cut_examples=data.training_set.cut,
        partly_examples=data.training_set.partly,
        leaking_examples=data.training_set.leaking,
        training_hash=data.training_set.hash,
        note=" ".join(filter(None, [_note(config, data, tokenizer, given_length), _early(config.train, step)])),
        **best_step(trainer.state.log_history),
        trainable=counts.trainable,
        router=counts.router,
        total=counts.total,
        seconds=time.perf_counter() - started,
        resumed_from=step_of(checkpoint) if checkpoint else None,
    )
    facts = AdapterFacts(
        config=config,
        base_fingerprint=mark,
        summary=summary,
        corpus_hash=corpus.manifest.content_hash,
        versions=_versions(),
        tasks=data.tasks.names if data.tasks else None,
    )
    save_adapter(model, run_folder / "adapter", facts)
    return summary


@dataclass(frozen=True)
class Data:
    """What is trained on and what is only measured, encoded.

    Args:
        training_set: What of the corpus that is, with what was left out or cut.
        kept: Positions and examples of ``rows``.
        measured: Positions and examples of ``held_out``, at most ``MAX_EVALUATED``.
        tasks: Where the method learns from tasks.
    """

    training_set: TrainingSet
    kept: Placed
    rows: list[Encoded]
    measured: Placed
    held_out: list[Encoded]
    tasks: Tasks | None

    def plan(
        self, config: RunConfig, tokenizer: Any, run_folder: Path, *, resumed: bool, sources: list[Path], mark: str
    ) -> Plan:
        """What a method may look at before training begins; ``mark`` is the base's fingerprint."""
        return Plan(
            config=config,
            tokenizer=tokenizer,
            rows=self.rows,
            examples=[example for _, example in self.kept],
            groups=self.tasks.numbers(self.kept) if self.tasks else None,
            run_folder=run_folder,
            resumed=resumed,
            tasks=self.tasks,
            held_out=self.held_out,
            held_out_groups=self.tasks.numbers(self.measured) if self.tasks else [],
            sources=sources,
            base_fingerprint=mark,
        )


def read_data(config: RunConfig, corpus: Corpus, tokenizer: Any, clusters_folder: Path | None) -> Data:
    """Split and encode a corpus as a run wants it.

    Raises:
        TrainingError: When no example fits, or the tasks of the method are not there.
    """
    train = config.train
    split = split_examples(corpus, train)
    train_ids, held_out_ids = only_cluster(split.train, split.held_out, train.only_cluster, clusters_folder)
    kept, rows, cut_count, partly_count = _encode(corpus, train_ids, tokenizer, train)
    measured, held_out, *_ = _encode(corpus, held_out_ids[:MAX_EVALUATED], tokenizer, train)
    training_set = TrainingSet(
        hash=training_hash(corpus, [position for position, _ in kept]),
        corpus_hash=corpus.manifest.content_hash,
        examples=len(kept),
        held_out=len(held_out_ids),
        skipped=len(train_ids) - len(kept),
        cut=cut_count,
        partly=partly_count,
        leaking=len(split.leaking),
    )
    tasks = read_tasks(kept, config.adapter.task_source, clusters_folder)
    return Data(training_set, kept, rows, measured, held_out, tasks)


def settle_training_set(training_set: TrainingSet, run_folder: Path, *, resumed: bool) -> None:
    """Write down what a run is trained on, or, when it goes on, make sure that it still is.

    Raises:
        TrainingError: When a resumed run would go on with other examples.
    """
    if not resumed or not (run_folder / TrainingSet.FILE).exists():  # runs of earlier versions wrote none
        training_set.write(run_folder)
        return
    before = TrainingSet.read(run_folder)
    if before.hash != training_set.hash:
        raise TrainingError(
            f"The training set has changed since this run began: {before.examples:,} examples (hash "
            f"{before.hash[:12]}) then, {training_set.examples:,} (hash {training_set.hash[:12]}) now. Undo the change "
            "to the corpus, or start a new run."
        )


def make_trainer(model: Any, plan: Plan, reporter: StepReporter, width: int) -> tuple[AdapterTrainer, list[Any]]:
    """The method's trainer, ready to begin, and the rows whose loss it measures; ``width`` is that of the base."""
    kind, config = find_trainer(plan.config.method), plan.config
    _refuse_unused(kind, config)
    arguments = _arguments(config, plan.run_folder, bool(plan.held_out), width)
    rows, collator = kind.feed(plan, arguments)
    measured = kind.held_out(plan)
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=measured or None,
        data_collator=collator,
        callbacks=[reporter, *_early_end(config.train, bool(measured))],
    )
    trainer.remove_callback(PrinterCallback)  # steps are reported, not printed
    trainer.gate_every = config.train.gate_every
    if (config.train.b_rate, config.train.router_rate) != (1.0, 1.0):
        trainer.rates = config.train
    reporter.trainer = trainer
    trainer.prepare(plan)
    return trainer, measured


def _train(trainer: AdapterTrainer, reporter: StepReporter, checkpoint: Path | None, max_steps: int) -> int:
    """Train to the end, from a checkpoint where there is one; gives the last step.

    Raises:
        StoppedError: When a stop was asked for before the last step.
    """
    begin = step_of(checkpoint) if checkpoint else 0
    ended = _ended_state(checkpoint, trainer, max_steps) if checkpoint else None
    if checkpoint and ended is not None:
        trainer.state = ended
        trainer._load_from_checkpoint(str(checkpoint))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step = max(begin, trainer.state.global_step)
    if reporter.stopped and step < max_steps:
        raise StoppedError(f"Stopped at step {step:,}; a checkpoint is kept and can be resumed.")
    return step


def _ended_state(checkpoint: Path, trainer: AdapterTrainer, max_steps: int) -> TrainerState | None:
    """What the Trainer knew at this checkpoint, where the run had ended there and only keeping the adapter was missed;
    None where it goes on."""
    file = checkpoint / TRAINER_STATE_NAME
    state = TrainerState.load_from_json(str(file)) if file.exists() else TrainerState(global_step=step_of(checkpoint))
    if step_of(checkpoint) >= max_steps:
        return state
    for early in trainer.callback_handler.callbacks:
        if isinstance(early, EarlyStoppingCallback):
            stored = state.stateful_callbacks.get(type(early).__name__) or {}
            counted = stored["attributes"]["early_stopping_patience_counter"] if stored else 0
            return state if counted >= early.early_stopping_patience else None
    return None


def keep_start(model: Any, run_folder: Path) -> None:
    """Keep the untrained adapter where it has A and B matrices: the baseline of every picture of them."""
    if any(".hydralora_A." in name or ".lora_A." in name for name, _ in model.named_parameters()):
        model.save_pretrained(run_folder / START, safe_serialization=True)


def save_adapter(model: Any, folder: Path, facts: AdapterFacts) -> None:
    """Save the adapter with ``run.json`` in ``folder``, whole or not at all."""
    with written_aside(folder) as aside:
        model.save_pretrained(aside, safe_serialization=True)
        facts.write(aside)


def _encode(
    corpus: Corpus, ids: list[int], tokenizer: Any, train: TrainConfig
) -> tuple[Placed, list[Encoded], int, int]:
    """Positions and examples that fit, their rows of ids, how many of these were cut at their end, and of how many not
    all answers are learnt that should be."""
    kept: Placed = []
    rows: list[Encoded] = []
    cut_count = partly_count = 0
    for position, example in zip(ids, corpus.take(ids), strict=True):
        whole, is_partly = encode_telling(tokenizer, example, train.learn)
        row = cut(whole, train.max_length)
        if row is not None:
            kept.append((position, example))
            rows.append(row)
            cut_count += len(whole["input_ids"]) > train.max_length
            partly_count += is_partly
    if ids and not kept:
        raise TrainingError(
            f"No example fits into {train.max_length} tokens: every prompt alone is longer. "
            "Raise `max_length`, or shorten the examples."
        )
    return kept, rows, cut_count, partly_count


def learning_rate_for(width: int, method: str = "hydralora") -> float:
    """A peak learning rate by the width of the base: ``0.64 / width``, at most 0.004.

    It gives 1.6e-4 at width 4,096, where the papers use 2e-4, and 0.004 at the starter's 160,
    where it was best of 0.002, 0.004, 0.005 and 0.01 (docs/starter.md). Full fine-tuning moves
    every weight and takes a tenth of it.
    """
    return min(4e-3, 0.64 / max(1, width)) * (0.1 if method == "full" else 1.0)


def _refuse_unused(kind: type[AdapterTrainer], config: RunConfig) -> None:
    """Refuse settings that would do nothing, and an optimizer whose package is missing.

    Raises:
        TrainingError: With the setting and its value.
    """
    for name in sorted(kind.unused):
        value, usual = getattr(config.train, name), TrainConfig.model_fields[name].default
        if value != usual:
            raise TrainingError(f"`{name}` is {value}, but {config.method} does not use it. Leave it at {usual}.")
    if config.train.optimizer in FROM_BITSANDBYTES and find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"`optimizer` is {config.train.optimizer}, which needs the package bitsandbytes. Install it, or take adamw."
        )


def _early_end(train: TrainConfig, has_held_out: bool) -> list[TrainerCallback]:
    """What ends a run whose held-out loss does not fall any more.

    Raises:
        TrainingError: When that loss is never measured.
    """
    if not train.patience:
        return []
    if not has_held_out or not train.eval_every:
        raise TrainingError(
            f"`patience` is {train.patience}, but no held-out loss is measured. Raise `held_out_fraction` and "
            "`eval_every`, or set `patience` to 0."
        )
    return [EarlyStoppingCallback(early_stopping_patience=train.patience)]


def _arguments(config: RunConfig, run_folder: Path, has_held_out: bool, width: int) -> TrainingArguments:
    train = config.train
    return TrainingArguments(
        output_dir=str(run_folder / "checkpoints"),
        max_steps=train.max_steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,  # measuring takes no more memory than training
        gradient_accumulation_steps=train.accumulation,
        learning_rate=train.learning_rate or learning_rate_for(width, config.method),
        optim=OPTIMIZERS[train.optimizer],
        neftune_noise_alpha=train.neftune_noise or None,
        train_sampling_strategy="group_by_length" if train.order == "by length" else "random",
        metric_for_best_model="eval_loss" if has_held_out and train.eval_every else None,  # its checkpoint is kept
        greater_is_better=False,
        restore_callback_states_from_checkpoint=bool(train.patience),  # how often it has not fallen in a row
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


def fit_length(config: RunConfig, positions: int) -> RunConfig:
    """The configuration with a longest length that the base has positions for."""
    length = min(config.train.max_length, positions)
    return config.model_copy(update={"train": config.train.model_copy(update={"max_length": length})})


def best_step(history: list[dict[str, float]]) -> dict[str, Any]:
    """The step with the lowest held-out loss and that loss, as fields of ``RunSummary``; nothing where none was
    measured."""
    measured = [(entry["eval_loss"], int(entry["step"])) for entry in history if "eval_loss" in entry]
    loss, step = min(measured, default=(None, None))
    return {"best_held_out_loss": loss, "best_step": step}


def _note(config: RunConfig, data: Data, tokenizer: Any, given_length: int) -> str:
    """What was learnt otherwise than the settings say."""
    found = []
    if given_length > config.train.max_length:
        found.append(
            f"The base has {config.train.max_length:,} positions, fewer than the {given_length:,} tokens of "
            "`max_length`: examples were cut there."
        )
    has_talks = any(example.history for _, example in data.kept)
    if has_talks and config.train.learn == "all" and not can_mask(tokenizer):
        found.append(CANNOT_MASK)
    return " ".join(found)


def _early(train: TrainConfig, step: int) -> str:
    """That a run ended before its last step, and why; empty where it did not."""
    if step >= train.max_steps:
        return ""
    return (
        f"It ended at step {step:,} of {train.max_steps:,}: the held-out loss had not fallen for {train.patience} "
        "measurements."
    )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
