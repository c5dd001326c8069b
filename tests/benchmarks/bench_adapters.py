"""Time and memory of one training step: HydraLoRA against PEFT's LoRA and against the loop form.

``make bench`` prints a table and keeps the numbers as JSON. All variants sit in the same frozen
Llama with random weights and take turns within one process, so that a busy machine slows all of
them; what counts is the median of the ratios of neighbouring steps, never a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

import hydralora
from hydralora.gates import GateCapture

RANK, EXPERTS = 8, 4
SHAPES = {  # hidden, feed-forward, layers, vocabulary, batch, tokens
    "small": (160, 448, 5, 1536, 16, 64),
    "wide": (1024, 2816, 2, 4096, 4, 128),
}


class LoopLinear(nn.Module):
    """The formula as published, ``y = W0 x + s sum_i g_i B_i A x``, one product for each head."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, RANK, bias=False)
        self.heads = nn.ModuleList(nn.Linear(RANK, base.out_features, bias=False) for _ in range(EXPERTS))
        self.router = nn.Linear(base.in_features, EXPERTS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result, gates = self.base(x), self.router(x).softmax(-1)
        for index, head in enumerate(self.heads):
            result = result + 2.0 * gates[..., index : index + 1] * head(self.a(x))
        return result


def build_base(shape: str) -> LlamaForCausalLM:
    hidden, inner, layers, vocabulary, _, _ = SHAPES[shape]
    set_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, vocab_size=vocabulary,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, head_dim=32,
    ))  # fmt: skip
    return model.requires_grad_(False)


def with_loop(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Put the loop form in place of every linear layer of the blocks."""
    for name, module in list(model.model.layers.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), last, LoopLinear(module))
    return model


def variants(shape: str) -> dict[str, Any]:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    hydra = hydralora.HydraLoraConfig(r=RANK, num_experts=EXPERTS, lora_alpha=16, target_modules=targets)
    return {
        "lora": get_peft_model(build_base(shape), LoraConfig(r=RANK, lora_alpha=16, target_modules=targets)),
        "hydralora": get_peft_model(build_base(shape), hydra),
        "loop": with_loop(build_base(shape)),
    }


def make_step(model: nn.Module, ids: Tensor, capture: bool = False) -> Callable[[], None]:
    """One training step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        if capture:
            with GateCapture(model) as gates:
                loss = model(input_ids=ids, labels=ids).loss
                gates.take()
        else:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def saved_bytes(model: nn.Module, ids: Tensor) -> int:
    """Bytes of activations kept for the backward pass, each storage counted once, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    del loss
    return sum(found.values())


def measure(shape: str, rounds: int, device: str) -> dict[str, Any]:
    batch, tokens, vocabulary = SHAPES[shape][4], SHAPES[shape][5], SHAPES[shape][3]
    models = {name: model.to(device).train() for name, model in variants(shape).items()}
    ids = torch.randint(0, vocabulary, (batch, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    steps = {name: make_step(model, ids) for name, model in models.items()}
    steps["hydralora with capture"] = make_step(models["hydralora"], ids, capture=True)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                seconds[name].append(time.perf_counter() - began)

    def ratio(first: str, second: str) -> float:
        return round(statistics.median(a / b for a, b in zip(seconds[first], seconds[second], strict=True)), 3)

    memory = {name: saved_bytes(model, ids) for name, model in models.items()}
    return {
        "hydralora / lora": ratio("hydralora", "lora"), "hydralora / loop": ratio("hydralora", "loop"),
        "loop / lora": ratio("loop", "lora"),
        "capture / no capture": ratio("hydralora with capture", "hydralora"),
        "saved activations, hydralora / lora": round(memory["hydralora"] / memory["lora"], 3),
        "saved activations, loop / lora": round(memory["loop"] / memory["lora"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    results = {shape: measure(shape, options.rounds, options.device) for shape in SHAPES}
    about = {"rank": RANK, "experts": EXPERTS, "shapes": SHAPES, "device": options.device,
             "threads": torch.get_num_threads(), "torch": torch.__version__, "rounds": options.rounds}  # fmt: skip
    for shape, numbers in results.items():
        print(f"\n{shape} (r = {RANK}, N = {EXPERTS}, all linear layers, fp32, {options.device})")
        for name, value in numbers.items():
            print(f"  {name:<40} {value:6.2f}")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
