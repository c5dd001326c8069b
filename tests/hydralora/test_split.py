"""Hard LoRA-Split: an example trains the head of its own task and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hydralora import add_adapter, override_experts
from hydralora.analysis.answers import compare_answers
from hydralora.analysis.routing import measure_routing
from hydralora.analysis.runs import load_run
from hydralora.answering import answer_examples
from hydralora.corpus.examples import Example
from hydralora.corpus.tasks import read_tasks
from hydralora.errors import AdapterError, TrainingError
from hydralora.training.mixin import TASK, TaskCollator
from hydralora.training.train import train_adapter
from hydralora.tuner.gates import choose_heads
from tests.hydralora.conftest import randomise
from tests.hydralora.test_train import Recorder, make_config

HARD = {"r": 4, "num_experts": 2, "combine": "hard", "tasks": "label"}


@pytest.fixture
def hard(tiny: Any) -> Any:
    """The tiny Llama with three heads to choose from, all random."""
    return randomise(add_adapter(tiny, "lora_split", {"r": 4, "num_experts": 3, "combine": "hard"})).eval()


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits


def test_each_example_gets_its_own_head(hard, ids):
    alone = []
    for head in (2, 0):
        with override_experts(hard, {}, force=head):
            alone.append(logits(hard, ids))
    choose_heads(hard, torch.tensor([2, 0]))
    chosen = logits(hard, ids)
    torch.testing.assert_close(chosen, torch.stack([alone[0][0], alone[1][1]]), rtol=1e-5, atol=1e-5)


def test_without_a_task_every_head_has_an_equal_share(hard, load_tiny, ids):
    mean = randomise(add_adapter(load_tiny(), "lora_split", {"r": 4, "num_experts": 3, "combine": "mean"})).eval()
    expected = logits(mean, ids)
    torch.testing.assert_close(logits(hard, ids), expected, rtol=1e-5, atol=1e-5)
    choose_heads(hard, torch.tensor([-1, -1]))
    torch.testing.assert_close(logits(hard, ids), expected, rtol=1e-5, atol=1e-5)


def test_only_the_chosen_head_gets_a_gradient(hard, ids):
    choose_heads(hard, torch.tensor([1, 1]))
    hard(input_ids=ids, labels=ids).loss.backward()
    layer = hard.base_model.routed_layers()[0]
    gradient = layer.hydralora_B["default"].weight.grad.view(layer.out_features, 3, 4)
    assert gradient[:, 1].abs().sum() > 0 and not gradient[:, [0, 2]].any()


def test_a_choice_for_another_batch_is_refused_with_layer_and_sizes(hard, ids):
    choose_heads(hard, torch.tensor([0, 1, 2]))
    with pytest.raises(AdapterError, match=r"'model.layers.0.self_attn.q_proj'.*for 3 examples.*\(2, 7, 32\)"):
        logits(hard, ids)


def test_heads_by_task_are_not_merged(hard):
    with pytest.raises(AdapterError, match="takes the head of an example's task"):
        hard.merge_and_unload()


def test_training_moves_each_head_by_its_own_task_only(base_folder, easy_corpus, tmp_path, monkeypatch):
    seen: list[set[int]] = []
    collate = TaskCollator.__call__

    def first_task_only(self, examples):  # type: ignore[no-untyped-def]
        batch = collate(self, examples)
        seen.append(set(batch[TASK].tolist()))
        batch[TASK] = torch.zeros_like(batch[TASK])
        return batch

    monkeypatch.setattr(TaskCollator, "__call__", first_task_only)
    train_adapter(make_config(base_folder, "lora_split", HARD, max_steps=3), easy_corpus, tmp_path)
    layer = load_run(tmp_path)[0].base_model.routed_layers()[0]
    heads = layer.hydralora_B["default"].weight.view(layer.out_features, 2, 4)
    assert set().union(*seen) == {0, 1}
    assert heads[:, 0].any() and not heads[:, 1].any()


def test_a_hard_run_learns_and_says_which_head_is_which_task(base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    config = make_config(base_folder, "lora_split", HARD, max_steps=60, learning_rate=2e-2, save_every=0)
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    _, _, facts = load_run(tmp_path)
    assert facts.tasks == ["colour", "thing"]
    assert summary.held_out_loss < 0.8 * summary.held_out_loss_before


def test_as_many_heads_as_tasks_are_needed(base_folder, easy_corpus, tmp_path):
    config = make_config(base_folder, "lora_split", {**HARD, "num_experts": 3})
    with pytest.raises(
        TrainingError, match=r"each of the 2 tasks \(colour, thing\), but `num_experts` is 3. Set it to 2"
    ):
        train_adapter(config, easy_corpus, tmp_path)


@pytest.mark.parametrize("method", ["thanora", "meta_lora", "lora_split"])
def test_clusters_that_are_missing_are_asked_for(method, base_folder, easy_corpus, tmp_path):
    adapter = {"combine": "hard"} if method == "lora_split" else {}
    with pytest.raises(TrainingError, match="Cluster the corpus first, or set `tasks` to label"):
        train_adapter(make_config(base_folder, method, adapter), easy_corpus, tmp_path)


def test_fixed_heads_need_no_tasks(base_folder, easy_corpus, tmp_path):
    config = make_config(base_folder, "lora_split", {**HARD, "combine": "sum", "tasks": "cluster"}, max_steps=1)
    assert train_adapter(config, easy_corpus, tmp_path).steps == 1


def test_examples_without_a_label_are_counted():
    rows = [(0, Example("a", "b", label="x")), (1, Example("c", "d"))]
    with pytest.raises(TrainingError, match="1 of 2 examples have no label"):
        read_tasks(rows, "label", None)


def test_a_task_never_trained_on_has_no_head():
    rows = [(i, Example("a", "b", label=label)) for i, label in enumerate("yx")]
    tasks = read_tasks(rows, "label", None)
    assert tasks is not None and tasks.names == ["x", "y"]
    assert tasks.numbers([*rows, (2, Example("a", "b", label="z"))]) == [1, 0, -1]


def test_one_task_alone_is_refused():
    with pytest.raises(TrainingError, match=r"only one task \(by label\)"):
        read_tasks([(0, Example("a", "b", label="x"))], "label", Path("nowhere"))


def test_there_are_no_gates_to_measure_where_tasks_choose(base_folder, easy_corpus, tmp_path):
    train_adapter(make_config(base_folder, "lora_split", HARD, max_steps=1), easy_corpus, tmp_path / "run")
    with pytest.raises(AdapterError, match="no router chooses between them"):
        measure_routing(tmp_path / "run", easy_corpus, tmp_path / "out")


def test_every_held_out_question_is_answered_by_the_head_of_its_task(base_folder, easy_corpus, tmp_path):
    config = make_config(base_folder, "lora_split", HARD, max_steps=40, learning_rate=2e-2, save_every=0)
    train_adapter(config, easy_corpus, tmp_path / "run")
    rows = compare_answers(tmp_path / "run", easy_corpus, tmp_path / "out").rows
    model, tokenizer, facts = load_run(tmp_path / "run")
    for head, task in enumerate(facts.tasks):
        mine = [row for row in rows if row.label == task]
        examples = [Example(row.prompt, row.wanted) for row in mine]
        with override_experts(model, {}, force=head):
            alone = answer_examples(model, tokenizer, examples, max_tokens=4)
        assert mine and all(row.tuned.startswith(text) for row, text in zip(mine, alone, strict=True))
