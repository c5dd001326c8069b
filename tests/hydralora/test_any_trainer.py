"""Each method's training before transformers' Trainer, TRL's SFTTrainer and ours: the same steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from hydralora import add_adapter
from hydralora.corpus.batches import Collator, on_device
from hydralora.corpus.encode import encode_example
from hydralora.corpus.examples import Example
from hydralora.errors import TrainingError
from hydralora.methods import METHODS
from hydralora.options import HubOptions, MethodOptions
from hydralora.training.lope import PoisonsFirst, add_noised
from hydralora.training.lorahub import MixesLoras
from hydralora.training.meta_lora import MetaLearns
from hydralora.training.split import SplitsByTask
from hydralora.training.thanora import SharesRank
from hydralora.training.trainer import AdapterTrainer
from hydralora.tuner.gates import choose_heads
from tests.hydralora.conftest import DEVICE, easy_rows, randomise
from tests.hydralora.test_lorahub import TARGETS, make_source

TRAINERS = {"transformers": Trainer, "trl": SFTTrainer, "ours": AdapterTrainer}
CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "lora_split": (SplitsByTask, {"r": 4, "num_experts": 2, "combine": "hard", "tasks": "label"}),
    "meta_lora": (MetaLearns, {"r": 4, "tasks_per_step": 2, "support": 2, "query": 2, "inner_learning_rate": 0.1}),
    "lope": (PoisonsFirst, {"r": 4, "num_experts": 3, "stage_one": 0.5, "router_init": "normal"}),
    "thanora": (SharesRank, {"r": 6, "orthogonality_weight": 0.5}),
    "lorahub": (MixesLoras, {"shots": 6}),
}
STEPS = 4


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[dict[str, Any]]:
    """Encoded questions and answers, every one with the name of its task."""
    made = []
    for row in easy_rows()[::2] + easy_rows()[1::2]:
        encoded = encode_example(tokenizer, Example(row["prompt"], row["answer"]), 64)
        made.append({**encoded, "task": row["label"]})
    return made


def data_for(method: str, rows: list[dict[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    if method != "lope":
        return rows
    texts = add_noised(easy_rows(), 0.2, seed=1)
    return [
        {**encode_example(tokenizer, Example(row["prompt"], row["answer"]), 64), "noised": row["noised"]}
        for row in texts
    ]


def make_trainer(
    name: str, method: str, model: Any, data: Any, folder: Path, tokenizer: Any, is_method: bool = True, **given: Any
) -> Any:
    mixin, adapter = CASES[method]
    kind = TRAINERS[name]
    settings: dict[str, Any] = {
        "output_dir": str(folder / name),
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": DEVICE == "cpu",
        "disable_tqdm": True,
        "seed": 3,
        "data_seed": 3,
        **given.pop("settings", {}),
    }
    if name == "trl":
        arguments: Any = SFTConfig(max_length=64, gradient_checkpointing=False, bf16=False, **settings)
        more = {"processing_class": tokenizer}
    else:
        arguments = TrainingArguments(**settings)
        more = {"data_collator": Collator(tokenizer.pad_token_id)}
    options = METHODS[method].options.model_validate(adapter)
    if not is_method:
        data = [{name: value for name, value in row.items() if name not in ("task", "noised")} for row in data]
        return kind(model=model, args=arguments, train_dataset=Dataset.from_list(data), **more, **given)
    joined = type("Joined", (mixin, kind), {})
    return joined(model=model, args=arguments, train_dataset=Dataset.from_list(data), options=options, **more, **given)


@pytest.fixture
def train(rows: Any, tokenizer: Any, load_tiny: Any, tmp_path: Path) -> Any:
    """Gives the losses and the adapter's weights after a few steps of a method before a trainer."""

    def run(
        name: str, method: str, resume: str | None = None, **given: Any
    ) -> tuple[list[float], dict[str, torch.Tensor]]:
        sources: list[Path] = []
        if method == "lorahub":
            sources = [
                make_source(tmp_path / f"source{i}", load_tiny(), seed=i, target_modules=TARGETS) for i in (1, 2)
            ]
        adapter: MethodOptions | dict[str, Any] = CASES[method][1]
        model = add_adapter(load_tiny(), method, adapter, seed=1, sources=sources or None)
        given |= {"sources": sources} if sources else {}
        data = data_for(method, rows, tokenizer)
        trainer = make_trainer(name, method, model, data, tmp_path, tokenizer, **given)
        trainer.train(resume_from_checkpoint=resume)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return losses, {n: w.detach().clone() for n, w in model.named_parameters() if "lora_" in n}

    return run


@pytest.mark.parametrize("method", CASES)
def test_the_first_steps_are_the_same_before_every_trainer(method, train):
    expected, weights = train("ours", method)
    assert len(expected) == STEPS and len(set(expected)) > 1
    for name in ("transformers", "trl"):
        losses, found = train(name, method)
        assert losses == pytest.approx(expected, rel=2e-3), name
        assert found.keys() == weights.keys()
        for key, weight in weights.items():
            torch.testing.assert_close(found[key], weight, rtol=1e-2, atol=1e-4, msg=f"{name}: {key}")


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("method", [method for method in CASES if method != "lorahub"])
def test_a_method_trains_otherwise_than_its_trainer_alone(method, name, train):
    _, weights = train(name, method)
    _, plain = train(name, method, is_method=False)
    assert any(not torch.allclose(weights[key], plain[key], atol=1e-3) for key in weights)


