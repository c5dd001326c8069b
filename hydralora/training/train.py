"""Train one adapter on one corpus with `transformers.Trainer`; stop and resume exactly.

The loss falls on answers only. Every step's numbers go to ``on_step``; every ``gate_every``
steps they include the mean gate weights of each routed layer. A checkpoint counts only once
``complete.json`` with the hashes of its files lies beside them, and only such checkpoints are
resumed from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState

from hydralora.adapters.build import add_adapter, count_parameters
from hydralora.bases.fingerprint import fingerprint
from hydralora.bases.load import context_length, load_base
from hydralora.config import Objective, RunConfig, TrainConfig
from hydralora.corpus.encode import CANNOT_MASK, can_mask
from hydralora.corpus.folder import Corpus
from hydralora.errors import StoppedError, TrainingError
from hydralora.files import START, last_checkpoint, step_of, written_aside
from hydralora.methods import METHODS
from hydralora.progress import SILENT, Progress
from hydralora.results import AdapterFacts, RunSummary
from hydralora.training.arguments import early_end, refuse_unused, training_arguments
from hydralora.training.data import Data, fit_length, fit_steps, read_data, settle_training_set
from hydralora.training.energy import Meter
from hydralora.training.feed import collator_of, given_to_method, held_out_rows, training_rows
from hydralora.training.journal import Journal
from hydralora.training.loggers import logger_of
from hydralora.training.mixin import ReadsTasks, TrainsMethod
from hydralora.training.objective import check_objective
from hydralora.training.packing import check_packing
from hydralora.training.ranks import is_lead, take_place, why_alone, world_size
from hydralora.training.sampling import ClusterSampler
from hydralora.training.trainer import AdapterTrainer, Plan, StepReporter, StepValues

log = logging.getLogger(__name__)


@cache
def find_trainer(method: str, has_tasks: bool = True, objective: Objective = "answers") -> type[AdapterTrainer]:
    """The trainer of a method: ours, with the method's mixin before it where it has one; that of pairs for ``dpo``.

    Args:
        has_tasks: Whether tasks are read; without them heads of LoRA-Split are trained as any others.
    """
    if objective == "dpo":
        from hydralora.training.preferences import PreferenceTrainer  # TRL need not be installed

        return PreferenceTrainer
    module, _, name = METHODS[method].mixin.rpartition(".")
    mixin = getattr(import_module(module), name) if name else None
    if mixin is None or (issubclass(mixin, ReadsTasks) and not has_tasks):
        return AdapterTrainer
    return type(f"{name}Trainer", (mixin, AdapterTrainer), {})


def train_adapter(
    config: RunConfig,
    corpus_folder: Path,
    run_folder: Path,
    *,
    clusters_folder: Path | None = None,
    sources: list[Path] | None = None,
    on_step: Callable[[int, StepValues], None] = lambda step, values: None,
    on_checkpoint: Callable[[Path], None] = lambda folder: None,
    progress: Progress = SILENT,
    resume: bool = False,
    adapter_folder: Path | None = None,
    meter: Meter | None = None,
) -> RunSummary:
    """Train the adapter that ``config`` describes and keep it in ``run_folder/adapter``.

    Several processes (`RANK`, `WORLD_SIZE` and the like in the environment) train it together when each calls this; a
    step has the rows that it would have with one, and only the first process writes and reports.

    Args:
        adapter_folder: Where the finished adapter is kept instead; checkpoints stay in ``run_folder``.
        on_checkpoint: Called with the folder of each checkpoint that was sealed.
        sources: Folders of the finished adapters that LoRAHub mixes.
        meter: Counts the electricity (``hydralora.training.energy.counting``).

    Returns:
        Summary: steps, losses before and after on the held-out part, parameter counts, seconds.

    Raises:
        TrainingError: When there is nothing to train on, the loss is not a number, several processes cannot share the
            run, or it would go on with another corpus, other labels, another base or other settings than it began with.
        StoppedError: When a stop was asked for; a checkpoint of the last step is kept.
    """
    if world_size() > 1 and (why := why_alone(config, world_size())):
        raise TrainingError(f"{world_size()} processes cannot train this run together: {why}. Start one.")
    progress.report(0.0, f"Loading base model {config.base}")
    set_seed(config.train.seed)
    take_place()
    base, tokenizer = load_base(config.base, dtype=config.train.dtype)
    given_length = config.train.max_length
    config = fit_length(config, context_length(base))
    mark = fingerprint(base)
    progress.report(0.0, "Preparing examples")
    corpus, checkpoint = Corpus(corpus_folder, config.train.edits), last_checkpoint(run_folder) if resume else None
    check_objective(config, corpus.manifest.counts.pairs)
    data = read_data(config, corpus, tokenizer, clusters_folder)
    config = fit_steps(config, data.training_set.steps or config.train.max_steps)
    if is_lead():
        settle_training_set(data.training_set, run_folder, resumed=checkpoint is not None)
    journal = Journal(config, mark, checkpoint)
    for count, why in data.training_set.losses:
        log.warning("%s %s", count, why)
    plan = data.plan(config, tokenizer, run_folder, resumed=checkpoint is not None, sources=sources or [], mark=mark)
    set_seed(config.train.seed)
    width = base.config.get_text_config().hidden_size
    model = add_adapter(
        base,
        config.method,
        config.adapter,
        seed=config.train.seed,
        steps=config.train.max_steps,
        sources=sources,
        tokenizer=tokenizer,
    )
    model.config.use_cache = False
    counts = count_parameters(model)
    reporter = StepReporter(on_step, progress, journal, config.train.keep_checkpoints, on_checkpoint)
    begin = step_of(checkpoint) if checkpoint else 0
    loggers = logger_of(config.train.report_to, run_folder, begin) if is_lead() else []
    trainer, measured = make_trainer(model, plan, [reporter, *loggers], width)
    reporter.trainer = trainer
    trainer.logs_gates = bool(loggers)
    if checkpoint is None and is_lead():
        keep_start(model, run_folder)
    journal.start(_held_out_loss(trainer, measured) if checkpoint is None else None)
    step = _train(trainer, reporter, checkpoint, config.train.max_steps)
    progress.report(1.0, "Saving the adapter")
    measured_at, after = reporter.last_eval
    summary = RunSummary(
        steps=step,
        held_out_loss_before=journal.held_out_loss_before,
        held_out_loss=after if measured_at == step else _held_out_loss(trainer, measured),
        train_examples=data.training_set.examples,
        held_out_examples=data.training_set.held_out,
        skipped_examples=data.training_set.skipped,
        cut_examples=data.training_set.cut,
        partly_examples=data.training_set.partly,
        leaking_examples=data.training_set.leaking,
        unpaired_examples=data.training_set.unpaired,
        pairs=data.training_set.pairs,
        training_hash=data.training_set.hash,
        note=" ".join(filter(None, [_note(config, data, tokenizer, given_length), _early(config.train, step)])),
        **best_step(trainer.state.log_history),
        trainable=counts.trainable,
        router=counts.router,
        total=counts.total,
        seconds=journal.seconds,
        resumed_from=step_of(checkpoint) if checkpoint else None,
        timed_from=journal.timed_from,
        **({"energy": found} if meter and (found := meter.total()) else {}),
    )
    facts = AdapterFacts(
        config=config,
        base_fingerprint=mark.now,
        summary=summary,
        corpus_hash=corpus.manifest.content_hash,
        versions=_versions(),
        tasks=data.tasks.names if data.tasks else None,
    )
    if is_lead():
        save_adapter(model, adapter_folder or run_folder / "adapter", facts)
    return summary


def make_trainer(
    model: Any, plan: Plan, watching: list[TrainerCallback], width: int
) -> tuple[AdapterTrainer, list[Any]]:
    """The method's trainer, ready to begin, and the rows whose loss it measures.

    Args:
        watching: Who is told of every step, the reporter first.
        width: Width of the base.
    """
    config = plan.config
    kind = find_trainer(config.method, plan.tasks is not None, config.train.objective)
    refuse_unused(kind.unused, config)
    if config.train.packing:
        check_packing(model)
    arguments = arguments_of(config)(config, plan.run_folder, bool(plan.held_out), width)
    columns = kind.columns if issubclass(kind, TrainsMethod) else ()
    measured = held_out_rows(plan, columns)
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=training_rows(plan, columns),
        eval_dataset=measured or None,
        data_collator=collator_of(plan),
        callbacks=[*watching, *early_end(config.train, bool(measured))],
        **given_to_method(plan, kind),
    )
    trainer.remove_callback(PrinterCallback)  # steps are reported, not printed
    trainer.gate_every = config.train.gate_every
    trainer.tokenizer, trainer.questions = plan.tokenizer, plan.questions
    if plan.clusters is not None:
        trainer.sampler = ClusterSampler(plan.clusters, config.train.cluster_power, config.train.seed)
    if (config.train.b_rate, config.train.router_rate) != (1.0, 1.0):
        trainer.rates = config.train
    trainer.begin(plan.resumed)
    return trainer, measured


def arguments_of(config: RunConfig) -> Callable[..., TrainingArguments]:
    """What makes the Trainer's arguments of a run's settings."""
    if config.train.objective == "answers":
        return training_arguments
    from hydralora.training.preferences import preference_arguments  # TRL need not be installed

    return preference_arguments


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


def _held_out_loss(trainer: AdapterTrainer, rows: list[Any]) -> float | None:
    return float(trainer.evaluate()["eval_loss"]) if rows else None


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
    if config.train.batch_asked:
        train = config.train
        found.append(
            f"It ran out of memory with {train.batch_asked:,} examples in one forward pass and went on with "
            f"{train.batch_size:,}, {train.accumulation:,} passes added up: the same step, in smaller parts."
        )
    if data.clusters is not None:
        found.append(ClusterSampler(data.clusters, config.train.cluster_power, config.train.seed).told())
    has_talks = any(example.history for _, example in data.kept)
    if has_talks and config.train.learn == "all" and not can_mask(tokenizer):
        found.append(CANNOT_MASK)
    return " ".join(found)


def _early(train: TrainConfig, step: int) -> str:
    """That a run ended before its last step, and why; empty where it did not."""
    if step >= train.max_steps:
        return ""
    if not train.patience:
        return f"It ended at step {step:,} of {train.max_steps:,}: the search found nothing better near its best."
    return (
        f"It ended at step {step:,} of {train.max_steps:,}: the held-out loss had not fallen for {train.patience} "
        "measurements."
    )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
