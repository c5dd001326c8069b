"""The method as PEFT sees it: build, save, load elsewhere, switch, delete, many architectures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

import hydralora
from hydralora import HydraLoraConfig, add_adapter
from hydralora.errors import AdapterError
from tests.hydralora.conftest import randomise

TARGETS = ["q_proj", "v_proj", "up_proj"]


def make_config(**settings: Any) -> HydraLoraConfig:
    values = {"r": 8, "num_experts": 4, "lora_alpha": 16, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    return HydraLoraConfig(**{**values, **settings})


@pytest.fixture
def adapted(tiny: Any) -> Any:
    """The tiny Llama with random heads and routers in six layers."""
    return randomise(get_peft_model(tiny, make_config())).eval()


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits


def test_state_dict_has_exactly_the_expected_keys_and_shapes(adapted, tmp_path):
    adapted.save_pretrained(tmp_path)
    saved = {k: tuple(v.shape) for k, v in load_file(tmp_path / "adapter_model.safetensors").items()}
    expected = {}
    for block in (0, 1):
        for part, out in (("self_attn.q_proj", 32), ("self_attn.v_proj", 32), ("mlp.up_proj", 48)):
            stem = f"base_model.model.model.layers.{block}.{part}.hydralora_"
            expected[f"{stem}A.weight"] = (8, 32)
            expected[f"{stem}B.weight"] = (out, 4 * 8)
            expected[f"{stem}router.weight"] = (4, 32)
    assert saved == expected


def test_only_safetensors_and_texts_are_written(adapted, tmp_path):
    adapted.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md"}


def test_only_adapter_weights_are_trained(adapted):
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert len(trained) == 18 and all("hydralora_" in name for name in trained)


LOAD = """
import sys
{imports}
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
ids = torch.load(sys.argv[3], weights_only=True)
with torch.inference_mode():
    torch.save(model(input_ids=ids).logits, sys.argv[4])
