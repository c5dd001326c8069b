"""What a router's losses are worth, and that they reach the loss once, whoever trains."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import transformers
from peft import get_peft_model, inject_adapter_in_model
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed
from transformers.loss.loss_utils import ForCausalLMLoss

from hydralora import HydraLoraConfig, find_targets
from hydralora.errors import AdapterError
from hydralora.training.auxiliary import AddsAuxiliaryLoss
from hydralora.training.trainer import AdapterTrainer
from hydralora.tuner.losses import balance_loss
from tests.hydralora.conftest import DEVICE, make_llama, randomise

TARGETS = ["q_proj", "down_proj"]


def make_config(weight: float, **settings: Any) -> HydraLoraConfig:
    values = {"r": 4, "num_experts": 3, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    return HydraLoraConfig(balance_weight=weight, **{**values, **settings})


def adapt(weight: float, model: Any = None, **settings: Any) -> Any:
    base = make_llama() if model is None else model
    return randomise(get_peft_model(base, make_config(weight, **settings)), scale=0.5).train()


def loss(model: Any, ids: Tensor, **more: Any) -> float:
    return model(input_ids=ids, labels=ids, **more).loss.item()


def by_hand(model: Any, ids: Tensor) -> float:
    """Mean balance loss of the layers, from gates seen by hooks on the routers of the adapter "default"."""
    found: list[Tensor] = []
    routers = [layer.hydralora_router["default"] for layer in model.base_model.routed_layers()]
    hooks = [router.register_forward_hook(lambda _, __, out: found.append(out.softmax(-1))) for router in routers]
    model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    model.base_model.auxiliary_loss()
    return torch.stack([balance_loss(gates.flatten(0, 1)) for gates in found]).mean().item()


def rows(ids: Tensor, times: int = 1) -> list[dict[str, Any]]:
    return [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids.cpu()] * times


def train(kind: type[Trainer], model: Any, data: Any, folder: Any, **settings: Any) -> list[float]:
    """The loss of every step."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=1,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=DEVICE == "cpu",
        disable_tqdm=True,
        **{"per_device_train_batch_size": 2, **settings},
    )
    trainer = kind(model=model, args=arguments, train_dataset=data)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_the_loss_of_a_training_pass_holds_the_weighted_mean_of_the_layers(ids):
    expected = loss(adapt(0.0), ids) + 5.0 * by_hand(adapt(0.0), ids)
    assert loss(adapt(5.0), ids) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [Trainer, AdapterTrainer])
def test_a_trainer_adds_it_once(kind, ids, tmp_path):
    expected = loss(adapt(0.0), ids) + 5.0 * by_hand(adapt(0.0), ids)
    assert train(kind, adapt(5.0), rows(ids), tmp_path) == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize("kind", [Trainer, AdapterTrainer])
def test_batches_that_are_gathered_count_together_as_one(kind, ids, tmp_path):
    whole = train(kind, adapt(5.0), rows(ids, times=2), tmp_path)
    parts = train(kind, adapt(5.0), rows(ids, times=2), tmp_path, gradient_accumulation_steps=2)
    assert parts == pytest.approx(whole, rel=1e-4)


