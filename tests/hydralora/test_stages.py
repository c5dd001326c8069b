"""Methods with a training of their own: ThanoRA's blocks, MeTA-LoRA's inner steps, LoPE's two stages."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hydralora import add_adapter
from hydralora.errors import TrainingError
from hydralora.options import BlockOptions, MetaOptions, PoisonOptions
from hydralora.training.lope import PoisonsFirst, add_noised, noise_text
from hydralora.training.meta_lora import Episodes, MetaLearns
from hydralora.training.thanora import SharesRank, entropy_of, share_out, spectrum_of
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import randomise
from tests.hydralora.test_train import Recorder, make_config


@pytest.mark.parametrize("sharpness", [0.0, 4.0, 100.0])
@pytest.mark.parametrize("rank", [4, 7, 16, 33])
def test_ranks_add_up_and_every_task_has_one(rank, sharpness):
    ranks = share_out(rank, [0.9, 0.2, 0.5], sharpness)
    assert sum(ranks) == rank and min(ranks) >= 1
    assert ranks[0] >= ranks[2] >= ranks[1] and ranks[-1] == rank // 4


def test_without_sharpness_tasks_share_equally():
    assert share_out(16, [0.9, 0.1, 0.4], 0.0) == [4, 4, 4, 4]


def test_a_rank_too_small_for_its_tasks_is_refused_with_the_least():
    with pytest.raises(TrainingError, match=r"`r` must be at least 6 for 5 tasks and a shared block, got 5\."):
        share_out(5, [0.5] * 5, 1.0)


def test_entropy_is_one_for_equal_values_and_zero_for_one():
    assert entropy_of(torch.ones(8)) == pytest.approx(1.0)
    assert entropy_of(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(0.0, abs=1e-6)


def test_the_loss_of_blocks_is_its_formula(tiny):
    trainer: Any = object.__new__(SharesRank)
    trainer.model = randomise(add_adapter(tiny, "thanora", {"r": 6, "target_modules": ["q_proj"]}))
    trainer.options, trainer.blocks = BlockOptions(orthogonality_weight=0.5), {n: [2, 3, 1] for n in trainer.layers()}
    expected = []
    for layer in trainer.layers().values():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        first, second = (slice(0, 2), slice(2, 5))
        norm = lambda m, dim: m / m.norm(dim=dim, keepdim=True)  # noqa: E731
        rows = norm(a[first], 1) @ norm(a[second], 1).T
        columns = norm(b[:, first], 0).T @ norm(b[:, second], 0)
        expected.append((rows**2).sum() + (columns**2).sum())
    torch.testing.assert_close(trainer.auxiliary_loss(trainer.model), 0.5 * torch.stack(expected).mean())


def test_a_thanora_run_starts_at_the_base_and_keeps_its_ranks(base_folder, easy_corpus, tmp_path):
    config = make_config(base_folder, "thanora", {"r": 9, "tasks": "label"}, max_steps=2)
    steps = Recorder()
    train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    blocks = json.loads((tmp_path / "checkpoints" / "thanora.json").read_text())
    assert len(blocks) == 14 and all(sum(ranks) == 9 and len(ranks) == 3 for ranks in blocks.values())
    plain = Recorder()
    train_adapter(
        make_config(base_folder, "lora", {"r": 9}, max_steps=2), easy_corpus, tmp_path / "lora", on_step=plain
    )
    weight = config.options_as(BlockOptions).orthogonality_weight
    assert steps.values[1]["loss"] == pytest.approx(plain.values[1]["loss"], abs=2 * 9 * weight)


FOUR = [i % 4 for i in range(80)]  # tasks of twenty rows each


def parts_of(episodes: Episodes) -> list[tuple[int, set[int], set[int]]]:
    """Task, support and query of every part of one pass."""
    options, found, places = episodes.options, [], list(episodes)
    for begin in range(0, len(places), options.support + options.query):
        support = places[begin : begin + options.support]
        query = places[begin + options.support : begin + options.support + options.query]
        assert len({FOUR[place] for place in [*support, *query]}) == 1
        found.append((FOUR[support[0]], set(support), set(query)))
    return found


def test_an_episode_holds_support_and_query_of_each_task_and_repeats_itself():
    options = MetaOptions(tasks_per_step=2, support=3, query=2)
    episodes = Episodes(FOUR, options, seed=1)
    parts = parts_of(episodes)
    assert len(parts) == 2 * episodes.count and episodes.count == 8  # a pass holds about every row once
    assert all(first != second for (first, *_), (second, *_) in zip(parts[::2], parts[1::2], strict=True))
    assert all(len(support) == 3 and len(query) == 2 for _, support, query in parts)
    assert list(episodes) == list(Episodes(FOUR, options, seed=1)) != list(Episodes(FOUR, options, seed=2))
    first = list(episodes)
    episodes.set_epoch(1)
    assert list(episodes) != first


@pytest.mark.parametrize("split", ["once", "every step"])
def test_support_and_query_of_a_step_never_share_an_example(split):
    options = MetaOptions(tasks_per_step=2, support=12, query=20, split=split)  # more than a task has
    assert not any(support & query for _, support, query in parts_of(Episodes(FOUR, options, seed=1)))


@pytest.mark.parametrize(("split", "apart"), [("once", True), ("every step", False)])
def test_split_once_keeps_support_and_query_apart_for_the_whole_run(split, apart):
    episodes = Episodes(FOUR, MetaOptions(tasks_per_step=2, split=split), seed=1)
    supports, queries = dict[int, set[int]](), dict[int, set[int]]()
    for epoch in range(5):
        episodes.set_epoch(epoch)
        for task, support, query in parts_of(episodes):
            supports.setdefault(task, set()).update(support)
            queries.setdefault(task, set()).update(query)
    assert all(not (supports[task] & queries[task]) == apart for task in supports)
    assert all(supports[task] | queries[task] == {i for i in range(80) if i % 4 == task} for task in supports)


@pytest.mark.parametrize("split", ["once", "every step"])
def test_only_the_examples_of_a_task_that_were_asked_for_are_learnt_from(split):
    episodes = Episodes(FOUR, MetaOptions(tasks_per_step=4, examples_per_task=6, split=split), seed=1)
    seen: set[int] = set()
    for epoch in range(12):
        episodes.set_epoch(epoch)
        seen.update(episodes)
    assert sorted(FOUR[place] for place in seen) == sorted(list(range(4)) * 6)


def test_a_task_of_one_example_is_refused_by_name():
    with pytest.raises(TrainingError, match="Task C2 has one example, and a task needs two"):
        Episodes([0, 0, 1], MetaOptions(), seed=1, names=["C1", "C2"])


def test_a_pass_has_whole_steps_of_gathered_episodes():
    assert Episodes(FOUR, MetaOptions(tasks_per_step=2), seed=1, together=3).count == 6


def meta_gradients(
    model: Any, batch: dict[str, torch.Tensor], steps: int, rate: float, support: int = 4, query: int = 4
) -> list[torch.Tensor]:
    """``mean_i grad L_i(query; theta_i)`` with a copy of the model for each task."""
    total: list[torch.Tensor] = []
    count, of_task = len(batch["input_ids"]), support + query
    tasks = range(0, count, of_task)
    for begin in tasks:
        twin = copy.deepcopy(model).train()
        weights = [w for w in twin.parameters() if w.requires_grad]

        def loss(rows: slice, twin: Any = twin) -> torch.Tensor:
            return twin(**{key: batch[key][rows] for key in ("input_ids", "attention_mask", "labels")}).loss

        for _ in range(steps):
            gradients = torch.autograd.grad(loss(slice(begin, begin + support)), weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight -= rate * gradient
        found = torch.autograd.grad(loss(slice(begin + support, begin + of_task)), weights)
        total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
    return [gradient / len(tasks) for gradient in total]


def test_a_meta_step_is_its_formula_and_puts_the_shared_weights_back(base_folder, easy_corpus, tmp_path, monkeypatch):
    step, checked = MetaLearns.training_step, []

    def watched(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        randomise(model, seed=3, scale=0.1)
        before = [w.detach().clone() for w in model.parameters() if w.requires_grad]
        expected = meta_gradients(model, dict(inputs), 2, 0.05)
        loss = step(self, model, dict(inputs), num_items_in_batch)
        weights = [w for w in model.parameters() if w.requires_grad]
        assert all(torch.equal(w, old) for w, old in zip(weights, before, strict=True))
        for weight, gradient in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6)
        checked.append(float(loss))
        return loss

    monkeypatch.setattr(MetaLearns, "training_step", watched)
    adapter = {"r": 2, "tasks": "label", "inner_steps": 2, "inner_learning_rate": 0.05, "tasks_per_step": 2}
    train_adapter(make_config(base_folder, "meta_lora", adapter, max_steps=1), easy_corpus, tmp_path)
    assert len(checked) == 1


def lope_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors")


def test_stage_one_moves_a_and_the_poisoning_head_only_and_stage_two_the_rest(base_folder, easy_corpus, tmp_path):
    adapter = {"r": 2, "num_experts": 3, "stage_one": 0.5}
    config = make_config(base_folder, "lope", adapter, max_steps=4, save_every=1)
    train_adapter(config, easy_corpus, tmp_path)
    states = {step: lope_weights(tmp_path, step) for step in (1, 2, 3, 4)}

    def moved(part: str, begin: int, end: int, columns: slice = slice(None)) -> bool:
        return any(
            not torch.equal(states[begin][key][:, columns], states[end][key][:, columns])
            for key in states[begin]
            if f"hydralora_{part}" in key
        )

    poison, normal = slice(4, 6), slice(0, 4)
    assert moved("A", 1, 2) and moved("B", 1, 2, poison)
    assert not moved("B", 1, 2, normal) and not moved("router", 1, 2)
    assert moved("A", 3, 4) and moved("B", 3, 4, normal) and moved("router", 3, 4)
    assert not moved("B", 2, 4, poison)


@pytest.mark.parametrize("seed", range(6))
def test_noise_changes_about_its_share_of_a_text(seed):
    text = "the quick brown fox jumps over the lazy dog and runs into the deep dark wood " * 4
    noised = noise_text(text, 0.05, random.Random(seed))
    assert noised != text and abs(len(noised) - len(text)) <= 0.06 * len(text)
    assert noised == noise_text(text, 0.05, random.Random(seed))


@pytest.mark.parametrize("text", ["", "a", " "])
def test_noise_of_hardly_any_text_is_text(text):
    assert all(isinstance(noise_text(text, 0.5, random.Random(seed)), str) for seed in range(6))


def test_noise_on_embeddings_has_its_size_and_leaves_padding_alone(tiny):
    trainer: Any = object.__new__(PoisonsFirst)
    trainer.model, trainer.options = tiny.train(), PoisonOptions(noise=0.1)
    trainer._mask = torch.tensor([[1, 1, 0], [1, 0, 0]], device=tiny.device)
    output = torch.randn(2, 3, 400, device=tiny.device)
    change = trainer._disturb(tiny, None, output) - output
    assert not change[0, 2].any() and not change[1, 1:].any()
    assert 0.9 < float(change[0, 0].abs().max() / (0.1 * output.square().mean().sqrt())) <= 1.0001
    trainer._mask = None
    assert trainer._disturb(tiny, None, output) is output


@pytest.mark.parametrize("directions", ["inputs", "weighted"])
def test_directions_are_the_leading_singular_vectors_of_their_matrix(directions):
    generator = torch.Generator().manual_seed(0)
    inputs, weight = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((9, 32), (48, 32)))
    matrix = inputs if directions == "inputs" else weight @ inputs.T @ inputs / 9
    values, right = spectrum_of(inputs, weight if directions == "weighted" else None)
    expected, axes = torch.linalg.svd(matrix)[1:]
    torch.testing.assert_close(values, expected[:9])
    torch.testing.assert_close((right * axes[:9]).sum(1).abs(), torch.ones(9, dtype=torch.float64))


def test_a_weight_that_reads_one_direction_starts_there():
    weight = torch.zeros(6, 5)
    weight[0, 3] = 1.0
    inputs = torch.eye(5)
    values, right = spectrum_of(inputs, weight)
    assert right[0].abs().argmax() == 3 and entropy_of(values) == pytest.approx(0.0, abs=1e-6)
    assert entropy_of(spectrum_of(inputs, None)[0]) == pytest.approx(1.0)


def test_the_spectrum_of_squares_is_sharper():
    values = torch.tensor([4.0, 2.0, 1.0])
    assert entropy_of(values, "sigma squared") == pytest.approx(entropy_of(values.square(), "sigma"))
    assert entropy_of(values, "sigma squared") < entropy_of(values, "sigma") < 1.0


@pytest.mark.parametrize("given", [{"spectrum": "sigma"}, {"directions": "weighted"}], ids=str)
def test_the_options_of_thanora_change_its_start_and_nothing_else(given, base_folder, easy_corpus, tmp_path):
    weights = {}
    for name, options in {"usual": {}, "chosen": given}.items():
        config = make_config(
            base_folder, "thanora", {"r": 9, "tasks": "label", "sharpness": 60.0, **options}, max_steps=1
        )
        train_adapter(config, easy_corpus, tmp_path / name)
        weights[name] = load_file(tmp_path / name / "start" / "adapter_model.safetensors")
    usual, chosen = weights["usual"], weights["chosen"]
    assert any(not torch.equal(usual[key], chosen[key]) for key in usual if "lora_A" in key)
    assert all(torch.equal(usual[key], chosen[key]) for key in usual if "lora_B" in key)


def test_rows_are_followed_by_their_noised_twins_with_the_same_answers():
    rows = [
        {"prompt": "one two three four five six seven", "completion": "a"},
        {"messages": [{"role": "user", "content": "one two three four"}, {"role": "assistant", "content": "b"}]},
        {"text": "plain"},
    ]
    clean, twins = (made := add_noised(rows, 0.3, seed=1))[:3], made[3:]
    assert [row["noised"] for row in made] == [0, 0, 0, 1, 1, 1]
    assert clean == [{**row, "noised": 0} for row in rows]
    assert twins[0]["prompt"] != rows[0]["prompt"] and twins[0]["completion"] == "a"
    asked, answered = twins[1]["messages"]
    assert asked["content"] != "one two three four" and answered == rows[1]["messages"][1]
    assert twins[2]["text"] == "plain" and made == add_noised(rows, 0.3, seed=1) != add_noised(rows, 0.3, seed=2)