"""


@pytest.mark.parametrize("imports", ["import peft\nimport hydralora", "import hydralora\nimport peft"])
def test_a_fresh_process_loads_the_adapter_exactly(adapted, base_folder, ids, tmp_path, imports):
    adapted.save_pretrained(tmp_path / "adapter")
    torch.save(ids.cpu(), tmp_path / "ids.pt")
    files = [base_folder, tmp_path / "adapter", tmp_path / "ids.pt", tmp_path / "logits.pt"]
    command = [sys.executable, "-c", LOAD.format(imports=imports), *map(str, files)]
    root = Path(hydralora.__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = torch.load(tmp_path / "logits.pt", weights_only=True)
    # Another process may have another number of threads, and so another order of additions.
    torch.testing.assert_close(there, logits(adapted.cpu(), ids.cpu()), rtol=0, atol=5e-6)


@pytest.mark.parametrize("first", ["tuner.config", "tuner.gates"])
def test_the_method_is_registered_whichever_module_is_imported_first(first):
    code = f"import hydralora.{first}\nfrom peft import PeftType\nassert PeftType.HYDRALORA == 'HYDRALORA'"
    code += "\nfrom hydralora import HydraLoraConfig\nassert HydraLoraConfig(r=2).r == 2"
    root = Path(hydralora.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_hydralora_loads_neither_torch_nor_peft():
    code = "import sys, hydralora; sys.exit(any(name in sys.modules for name in ('torch', 'peft')))"
    root = Path(hydralora.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_saved_and_loaded_logits_are_equal_bit_for_bit(adapted, load_tiny, ids, tmp_path):
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path).eval()
    assert torch.equal(logits(loaded, ids), logits(adapted, ids))


def test_a_saved_configuration_comes_back_unchanged(tmp_path):
    config = make_config(router_input="Ax", balance_weight=0.1, head_mask=[2], rank_pattern={"q_proj": 2})
    config.save_pretrained(tmp_path)
    assert HydraLoraConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_a_new_adapter_leaves_the_logits_of_the_base(tiny, ids):
    before = logits(tiny, ids)
    assert torch.equal(logits(get_peft_model(tiny, make_config()).eval(), ids), before)


def test_a_disabled_adapter_gives_the_logits_of_the_base(adapted, load_tiny, ids):
    with adapted.disable_adapter():
        disabled = logits(adapted, ids)
    assert torch.equal(disabled, logits(load_tiny(), ids))
    assert not torch.equal(disabled, logits(adapted, ids))


def test_several_adapters_live_beside_each_other(adapted, ids):
    first = logits(adapted, ids)
    adapted.add_adapter("second", make_config(r=4, num_experts=2, target_modules=["q_proj", "k_proj"]))
    assert torch.equal(logits(adapted, ids), first)
    adapted.set_adapter("second")
    randomise(adapted, seed=5)
    second = logits(adapted, ids)
    adapted.set_adapter("default")
    assert torch.equal(logits(adapted, ids), first) and not torch.equal(first, second)


def test_each_adapter_of_several_is_saved_and_loaded_on_its_own(adapted, load_tiny, ids, tmp_path):
    adapted.add_adapter("second", make_config(r=4, num_experts=2))
    adapted.set_adapter("second")
    second = logits(randomise(adapted, seed=5), ids)
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path / "second").eval()
    assert torch.equal(logits(loaded, ids), second)


def test_deleting_an_adapter_leaves_the_other_as_it_was(adapted, ids):
    first = logits(adapted, ids)
    adapted.add_adapter("second", make_config(r=4))
    adapted.delete_adapter("second")
    assert torch.equal(logits(adapted, ids), first)
    assert not any("second" in name for name, _ in adapted.named_parameters())


def test_unloading_gives_the_base_back(adapted, load_tiny, ids):
    base = adapted.unload()
    assert torch.equal(logits(base, ids), logits(load_tiny(), ids))
    assert not any("hydralora" in name for name, _ in base.named_parameters())


@pytest.mark.parametrize("how", ["merge_adapter", "merge_and_unload"])
def test_merging_a_routed_adapter_is_refused_and_changes_nothing(adapted, ids, how):
    before = logits(adapted, ids)
    with pytest.raises(AdapterError, match="routed per token, so no single weight equals it"):
        getattr(adapted, how)()
    assert torch.equal(logits(adapted, ids), before)


def test_fixed_combinations_merge_to_the_same_logits(tiny, ids):
    adapted = randomise(get_peft_model(tiny, make_config(combine="mean", shared_a=False))).eval()
    before = logits(adapted, ids)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits(merged, ids), before, rtol=1e-4, atol=1e-4)


def test_an_unknown_target_is_refused_by_name(tiny):
    with pytest.raises(ValueError, match="no_such_layer"):
        get_peft_model(tiny, make_config(target_modules=["no_such_layer"]))


def test_a_target_that_is_not_linear_is_refused_by_name(tiny):
    with pytest.raises(AdapterError, match=r"'model.embed_tokens' is a Embedding; only linear layers"):
        get_peft_model(tiny, make_config(target_modules=["embed_tokens"]))


def test_a_rank_too_large_names_the_layer(tiny):
    with pytest.raises(AdapterError, match=r"layers.0.self_attn.q_proj.*between 1 and 32.*got 64\."):
        add_adapter(tiny, "hydralora", {"r": 64})


def test_a_rank_wider_than_a_layer_is_taken_as_peft_takes_it(tiny):
    layers = get_peft_model(tiny, make_config(r=64)).base_model.routed_layers()
    assert {layer.r["default"] for layer in layers} == {64}


WRONG = [
    ({"top_k": 5}, "`top_k` must be at most `num_experts`, 4, got 5."),
    ({"top_k": 1, "head_mask": [0]}, "`top_k` and `head_mask` do not go together"),
    ({"temperature": 0.0}, "`temperature` must be a number from 0.001 to 1,000.0, got 0.0."),
    ({"z_weight": -1.0}, "`z_weight` must be a number from 0.0"),
    ({"balance_loss": "none"}, "`balance_loss` must be one of square, switch, groups, got 'none'."),
    ({"r": 0}, "`r` must be a whole number from 1 to 65,536, got 0."),
    ({"num_experts": 0}, "`num_experts` must be a whole number from 1 to 1,024, got 0."),
    ({"lora_dropout": 1.0}, r"`lora_dropout` must be in \[0, 1\), got 1.0."),
    ({"combine": "vote"}, "`combine` must be one of router, mean, sum, hard, got 'vote'."),
    ({"router_init": "zero"}, "never breaks their symmetry"),
    ({"compensation_top_k": -2}, "`compensation_top_k` must be a whole number from -1 to 1,024, got -2"),
    ({"compensation_beta": -0.5}, "`compensation_beta` must be a number from 0.0 to 1,000,000.0, got -0.5"),
    ({"head_mask": [4]}, r"some but not all of the heads 0..3, got \[4\]."),
    ({"head_mask": [0, 1, 2, 3]}, "some but not all of the heads"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=[str(w[0]) for w in WRONG])
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(AdapterError, match=sentence):
        make_config(**settings)


def test_rank_and_alpha_can_differ_by_layer(tiny):
    pattern = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 4.0}}
    layers = {x.name: x for x in get_peft_model(tiny, make_config(**pattern)).base_model.routed_layers()}
    assert layers["model.layers.0.self_attn.q_proj"].r["default"] == 2
    assert layers["model.layers.0.self_attn.v_proj"].scaling["default"] == 2.0
    assert layers["model.layers.1.self_attn.v_proj"].scaling["default"] == 0.5


PATTERNS = [
    {r"model\.layers\.1\..*": 2},
    {"(q|v)_proj": 2, "up_proj": 3},
    {r".*\.0\.self_attn\.[qv]_proj": 2, "q_proj": 3},
    {"q_proj": 3, r".*\.0\.self_attn\.[qv]_proj": 2},
    {"layers.1.self_attn.v_proj": 2},
    {"proj": 2},
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_patterns_choose_the_layers_that_pefts_lora_chooses(pattern, load_tiny, tmp_path):
    settings = {
        "target_modules": TARGETS,
        "rank_pattern": pattern,
        "alpha_pattern": {k: 7.0 * v for k, v in pattern.items()},
    }
    theirs = get_peft_model(load_tiny(), LoraConfig(r=8, lora_alpha=16, **settings)).base_model.model
    model = get_peft_model(load_tiny(), make_config(**settings))
    model.save_pretrained(tmp_path)
    for ours in (model, PeftModel.from_pretrained(load_tiny(), tmp_path)):
        for layer in ours.base_model.routed_layers():
            other = theirs.get_submodule(layer.name)
            assert (layer.r, layer.scaling) == (other.r, other.scaling), layer.name


def test_a_pattern_that_matches_nothing_is_told(tiny):
    with pytest.warns(RuntimeWarning, match=r"rank_pattern keys did not match any targeted module .*q_prj"):
        get_peft_model(tiny, make_config(rank_pattern={"q_prj": 2}))


def test_a_pattern_that_is_no_expression_is_refused_with_its_text(tiny):
    with pytest.raises(AdapterError, match=r"no regular expression \(.*\): .*q_proj\("):
        get_peft_model(tiny, make_config(rank_pattern={"q_proj(": 2}))


def test_the_model_card_of_r_lora_says_its_scale(tiny, load_tiny, tmp_path):
    adapted = add_adapter(tiny, "r_lora", {"r": 4, "lora_alpha": 32.0})
    adapted.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "scaled by `lora_alpha` over the root of `r`: `lora_alpha` 32, `r` 4, scale 16." in card
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path).base_model.routed_layers()
    assert {layer.scaling["default"] for layer in loaded} == {16.0}


def test_there_is_no_auxiliary_loss_unless_asked_for(adapted, ids):
    adapted.train()(input_ids=ids)
    assert adapted.base_model.auxiliary_loss() is None


def test_gradient_checkpointing_of_the_model_gives_the_same_gradients(tiny, ids):
    adapted = randomise(get_peft_model(tiny, make_config())).train()
    adapted(input_ids=ids, labels=ids).loss.backward()
    plain = {n: w.grad.clone() for n, w in adapted.named_parameters() if w.grad is not None}
    adapted.zero_grad()
    adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapted(input_ids=ids, labels=ids).loss.backward()
    again = {n: w.grad for n, w in adapted.named_parameters() if w.grad is not None}
    assert plain.keys() == again.keys()
    assert all(torch.equal(again[name], plain[name]) for name in plain)


def test_layers_trained_whole_are_saved_loaded_and_switched_off(tiny, load_tiny, ids, tmp_path):
    adapted = randomise(get_peft_model(tiny, make_config(modules_to_save=["lm_head"]))).eval()
    assert "lm_head.modules_to_save.default.weight" in "".join(
        n for n, w in adapted.named_parameters() if w.requires_grad
    )
    adapted.save_pretrained(tmp_path)
    assert "base_model.model.lm_head.weight" in load_file(tmp_path / "adapter_model.safetensors")
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path).eval()
    assert torch.equal(logits(loaded, ids), logits(adapted, ids))
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded, ids), logits(load_tiny(), ids))


def test_only_the_blocks_asked_for_are_adapted(tiny):
    layers = get_peft_model(tiny, make_config(layers_to_transform=0)).base_model.routed_layers()
    assert {layer.name.split(".")[2] for layer in layers} == {"0"} and len(layers) == 3


def test_an_adapter_with_settings_by_layer_comes_back_exactly(tiny, load_tiny, ids, tmp_path):
    pattern = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 4.0}}
    adapted = randomise(get_peft_model(tiny, make_config(**pattern))).eval()
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path).eval()
    assert torch.equal(logits(loaded, ids), logits(adapted, ids))


def test_the_model_card_says_how_the_adapter_is_loaded_and_says_it_once(adapted, tmp_path):
    for _ in range(2):
        adapted.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert card.count("import hydralora") == 1 and card.startswith("---"), "PEFT's own part stays"


def test_what_the_model_card_says_is_true(adapted, base_folder, tmp_path):
    adapted.save_pretrained(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text("utf-8"), re.DOTALL)
    base = (
        "from transformers import AutoModelForCausalLM as M\nimport sys\nbase_model = M.from_pretrained(sys.argv[1])\n"
    )
    code = base + code.replace('"folder of this adapter"', "sys.argv[2]")
    root = Path(hydralora.__file__).parent.parent
    for script, status in ((code, 0), (code.replace("import hydralora\n", ""), 1)):
        command = [sys.executable, "-c", script, str(base_folder), str(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert "KeyError: 'HYDRALORA'" in done.stderr  # as the card says
