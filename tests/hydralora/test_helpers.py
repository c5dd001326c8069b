"""What PEFT and transformers offer for adapters: each works with routed ones, or refuses and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import rescale_adapter_scale
from peft.optimizers import create_lorafa_optimizer
from peft.utils.hotswap import hotswap_adapter
from torch import Tensor

from hydralora import HydraLoraConfig, lora_fa_optimizer, scale_adapters, swap_adapter
from hydralora.errors import AdapterError
from hydralora.tuner.swap import projected
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_layer import make_layer
from tests.hydralora.test_stacked import adapt as adapt_experts
from tests.hydralora.test_stacked import logits as logits_of_experts
from tests.hydralora.test_stacked import make as make_mixture

SETTINGS: dict[str, Any] = {"r": 2, "num_experts": 3, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM"}


def adapt(seed: int = 1, **settings: Any) -> Any:
    return randomise(get_peft_model(make_llama(), HydraLoraConfig(**{**SETTINGS, **settings})), seed).eval()


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("form", [{}, {"router_scope": "block"}, {"combine": "mean"}, {"head_init": "offset"}], ids=str)
def test_an_adapter_is_swapped_in_place(form, ids, tmp_path):
    model, other = adapt(1, **form), adapt(2, **form)
    other.save_pretrained(tmp_path)
    places = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    swap_adapter(model, tmp_path)
    assert torch.equal(logits(model, ids), logits(other, ids))
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == places


def test_heads_beside_stacked_experts_are_swapped_too(tmp_path):
    model, other = adapt_experts(make_mixture()), adapt_experts(make_mixture())
    randomise(other, seed=9)
    other.save_pretrained(tmp_path)
    swap_adapter(model, tmp_path)
    assert torch.equal(logits_of_experts(model), logits_of_experts(other))


UNFIT = [
    ({"num_experts": 2}, "`num_experts` of 'default' is 3, and of the adapter to swap in 2. Load it beside"),
    ({"lora_alpha": 4.0}, "`lora_alpha` of 'default' is 16.0, and of the adapter to swap in 4.0"),
    ({"target_modules": ["q_proj"]}, "`target_modules` of 'default' is"),
]


@pytest.mark.parametrize(("settings", "sentence"), UNFIT, ids=str)
def test_an_adapter_that_differs_is_refused_and_nothing_changes(settings, sentence, ids, tmp_path):
    model = adapt()
    before = logits(model, ids)
    adapt(2, **settings).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=sentence):
        swap_adapter(model, tmp_path)
    assert torch.equal(logits(model, ids), before)


def test_a_lora_is_not_swapped_into_a_routed_adapter(tmp_path):
    get_peft_model(make_llama(), LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=r"Only routed adapters are swapped here, and one is a .*LORA"):
        swap_adapter(adapt(), tmp_path)


def test_a_merged_adapter_is_not_swapped(tmp_path):
    model = adapt(combine="mean")
    adapt(2, combine="mean").save_pretrained(tmp_path)
    model.merge_adapter()
    with pytest.raises(AdapterError, match=r"'default' is merged into the base. Call `unmerge_adapter"):
        swap_adapter(model, tmp_path)


def test_pefts_hotswap_refuses_before_anything_changes(ids, tmp_path):
    model = adapt()
    before = logits(model, ids)
    adapt(2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Hotswapping only supports LORA but HYDRALORA was passed"):
        hotswap_adapter(model, str(tmp_path), "default")
    assert torch.equal(logits(model, ids), before)


def update(model: Any, ids: Tensor, factor: float) -> Tensor:
    """Output of the first adapted layer less that of its base, with the scale changed."""
    layer = model.base_model.routed_layers()[0]
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    with scale_adapters(model, factor), torch.inference_mode():
        return layer(x) - layer.base_layer(x)


def test_the_scale_of_adapters_is_changed_inside_a_context_and_put_back(ids):
    model = adapt()
    before = logits(model, ids)
    torch.testing.assert_close(update(model, ids, 0.5), 0.5 * update(model, ids, 1.0), rtol=1e-4, atol=1e-5)
    with scale_adapters(model, 0.0):
        torch.testing.assert_close(logits(model, ids), logits(make_llama(), ids), rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(model, ids), before)


def test_the_scale_of_heads_beside_experts_is_changed_too():
    model = adapt_experts(make_mixture())
    with scale_adapters(model, 0.0):
        torch.testing.assert_close(logits_of_experts(model), logits_of_experts(make_mixture()), rtol=1e-4, atol=1e-5)


def test_pefts_rescaling_refuses_and_a_model_without_adapters_has_nothing_to_scale():
    with (
        pytest.raises(ValueError, match="only supported for models with `LoraLayer`s"),
        rescale_adapter_scale(adapt(), 2),
    ):
        pass
    with pytest.raises(AdapterError, match="no routed adapter to scale"), scale_adapters(make_llama(), 2.0):
        pass


@pytest.mark.parametrize("shared", [True, False])
def test_lora_fa_moves_each_heads_update_along_its_whole_gradient_as_well_as_a_allows(shared):
    layer = make_layer(shared_a=shared).double()
    generator = torch.Generator().manual_seed(4)
    whole = torch.randn(4, 9, 12, generator=generator).double()  # gradient of s B_i A_i for each head
    scale, a = layer.scaling["default"], layer.hydralora_A["default"].weight.detach()
    own = [a] * 4 if shared else list(a.chunk(4))
    grads = [scale * whole[i] @ own[i].T for i in range(4)]
    layer.hydralora_B["default"].weight.grad = torch.stack(grads, 1).flatten(1)
    found = projected(layer, "default").view(9, 4, 3)
    for i in range(4):
        best = torch.linalg.lstsq(scale * own[i].T, whole[i].T).solution.T
        torch.testing.assert_close(found[:, i], best, rtol=1e-3, atol=1e-4)


def test_lora_fa_leaves_a_and_trains_heads_and_routers(ids):
    model = get_peft_model(make_llama(), HydraLoraConfig(**SETTINGS)).train()
    optimizer = lora_fa_optimizer(model, lr=1e-2)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    losses = []
    for _ in range(8):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        kept = model.base_model.routed_layers()[0].hydralora_B["default"].weight.grad.clone()
        optimizer.step()
        assert torch.equal(model.base_model.routed_layers()[0].hydralora_B["default"].weight.grad, kept)
        optimizer.zero_grad()
        losses.append(loss.item())
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert losses[-1] < losses[0] - 0.05
    assert {name.split("hydralora_")[1].split(".")[0] for name in moved} == {"B", "router"}


def test_lora_fa_is_refused_where_it_is_not_defined():
    with pytest.raises(AdapterError, match=r"LoRA-FA is for routed linear layers, and .*stands beside stacked experts"):
        lora_fa_optimizer(adapt_experts(make_mixture()))
    with pytest.raises(AdapterError, match="this model has none"):
        lora_fa_optimizer(make_llama())


def test_pefts_lora_fa_fails_at_its_first_step_and_trains_nothing_wrongly(ids):
    model = adapt().train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = create_lorafa_optimizer(model, r=2, lora_alpha=16, lr=1e-2)
    model(input_ids=ids, labels=ids).loss.backward()
    with pytest.raises(TypeError):
        optimizer.step()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters() if "hydralora" in name)


def test_add_adapter_of_transformers_works_or_names_the_peft_it_wants(ids):
    base = make_llama().eval()
    before = logits(base, ids)
    try:
        base.add_adapter(HydraLoraConfig(**SETTINGS))
    except ValueError as error:  # transformers 5.24 asks for a newer PEFT than there is a range for
        assert "PEFT" in str(error) and "0.2" in str(error)
        assert not any("hydralora_" in name for name, _ in base.named_parameters())
    else:
        assert any("hydralora_" in name for name, _ in base.named_parameters())
    torch.testing.assert_close(logits(base, ids), before)
