"""Adapters taken elsewhere: stock PEFT loads them, they are what the formula says, and the gap is the true one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, set_seed

import hydralora
from hydralora import add_adapter, override_experts
from hydralora.analysis.export import export_run
from hydralora.analysis.gaps import measure_gaps
from hydralora.analysis.plain_lora import export_lora, mean_gates, uniform_gates
from hydralora.analysis.runs import load_run
from hydralora.config import TrainConfig
from hydralora.corpus.batches import Collator
from hydralora.corpus.encode import encode_example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.split import split_examples
from hydralora.errors import AdapterError, StoppedError
from hydralora.progress import Progress
from hydralora.results import Export
from hydralora.training.train import train_adapter
from hydralora.tuner.gates import GateCapture
from tests.hydralora.conftest import DEVICE, randomise
from tests.hydralora.test_train import make_config

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "hydralora": ("hydralora", {"r": 4, "num_experts": 2}),
    "lora_moe": ("lora_moe", {"r": 4, "num_experts": 3}),
    "lope": ("lope", {"r": 4, "num_experts": 3}),
    "lora": ("lora", {"r": 4}),
    "thanora": ("thanora", {"r": 6, "tasks": "label"}),
    "meta_lora": ("meta_lora", {"r": 4, "tasks": "label"}),
    "mean": ("lora_split", {"r": 4, "num_experts": 2, "combine": "mean"}),
    "sum": ("lora_split", {"r": 4, "num_experts": 2, "combine": "sum"}),
    "hard": ("lora_split", {"r": 4, "num_experts": 2, "combine": "hard", "tasks": "label"}),
    "full": ("full", {}),
    "prompt": ("prompt_tuning", {"num_virtual_tokens": 3}),
}


@pytest.fixture(scope="module")
def runs(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trains a run of ``RUNS`` when it is first asked for."""
    root, done = tmp_path_factory.mktemp("runs"), set()

    def get(name: str) -> Path:
        if name not in done:
            method, adapter = RUNS[name]
            config = make_config(
                base_folder,
                method,
                adapter,
                max_steps=6,
                learning_rate=0.05,
                save_every=0,
                eval_every=0,
                held_out_fraction=0.3,
            )
            train_adapter(config, easy_corpus, root / name)
            done.add(name)
        return root / name

    return get


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def exported_logits(load_tiny: Any, folder: Path, ids: torch.Tensor) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(load_tiny(), folder), ids)


WITHOUT_US = """
import sys, torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2]).eval()
assert not any(name.startswith("hydralora") for name in sys.modules)
with torch.inference_mode():
    torch.save(model(input_ids=torch.load(sys.argv[3], weights_only=True)).logits, sys.argv[4])
"""


