"""Products in bfloat16 where the processor has no instructions for it: float32 in between, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hydralora.adapters.build import add_adapter
from hydralora.bases.load import load_base
from hydralora.tuner import wide
from hydralora.tuner.wide import WideLinear, linear, times, widen
from tests.hydralora.conftest import DEVICE, make_llama, randomise

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="processors only")
NARROW = torch.bfloat16


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without instructions for bfloat16, whatever this one is, and weights that take several pieces."""
    monkeypatch.setattr(wide, "is_slow", lambda: True)
    monkeypatch.setattr(wide, "PIECE", 100)


def make_layer(bias: bool = True, *, trained: bool = False) -> WideLinear:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias).to(NARROW).requires_grad_(trained)
    widen(layer)
    assert isinstance(layer, WideLinear)
    return layer


def exact(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The product in float64, rounded once."""
    bias = None if layer.bias is None else layer.bias.double()
    return nn.functional.linear(x.double(), layer.weight.double(), bias).to(NARROW)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("tokens", [1, 3, 4, 50])
def test_a_product_is_the_exact_one_rounded(tokens: int, bias: bool) -> None:
    layer, x = make_layer(bias), torch.randn(2, tokens, 24).to(NARROW)
    torch.testing.assert_close(layer(x), exact(layer, x), rtol=2**-7, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), exact(layer, x), rtol=2**-7, atol=1e-3)


def test_pieces_of_a_weight_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x, grad = torch.randn(40, 24).to(NARROW), torch.randn(9, 24), torch.randn(9, 40)
    several = linear(x, weight), times(grad, weight)
    monkeypatch.setattr(wide, "PIECE", 2**20)
    torch.testing.assert_close(several, (linear(x, weight), times(grad, weight)))
    torch.testing.assert_close(several, (x @ weight.float().T, grad @ weight.float()))


def test_every_gradient_is_the_exact_one_rounded() -> None:
    layer, x = make_layer(trained=True), torch.randn(2, 9, 24).to(NARROW).requires_grad_()
    upper = torch.randn(2, 9, 40).to(NARROW)
    found = torch.autograd.grad(layer(x), [x, layer.weight, layer.bias], upper)
    plain = nn.Linear(24, 40).double()
    plain.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    wide_x = x.detach().double().requires_grad_()
    wanted = torch.autograd.grad(plain(wide_x), [wide_x, plain.weight, plain.bias], upper.double())
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs.to(NARROW), rtol=2**-7, atol=0.02)


def test_a_second_gradient_follows_the_first() -> None:
    layer, x = make_layer(), torch.randn(5, 24).to(NARROW).requires_grad_()
    (first,) = torch.autograd.grad(layer(x).float().pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.float().sum(), x)
    hessian = 2 * layer.weight.float().T @ layer.weight.float()
    torch.testing.assert_close(second.float(), hessian.sum(0).expand(5, 24), rtol=0.05, atol=0.05)


def test_nothing_in_float32_is_kept_between_the_passes() -> None:
    layer, x = make_layer(), torch.randn(50, 24).to(NARROW).requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    assert [tensor.data_ptr() for tensor in kept] == [layer.weight.data_ptr()]


@pytest.mark.parametrize(
    ("x", "helps"),
    [
        (torch.ones(4, 24, dtype=NARROW), True),
        (torch.ones(3, 24, dtype=NARROW), False),  # read faster as it lies
        (torch.ones(9, 24), False),
        (torch.ones(0, 24, dtype=NARROW), False),
    ],
)
def test_only_long_inputs_in_bfloat16_are_widened(x: torch.Tensor, helps: bool) -> None:
    assert wide.helps(x, x.dtype) is helps


def test_a_processor_with_the_instructions_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, base_folder: Path, ids: torch.Tensor
) -> None:
    monkeypatch.setattr(wide, "is_slow", lambda: False)
    model = load_base(str(base_folder), dtype="bfloat16", device="cpu")[0]
    assert not any(isinstance(module, WideLinear) for module in model.modules())
    assert not wide.helps(torch.ones(9, 24, dtype=NARROW), NARROW)


def test_a_base_is_saved_as_it_was(base_folder: Path, tmp_path: Path) -> None:
    model = load_base(str(base_folder), dtype="bfloat16", device="cpu")[0]
    assert sum(isinstance(module, WideLinear) for module in model.modules()) == 15
    model.save_pretrained(tmp_path)
    again = load_base(str(base_folder), device="cpu")[0].to(NARROW).state_dict()
    assert {name: value.dtype for name, value in model.state_dict().items()} == {name: NARROW for name in again}
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def adapted(kind: torch.dtype | None = None) -> Any:
    model = make_llama().to(NARROW)
    widen(model)
    model = randomise(add_adapter(model, "hydralora", {"r": 4, "num_experts": 3}), scale=0.05)
    if kind is not None:
        for weight in model.parameters():
            weight.data = weight.data.to(kind) if weight.requires_grad else weight.data
    return model


@pytest.mark.parametrize("kind", [None, NARROW], ids=["float32 adapter", "bfloat16 adapter"])
def test_a_routed_model_learns_nearer_to_the_exact_one(
    kind: torch.dtype | None, ids: torch.Tensor, monkeypatch
) -> None:
    def gradients(model: Any) -> tuple[float, torch.Tensor]:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss.item(), torch.cat([w.grad.double().flatten() for w in model.parameters() if w.requires_grad])

    exact_loss, wanted = gradients(adapted(kind).double())
    here_loss, here = gradients(adapted(kind))
    monkeypatch.setattr(wide, "is_slow", lambda: False)
    there_loss, there = gradients(adapted(kind))
    assert (here - wanted).norm() < 1.05 * (there - wanted).norm() < 0.1 * wanted.norm()
    assert abs(here_loss - exact_loss) < 0.02 and abs(there_loss - exact_loss) < 0.02
