"""Logits are computed where an answer is predicted, and nothing of the loss or its gradient changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, T5Config
from transformers import T5ForConditionalGeneration as T5

from hydralora.corpus.batches import Collator, PackingCollator
from hydralora.corpus.encode import IGNORED, encode_example
from hydralora.corpus.examples import Example
from hydralora.training.answer_logits import can_keep_answers, keep_answers
from hydralora.training.trainer import AdapterTrainer
from tests.hydralora.conftest import DEVICE, make_llama

EXAMPLES = [Example("Which colour is the door?", "red"), Example("Why?", "red and blue " * 5), Example("", "a text")]


@pytest.fixture
def batch(tokenizer) -> dict[str, Any]:
    made = Collator(tokenizer.pad_token_id)([encode_example(tokenizer, example, 64) for example in EXAMPLES[:2]])
    return {name: tensor.to(DEVICE) for name, tensor in made.items()}


def passed(model: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    found = model(**inputs)
    found.loss.backward()
    return found, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_loss_and_gradients_are_those_of_all_logits(tokenizer, batch):
    model = make_llama(len(tokenizer))
    (whole, wanted), (fewer, found) = passed(model, batch), passed(model, keep_answers(batch))
    assert fewer.logits.shape[1] < whole.logits.shape[1]
    torch.testing.assert_close(fewer.loss, whole.loss)
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_accumulated_batches_are_scaled_alike(tokenizer, batch):
    model = make_llama(len(tokenizer))
    whole = model(**batch, num_items_in_batch=torch.tensor(100)).loss
    torch.testing.assert_close(model(**keep_answers(batch), num_items_in_batch=torch.tensor(100)).loss, whole)


def test_the_last_token_of_a_prompt_predicts_the_first_of_its_answer(batch):
    kept = keep_answers(batch)
    first = int((batch["labels"] != IGNORED).any(0).nonzero()[0])
    assert int(kept["logits_to_keep"][0]) == first - 1
    assert int((kept["shift_labels"] != IGNORED).sum()) == int((batch["labels"][:, 1:] != IGNORED).sum())


def test_packed_rows_lose_the_same(tokenizer):
    model = make_llama(len(tokenizer))
    rows = [encode_example(tokenizer, example, 64) for example in EXAMPLES]
    made = PackingCollator(tokenizer.pad_token_id, 96)(rows)
    packed = {name: tensor.to(DEVICE) for name, tensor in made.items() if name != "attention_mask"}
    torch.testing.assert_close(model(**keep_answers(packed)).loss, model(**packed).loss)


def test_a_batch_without_answers_stays_as_it_is(batch):
    nothing = {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
    assert keep_answers(nothing) is nothing


def test_models_are_tried_and_not_supposed(tokenizer, batch):
    class OwnLoss(torch.nn.Module):
        """A model that takes the places and forgets the labels that belong to them."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = make_llama(len(tokenizer))
            self.config = self.inner.config

        def forward(self, logits_to_keep: Any = 0, shift_labels: Any = None, **inputs: Any) -> Any:
            found = self.inner(**inputs)
            found.loss = found.loss * (2.0 if shift_labels is not None else 1.0)
            return found

    size = {"vocab_size": len(tokenizer), "num_layers": 1}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2))
    mamba = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4))
    t5 = T5(T5Config(**size, d_model=16, d_kv=8, d_ff=32, num_heads=2, decoder_start_token_id=0))
    for model, wanted in ((make_llama(len(tokenizer)), True), (gpt2, True), (OwnLoss(), False), (t5, False)):
        assert can_keep_answers(model.to(DEVICE).eval(), batch) is wanted, type(model).__name__
    assert can_keep_answers(mamba.to(DEVICE).eval(), batch) in (
        True,
        False,
    )  # whatever this version takes, nothing is raised


def test_training_computes_fewer_logits(base_folder, easy_corpus, tmp_path, monkeypatch):
    from hydralora.config import parse_config
    from hydralora.training.train import train_adapter

    seen = []
    given = AdapterTrainer._with_fewer_logits

    def watched(self: Any, model: Any, inputs: Any) -> Any:
        found = given(self, model, inputs)
        seen.append((self.keeps_answers, "logits_to_keep" in found))
        return found

    monkeypatch.setattr(AdapterTrainer, "_with_fewer_logits", watched)
    train = {"max_steps": 2, "batch_size": 4, "gate_every": 0, "eval_every": 1, "max_length": 64}
    config = {"base": str(base_folder), "adapter": {"r": 2, "num_experts": 2}, "train": train}
    train_adapter(parse_config(config), easy_corpus, tmp_path / "run")
    assert len(seen) > 2 and set(seen) == {(True, True)}


def test_a_trial_reads_one_row_where_the_model_lets_it(tokenizer, batch):
    model, rows = make_llama(len(tokenizer)).eval(), []
    model.register_forward_hook(lambda module, args, out: rows.append(out.logits.shape[0]))
    assert can_keep_answers(model, batch) and rows == [1, 1]


def test_memory_that_runs_out_in_a_trial_is_no_answer(tokenizer, batch):
    class Full(torch.nn.Module):
        config = make_llama(len(tokenizer)).config

        def forward(self, logits_to_keep: Any = 0, **inputs: Any) -> Any:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        can_keep_answers(Full(), batch)


def test_who_looks_at_all_logits_gets_them(base_folder, tmp_path, tokenizer, batch):
    from transformers import TrainingArguments

    given = {"output_dir": str(tmp_path), "report_to": "none"}
    model = make_llama(len(tokenizer))
    smooth = AdapterTrainer(model=model, args=TrainingArguments(**given, label_smoothing_factor=0.1))
    counted = AdapterTrainer(model=model, args=TrainingArguments(**given), compute_metrics=lambda found: {})
    for trainer in (smooth, counted):
        assert trainer._with_fewer_logits(model, batch) is batch
    assert torch.isfinite(smooth.compute_loss(model.train(), dict(batch)))
