"""The memory that is told before a run is that of measured runs, within a fifth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hydralora.adapters.build import add_adapter, count_parameters
from hydralora.bases.facts import read_facts
from hydralora.bases.load import load_base
from hydralora.config import parse_config
from hydralora.training.memory import chat_memory, trainable, training_memory
from tests.benchmarks.bench_memory import estimated

MEASURED = json.loads((Path(__file__).parents[2] / "docs/memory.json").read_text("utf-8"))["runs"]


@pytest.mark.parametrize("run", MEASURED, ids=lambda run: f"{run['base']} {run['settings']}"[:80])
def test_the_estimate_is_within_a_fifth_of_what_was_measured(run):
    assert estimated(run) == pytest.approx(run["peak"], rel=0.2)


def test_a_real_model_is_among_the_measured_ones():
    assert {run["base"] for run in MEASURED} >= {"starter", "smollm2-135m-instruct", "random Llama"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "lora"},
        {"adapter": {"num_experts": 6, "r": 2}},
        {"adapter": {"target_modules": ["q_proj", "down_proj"]}},
        {"method": "lora_moe", "adapter": {"num_experts": 3}},
        {"method": "lora_split"},
    ],
    ids=str,
)
def test_numbers_that_are_trained_are_those_of_the_adapter(base_folder, settings):
    config = parse_config({"base": str(base_folder), **settings})
    base, _ = load_base(str(base_folder))
    counts = count_parameters(add_adapter(base, config.method, config.adapter, seed=0, steps=1, sources=[]))
    assert trainable(read_facts(base_folder, "x"), config) == counts.trainable + counts.router


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"batch_size": 16}, {"batch_size": 8}),
        ({"max_length": 512}, {"max_length": 64}),
        ({"dtype": "float32"}, {"dtype": "bfloat16"}),
        ({}, {"gradient_checkpointing": True}),
        ({"optimizer": "adamw"}, {"optimizer": "adafactor"}),
        ({"dtype": "bfloat16"}, {"dtype": "nf4"}),
    ],
    ids=str,
)
def test_what_saves_memory_is_told_to(more, less):
    facts = read_facts(Path(__file__).parents[2] / "data/starter", "starter").model_copy(update={"parameters": 10**9})
    first, second = (training_memory(facts, parse_config({"train": train})).total for train in (more, less))
    assert second < first


def test_a_step_in_parts_takes_the_memory_of_a_part():
    facts = read_facts(Path(__file__).parents[2] / "data/starter", "starter")
    whole, part = (
        training_memory(facts, parse_config({"train": train})).total
        for train in ({"batch_size": 4}, {"batch_size": 4, "accumulation": 4})
    )
    assert whole == part


def test_answering_takes_less_than_training(base_folder):
    facts = read_facts(base_folder, "x")
    assert chat_memory(facts, "float32").total < training_memory(facts, parse_config({})).total


def test_layers_are_known_by_the_end_of_their_names(base_folder):
    facts = read_facts(base_folder, "x")
    found = {
        trainable(facts, parse_config({"adapter": {"target_modules": [name]}})) for name in ("up_proj", "mlp.up_proj")
    }
    assert len(found) == 1 and found != {0}


def test_an_episode_takes_the_memory_of_its_own_rows(base_folder):
    facts = read_facts(base_folder, "x")
    small, large = (
        training_memory(facts, parse_config({"method": "meta_lora", "adapter": {"support": n, "query": 1}})).kept
        for n in (1, 64)
    )
    assert large == 64 * small
