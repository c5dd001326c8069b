"""Tests run side by side, a file at a time; those that train and drive a browser take turns.

They run on the CPU, also where there is a GPU; ``HYDRA_TEST_DEVICE=cuda`` runs those of the library on it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.postgresql"]

if os.environ.get("HYDRA_TEST_DEVICE", "cpu") == "cpu":  # before torch looks; for the processes that tests start too
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any file of tests brings transformers, which reads it then


# These train, stream and click, so only one of them at a time has the machine; others that drive a browser just read.
ALONE = {f"tests/browser/test_{name}.py" for name in ("thread", "tour", "chat", "pages", "real_base", "newcomer")}


# Whole matrices of methods, trainers, architectures and processes: `make test-long` runs them.
LONG = {
    "tests/benchmarks/test_bench_gpu.py",
    "tests/browser/test_extremes.py",
    "tests/browser/test_newcomer.py",
    "tests/browser/test_real_base.py",
    "tests/browser/test_tour.py",
    "tests/hydralora/test_distributed.py",
    "tests/hydralora/test_any_trainer.py",
    "tests/hydralora/test_llamacpp.py",
    "tests/hydralora/test_stacked.py",
    "tests/hydralora/test_blocks.py",
    "tests/jobs/test_out_of_memory.py",
    "tests/jobs/test_ownership.py",
}


# Of what holds for both databases, the files that `make test` runs over PostgreSQL too, where it is installed.
ALWAYS_BOTH = {f"tests/jobs/test_{name}.py" for name in ("queue", "steps", "store")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long ones, by their file or their mark, where nobody asks for them."""
    if os.environ.get("HYDRA_TEST_LONG"):
        return
    left = pytest.mark.skip(reason="long: `make test-long` runs it")
    for item in items:
        if item.nodeid.split("::")[0] in LONG or item.get_closest_marker("long"):
            item.add_marker(left)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so over both databases, where it does not say itself over which."""
    own = [mark for mark in metafunc.definition.iter_markers("parametrize") if "database" in mark.args[0]]
    if not own and "database" in metafunc.fixturenames and metafunc.definition.get_closest_marker("databases"):
        file = metafunc.definition.nodeid.split("::")[0]
        marks = [] if file in ALWAYS_BOTH else [pytest.mark.long]
        metafunc.parametrize("database", ["sqlite", pytest.param("postgresql", marks=marks)], indirect=True)


class ByFile(LoadFileScheduling):
    """Hands out whole files: their tests share what is made once for the file."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "browser" if file in ALONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Called once where tests are handed out: in their order, so that those of browsers, which take longest, begin."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="module", autouse=True)
def no_loop_is_left() -> None:
    """Fails the first test of a file that inherits a running event loop: `asyncio.run` would fail at random there."""
    assert asyncio._get_running_loop() is None, "a file run before left its event loop running"
