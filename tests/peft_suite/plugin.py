"""The pytest plugin that puts our configurations where PEFT's tests have those of PEFT's methods."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections import Counter
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

from hydralora import HydraLoraConfig
from tests.peft_suite import cases
from tests.peft_suite.models import load_tiny

PACKAGE = "peft_tests"
# Lists that PEFT's tests are parametrised with, by module, and what stands there instead.
LISTS = {
    "test_custom_models": {
        "TEST_CASES": cases.custom_cases,
        "MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES": cases.pair_cases,
        "ALL_PEFT_CONFIG_CLASSES": lambda: [HydraLoraConfig],
    },
    "test_decoder_models": {"ALL_CONFIGS": cases.decoder_cases},
    "test_config": {
        "ALL_CONFIG_CLASSES": cases.config_cases,
        "LAYER_INDEXING_CONFIG_CLASSES": cases.config_cases,
    },
    "test_initialization": {},
}
# Packages that the modules name at their head, for methods other than ours.
NAMED = {"diffusers": {"StableDiffusionPipeline": type("Absent", (), {})}, "attr": {"dataclass": dataclasses.dataclass}}
SINGLE = "hydralora"  # the row of tests that are about no method in particular


class FromLora(HydraLoraConfig):
    """Takes what tests give to ``LoraConfig``."""

    def __new__(cls, **settings: Any) -> HydraLoraConfig:  # type: ignore[misc]
        start = settings.pop("init_lora_weights", True)
        return HydraLoraConfig(**{**cases.settings_of(SINGLE), "init_weights": start, **settings})


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected: models by the hub's names, and our lists."""
    transformers.AutoModelForCausalLM.from_pretrained = load_tiny(transformers.AutoModelForCausalLM.from_pretrained)
    for name, parts in NAMED.items():
        if find_spec(name) is None:
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(parts)
    utilities = import_module(f"{PACKAGE}.testing_utils")
    utilities.hub_online_once = lambda model_id: nullcontext()
    for name, lists in LISTS.items():
        module = import_module(f"{PACKAGE}.{name}")
        for old, new in lists.items():
            replace_list(module, getattr(module, old), new())
            setattr(module, old, new())
    import_module(f"{PACKAGE}.test_initialization").LoraConfig = FromLora
    for name in ("testing_common", "test_custom_models"):
        import_module(f"{PACKAGE}.{name}")._skip_if_merging_not_supported = stop_where_merging_begins


def stop_where_merging_begins(model_id: str, config_cls: Any, settings: dict[str, Any]) -> None:
    """PEFT's own place to leave a test that goes on to merge, for methods that do not."""
    if not cases.merges(settings):
        pytest.xfail(cases.NO_MERGE)


def replace_list(module: ModuleType, old: Any, new: list[Any]) -> None:
    """Parametrise with ``new`` every test of a module that was parametrised with ``old``."""
    classes = [item for _, item in inspect.getmembers(module, inspect.isclass) if item.__module__ == module.__name__]
    for holder in (module, *classes):
        for _, test in inspect.getmembers(holder, inspect.isfunction):
            marks = getattr(test, "pytestmark", [])
            for place, mark in enumerate(marks):
                if mark.name == "parametrize" and mark.args[1] is old:
                    marks[place] = pytest.mark.parametrize(mark.args[0], new).mark


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that are about our configurations; those that cannot pass are expected to fail, strictly."""
    kept, dropped = [], []
    for item in items:
        row = row_of(item)
        if row is None or cases.why_left_out(item.nodeid):
            dropped.append(item)
            continue
        kept.append(item)
        item.user_properties.append(("row", row))
        why = cases.reason_of(item.originalname, row)  # type: ignore[attr-defined]
        if why is not None:
            item.add_marker(pytest.mark.xfail(reason=why[0], strict=why[1]))
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def row_of(item: Any) -> str | None:
    """The row of the report that a test belongs to; None where it is about another method."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    for name in ("config_cls", "config_class"):
        if given.get(name) is HydraLoraConfig:
            told = given.get("test_name") or _row_of_settings(given)
            return str(told).split(":")[0]
    parts = item.nodeid.split("::")[1:]
    agnostic = "test_initialization" in item.nodeid and parts[0].split("[")[0] in cases.ANY_METHOD
    return SINGLE if agnostic else None


def _row_of_settings(given: dict[str, Any]) -> str:
    """The row whose settings these hold, the one that says most; PEFT's tests add to them."""
    settings = given.get("config_kwargs", given.get("mandatory_kwargs", {}))
    fitting = [row for row in cases.ROWS if all(settings.get(k) == v for k, v in cases.settings_of(row).items())]
    return max(fitting, key=lambda row: len(cases.settings_of(row)), default=SINGLE)


class Report:
    """Counts by row, written at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, Counter[str]] = {row: Counter() for row in cases.ROWS}
        self.failed: list[str] = []
        self.listed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = dict(report.user_properties).get("row")
        if row is None or not (report.when == "call" or report.outcome != "passed"):
            return
        ours = getattr(report, "wasxfail", None) in {why for _, _, why, _ in cases.LISTED}
        outcome = "listed" if ours and report.outcome == "skipped" else report.outcome
        if report.when == "teardown" and outcome != "failed":
            return
        self.counts[str(row)][outcome] += 1
        if outcome == "listed":
            self.listed[report.wasxfail] += 1
        if outcome == "failed":
            self.failed.append(f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}")

    def pytest_sessionfinish(self) -> None:
        found = {
            "counts": {row: dict(counts) for row, counts in self.counts.items()},
            "listed": dict(self.listed),
            "failed": self.failed,
        }
        self.path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def pytest_sessionstart(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        session.config.pluginmanager.register(Report(Path(os.environ["PEFT_SUITE_REPORT"])))
