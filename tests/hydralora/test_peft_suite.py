"""docs/peft.md says what PEFT's own tests said, and every routed method is among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hydralora import HydraLoraConfig
from hydralora.methods import METHODS
from tests.peft_suite.__main__ import prepare
from tests.peft_suite.cases import LEFT_OUT, LISTED, ROWS, listed_line, settings_of, table_row

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT, REPORT = (DOCS / "peft.md").read_text("utf-8"), json.loads((DOCS / "peft.json").read_text("utf-8"))


@pytest.mark.parametrize("row", ROWS)
def test_the_table_holds_the_counts_of_every_row(row):
    assert table_row(row, REPORT["counts"][row]) in TEXT.splitlines()


@pytest.mark.parametrize("row", ROWS)
def test_the_settings_of_a_row_are_the_layers(row):
    assert HydraLoraConfig(target_modules=["lin0"], **settings_of(row)).target_modules == {"lin0"}


def test_nothing_fails_that_is_not_listed_and_every_reason_is_told():
    assert REPORT["failed"] == [] and set(REPORT["listed"]) <= {why for _, _, why, _ in LISTED}
    assert all(listed_line(why, number) in TEXT.splitlines() for why, number in REPORT["listed"].items())
    assert {why.split()[0] for _, why in LEFT_OUT} == {"fetches", "PeftMixedModel"}
    assert "what fetches files from the hub, and `PeftMixedModel`" in TEXT


def test_every_routed_method_of_the_layer_has_a_row():
    assert {method for method, _ in ROWS.values()} == {m.name for m in METHODS.values() if m.tuner == "HYDRALORA"}
    assert len({json.dumps(settings_of(row), sort_keys=True) for row in ROWS}) == len(ROWS)


def test_a_folder_without_tests_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(SystemExit, match=r"no tests of PEFT in .* Give the folder of a checkout of it by --source"):
        prepare(tmp_path, tmp_path / "build")