@pytest.mark.parametrize("name", ["transformers", "trl"])
@pytest.mark.parametrize("method", CASES)
def test_a_stopped_run_goes_on_as_the_undisturbed_one(method, name, train, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2}
    losses, weights = train(name, method, settings=settings)
    resumed, again = train(name, method, resume=str(tmp_path / name / "checkpoint-2"), settings=settings)
    assert resumed[-2:] == pytest.approx(losses[-2:], rel=1e-5)
    for key, weight in weights.items():
        torch.testing.assert_close(again[key], weight, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", TRAINERS)
def test_held_out_rows_are_measured_with_the_head_of_their_task(name, rows, tokenizer, load_tiny, tmp_path):
    model = randomise(add_adapter(load_tiny(), "lora_split", CASES["lora_split"][1]))
    held_out = Dataset.from_list(rows[:8])
    trainer = make_trainer(name, "lora_split", model, rows, tmp_path, tokenizer, eval_dataset=held_out)
    measured = trainer.evaluate()["eval_loss"]
    batch = Collator(tokenizer.pad_token_id)(rows[:8])
    choose_heads(model, torch.tensor([["colour", "thing"].index(row["task"]) for row in rows[:8]]))
    with torch.inference_mode():
        expected = model.eval()(**on_device(batch, DEVICE)).loss.item()
    assert measured == pytest.approx(expected, rel=1e-4)


def without(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(("method", "column"), [("lora_split", "task"), ("thanora", "task"), ("lope", "noised")])
def test_data_without_its_column_is_refused_by_name(method, column, name, rows, tokenizer, load_tiny, tmp_path):
    model = add_adapter(load_tiny(), method, CASES[method][1])
    data = without(data_for(method, rows, tokenizer), column)
    with pytest.raises(TrainingError, match=f"The training data has no column `{column}`, which Joined needs"):
        make_trainer(name, method, model, data, tmp_path, tokenizer)


@pytest.mark.parametrize("given", ["packing", "padding_free"])
def test_joined_rows_are_refused_where_rows_are_told_apart(given, rows, tokenizer, load_tiny, tmp_path):
    model = add_adapter(load_tiny(), "meta_lora", {"r": 4})
    with pytest.raises(TrainingError, match=f"`{given}` is on, but this method tells the rows of a batch apart"):
        make_trainer("trl", "meta_lora", model, rows, tmp_path, tokenizer, settings={given: True})


def test_a_stream_is_refused(rows, tokenizer, load_tiny, tmp_path):
    kind = type("Joined", (SplitsByTask, Trainer), {})
    stream = Dataset.from_list(rows).to_iterable_dataset()
    arguments = TrainingArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=DEVICE == "cpu", report_to=[])
    model = add_adapter(load_tiny(), "lora_split", CASES["lora_split"][1])
    with pytest.raises(TrainingError, match="`train_dataset` is a stream, and `task` is read of all rows first"):
        kind(model=model, args=arguments, train_dataset=stream)


WRONG: list[tuple[str, Any, str]] = [
    ("lora_split", lambda rows: [{**row, "task": "one"} for row in rows], "must name two tasks or more.*found one"),
    ("meta_lora", lambda rows: [{**row, "task": -1} for row in rows], "each from 0 or among `tasks`; found -1"),
    (
        "lora_split",
        lambda rows: [{**row, "task": place % 3} for place, row in enumerate(rows)],
        r"one head for each of the 3 tasks \(0, 1, 2\), but `num_experts` is 2",
    ),
    ("lope", lambda rows: rows[:-1], "has 64 clean rows and 63 noised ones"),
]


@pytest.mark.parametrize(("method", "spoil", "sentence"), WRONG, ids=[str(wrong[2]) for wrong in WRONG])
def test_wrong_tasks_and_twins_are_refused_with_what_was_found(
    method, spoil, sentence, rows, tokenizer, load_tiny, tmp_path
):
    model = add_adapter(load_tiny(), method, CASES[method][1])
    data = spoil(data_for(method, rows, tokenizer))
    with pytest.raises(TrainingError, match=sentence):
        make_trainer("transformers", method, model, data, tmp_path, tokenizer)


def test_options_of_another_method_are_refused(rows, tokenizer, load_tiny, tmp_path):
    model = add_adapter(load_tiny(), "meta_lora", {"r": 4})
    kind = type("Joined", (MetaLearns, Trainer), {})
    with pytest.raises(TrainingError, match="`options` of Joined must be MetaOptions, got HubOptions"):
        kind(model=model, args=TrainingArguments(output_dir=str(tmp_path), report_to=[]), options=HubOptions())


def test_numbers_and_names_of_tasks_are_the_same_tasks(rows, train):
    numbered = [{**row, "task": ["colour", "thing"].index(row["task"])} for row in rows]
    named = SplitsByTask.__new__(type("Joined", (SplitsByTask,), {}))
    other = SplitsByTask.__new__(type("Joined", (SplitsByTask,), {}))
    for reader, data in ((named, rows), (other, numbered)):
        reader.train_dataset, reader.tasks = data, []
        reader.wrap(None)
    assert named.groups == other.groups and named.tasks == ["colour", "thing"]
