"""Routers that learn from the task of each example: supervised, and balanced by groups of tasks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from peft import get_peft_model
from pydantic import ValidationError
from torch import Tensor
from transformers import Trainer

from hydralora import GateCapture, HydraLoraConfig
from hydralora.analysis.runs import load_run
from hydralora.errors import AdapterError, TrainingError
from hydralora.methods import METHODS
from hydralora.training.train import train_adapter
from hydralora.tuner.gates import choose_heads
from hydralora.tuner.losses import LossWeights, auxiliary_loss, group_loss
from hydralora.tuner.passes import Routed
from tests.hydralora.conftest import make_llama, randomise
from tests.hydralora.test_auxiliary_loss import rows, train
from tests.hydralora.test_train import Recorder, make_config

TARGETS = ["q_proj", "down_proj"]
TASKS = torch.tensor([2, 0])


def adapt(**settings: Any) -> Any:
    values = {"r": 4, "num_experts": 4, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings}
    return randomise(get_peft_model(make_llama(), HydraLoraConfig(**values)), scale=0.5).train()


def loss(model: Any, ids: Tensor, tasks: Tensor | None, **more: Any) -> Tensor:
    choose_heads(model, tasks)
    return model(input_ids=ids, labels=ids, **more).loss


def gates_of(model: Any, ids: Tensor, **more: Any) -> Tensor:
    """``(layers, batch, tokens, N)``."""
    with GateCapture(model) as capture, torch.no_grad():
        model(input_ids=ids, **more)
        return capture.take()


def by_the_authors(gates: Tensor, tasks: Tensor, delta: float) -> Tensor:
    """LoRAMoE's loss of one layer for two types and N / 2 experts each, task 0 with the first half."""
    half = gates.shape[-1] // 2
    importance = gates.sum(1)  # (batch, N)
    first = (tasks.to(gates.device) == 0).view(-1, 1).repeat(1, half)
    scaled = importance * torch.where(torch.cat((first, ~first), -1), 1 + delta, 1 - delta)
    return scaled.flatten().var() / (scaled.flatten().mean() ** 2 + 1e-10)


def test_the_balance_by_groups_is_that_of_the_released_code(ids):
    tasks = torch.tensor([1, 0])
    model = adapt(balance_weight=2.0, balance_loss="groups", balance_delta=0.3)
    expected = torch.stack([by_the_authors(layer, tasks, 0.3) for layer in gates_of(model, ids)]).mean()
    plain = loss(adapt(), ids, None)
    torch.testing.assert_close(loss(model, ids, tasks), plain + 2.0 * expected, rtol=1e-4, atol=1e-5)


def test_the_balance_by_groups_is_least_where_each_group_does_its_own_tasks():
    weights, tasks = LossWeights(1.0, kind="groups", delta=0.5, groups=2), torch.tensor([0, 1])
    own = torch.tensor([[1.0, 1.0, 3.0, 3.0], [3.0, 3.0, 1.0, 1.0]]).unsqueeze(1) / 8  # more of the others' work
    assert group_loss(own, tasks, weights) == pytest.approx(0.0, abs=1e-6)
    assert group_loss(own.flip(0), tasks, weights) > group_loss(torch.full((2, 1, 4), 0.25), tasks, weights) > 0.1


def test_tasks_are_put_into_groups_as_they_are_told():
    gates, tasks = torch.rand(3, 5, 4).softmax(-1), torch.tensor([0, 1, 2])
    told = LossWeights(1.0, kind="groups", task_groups=(1, 0, 1))
    swapped = LossWeights(1.0, kind="groups")
    torch.testing.assert_close(group_loss(gates, tasks, told), group_loss(gates, torch.tensor([1, 0, 1]), swapped))


def test_a_supervised_router_has_the_cross_entropy_of_its_gates_against_the_task(ids):
    model = adapt(task_weight=3.0)
    picked = gates_of(model, ids)[:, [0, 1], :, TASKS]  # (batch, layers, tokens)
    expected = -picked.log().mean()
    plain = loss(adapt(), ids, None)
    torch.testing.assert_close(loss(model, ids, TASKS), plain + 3.0 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"task_weight": 1.0}, {"balance_weight": 1.0, "balance_loss": "groups"}], ids=str)