def test_stock_peft_loads_an_export_in_a_process_without_us(runs, easy_corpus, base_folder, load_tiny, ids, tmp_path):
    export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "mean_gate")
    torch.save(ids.cpu(), tmp_path / "ids.pt")
    files = [base_folder, tmp_path / "out" / "adapter", tmp_path / "ids.pt", tmp_path / "logits.pt"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    there = torch.load(tmp_path / "logits.pt", weights_only=True)
    here = exported_logits(load_tiny, tmp_path / "out" / "adapter", ids)
    torch.testing.assert_close(there, here.cpu(), **CLOSE)


@pytest.mark.parametrize("name", ["hydralora", "lora_moe", "lope"])
@pytest.mark.parametrize("how", ["uniform", "mean_gate"])
def test_an_export_is_the_layer_with_constant_gates(runs, name, how, easy_corpus, load_tiny, ids, tmp_path):
    export_run(runs(name), easy_corpus, tmp_path / "out", how)
    gates = Export.read(tmp_path / "out").parts[0].gates
    live, _, _ = load_run(runs(name))
    for layer in live.base_model.routed_layers():  # the formula, one head after the other
        row, s, r = gates[layer.name], layer.scaling["default"], layer.r["default"]
        a, b = (
            layer.hydralora_A["default"].weight,
            layer.hydralora_B["default"].weight.view(layer.out_features, len(row), -1),
        )
        update = sum(s * g * b[:, i] @ (a if len(a) == r else a[i * r : (i + 1) * r]) for i, g in enumerate(row))
        layer.get_base_layer().weight.data += update
    with live.disable_adapter():
        torch.testing.assert_close(
            exported_logits(load_tiny, tmp_path / "out" / "adapter", ids), logits(live, ids), rtol=1e-3, atol=1e-3
        )


def test_a_shared_a_keeps_the_rank_and_own_ones_are_put_side_by_side(runs, easy_corpus, tmp_path):
    for name, rank in (("hydralora", 4), ("lora_moe", 12)):
        export_run(runs(name), easy_corpus, tmp_path / name, "uniform")
        config = json.loads((tmp_path / name / "adapter" / "adapter_config.json").read_text())
        assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", rank, rank)


def test_mean_gates_are_those_of_the_training_tokens(runs, easy_corpus):
    live, tokenizer, _ = load_run(runs("hydralora"))
    examples = Corpus(easy_corpus).take(split_examples(Corpus(easy_corpus), TrainConfig(held_out_fraction=0.3))[0][:5])
    made = Collator(tokenizer.pad_token_id)([encode_example(tokenizer, e, 64) for e in examples])
    batch = {name: tensor.to(live.device) for name, tensor in made.items()}
    with GateCapture(live) as capture, torch.inference_mode():
        live(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        gates = capture.take()[:, batch["attention_mask"].bool()].mean(1)
    found = mean_gates(live, [batch])
    torch.testing.assert_close(torch.tensor([found[name] for name in capture.names]), gates.cpu(), rtol=1e-4, atol=1e-5)


def test_the_measured_gap_is_the_true_one(runs, easy_corpus, load_tiny, tmp_path):
    result = export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "uniform")
    live, tokenizer, _ = load_run(runs("hydralora"))
    plain = PeftModel.from_pretrained(load_tiny(), tmp_path / "out" / "adapter").eval()
    loss, kl, count = 0.0, 0.0, 0
    for example in Corpus(easy_corpus).take(split_examples(Corpus(easy_corpus), TrainConfig(held_out_fraction=0.3))[1]):
        row = encode_example(tokenizer, example, 64)
        tokens = torch.tensor([row["input_ids"]], device=live.device)
        here, there = (torch.log_softmax(logits(m, tokens)[0].double(), -1) for m in (live, plain))
        for place in range(1, tokens.shape[1]):
            if row["labels"][place] != -100:
                loss -= float(there[place - 1, row["labels"][place]])
                kl += float((here[place - 1].exp() * (here[place - 1] - there[place - 1])).sum())
                count += 1
    part = result.parts[0]
    assert part.tokens == count and result.measured_on == "held-out"
    assert (part.loss, part.kl) == pytest.approx((loss / count, kl / count), rel=1e-3, abs=1e-6)


def test_a_model_is_no_distance_from_itself(tiny, ids):
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    live, others = measure_gaps(tiny, {"same": tiny}, [batch])
    assert others["same"].kl == 0.0 and others["same"].loss == live.loss


def test_the_live_loss_is_that_of_the_run(runs, easy_corpus, tmp_path):
    result = export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "uniform")
    summary = load_run(runs("hydralora"))[2].summary
    # The Trainer averages over batches, we over tokens.
    assert result.parts[0].live_loss == pytest.approx(summary.held_out_loss, rel=0.01)
    assert result.parts[0].base_loss == pytest.approx(summary.held_out_loss_before, rel=0.01)


def test_each_task_gets_its_own_plain_lora(runs, easy_corpus, tmp_path):
    result = export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "cluster")
    assert [(part.name, part.folder) for part in result.parts] == [
        ("colour", "adapter-1"),
        ("thing", "adapter-2"),
    ]
    assert sum(part.examples for part in result.parts) == len(
        split_examples(Corpus(easy_corpus), TrainConfig(held_out_fraction=0.3))[1]
    )
    assert result.parts[0].gates != result.parts[1].gates


def test_hard_heads_are_exported_exactly(runs, easy_corpus, load_tiny, ids, tmp_path):
    result = export_run(runs("hard"), easy_corpus, tmp_path / "out", "cluster")
    assert all(part.kl < 1e-8 for part in result.parts)
    live, _, _ = load_run(runs("hard"))
    with override_experts(live, {}, force=1):
        expected = logits(live, ids)
    torch.testing.assert_close(exported_logits(load_tiny, tmp_path / "out" / "adapter-2", ids), expected, **CLOSE)


@pytest.mark.parametrize("name", ["mean", "sum"])
def test_fixed_heads_are_exported_exactly(runs, name, easy_corpus, tmp_path):
    part = export_run(runs(name), easy_corpus, tmp_path / "out", "uniform").parts[0]
    assert part.kl < 1e-8 and part.base_kl > 1e-6


@pytest.mark.parametrize("name", ["lora", "thanora", "meta_lora", "mean", "sum", "full"])
def test_exact_methods_merge_into_a_whole_model_with_the_same_logits(runs, name, easy_corpus, ids, tmp_path):
    result = export_run(runs(name), easy_corpus, tmp_path / "out", "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").to(DEVICE)
    torch.testing.assert_close(
        logits(model, ids), logits(load_run(runs(name))[0].to(DEVICE), ids), rtol=1e-3, atol=1e-3
    )
    assert result.parts[0].kl < 1e-6 and (tmp_path / "out" / "model" / "tokenizer.json").exists()


