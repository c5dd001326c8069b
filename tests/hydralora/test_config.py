"""A configuration in hand is a valid one; a wrong one is refused in plain sentences."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from hydralora import HydraLoraConfig
from hydralora.config import TrainConfig, parse_config
from hydralora.errors import AdapterError, UserError
from hydralora.methods import METHODS
from hydralora.options import HydraOptions


def test_defaults_are_written_out():
    config = parse_config({})
    assert config.method == "hydralora" and config.base == "starter"
    assert config.adapter == METHODS["hydralora"].options()
    assert config.train == TrainConfig()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_in_its_own_options(method):
    config = parse_config({"method": method})
    assert config.adapter == METHODS[method].options()


def test_a_stored_configuration_comes_back_unchanged():
    config = parse_config({"adapter": {"r": 2, "target_modules": ["q_proj"]}, "train": {"seed": 7}})
    assert parse_config(json.loads(json.dumps(config.model_dump()))) == config


def test_given_values_are_kept():
    config = parse_config({"method": "lora", "adapter": {"r": 2}, "train": {"max_steps": 3}})
    assert (config.adapter.r, config.train.max_steps) == (2, 3)


def test_an_unknown_method_is_refused_with_the_ones_there_are():
    with pytest.raises(UserError) as error:
        parse_config({"method": "hydra"})
    assert str(error.value) == f"Method 'hydra' is unknown. Choose one of: {', '.join(METHODS)}."


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"adapter": {"ranks": 4}}, "ranks"),
        ({"method": "ia3", "adapter": {"r": 4}}, "r"),
        ({"train": {"steps": 4}}, "train.steps"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_an_unknown_setting_is_refused_by_name(values, name):
    with pytest.raises(UserError, match=rf"`{name}` is not a setting") as error:
        parse_config(values)
    assert "\n" not in str(error.value)


WRONG = [
    ({"adapter": {"r": 0}}, ["`r`: ", "greater than or equal to 1", "got 0."]),
    ({"adapter": {"rank": "wide"}}, ["`r`: ", "valid integer", "got 'wide'."]),
    ({"adapter": {"router_input": "y"}}, ["`router_input`: ", "'x', 'Ax' or 'pooled'", "got 'y'."]),
    ({"train": {"max_steps": 0}}, ["`train.max_steps`: ", "greater than or equal to 1", "got 0."]),
    (
        {"train": {"learning_rate": 2}},
        ["`train.learning_rate`: ", "less than or equal to 1", "got 2."],
    ),
    ({"train": {"held_out_fraction": 0.95}}, ["`train.held_out_fraction`: ", "got 0.95."]),
    ({"train": {"dtype": "float16"}}, ["`train.dtype`: ", "got 'float16'."]),
    ({"train": 5}, ["`train`: ", "got 5."]),
    ({"adapter": 5}, ["`adapter`", "got 5."]),
    ({"method": ["lora"]}, ["Method ['lora'] is unknown."]),
    ({"base": ""}, ["`base`: ", "at least 1 character", "got ''."]),
]


@pytest.mark.parametrize(("values", "parts"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_a_wrong_value_is_refused_with_name_rule_and_value(values, parts):
    with pytest.raises(UserError) as error:
        parse_config(values)
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message and message.endswith(".")


def test_two_mistakes_are_named_together():
    with pytest.raises(UserError) as error:
        parse_config({"train": {"max_steps": 0, "batch_size": 0}})
    assert "`train.max_steps`" in str(error.value) and "`train.batch_size`" in str(error.value)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse_config({}).train.seed = 5


@pytest.mark.parametrize("options", [TrainConfig, *(m.options for m in METHODS.values())])
def test_every_setting_is_described(options):
    assert all(field.description for field in options.model_fields.values())


OLD_SETTINGS = [
    ("hydralora", {"rank": 2, "alpha": 4.0, "dropout": 0.5, "targets": ["q_proj"]}),
    ("r_lora", {"rank": 2, "gamma": 8.0}),
    ("adalora", {"rank": 2, "initial_rank": 3}),
    ("p_tuning", {"virtual_tokens": 3, "encoder_width": 8}),
]


@pytest.mark.parametrize("method, given", OLD_SETTINGS)
def test_settings_stored_under_earlier_names_are_read(method: str, given: dict[str, Any]) -> None:
    renamed = METHODS[method].options.renamed
    today = parse_config({"method": method, "adapter": {renamed[name]: value for name, value in given.items()}})
    assert parse_config({"method": method, "adapter": given}) == today


def test_a_setting_under_both_names_is_refused() -> None:
    with pytest.raises(UserError, match="rank"):
        parse_config({"adapter": {"rank": 2, "r": 4}})


def test_options_of_another_method_are_refused() -> None:
    with pytest.raises(UserError, match="`adapter` must hold settings by name"):
        parse_config({"method": "lora", "adapter": HydraOptions()})


def test_a_configuration_is_stored_with_every_default_of_its_method() -> None:
    stored = parse_config({"method": "lope"}).model_dump()["adapter"]
    assert set(stored) == set(METHODS["lope"].options.model_fields) and stored["stage_one"] == 0.3


def test_what_an_earlier_version_stored_of_meta_learning_draws_anew_in_every_step() -> None:
    stored = parse_config({"method": "meta_lora"}).model_dump()
    assert stored["adapter"].pop("split") == "once"
    assert parse_config(stored).adapter.split == "every step"


@pytest.mark.parametrize("settings", [{"gate": "uniform"}, {"num_experts": 1}], ids=str)
@pytest.mark.parametrize("asked", [{"task_weight": 1.0}, {"balance_weight": 1.0, "balance_loss": "groups"}], ids=str)
def test_losses_of_a_router_that_is_not_there_are_refused(settings: dict, asked: dict) -> None:
    with pytest.raises(UserError, match=r"act on a router|balance_groups"):
        parse_config({"adapter": {**settings, **asked}})


@pytest.mark.parametrize("place", ["input", "heads", "input_per_head"])
def test_a_zero_router_with_zero_heads_is_refused_unless_dropout_parts_them(place: str) -> None:
    start = {"router_init": "zero", "head_init": "zero", "dropout_place": place}
    with pytest.raises(AdapterError, match="never breaks their symmetry"):
        HydraLoraConfig(**start)
    if place != "input":
        assert HydraLoraConfig(**start, lora_dropout=0.1).dropout_place == place