def test_padding_and_examples_without_a_task_count_for_nothing(settings, ids):
    model, plain = adapt(**settings), adapt()
    whole = loss(model, ids[:1], TASKS[:1]) - loss(plain, ids[:1], None)
    longer = torch.cat((ids, ids[:, :3]), 1)
    mask = torch.ones_like(longer)
    mask[:, 7:] = 0
    given = {"attention_mask": mask}
    both = loss(model, longer, torch.tensor([2, -1]), **given) - loss(plain, longer, None, **given)
    torch.testing.assert_close(both, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", ["layer", "block"])
def test_a_supervised_router_learns_which_head_is_which_task(scope, ids):
    model = adapt(task_weight=20.0, router_scope=scope)
    optimizer = torch.optim.Adam([w for n, w in model.named_parameters() if "router" in n], lr=0.1)
    for _ in range(200):
        loss(model, ids, TASKS).backward()
        optimizer.step()
        optimizer.zero_grad()
    gates = gates_of(model, ids)
    assert gates[:, 0, :, 2].mean() > 0.8 and gates[:, 1, :, 0].mean() > 0.8


def test_examples_in_which_no_task_is_known_leave_the_loss_alone(ids):
    model = adapt(task_weight=1.0, balance_weight=1.0, balance_loss="groups")
    torch.testing.assert_close(loss(model, ids, torch.tensor([-1, -1])), loss(adapt(), ids, None))


def test_a_loss_whose_tasks_nobody_told_is_zero_and_says_so(ids):
    with pytest.warns(UserWarning, match=r"asks for the task of each example .* Call `hydralora.choose_heads"):
        found = loss(adapt(task_weight=1.0), ids, None)
    torch.testing.assert_close(found, loss(adapt(), ids, None))


def test_measuring_is_without_it(ids):
    model = adapt(task_weight=1.0).eval()
    torch.testing.assert_close(loss(model, ids, TASKS), loss(adapt().eval(), ids, None))


@pytest.mark.parametrize("kind", ["linear", "flat"])
def test_flattened_tokens_are_those_of_their_examples(kind, ids):
    gates = torch.rand(2, 7, 4).softmax(-1)
    gates = gates if kind == "linear" else gates.flatten(0, 1)
    call = Routed("default", gates.log(), gates, None, LossWeights(task=1.0), TASKS)
    expected = -gates.view(2, 7, 4)[[0, 1], :, TASKS].log().mean()
    torch.testing.assert_close(auxiliary_loss([call]), expected)


def test_more_tasks_than_heads_are_refused_with_layer_and_numbers():
    model = adapt(task_weight=1.0)
    with pytest.raises(AdapterError, match=r"q_proj' knows 4 tasks, 0 to 3, but an example is of task 4. Raise `num_"):
        choose_heads(model, torch.tensor([0, 4]))
    choose_heads(adapt(), torch.tensor([0, 4]))  # it asks for none


def test_a_head_that_is_not_there_is_refused_for_hard_heads_too():
    with pytest.raises(AdapterError, match="knows 4 tasks"):
        choose_heads(adapt(combine="hard"), torch.tensor([4]))


REFUSED = [
    ({"balance_groups": 5}, "`balance_groups` must be at most `num_experts`, 4, got 5"),
    ({"task_groups": [0, 2]}, r"`task_groups` must hold numbers from 0 to 1, one for each task, got \[0, 2\]"),
    ({"balance_delta": 1.5}, "`balance_delta` must be a number from 0.0 to 1.0, got 1.5"),
    ({"task_weight": -1.0}, "`task_weight` must be a number from 0.0"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=str)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(AdapterError, match=sentence):
        HydraLoraConfig(balance_weight=1.0, balance_loss="groups", **settings)


def test_a_plain_trainer_takes_tasks_that_were_told(ids, tmp_path):
    model = adapt(task_weight=5.0)
    expected = loss(adapt(task_weight=5.0), ids, TASKS).item()
    choose_heads(model, TASKS)
    assert train(Trainer, model, rows(ids), tmp_path) == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize("method", ["hydralora", "lora_moe"])
@pytest.mark.parametrize("weights", [{"task_weight": 2.0}, {"balance_weight": 1.0, "balance_loss": "groups"}], ids=str)
def test_a_run_names_the_tasks_and_its_loss_holds_them(method, weights, base_folder, easy_corpus, tmp_path):
    curves = []
    for options in ({}, weights):
        steps, adapter = Recorder(), {"r": 4, "num_experts": 2, "tasks": "label", **options}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "A loss of the routers asks")
            train_adapter(
                make_config(base_folder, method, adapter, max_steps=2),
                easy_corpus,
                tmp_path / f"{len(curves)}",
                on_step=steps,
            )
        curves.append(steps)
    assert curves[1].values[1]["loss"] > curves[0].values[1]["loss"] + 0.01
    assert load_run(tmp_path / "1")[2].tasks == ["colour", "thing"]


def test_a_run_with_fewer_heads_than_tasks_is_refused(base_folder, easy_corpus, tmp_path):
    adapter = {"r": 4, "num_experts": 2, "tasks": "label", "balance_weight": 1.0, "balance_loss": "groups"}
    config = make_config(base_folder, "hydralora", {**adapter, "task_groups": [0, 1, 1]})
    with pytest.raises(
        TrainingError, match=r"`task_groups` names groups of 3 tasks, but there are 2 \(colour, thing\)"
    ):
        train_adapter(config, easy_corpus, tmp_path)


def test_packed_rows_have_no_task_and_are_refused(base_folder, easy_corpus, tmp_path):
    adapter = {"r": 4, "num_experts": 2, "tasks": "label", "task_weight": 1.0}
    with pytest.raises(TrainingError, match="`packing` is True, but hydralora does not use it"):
        train_adapter(make_config(base_folder, "hydralora", adapter, packing=True), easy_corpus, tmp_path)


@pytest.mark.parametrize("options", [{"task_weight": 1.0}, {"balance_loss": "groups"}], ids=str)
def test_lope_trains_without_tasks(options):
    with pytest.raises(
        ValidationError, match=r"Extra inputs are not permitted|square or switch here, got 'groups', which asks"
    ):
        METHODS["lope"].options.model_validate(options)
