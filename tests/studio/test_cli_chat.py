"""Changed experts on the command line."""

from __future__ import annotations

import pytest

from hydralora.errors import UserError
from studio.cli.chat import changes_of, expert_index


@pytest.mark.parametrize(("text", "index"), [("E1", 0), ("e4", 3), ("2", 1), (" E10 ", 9)])
def test_experts_are_named_as_the_pages_name_them(text: str, index: int) -> None:
    assert expert_index(text) == index


@pytest.mark.parametrize("text", ["", "E0", "0", "first", "E-1", "E1.5"])
def test_what_is_no_expert_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is not an expert\. Write E1, E2"):
        expert_index(text)


def test_changes_are_for_every_layer_unless_one_is_named() -> None:
    assert changes_of(["E1"], ["E2=0.5"], "", "") == {"factors": {0: 0.0, 1: 0.5}}
    assert changes_of([], [], "E3", "model.layers.0.mlp.up_proj") == {
        "layers": {"model.layers.0.mlp.up_proj": {"force": 2}}
    }
    assert changes_of([], [], "", "model.layers.0.mlp.up_proj") == {}


@pytest.mark.parametrize("text", ["E1", "E1=", "E1=half"])
def test_a_factor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write an expert and a factor"):
        changes_of([], [text], "", "")
