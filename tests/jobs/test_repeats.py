"""Runs again with one thing changed: nothing else is lost on the way."""

from __future__ import annotations

from hydralora.methods import METHODS
from jobs.repeats import KEPT


def test_a_lora_of_equal_size_takes_over_every_option_but_its_size() -> None:
    assert set(METHODS["lora"].options.model_fields) == {*KEPT, "r", "lora_alpha"}