def test_mean_gates_are_merged_into_a_whole_model(runs, easy_corpus, load_tiny, ids, tmp_path):
    export_run(runs("hydralora"), easy_corpus, tmp_path / "plain", "mean_gate")
    result = export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "merged_mean")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").to(DEVICE)
    plain = exported_logits(load_tiny, tmp_path / "plain" / "adapter", ids)
    torch.testing.assert_close(logits(model, ids), plain, rtol=1e-3, atol=1e-3)
    assert result.parts[0].kl == pytest.approx(Export.read(tmp_path / "plain").parts[0].kl, rel=1e-2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "model"]


@pytest.mark.parametrize("name", ["lora", "thanora", "meta_lora"])
def test_a_plain_lora_is_taken_out_as_it_is(runs, name, easy_corpus, tmp_path):
    part = export_run(runs(name), easy_corpus, tmp_path / "out", "own").parts[0]
    assert part.kl < 1e-9 and (tmp_path / "out" / part.folder / "adapter_model.safetensors").exists()


REFUSED = [
    ("hydralora", "merged", r"Layer 'model.layers.0.self_attn.q_proj' is routed per token"),
    ("lora_moe", "merged", "is routed per token"),
    ("lope", "merged", "is routed per token"),
    ("hard", "merged", "takes the head of an example's task"),
    ("hard", "mean_gate", "no router whose gates could be averaged. Export it `cluster"),
    ("mean", "mean_gate", "no router whose gates could be averaged. Export it `merged`"),
    ("mean", "cluster", "no router whose gates could be averaged"),
    ("lora", "uniform", "LoRA has no heads to average"),
    ("prompt", "merged", "changes what the model reads, not its weights"),
    ("prompt", "uniform", "Prompt tuning has no heads to average"),
    (
        "hydralora",
        "sideways",
        "`how` must be one of uniform, mean_gate, cluster, merged, merged_mean, own, got 'sideways'",
    ),
]


@pytest.mark.parametrize(("name", "how", "reason"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_is_not_possible_is_refused_with_a_reason_and_leaves_nothing(
    runs, name, how, reason, easy_corpus, tmp_path
):
    with pytest.raises(AdapterError, match=reason):
        export_run(runs(name), easy_corpus, tmp_path / "out", how)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_export_leaves_nothing(runs, easy_corpus, tmp_path):
    with pytest.raises(StoppedError, match="nothing was kept"):
        export_run(
            runs("hydralora"), easy_corpus, tmp_path / "out", "uniform", progress=Progress(should_stop=lambda: True)
        )
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_exported(easy_corpus, tmp_path):
    with pytest.raises(AdapterError, match="no finished adapter yet"):
        export_run(tmp_path / "run", easy_corpus, tmp_path / "out", "uniform")


def test_patterns_of_rank_and_alpha_and_conv1d_survive(tmp_path):
    set_seed(0)
    small = GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)
    base = GPT2LMHeadModel(small).eval()
    settings = {"rank_pattern": {"c_fc": 2}, "alpha_pattern": {"c_fc": 3.0}, "use_rslora": True, "shared_a": False}
    config = hydralora.HydraLoraConfig(r=4, num_experts=2, combine="sum", target_modules=["c_attn", "c_fc"], **settings)
    live = randomise(get_peft_model(base, config)).eval()
    tokens = torch.randint(3, 40, (2, 6))
    expected = logits(live, tokens)
    export_lora(live, tmp_path, uniform_gates(live))
    plain = PeftModel.from_pretrained(live.unload(), tmp_path)
    torch.testing.assert_close(logits(plain, tokens), expected, **CLOSE)


def test_an_adapter_of_another_kind_has_no_heads(tiny, tmp_path):
    with pytest.raises(AdapterError, match="no heads to average"):
        export_lora(add_adapter(tiny, "lora", {"r": 2}), tmp_path, {})


SHARES = [({}, 1.0), ({"compensation_top_k": 0}, 0.75), ({"compensation_top_k": 2, "compensation_beta": 0.4}, 0.85)]


@pytest.mark.parametrize(("options", "total"), SHARES, ids=str)
def test_equal_shares_hold_as_much_of_the_silent_head_as_the_live_gates(options, total, tiny, ids):
    model = randomise(add_adapter(tiny, "lope", {"r": 2, "num_experts": 4, "router_input": "x", **options})).eval()
    for router in (layer.hydralora_router["default"] for layer in model.base_model.routed_layers()):
        router.weight.data.zero_()  # every head has a gate of 1/4
    with GateCapture(model) as capture, torch.inference_mode():
        model(input_ids=ids)
        live = capture.take().sum(-1)
    torch.testing.assert_close(live, torch.full_like(live, total))
    for gates in uniform_gates(model).values():
        assert gates[3] == 0.0 and sum(gates) == pytest.approx(total)
