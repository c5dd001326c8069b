"""Which configurations PEFT's tests are given, and which of their tests cannot hold for a routed adapter, with why."""

from __future__ import annotations

import re
from typing import Any

from hydralora import HydraLoraConfig
from hydralora.methods import METHODS

Case = tuple[str, str, type[HydraLoraConfig], dict[str, Any]]

# Name of a row of the report: method, and its options. Every routed method as it comes, and variants of the layer.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{method.name: (method.name, {}) for method in METHODS.values() if method.tuner == "HYDRALORA"},
    "hydralora, Ax": ("hydralora", {"router_input": "Ax"}),
    "lora_split, sum": ("lora_split", {"combine": "sum"}),
    "lora_split, router": ("lora_split", {"combine": "router"}),
    "lora_split, hard": ("lora_split", {"combine": "hard"}),
    "top-k": ("hydralora", {"top_k": 2, "temperature": 0.5}),
    "uniform": ("hydralora", {"gate": "uniform"}),
    "losses": ("lora_moe", {"balance_weight": 0.1, "balance_loss": "switch", "z_weight": 0.1}),
    "lope, K": ("lope", {"compensation_top_k": 1, "compensation_beta": 0.5}),
    "one head": ("hydralora", {"num_experts": 1}),
    "offset": ("r_lora", {"head_init": "offset"}),
    "shared router": ("hydralora", {"router_scope": "block"}),
    "guided": ("lora_moe", {"task_weight": 0.1, "balance_weight": 0.1, "balance_loss": "groups"}),
}


def settings_of(row: str) -> dict[str, Any]:
    """What ``HydraLoraConfig`` is given for a row; the targets are the test's, and nothing is dropped at random."""
    method, options = ROWS[row]
    chosen = METHODS[method].options.model_validate({"lora_dropout": 0.0, **options})
    values = chosen.layer_values() | METHODS[method].fixed
    return {name: value for name, value in values.items() if name not in ("target_modules", "trainable_tokens")}


# Targets and the like, for the suite's own small models.
CUSTOM: list[tuple[str, str, dict[str, Any]]] = [
    ("one by name", "MLP", {"target_modules": "lin0"}),
    ("one in a list", "MLP", {"target_modules": ["lin0"]}),
    ("the narrow one", "MLP", {"target_modules": ["lin1"]}),
    ("both", "MLP", {"target_modules": ["lin0", "lin1"]}),
    ("one trained whole", "MLP", {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    ("scale and dropout", "MLP", {"target_modules": ["lin0"], "lora_alpha": 4, "lora_dropout": 0.1}),
    ("Conv1D", "EmbConv1D", {"target_modules": ["conv1d"]}),
    ("tokens", "EmbConv1D", {"target_modules": ["conv1d"], "trainable_token_indices": {"emb": [0, 10]}}),
]
PAIRS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("same", {"target_modules": ["lin0"]}, {"target_modules": ["lin0"]}),
    ("different", {"target_modules": ["lin0"]}, {"target_modules": ["lin1"]}),
]


def custom_cases() -> list[Case]:
    return [
        (f"{row}: {name}", model, HydraLoraConfig, {**settings_of(row), **settings})
        for row in ROWS
        for name, model, settings in CUSTOM
    ]


def pair_cases() -> list[tuple[str, str, type[HydraLoraConfig], dict[str, Any], dict[str, Any]]]:
    fixed = {"init_weights": False}
    return [
        (f"{row}: {name}", row, HydraLoraConfig, settings_of(row) | one | fixed, settings_of(row) | two | fixed)
        for row in ROWS
        for name, one, two in PAIRS
    ]


def decoder_cases() -> list[tuple[type[HydraLoraConfig], dict[str, Any]]]:
    return [(HydraLoraConfig, {"task_type": "CAUSAL_LM", "target_modules": None, **settings_of(row)}) for row in ROWS]


def config_cases() -> list[tuple[type[HydraLoraConfig], dict[str, Any]]]:
    return [(HydraLoraConfig, settings_of(row)) for row in ROWS]


NO_MERGE = "no weight equals a layer that is routed, so merging is refused"


def merges(settings: dict[str, Any]) -> bool:
    """Whether the gates of such a layer are fixed."""
    fixed = settings.get("combine") in ("mean", "sum") or settings.get("gate") == "uniform"
    return fixed or settings.get("num_experts") == 1


# An expression for a test's name without parameters, rows of the report, why it cannot pass, whether it never does.
ROUTED = [row for row in ROWS if not merges(settings_of(row))]
REENTRANT = "re-entrant checkpointing passes no gradient to the losses of routers, so it is refused"
TOO_FAST = "its rate of 0.5 makes heads that start at random grow to NaN in three steps"
ROUNDING = "compares a fused layer with one computed by torch's operations to the last digit"
LISTED: list[tuple[str, list[str], str, bool]] = [
    (r"test_disable_adapters_with_merging|test_delete_merged_adapter_.*", ROUTED, NO_MERGE, True),
    (r"test_multiple_active_adapters_merge_and_unmerge|test_merge_layers_multi", ROUTED, NO_MERGE, True),
    (r"test_(un)?merge_after_sequential_merge.*|test_sequential_merge_.*", ROUTED, NO_MERGE, True),
    (r"test_save_load_roundtrip_fsdp_wrapped.*", ROUTED, ROUNDING, False),
    (r"test_training_decoders_gradient_checkpointing", ["losses", "guided"], REENTRANT, False),
    (r"test_parameters_after_loading_model", ["offset"], TOO_FAST, False),
]
# Tests that are not run: an expression for a part of the node's name, and why.
LEFT_OUT: list[tuple[str, str]] = [
    (r"TestPeftConfig::test_from_pretrained(_cache_dir(_remote)?)?(\[|$)", "fetches a configuration from the hub"),
    (r"TestPeftConfig::test_save_pretrained_with_runtime_config", "fetches a configuration from the hub"),
    (r"TestNamingConflictWarning::.*save_and_load", "fetches the base of an adapter from the hub"),
    (r"mixed_model|\[PeftMixedModel\]", "PeftMixedModel takes PEFT's own methods only"),
]
# Classes and functions of test_initialization that are about no method in particular.
ANY_METHOD = (
    "TestNoInfiniteRecursionDeepspeed",
    "TestCustomModelConfigWarning",
    "TestLowCpuMemUsage",
    "TestNamingConflictWarning",
    "TestLoadPeftKeyMapping",
)


OUTCOMES = ("passed", "listed", "skipped", "failed")


def table_row(row: str, counts: dict[str, int]) -> str:
    """A row of the table in ``docs/peft.md``."""
    method, options = ROWS[row]
    what = ", ".join([f"`{method}`", *(f"`{name}` {value}" for name, value in options.items())])
    return f"| {row} | {what} | " + " | ".join(f"{counts.get(name, 0):,}" for name in OUTCOMES) + " |"


def listed_line(why: str, number: int) -> str:
    """A line of the list under it."""
    return f"- {number:,}: {why}."


def reason_of(name: str, row: str) -> tuple[str, bool] | None:
    """Why the test ``name`` is expected to fail for a row and whether it must, None where it is not."""
    found = (listed for listed in LISTED if row in listed[1] and re.fullmatch(listed[0], name))
    return next(((why, strict) for _, _, why, strict in found), None)


def why_left_out(node: str) -> str | None:
    """Why a test is not run at all, None where it is."""
    return next((why for test, why in LEFT_OUT if re.search(test, node)), None)
