"""The titles under which the settings of a training stand on New run."""

from __future__ import annotations

from collections.abc import Iterable

from studio.form import BASIC

GROUPS = {
    "Training": (
        "objective",
        "dpo_beta",
        "epochs",
        "batch_size",
        "accumulation",
        "learning_rate",
        "b_rate",
        "router_rate",
        "optimizer",
        "order",
        "cluster_power",
        "neftune_noise",
        "warmup_fraction",
        "scheduler",
        "weight_decay",
        "max_grad_norm",
        "max_length",
        "long_texts",
        "learn",
        "only_cluster",
        "seed",
    ),
    "Measuring and saving": (
        "held_out_fraction",
        "split_by",
        "eval_every",
        "answered",
        "patience",
        "save_every",
        "gate_every",
        "keep_checkpoints",
        "report_to",
    ),
    "Memory": ("dtype", "packing", "gradient_checkpointing", "on_out_of_memory"),
}


def grouped(settings: Iterable[str]) -> dict[str, list[str]]:
    """The settings under their titles; those that no group names come last, under one of their own."""
    known = {name for names in GROUPS.values() for name in names}
    others = [name for name in settings if name not in known and name not in BASIC]
    groups = {title: list(names) for title, names in GROUPS.items()}
    return {**groups, "More": others} if others else groups