class OwnLoss(Trainer):
    """A Trainer that lets the model give logits only, as TRL's do."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        with torch.no_grad():  # for its metrics
            model(**inputs)
        loss = ForCausalLMLoss(outputs.logits, labels, 320, num_items_in_batch=num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


class OwnLossAndMore(AddsAuxiliaryLoss, OwnLoss):
    pass


@pytest.mark.parametrize("steps", [1, 2])
def test_a_trainer_with_a_loss_of_its_own_adds_it_by_a_mixin(steps, ids, tmp_path):
    settings = {"gradient_accumulation_steps": steps}
    expected = train(Trainer, adapt(5.0), rows(ids, times=2), tmp_path, **settings)
    assert train(OwnLossAndMore, adapt(5.0), rows(ids, times=2), tmp_path, **settings) == pytest.approx(expected)
    plain = train(Trainer, adapt(0.0), rows(ids, times=2), tmp_path, **settings)
    assert train(OwnLoss, adapt(5.0), rows(ids, times=2), tmp_path, **settings) == pytest.approx(plain, rel=1e-5)


def test_checkpointing_recomputes_the_same_loss_and_gradient(ids, tmp_path):
    settings = {"gradient_checkpointing": True, "max_grad_norm": 0.0, "learning_rate": 0.1, "optim": "sgd"}
    models = [adapt(5.0), adapt(5.0)]
    curves = [train(Trainer, models[0], rows(ids), tmp_path, **{**settings, "gradient_checkpointing": False})]
    curves.append(train(Trainer, models[1], rows(ids), tmp_path, **settings))
    assert curves[0] == curves[1]
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_gradient_of_the_loss_reaches_the_routers(ids):
    gradients = []
    for weight in (0.0, 5.0):
        model = adapt(weight)
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append({n: w.grad for n, w in model.named_parameters() if "router" in n})
    assert all(not torch.allclose(gradients[0][name], gradients[1][name]) for name in gradients[0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(ids, side):
    pad, ones = ids.new_zeros(2, 21), torch.ones_like(ids)  # 75 % of the batch
    order, masks = ((pad, ids), (pad, ones)) if side == "left" else ((ids, pad), (ones, pad))
    padded, mask = torch.cat(order, 1), torch.cat(masks, 1)
    labels = padded.masked_fill(mask == 0, -100)
    values = []
    for weight in (0.0, 1.0):
        given = {"input_ids": padded, "attention_mask": mask, "labels": labels}
        values.append(adapt(weight)(**given).loss.item())
    assert values[1] - values[0] == pytest.approx(by_hand(adapt(0.0), ids), rel=1e-3)


def test_measuring_is_without_it(ids, tmp_path):
    plain = loss(adapt(0.0).eval(), ids)
    assert loss(adapt(5.0).eval(), ids) == pytest.approx(plain, rel=1e-5)
    with torch.no_grad():
        assert loss(adapt(5.0), ids) == pytest.approx(plain, rel=1e-5)
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=DEVICE == "cpu", disable_tqdm=True)
    measured = Trainer(model=adapt(5.0), args=arguments, eval_dataset=rows(ids)).evaluate()
    assert measured["eval_loss"] == pytest.approx(plain, rel=1e-5)


def test_nothing_of_an_earlier_pass_is_left(ids):
    model = adapt(5.0)
    model(input_ids=ids)
    with torch.no_grad():
        model(input_ids=ids)
    assert model.base_model.auxiliary_loss() is None
    hook = model.get_base_model().lm_head.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(input_ids=ids, labels=ids)
    hook.remove()
    assert loss(model, ids[:1]) == loss(adapt(5.0), ids[:1])


def test_only_adapters_at_work_count(ids):
    model = adapt(1.0)
    expected = loss(model, ids)
    model.add_adapter("idle", make_config(50.0))
    assert loss(model, ids) == expected
    with model.disable_adapter():
        assert loss(model, ids) == pytest.approx(loss(make_llama().train(), ids))


def test_the_losses_of_two_adapters_at_work_add_up(ids):
    def both(first: float, second: float) -> float:
        model = adapt(first)
        model.add_adapter("second", make_config(second))
        model.base_model.set_adapter(["default", "second"])
        return loss(randomise(model, scale=0.5), ids)

    none, one, other = both(0.0, 0.0), both(2.0, 0.0), both(0.0, 3.0)
    assert one > none and other > none
    assert both(2.0, 3.0) - none == pytest.approx(one - none + other - none, rel=1e-4)


def test_a_pass_without_labels_leaves_its_loss_to_the_loop_once(ids):
    model = adapt(2.0)
    model(input_ids=ids)
    left = model.base_model.auxiliary_loss()
    assert left.item() == pytest.approx(2.0 * by_hand(adapt(0.0), ids), rel=1e-5) and left.requires_grad
    assert model.base_model.auxiliary_loss() is None
    model(input_ids=ids, labels=ids)
    assert model.base_model.auxiliary_loss() is None


def test_a_loss_that_nobody_took_is_told(ids):
    model = adapt(2.0)
    model(input_ids=ids)
    with pytest.warns(UserWarning, match=r"part of no loss .*: the model gave none, or the trainer"):
        model(input_ids=ids)
    model.base_model.auxiliary_loss()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(input_ids=ids)


def test_a_tuple_holds_it_too(ids):
    losses = [adapt(w)(input_ids=ids, labels=ids, return_dict=False)[0].item() for w in (0.0, 5.0)]
    assert losses[1] - losses[0] == pytest.approx(5.0 * by_hand(adapt(0.0), ids), rel=1e-4)


def test_an_adapter_without_a_peft_model_around_it_counts_as_well(ids):
    losses = []
    for weight in (0.0, 5.0):
        model = inject_adapter_in_model(make_config(weight), make_llama())  # what `model.add_adapter` does
        losses.append(loss(randomise(model.train(), scale=0.5), ids))
    assert losses[1] - losses[0] == pytest.approx(5.0 * by_hand(adapt(0.0), ids), rel=1e-3)


def test_a_copy_of_a_model_keeps_its_losses_to_itself(ids):
    model = adapt(5.0)
    twin = copy.deepcopy(model)
    assert loss(twin, ids) == loss(model, ids)
    twin(input_ids=ids)
    assert model.base_model.auxiliary_loss() is None and twin.base_model.auxiliary_loss() is not None


def test_several_passes_at_once_are_refused(ids):
    model = adapt(5.0)
    replica = model.get_base_model()._replicate_for_data_parallel()  # what it makes for each device
    with pytest.raises(AdapterError, match=r"`nn\.DataParallel` runs several passes of one model at once"):
        replica(input_ids=ids, labels=ids)
    assert loss(model, ids) == loss(adapt(5.0), ids)


def test_a_frozen_router_still_passes_the_loss_on(ids):
    model = adapt(5.0)
    for name, weight in model.named_parameters():
        weight.requires_grad_(weight.requires_grad and "router" not in name)
    assert loss(model, ids) == loss(adapt(5.0), ids)


def make_t5() -> Any:
    set_seed(0)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(**sizes, dropout_rate=0.0, pad_token_id=0, decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(config).to(DEVICE)


def test_an_encoder_decoder_leaves_the_padding_of_both_sides_out():
    settings = {"target_modules": find_targets(make_t5()), "task_type": "SEQ_2_SEQ_LM"}
    source, target = torch.randint(3, 40, (2, 6), device=DEVICE), torch.randint(3, 40, (2, 4), device=DEVICE)
    mask, pad, ignored = torch.ones_like(source), source.new_zeros(2, 9), target.new_full((2, 5), -100)
    losses = []
    for weight in (0.0, 5.0):
        short = adapt(weight, make_t5(), **settings)(input_ids=source, attention_mask=mask, labels=target).loss
        longer = adapt(weight, make_t5(), **settings)(
            input_ids=torch.cat((source, pad), 1),
            attention_mask=torch.cat((mask, pad), 1),
            labels=torch.cat((target, ignored), 1),
        ).loss
        losses.append((short.item(), longer.item()))
    assert losses[1][0] > losses[0][0] + 0.01
    assert losses[1][0] - losses[0][0] == pytest.approx(losses[1][1] - losses[0][1], rel=1e-2)
