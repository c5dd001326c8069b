"""Adapters of the authors' HydraLoRA code give the logits of their own forward here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hydralora.adapters.authors import import_authors_adapter
from hydralora.errors import AdapterError

RANK, HEADS, ALPHA = 4, 3, 32
TARGETS = ("gate_proj", "up_proj", "down_proj")  # the only ones their code can adapt


class AuthorsLinear(nn.Module):
    """Their forward without dropout, as they wrote it: one expert after the other."""

    def __init__(self, base: nn.Linear, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.base, self.weights = base, weights

    def forward(self, x: Tensor) -> Tensor:
        result = self.base(x)
        route = torch.softmax(x @ self.weights["lora_route"].T, -1, dtype=torch.float32).to(x.dtype)
        for i in range(HEADS):
            expert = (x @ self.weights["lora_A"].T) @ self.weights[f"lora_B{i}"].T
            result = result + route[:, :, i].unsqueeze(-1) * expert * (ALPHA / RANK)
        return result


def authors_weights(model: Any) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    found = {}
    for name, layer in model.named_modules():
        if name.endswith(TARGETS):
            shapes = {"lora_A": (RANK, layer.in_features), "lora_route": (HEADS, layer.in_features)}
            shapes |= {f"lora_B{i}": (layer.out_features, RANK) for i in range(HEADS)}
            device = layer.weight.device
            found[name] = {
                part: (torch.randn(shape, generator=generator) * 0.2).to(device) for part, shape in shapes.items()
            }
    return found


@pytest.fixture
def theirs(tiny: Any, tmp_path: Path) -> Path:
    """A folder as they would leave it, converted to safetensors."""
    file = {
        f"base_model.model.{layer}.{part}.weight": tensor
        for layer, parts in authors_weights(tiny).items()
        for part, tensor in parts.items()
    }
    folder = tmp_path / "theirs"
    folder.mkdir()
    save_file(file, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_nums": HEADS,
        "lora_dropout": 0.05,
        "target_modules": list(TARGETS),
        "base_model_name_or_path": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def test_logits_equal_their_forward(theirs, load_tiny, ids, tmp_path):
    import_authors_adapter(theirs, tmp_path / "ours")
    ours = logits(PeftModel.from_pretrained(load_tiny(), tmp_path / "ours"), ids)
    patched = load_tiny()
    for name, weights in authors_weights(patched).items():
        parent, _, last = name.rpartition(".")
        setattr(patched.get_submodule(parent), last, AuthorsLinear(patched.get_submodule(name), weights))
    torch.testing.assert_close(ours, logits(patched, ids), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, logits(load_tiny(), ids), atol=1e-2)


def test_settings_are_taken_over(theirs, tmp_path):
    config = import_authors_adapter(theirs, tmp_path / "ours")
    assert (config.r, config.num_experts, config.lora_alpha, config.lora_dropout) == (RANK, HEADS, ALPHA, 0.05)


def test_alpha_is_asked_for_where_nothing_says_it(theirs, tmp_path):
    (theirs / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"does not say its `lora_alpha`. Give `alpha`"):
        import_authors_adapter(theirs, tmp_path / "ours")
    assert import_authors_adapter(theirs, tmp_path / "ours", alpha=16).lora_alpha == 16


def test_a_pickle_is_never_read_and_the_way_out_is_told(theirs, tmp_path):
    (theirs / "adapter_model.safetensors").unlink()
    (theirs / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(AdapterError, match=r"adapter_model.bin is pickled.*weights_only=True"):
        import_authors_adapter(theirs, tmp_path / "ours")


def change(key: str, tensor: Tensor | None) -> Callable[[dict[str, Tensor]], None]:
    name = f"base_model.model.model.layers.1.mlp.up_proj.{key}.weight"

    def apply(file: dict[str, Tensor]) -> None:
        file.pop(name, None)
        if tensor is not None:
            file[name] = tensor

    return apply


BROKEN = [
    (change("lora_A", None), "Layer 'model.layers.1.mlp.up_proj' misses lora_A"),
    (change("lora_B2", None), "Layer 'model.layers.1.mlp.up_proj' misses lora_B2"),
    (change("lora_route", None), "misses lora_route"),
    (change("lora_B3", torch.zeros(48, RANK)), "has more than the 3 heads"),
    (change("lora_B1", torch.zeros(48, 5)), r"lora_B1 has shape \(48, 5\), expected \(48, 4\)"),
    (change("lora_route", torch.zeros(2, 32)), r"lora_route has shape \(2, 32\), expected \(3, 32\)"),
    (change("lora_A", torch.zeros(4)), r"lora_A has shape \(4,\), expected a matrix"),
    (change("lora_C", torch.zeros(1)), r"up_proj.lora_C.weight' is no weight of an adapter"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN, ids=[sentence[-30:] for _, sentence in BROKEN])
def test_a_file_that_is_not_whole_is_refused_with_layer_and_value(spoil, sentence, theirs, tmp_path):
    file = load_file(theirs / "adapter_model.safetensors")
    spoil(file)
    save_file(file, theirs / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=sentence):
        import_authors_adapter(theirs, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_truncated_file_is_refused(theirs, tmp_path):
    path = theirs / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AdapterError, match=r"adapter_model.safetensors is damaged"):
        import_authors_adapter(theirs, tmp_path / "ours")


def test_another_number_of_heads_than_stated_is_refused(theirs, tmp_path):
    settings = json.loads((theirs / "adapter_config.json").read_text())
    (theirs / "adapter_config.json").write_text(json.dumps({**settings, "lora_nums": 4}))
    with pytest.raises(AdapterError, match=r"has 3 heads, but adapter_config.json says `lora_nums` 4"):
        import_authors_adapter(theirs, tmp_path / "ours")


def test_the_scale_of_r_lora_is_taken_over_where_it_is_said(theirs, load_tiny, tmp_path):
    config = theirs / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_rslora": True}))
    import_authors_adapter(theirs, tmp_path / "ours")
    model = PeftModel.from_pretrained(load_tiny(), tmp_path / "ours")
    assert {layer.scaling["default"] for layer in model.base_model.routed_layers()} == {ALPHA / RANK**0.5}
