"""Packed rows: hardly any padding, and each example is learnt as if it were alone."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, T5Config
from transformers import T5ForConditionalGeneration as T5

from hydralora import add_adapter
from hydralora.corpus.batches import Collator, PackingCollator
from hydralora.corpus.encode import IGNORED
from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.training.arguments import refuse_unused
from hydralora.training.packing import check_packing
from hydralora.training.train import find_trainer, train_adapter
from hydralora.tuner.passes import tell_padding
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_train import Recorder, adapter_weights, make_config, same_weights, stop_after

LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=30)


def examples_of(lengths: list[int]) -> list[dict[str, list[int]]]:
    """Examples of these lengths whose second half is learnt; every token is a number of its own."""
    drawn, first = [], 1
    for length in lengths:
        ids = list(range(first, first + length))
        drawn.append({"input_ids": ids, "labels": [IGNORED] * (length // 2) + ids[length // 2 :]})
        first += length
    return drawn


@settings(max_examples=60, deadline=None)
@given(LENGTHS)
def test_every_example_is_once_in_a_row_whole_and_in_order(lengths: list[int]) -> None:
    examples = examples_of(lengths)
    batch = PackingCollator(0, 32)(examples)
    found = {}
    for ids, places, mask in zip(batch["input_ids"], batch["position_ids"], batch["attention_mask"], strict=True):
        starts = [i for i in range(len(ids)) if mask[i] and places[i] == 0] + [int(mask.sum())]
        for begin, end in pairwise(starts):
            found[int(ids[begin])] = ids[begin:end].tolist()
    assert found == {example["input_ids"][0]: example["input_ids"] for example in examples}
    assert batch["input_ids"].shape[1] <= 32


@settings(max_examples=60, deadline=None)
@given(LENGTHS)
def test_packing_learns_the_same_tokens_and_never_holds_more(lengths: list[int]) -> None:
    examples = examples_of(lengths)
    padded, packed = Collator(0)(examples), PackingCollator(0, max(lengths))(examples)
    # The first token of a row is predicted by nothing, and the first of an example by no neighbour.
    learnt = [sorted(batch["labels"][:, 1:][batch["labels"][:, 1:] != IGNORED].tolist()) for batch in (padded, packed)]
    assert learnt[0] == learnt[1]
    assert packed["input_ids"].numel() <= padded["input_ids"].numel()
    assert packed["attention_mask"].sum() == padded["attention_mask"].sum() == sum(lengths)


def batches(vocabulary: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    drawn = random.Random(0)
    examples = examples_of([5, 17, 9, 3, 12, 20])
    for example in examples:
        example["input_ids"] = [drawn.randrange(vocabulary) for _ in example["input_ids"]]
        half = len(example["input_ids"]) // 2
        example["labels"] = [IGNORED] * half + example["input_ids"][half:]
    padded, packed = Collator(0)(examples), PackingCollator(0, 24)(examples)
    return ({name: value.to(DEVICE) for name, value in batch.items()} for batch in (padded, packed))  # type: ignore[return-value]


ADAPTERS: dict[str, dict[str, Any]] = {
    "by token": {"r": 4, "num_experts": 3},
    "pooled": {"r": 4, "num_experts": 3, "router_input": "pooled"},
    "balanced": {"r": 4, "num_experts": 3, "balance_weight": 2.0},
}


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS)
def test_loss_and_gradients_are_those_of_the_padded_batch(options: dict[str, Any]) -> None:
    model = add_adapter(make_llama(), "hydralora", options).to(DEVICE)
    randomise(model)
    model.train()
    padded, packed = batches(64)
    found = []
    for batch in (padded, packed):
        batch = dict(batch)
        if "position_ids" in batch:
            tell_padding(model, batch.pop("attention_mask"))
        model.zero_grad()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((loss, gradients))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    assert found[0][1].keys() == found[1][1].keys() and any("router" in name for name in found[0][1])
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_a_packed_run_learns_what_a_padded_one_does(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    found = {}
    for packing in (False, True):
        steps = Recorder()
        config = make_config(base_folder, adapter={"r": 4, "num_experts": 3}, packing=packing)
        summary = train_adapter(config, easy_corpus, tmp_path / str(packing), on_step=steps)
        gates = [values["gates"] for values in steps.values.values() if "gates" in values]
        found[packing] = ([loss for loss, *_ in steps.curve], summary.held_out_loss, gates)
    assert found[True][0] == pytest.approx(found[False][0], rel=2e-3)
    assert found[True][1] == pytest.approx(found[False][1], rel=2e-3)
    for packed, padded in zip(found[True][2], found[False][2], strict=True):
        assert packed.keys() == padded.keys()
        assert all(packed[name] == pytest.approx(padded[name], abs=1e-3) for name in padded)


def test_a_stopped_packed_run_goes_on_bit_for_bit(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    config, steps = make_config(base_folder, packing=True, max_steps=8), Recorder()
    train_adapter(config, easy_corpus, tmp_path / "whole")
    with pytest.raises(StoppedError):
        stopping = Progress(should_stop=stop_after(5, steps))
        train_adapter(config, easy_corpus, tmp_path / "stopped", on_step=steps, progress=stopping)
    train_adapter(config, easy_corpus, tmp_path / "stopped", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped") and adapter_weights(tmp_path / "whole")


def test_a_base_with_positions_of_its_own_packs() -> None:
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=64, n_positions=64, initializer_range=0.5)
    check_packing(GPT2LMHeadModel(config).to(DEVICE))


def test_a_base_that_reads_across_the_border_is_refused() -> None:
    config = MambaConfig(num_hidden_layers=2, hidden_size=32, vocab_size=64, state_size=4, initializer_range=0.5)
    with pytest.raises(TrainingError, match="`packing` is on, but this base"):
        check_packing(MambaForCausalLM(config).to(DEVICE))


def test_a_base_that_reads_one_text_and_writes_another_is_refused() -> None:
    config = T5Config(num_layers=1, d_model=32, d_kv=8, d_ff=32, num_heads=2, vocab_size=64)
    with pytest.raises(TrainingError, match="reads one text and writes another"):
        check_packing(T5(config).to(DEVICE))


@pytest.mark.parametrize("method", ["lope", "lora_split", "meta_lora", "lorahub", "prompt_tuning", "prefix_tuning"])
def test_a_method_that_treats_each_row_by_itself_refuses_packing(
    method: str, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    adapter: dict[str, Any] = {"tasks": "label"} if method in ("lora_split", "meta_lora") else {}
    adapter = {"sources": [1, 2]} if method == "lorahub" else adapter
    model = add_adapter(make_llama(), method, adapter) if "tuning" in method else None
    with pytest.raises(TrainingError, match="`packing` is"):
        if model is not None:
            check_packing(model)
        else:
            refuse_unused(find_trainer(method).unused, make_config(base_folder, method, adapter, packing=True))


@pytest.mark.parametrize("combine", ["mean", "router"])
def test_heads_that_belong_to_no_task_take_packed_rows(
    combine: str, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    config = make_config(base_folder, "lora_split", {"r": 4, "num_experts": 2, "combine": combine}, max_steps=2)
    plain = train_adapter(config, easy_corpus, tmp_path / "plain")
    packed = train_adapter(
        make_config(
            base_folder, "lora_split", {"r": 4, "num_experts": 2, "combine": combine}, max_steps=2, packing=True
        ),
        easy_corpus,
        tmp_path / "packed",
    )
    assert packed.held_out_loss == pytest.approx(plain.held_out_loss, rel=1e-3)


def test_heads_of_tasks_refuse_packed_rows(base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    adapter = {"r": 4, "num_experts": 2, "combine": "hard", "tasks": "label"}
    config = make_config(base_folder, "lora_split", adapter, max_steps=2, packing=True)
    with pytest.raises(TrainingError, match="`packing` is True, but lora_split does not use it"):
        train_adapter(config, easy_corpus, tmp_path)
