"""Laws of the routed layer, each checked against the formula written as a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from hydralora import HydraLoraConfig, HydraLoraLinear
from hydralora.errors import AdapterError, TrainingError
from hydralora.training.trainer import check_states
from hydralora.tuner.losses import auxiliary_loss

WIDE, OUT, RANK = 12, 9, 3
EXACT = {"rtol": 1e-6, "atol": 1e-6}  # float32, where only the order of additions differs
SHAPES = [(12,), (5, 12), (2, 5, 12), (2, 3, 5, 12)]


def make_layer(*, seed: int = 0, trained: bool = True, base: Any = None, **settings: Any) -> Any:
    """A layer 12 -> 9 of rank 3; ``trained`` gives heads and router random values."""
    torch.manual_seed(seed)
    config = HydraLoraConfig(**{"r": RANK, "num_experts": 4, "lora_alpha": 6.0, **settings})
    base = nn.Linear(WIDE, OUT) if base is None else base
    layer = HydraLoraLinear(base.requires_grad_(False), "default", "proj", config)
    if trained:
        for name, weight in layer.named_parameters():
            if "hydralora_" in name:
                nn.init.normal_(weight, std=0.2)
    return layer


def gates_by_hand(layer: Any, x: Tensor) -> list[Tensor]:
    """Gate weight of each expert, ``(...)`` each, from the definition."""
    options, count = layer.options["default"], layer.num_experts["default"]
    if "default" not in layer.hydralora_router:
        return [torch.full(x.shape[:-1], 1.0 if options.combine == "sum" else 1 / count)] * count
    router = layer.hydralora_router["default"].weight
    seen = x if options.router_input == "x" else x @ layer.hydralora_A["default"].weight.T
    logits = seen @ router.T / options.temperature
    scores = torch.exp(logits)
    if options.top_k:
        places = torch.stack(
            [(logits >= logits[..., i : i + 1]).sum(-1) for i in range(count)], -1
        )  # 1 for the largest
        scores = torch.where(places <= options.top_k, scores, 0.0)
    return [scores[..., i] / scores.sum(-1) for i in range(count)]


def by_loop(layer: Any, x: Tensor) -> Tensor:
    """``W0 x + s sum_i g_i B_i A_i x``, one expert after the other."""
    options, count, rank = layer.options["default"], layer.num_experts["default"], layer.r["default"]
    a, b = layer.hydralora_A["default"].weight, layer.hydralora_B["default"].weight
    heads, result = b.view(-1, count, rank), layer.base_layer(x)
    for i, gate in enumerate(gates_by_hand(layer, x)):
        own_a = a if options.shared_a else a[i * rank : (i + 1) * rank]
        update = (x @ own_a.T) @ heads[:, i].T
        result = result + layer.scaling["default"] * gate.unsqueeze(-1) * update
    return result


VARIANTS = [
    {},
    {"router_input": "Ax"},
    {"shared_a": False},
    {"combine": "mean"},
    {"combine": "sum"},
    {"shared_a": False, "combine": "mean"},
    {"shared_a": False, "combine": "sum"},
    {"shared_a": False, "router_input": "Ax"},
    {"num_experts": 1},
    {"use_rslora": True},
    {"head_init": "centred", "router_init": "zero", "dropout_place": "heads"},
    {"top_k": 2},
    {"top_k": 1, "router_input": "Ax"},
    {"top_k": 4, "shared_a": False},
    {"temperature": 0.5},
    {"temperature": 4.0, "top_k": 3},
    {"gate": "uniform"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_equals_the_formula_as_a_loop_over_experts(settings, shape):
    layer, x = make_layer(**settings), torch.randn(shape)
    torch.testing.assert_close(layer(x), by_loop(layer, x), **EXACT)


def test_bfloat16_layer_follows_the_formula():
    layer, x = make_layer(), torch.randn(2, 5, WIDE)
    expected = by_loop(layer, x)
    result = layer.to(torch.bfloat16)(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)


def test_bfloat16_base_with_float32_adapter_keeps_the_base_type():
    layer, x = make_layer(), torch.randn(2, 5, WIDE)
    expected = by_loop(layer, x)
    layer.base_layer.to(torch.bfloat16)
    result = layer(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)


def test_layer_works_under_autocast():
    layer, x = make_layer(), torch.randn(2, 5, WIDE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), by_loop(layer, x), rtol=0.03, atol=0.03)


def test_a_non_contiguous_input_gives_the_same_output():
    layer, x = make_layer(), torch.randn(WIDE, 5, 2).permute(2, 1, 0)
    torch.testing.assert_close(layer(x), layer(x.contiguous()), **EXACT)


def test_an_empty_batch_gives_an_empty_output():
    assert make_layer()(torch.randn(0, 5, WIDE)).shape == (0, 5, OUT)


def test_conv1d_base_follows_the_formula():
    layer, x = make_layer(base=Conv1D(OUT, WIDE)), torch.randn(2, 5, WIDE)
    torch.testing.assert_close(layer(x), by_loop(layer, x), **EXACT)


@pytest.mark.parametrize("use_rslora", [False, True])
def test_one_expert_is_peft_lora(use_rslora):
    settings = {"r": RANK, "lora_alpha": 6.0, "use_rslora": use_rslora}
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(WIDE, OUT))
    ours = make_layer(num_experts=1, base=plain[0], **settings)
    peft_layer = get_peft_model(plain, LoraConfig(target_modules=["0"], **settings)).base_model.model[0]
    peft_layer.lora_A["default"].weight = ours.hydralora_A["default"].weight
    peft_layer.lora_B["default"].weight = ours.hydralora_B["default"].weight
    x = torch.randn(4, WIDE)
    torch.testing.assert_close(ours(x), peft_layer(x), **EXACT)


@pytest.mark.parametrize("settings", [{}, {"router_input": "Ax"}, {"shared_a": False}], ids=str)
def test_gates_sum_to_one(settings):
    layer = make_layer(**settings)
    layer.capture = True
    layer(torch.randn(2, 5, WIDE) * 30)
    torch.testing.assert_close(layer.kept_gates[-1].sum(-1), torch.ones(2, 5))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_new_layer_equals_its_base_bit_for_bit(shape):
    layer, x = make_layer(trained=False), torch.randn(shape)
    assert torch.equal(layer(x), layer.base_layer(x))


def test_centred_heads_with_a_zero_router_start_at_the_base():
    settings = {"head_init": "centred", "router_init": "zero", "dropout_place": "heads"}
    layer, x = make_layer(trained=False, **settings).eval(), torch.randn(5, WIDE)
    assert layer.hydralora_B["default"].weight.abs().min() > 0
    torch.testing.assert_close(layer(x), layer.base_layer(x), **EXACT)


def test_a_disabled_adapter_equals_the_base_exactly():
    layer, x = make_layer(), torch.randn(2, 5, WIDE)
    layer.enable_adapters(False)
    assert torch.equal(layer(x), layer.base_layer(x))


def test_renaming_experts_changes_nothing():
    layer, x, order = make_layer(), torch.randn(5, WIDE), [2, 0, 3, 1]
    before = layer(x)
    heads = layer.hydralora_B["default"].weight.data.view(OUT, 4, RANK)[:, order]
    layer.hydralora_B["default"].weight.data = heads.reshape(OUT, -1)
    router = layer.hydralora_router["default"].weight
    router.data = router.data[order]
    torch.testing.assert_close(layer(x), before, **EXACT)


def gradients(layer: Any, x: Tensor, forward: Any) -> dict[str, Tensor]:
    """Gradients of A, B, router and input of a loss that weighs every output differently."""
    layer.zero_grad()
    x = x.clone().requires_grad_(True)
    result = forward(layer, x)
    (result * torch.arange(result.numel()).view_as(result).cos()).sum().backward()
    found = {n: w.grad.clone() for n, w in layer.named_parameters() if w.grad is not None}
    return {**found, "input": x.grad}


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_gradients_equal_those_of_the_loop(settings):
    layer, x = make_layer(**settings), torch.randn(2, 5, WIDE)
    ours = gradients(layer, x, lambda layer, x: layer(x))
    loop = gradients(layer, x, by_loop)
    assert ours.keys() == loop.keys() and "base_layer.weight" not in ours
    for name, gradient in loop.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant):
    layer, x = make_layer().train(), torch.randn(2, 5, WIDE)
    plain = gradients(layer, x, lambda layer, x: layer(x))
    again = gradients(layer, x, lambda m, x: checkpoint(m, x, use_reentrant=use_reentrant))
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("place", ["input", "heads"])
def test_dropout_acts_in_training_only(place):
    layer, x = make_layer(lora_dropout=0.5, dropout_place=place), torch.randn(2, 5, WIDE)
    assert not torch.equal(layer.train()(x), layer(x))
    torch.testing.assert_close(layer.eval()(x), by_loop(layer, x), **EXACT)


def test_head_dropout_draws_its_own_mask_for_each_head():
    layer = make_layer(lora_dropout=0.5, dropout_place="heads", combine="sum").train()
    narrow = layer._gated(torch.randn(200, WIDE), "default").view(200, 4, RANK)
    dropped = narrow == 0
    assert not torch.equal(dropped[:, 0], dropped[:, 1])
    assert 0.4 < dropped.float().mean() < 0.6


def loss_of(layer: Any, x: Tensor) -> Tensor | None:
    """The auxiliary loss of one pass, as the model that holds the layer adds it up."""
    layer.now.begin({}, False, layer.training)
    layer(x)
    return auxiliary_loss(layer.now.routed)


def test_balance_loss_equals_its_formula_and_reaches_the_router():
    layer, x = make_layer(balance_weight=0.5).train(), torch.randn(2, 5, WIDE)
    loss = loss_of(layer, x)
    mean = torch.stack(gates_by_hand(layer, x), -1).reshape(-1, 4).mean(0)
    torch.testing.assert_close(loss, 0.5 * (4 * (mean**2).sum() - 1))
    loss.backward()
    assert layer.hydralora_router["default"].weight.grad.abs().sum() > 0


def test_the_switch_loss_equals_its_formula_and_its_gradient_is_that_of_mean_shares():
    settings = {"balance_weight": 0.5, "balance_loss": "switch", "temperature": 2.0, "top_k": 1}
    layer, x = make_layer(**settings).train(), torch.randn(2, 5, WIDE)
    loss = loss_of(layer, x)
    shares = torch.softmax(x @ layer.hydralora_router["default"].weight.T / 2.0, -1).reshape(-1, 4)
    chosen = [(shares.argmax(-1) == i).float().mean() for i in range(4)]
    torch.testing.assert_close(loss, 0.5 * 4 * sum(f * p for f, p in zip(chosen, shares.mean(0), strict=True)))
    loss.backward()
    assert layer.hydralora_router["default"].weight.grad.abs().sum() > 0


def test_the_z_loss_equals_its_formula_on_the_logits_themselves():
    layer, x = make_layer(z_weight=0.25, temperature=2.0, top_k=2).train(), torch.randn(2, 5, WIDE)
    logits = x @ layer.hydralora_router["default"].weight.T
    torch.testing.assert_close(loss_of(layer, x), 0.25 * (logits.exp().sum(-1).log() ** 2).mean())


def test_losses_of_a_router_add_up():
    x, settings = torch.randn(2, 5, WIDE), {"balance_weight": 0.5, "z_weight": 0.25}
    parts = [loss_of(make_layer(**{name: value}).train(), x) for name, value in settings.items()]
    torch.testing.assert_close(loss_of(make_layer(**settings).train(), x), parts[0] + parts[1])


def test_a_token_uses_as_many_heads_as_it_may():
    layer = make_layer(top_k=2)
    layer.capture = True
    layer(torch.randn(2, 5, WIDE))
    gates = layer.kept_gates[-1]
    assert torch.equal((gates > 0).sum(-1), torch.full((2, 5), 2))
    torch.testing.assert_close(gates.sum(-1), torch.ones(2, 5))


def test_all_heads_may_be_all_that_a_token_uses():
    x = torch.randn(5, WIDE)
    torch.testing.assert_close(make_layer(top_k=4)(x), make_layer()(x), **EXACT)


def test_uniform_gates_have_no_router_and_are_the_mean_of_the_heads():
    layer, mean = make_layer(gate="uniform", seed=3), make_layer(combine="mean", seed=3)
    assert not layer.hydralora_router and layer.fixed_gates("default") == [0.25] * 4
    x = torch.randn(5, WIDE)
    assert torch.equal(layer(x), mean(x))
    expected = layer(x)
    layer.merge()
    torch.testing.assert_close(layer.base_layer(x), expected, rtol=0, atol=1e-5)


def test_equal_use_of_the_experts_has_no_balance_loss():
    layer = make_layer(balance_weight=1.0).train()
    nn.init.zeros_(layer.hydralora_router["default"].weight)
    assert loss_of(layer, torch.randn(5, WIDE)).item() == pytest.approx(0.0, abs=1e-6)


def test_balance_is_off_by_default_and_outside_training():
    assert loss_of(make_layer().train(), torch.randn(5, WIDE)) is None
    assert loss_of(make_layer(balance_weight=1.0).eval(), torch.randn(5, WIDE)) is None


def test_masked_heads_are_silent_at_inference_and_others_share_their_gate():
    layer, x = make_layer(head_mask=[1]), torch.randn(5, WIDE)
    free = make_layer()
    assert torch.equal(layer.train()(x), free(x))
    layer.eval().capture = True
    layer(x)
    gates = torch.stack(gates_by_hand(layer, x), -1)
    gates[:, 1] = 0.0
    torch.testing.assert_close(layer.kept_gates[-1], gates / gates.sum(-1, keepdim=True))


@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("shared_a", [True, False])
@pytest.mark.parametrize("base", [nn.Linear, Conv1D])
def test_fixed_gates_merge_exactly_and_unmerge(combine, shared_a, base):
    made = nn.Linear(WIDE, OUT) if base is nn.Linear else Conv1D(OUT, WIDE)
    layer, x = make_layer(base=made, combine=combine, shared_a=shared_a), torch.randn(5, WIDE)
    weight, expected = made.weight.clone(), layer(x)
    layer.merge()
    torch.testing.assert_close(layer.base_layer(x), expected, rtol=0, atol=1e-5)
    layer.unmerge()
    torch.testing.assert_close(made.weight, weight, **EXACT)


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_a_merged_layer_gives_the_same_output_as_before(combine):
    layer, x = make_layer(combine=combine), torch.randn(5, WIDE)
    expected, base = layer(x), layer.base_layer(x)
    layer.merge()
    layer.merge()  # a second time changes nothing
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), base, rtol=0, atol=1e-5)


def test_a_routed_layer_refuses_to_give_one_weight():
    with pytest.raises(AdapterError, match="Layer 'proj' is routed per token"):
        make_layer().get_delta_weight("default")


@pytest.mark.parametrize("settings", [{}, {"shared_a": False}, {"router_input": "Ax"}], ids=str)
def test_a_rank_wider_than_the_layer_is_the_formula_too(settings):
    layer, x = make_layer(r=WIDE + 3, **settings), torch.randn(5, WIDE)
    torch.testing.assert_close(layer(x), by_loop(layer, x), **EXACT)


def test_parameters_stand_in_the_order_of_stored_optimizer_states() -> None:
    names = [name.split(".")[0] for name, weight in make_layer().named_parameters() if weight.requires_grad]
    assert names == ["hydralora_A", "hydralora_B", "hydralora_router"]


def test_states_of_other_parameters_are_refused_before_a_kernel_reads_them() -> None:
    layer = make_layer()
    weights = [weight for weight in layer.parameters() if weight.requires_grad]
    made = torch.optim.AdamW(weights)
    layer(torch.randn(3, WIDE)).sum().backward()
    made.step()
    check_states(made)
    other = torch.optim.AdamW(list(reversed(weights)))
    other.load_state_dict(made.state_dict())
    with pytest.raises(TrainingError, match="is of other weights"):
        check_states(other)
