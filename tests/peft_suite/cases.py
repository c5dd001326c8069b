"""Which configurations PEFT's tests are given, and which of their tests cannot hold for a routed adapter, with why."""

from __future__ import annotations

import re
from typing import Any

from hydralora import HydraLoraConfig
from hydralora.methods import METHODS

Case = tuple[str, str, type[HydraLoraConfig], dict[str, Any]]

# Name of a row of the report: method, and its options.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "hydralora": ("hydralora", {}),
    "hydralora, Ax": ("hydralora", {"router_input": "Ax"}),
    "lora_split, mean": ("lora_split", {"combine": "mean"}),
    "lora_split, sum": ("lora_split", {"combine": "sum"}),
    "lora_split, router": ("lora_split", {"combine": "router"}),
    "lora_split, hard": ("lora_split", {"combine": "hard"}),
    "r_lora": ("r_lora", {"lora_dropout": 0.0}),
    "lora_moe": ("lora_moe", {}),
    "lope": ("lope", {}),
    "one head": ("hydralora", {"num_experts": 1}),
}


def settings_of(row: str) -> dict[str, Any]:
    """What ``HydraLoraConfig`` is given for a row; the targets are the test's."""
    method, options = ROWS[row]
    values = METHODS[method].options.model_validate(options).layer_values() | METHODS[method].fixed
    return {name: value for name, value in values.items() if name != "target_modules"}


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
    return settings.get("num_experts") == 1 or settings.get("combine") in ("mean", "sum")


# Test, rows of the report, and why it cannot pass: an expression for its name without parameters.
ROUTED = [row for row in ROWS if not merges(settings_of(row))]
LISTED: list[tuple[str, list[str], str]] = [
    (r"test_disable_adapters_with_merging|test_delete_merged_adapter_.*", ROUTED, NO_MERGE),
    (r"test_multiple_active_adapters_merge_and_unmerge|test_merge_layers_multi", ROUTED, NO_MERGE),
    (r"test_(un)?merge_after_sequential_merge.*|test_sequential_merge_.*", ROUTED, NO_MERGE),
]
# Tests that fetch files from the hub, or are of a class that PEFT closes to others.
LEFT_OUT: list[tuple[str, str]] = [
    (r"TestPeftConfig::test_from_pretrained(_cache_dir(_remote)?)?", "fetches a configuration from the hub"),
    (r"TestPeftConfig::test_save_pretrained_with_runtime_config", "fetches a configuration from the hub"),
    (r"TestLoadAdapterOfflineMode::.*", "fetches adapters from the hub"),
    (r".*mixed_model.*", "PeftMixedModel takes PEFT's own methods only"),
]
# Classes and functions of test_initialization that are about no method in particular.
ANY_METHOD = (
    "TestNoInfiniteRecursionDeepspeed",
    "TestCustomModelConfigWarning",
    "TestLowCpuMemUsage",
    "TestNamingConflictWarning",
    "TestLoadPeftKeyMapping",
    "test_from_pretrained_missing_keys_warning",
)


def reason_of(name: str, row: str) -> str | None:
    """Why the test ``name`` is expected to fail for a row, None where it is not."""
    return next((why for test, rows, why in LISTED if row in rows and re.fullmatch(test, name)), None)


def why_left_out(node: str) -> str | None:
    """Why a test is not run at all, None where it is."""
    return next((why for test, why in LEFT_OUT if re.search(f"{test}(\\[|$)", node)), None)
