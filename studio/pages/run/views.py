"""What the tab Training shows: numbers, settings, time and history; and what is to be known before them."""

from __future__ import annotations

from hydralora.bases.folder import shown_base
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.options import HeadOptions
from hydralora.plain import without_paths
from hydralora.results import TrainingSet
from hydralora.training.memory import training_memory
from jobs.store.records import Event, Job, Run, Step
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from studio import cards
from studio.bases import amount
from studio.cards import Markup
from studio.exports import trainable


def planned(run: Run, training_set: TrainingSet | None) -> int:
    """Steps that a run is to have: as it began, or, until then, as its settings say."""
    return (training_set and training_set.steps) or run.config.train.max_steps


def run_cards(run: Run, newest: Step | None, training_set: TrainingSet | None) -> Markup:
    """The figures of a run so far, from the newest of its numbers."""
    if run.is_imported:
        return imported_cards(run)
    train, summary, numbers = run.config.train, run.summary, newest.numbers if newest else {}
    before = summary.held_out_loss_before if summary else None
    after = summary.held_out_loss if summary else numbers.get("eval_loss")
    note = f"{before:.3f} before training" if before is not None else "on examples never trained on"
    share = trainable(summary).partition(" trainable")[2].lstrip(" ,") if summary else "known at the end"
    return cards.cards(
        [
            cards.card(
                "Step",
                f"{newest.step if newest else 0:,} of {planned(run, training_set):,}",
                f"batch of {train.batch_size * train.accumulation}",
            ),
            cards.card("Training loss", cards.number(numbers.get("loss")), "nats per answer token"),
            cards.card("Held-out loss", cards.number(after), note),
            cards.card("Speed", cards.number(numbers.get("tokens_per_second"), 0), "tokens per second"),
            cards.card("Trainable", f"{summary.trainable:,}" if summary else "–", share),
        ]
    )


def imported_cards(run: Run) -> Markup:
    """What is known of an external adapter."""
    if run.summary is None:
        return Markup("")
    adapter, problem = run.config.adapter, run.summary.base_problem
    facts = [
        cards.card("Method", METHODS[run.method].title, "as its configuration says"),
        cards.card(
            "Trainable", f"{run.summary.trainable:,}", trainable(run.summary).partition(" trainable")[2].lstrip(" ,")
        ),
        cards.card("Base", "not here" if problem else "fits", shown_base(run.base)),
    ]
    if isinstance(adapter, HeadOptions):
        facts.insert(1, cards.card("Experts", adapter.num_experts, f"of rank {adapter.r}"))
    if not problem:
        return cards.cards(facts)
    return cards.join(
        cards.cards(facts),
        cards.note("warn", "Until its base is there, only its matrices can be seen.", without_paths(problem)),
    )


def gates_now(newest: Step | None) -> Markup:
    """The newest mean share of every expert, in words and colour."""
    if newest is None or not newest.gates:
        return Markup("")
    rows = list(newest.gates.values())
    means = [sum(row[e] for row in rows) / len(rows) for e in range(len(rows[0]))]
    parts = [cards.expert(e, f"{mean:.0%}") for e, mean in enumerate(means)]
    return Markup(f"<p class='hy-gates'>Mean routing weights now: {cards.join(*parts)}</p>")


def settings_table(run: Run, training_set: TrainingSet | None) -> Markup:
    """Every setting of the run, and the training set it met."""
    config = run.config.model_dump()
    rows: list[list[object]] = [["base", shown_base(run.base)], ["method", config["method"]]]
    if training_set is not None:
        what = "pairs" if training_set.pairs else "examples"
        rows.append(["training set", f"{training_set.examples:,} {what}, hash {training_set.hash[:12]}"])
    if run.clustering_id is not None:
        rows.append(
            ["clusters", f"clustering {run.clustering_id}" + (f", grouping {run.grouping}" * bool(run.grouping))]
        )
    for part in ("adapter",) if run.is_imported else ("adapter", "train"):
        rows += [
            [f"{part}.{name}", "all linear layers" if value is None else value] for name, value in config[part].items()
        ]
    return cards.table(
        ["Setting", "Value"], rows, caption="Settings; the same configuration and seed give the same run on a CPU"
    )


def time_taken(store: Store, run: Run, job: Job) -> str:
    """How long the training took and the memory it had, each beside what was estimated, and its electricity."""
    took = training_seconds(store.runs.events(run.id)) or (job.finished_at or 0) - (job.started_at or 0)
    told = job.payload.get("estimated_seconds")
    time_told = f"It took {cards.duration(took)}" + (f"; {cards.duration(told)} had been estimated." if told else ".")
    energy = run.summary.energy.sentence if run.summary and run.summary.energy else ""
    return f"{time_told} {memory_taken(store, run)} {energy}".strip()


def training_seconds(events: list[Event]) -> float:
    """Seconds that the jobs of a run have worked, over all attempts, without the pauses between them."""
    spent, began = 0.0, None
    for event in events:
        is_at_work = JobStatus(event.after) in ACTIVE
        if is_at_work and began is None:
            began = event.at
        elif not is_at_work and began is not None:
            spent, began = spent + event.at - began, None
    return spent


def memory_taken(store: Store, run: Run) -> str:
    """The most memory that the training took, beside what is estimated; empty where it was not measured."""
    peak = run.summary.peak_bytes if run.summary else None
    if not peak:
        return ""
    try:
        told = amount(training_memory(store.base_checks.facts(store.bases.name_of(run.base)), run.config).total)
    except UserError:  # its base is not here any more, or on a hub
        return f"At most {amount(peak)} of memory."
    return f"At most {amount(peak)} of memory; {told} are estimated for the longest batches."


def history_table(events: list[Event]) -> Markup:
    """When the run's jobs came to which status, who moved them and why; newest first."""
    if not events:
        return cards.empty("Nothing is written down", "Runs of earlier versions kept no history.")
    rows: list[list[object]] = []
    for event in reversed(events):
        who = "worker" if event.who.startswith("worker ") else event.who  # pages tell nothing of the machine
        rows.append([cards.moment(event.at), cards.status(event.after), without_paths(event.why) or "–", who])
    return cards.table(["When", "Status", "Why", "Who"], rows, caption="What has become of this run, newest first")


def run_state(run: Run, training_set: TrainingSet | None) -> Markup:
    """What a person should know of a run before trusting it: overfitting, notes, and what was not seen in full."""
    summary = run.summary
    known = summary or training_set
    pieces = [cards.note("warn", *summary.overfitting)] if summary and summary.overfitting else []
    pieces += (
        [cards.note("info", "What the settings alone do not say.", summary.note)] if summary and summary.note else []
    )
    pieces += [cards.note("warn", count, why) for count, why in (known.losses if known else [])]
    return cards.join(*pieces)


def misses_base(run: Run) -> bool:
    """Whether it is an external adapter whose base was not there when it was imported."""
    return bool(run.is_imported and run.summary and run.summary.base_problem)


def can_resume(run: Run) -> bool:
    """Whether its job has ended without the whole result."""
    ended = run.job is not None and run.job.is_finished
    return ended and (misses_base(run) or run.status != JobStatus.SUCCEEDED)


def smaller_words(run: Run) -> str:
    """What the button says that goes on in smaller parts."""
    smaller = run.config.in_smaller_parts() if run.can_shrink else None
    return f"Go on with {smaller.train.batch_size} at once" if smaller else "Go on in smaller parts"
