"""What the routed layer costs: against PEFT's LoRA, against the loop form, and with gates captured.

``make bench`` prints three tables and keeps the numbers as JSON: one Llama-shaped layer, a training
step of a whole model, and generation with capture on and off. All variants of a table take turns
within one process, so that a busy machine slows all of them; what counts is the median of the
ratios of neighbouring repeats, never a time. The table of record is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

import hydralora
from hydralora.bases.load import load_base
from hydralora.streaming import GateStreamer
from hydralora.tuner import wide
from hydralora.tuner.gates import GateCapture

RANK, EXPERTS, SCALING = 8, 4, 2.0
LAYER = (1024, 2752, 1024)  # in, out, tokens: Llama-shaped
NARROW_LAYER = (576, 1_536, 256)  # in, out, tokens: of SmolLM2
SHAPES = {  # hidden, feed-forward, layers, vocabulary, batch, tokens
    "small": (160, 448, 5, 1536, 16, 64),
    "wide": (1024, 2816, 2, 4096, 4, 128),
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NEW_TOKENS = 8  # of one answer; short, so that neighbours in time are compared
ANSWERS = 4  # for each round of the other tables
# What must hold, as {row: (limit, whether larger is better)}; `make bench` says where it does not.
LIMITS = {
    "layer: hydralora / lora": (0.86, False),
    "layer: loop / hydralora": (1.65, True),
    "layer: saved by hydralora, MiB": (0.05, False),
    "generation, width 1,024: capture / no capture": (1.03, False),
    "generation, starter: capture / no capture": (1.08, False),
}


class LoopLinear(nn.Module):
    """``y = W0 x + sum_i g_i B_i A x s`` in the order of the authors' code: A and s anew for each head.

    https://github.com/Clin0212/HydraLoRA/blob/5c08a78/HydraLoRA/peft/tuners/lora.py
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, RANK, bias=False)
        self.heads = nn.ModuleList(nn.Linear(RANK, base.out_features, bias=False) for _ in range(EXPERTS))
        self.router = nn.Linear(base.in_features, EXPERTS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result, gates = self.base(x), self.router(x).softmax(-1)
        for index, head in enumerate(self.heads):
            result = result + gates[..., index : index + 1] * head(self.a(x)) * SCALING
        return result


def hydra_config(targets: list[str]) -> Any:
    return hydralora.HydraLoraConfig(r=RANK, num_experts=EXPERTS, lora_alpha=SCALING * RANK, target_modules=targets)


def lora_config(targets: list[str]) -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=SCALING * RANK, target_modules=targets)


def take_turns(steps: dict[str, Callable[[], Any]], rounds: int, device: str, warm: int = 2) -> dict[str, list[float]]:
    """Seconds of each repeat of each variant; one repeat of all before the next of any.

    The first one of a round changes, since what ran just before leaves caches and heap as it likes. One thread of the
    CPU is timed by the processor's time it took, which leaves out waiting for other processes.
    """
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + warm):
        order = list(steps.items())
        first = number // 2 % len(order)
        order = order[first:] + order[:first]
        for name, step in order if number % 2 else order[::-1]:
            began = clock()
            step()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number >= warm:
                seconds[name].append(clock() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], first: str, second: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[first], seconds[second], strict=True))


def saved_bytes(run: Callable[[], Any], left_out: list[Tensor]) -> int:
    """Bytes kept for the backward pass, each storage counted once, without those of ``left_out``."""
    known = {tensor.untyped_storage().data_ptr() for tensor in left_out}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(found.values())


def layers(device: str, dtype: torch.dtype, sizes: tuple[int, int, int] = LAYER) -> dict[str, nn.Module]:
    """One frozen layer, and the same with LoRA, with HydraLoRA and with the loop; heads are not zero."""
    width, out, _ = sizes

    def frozen() -> nn.Linear:
        set_seed(0)
        return nn.Linear(width, out, bias=False).requires_grad_(False)

    def adapted(config: Any) -> nn.Module:
        holder: Any = get_peft_model(nn.ModuleDict({"proj": frozen()}), config)
        return holder.base_model.model["proj"]

    found = {
        "frozen": frozen(),
        "lora": adapted(lora_config(["proj"])),
        "hydralora": adapted(hydra_config(["proj"])),
        "loop": LoopLinear(frozen()),
    }
    for layer in found.values():
        layer.to(device, dtype).train()
        for weight in layer.parameters():
            if weight.requires_grad:
                nn.init.normal_(weight, std=0.02)
    return found


def measure_layer(
    rounds: int, device: str, dtype: torch.dtype, sizes: tuple[int, int, int] = LAYER, compiled: bool = False
) -> dict[str, float]:
    """Forward and backward of one layer, with the gradient of its input, as inside a model."""
    width, out, tokens = sizes
    models = layers(device, dtype, sizes)
    x = torch.randn(1, tokens, width, device=device, dtype=dtype, requires_grad=True)
    given = torch.randn(1, tokens, out, device=device, dtype=dtype)

    def make(layer: nn.Module) -> Callable[[], None]:
        forward: Any = torch.compile(layer, fullgraph=True) if compiled else layer

        def step() -> None:
            forward(x).backward(given)
            x.grad = None
            layer.zero_grad(set_to_none=True)

        return step

    steps = {name: make(layer) for name, layer in models.items()}
    seconds = take_turns(steps, rounds, device)

    def saved(name: str) -> float:
        layer = models[name]
        return saved_bytes(lambda: layer(x), [x, *layer.parameters()]) / 2**20

    found = {
        "layer: hydralora / lora": ratio(seconds, "hydralora", "lora"),
        "layer: loop / hydralora": ratio(seconds, "loop", "hydralora"),
        "layer: frozen / lora": ratio(seconds, "frozen", "lora"),
        **{f"layer: saved by {name}, MiB": saved(name) for name in ("lora", "hydralora", "loop")},
    }
    if device.startswith("cuda"):
        peak = {name: _peak(steps[name]) for name in ("lora", "hydralora")}
        found["layer: peak memory, hydralora / lora"] = peak["hydralora"] / peak["lora"]
    return found


def measure_narrow(rounds: int) -> dict[str, float]:
    """A layer in bfloat16 on a processor: products in float32, piece by piece, against torch's own, in turns."""
    width, out, tokens = NARROW_LAYER
    models = layers("cpu", torch.bfloat16, NARROW_LAYER)
    x = torch.randn(1, tokens, width, dtype=torch.bfloat16, requires_grad=True)
    given = torch.randn(1, tokens, out, dtype=torch.bfloat16)

    def make(layer: nn.Module, is_slow: bool) -> Callable[[], None]:
        def step() -> None:
            with patch.object(wide, "is_slow", lambda: is_slow):
                layer(x).backward(given)

        return step

    steps = {"here": make(models["hydralora"], True), "torch": make(models["hydralora"], False)}
    return {"bfloat16 layer: in float32 / torch's own": ratio(take_turns(steps, rounds, "cpu"), "here", "torch")}


def _peak(step: Callable[[], None]) -> int:
    """Most bytes a step held on the GPU."""
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def build_base(shape: str) -> LlamaForCausalLM:
    hidden, inner, depth, vocabulary, _, _ = SHAPES[shape]
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=depth,
            vocab_size=vocabulary,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 32,
            head_dim=32,
        )
    )
    return model.requires_grad_(False)


def with_loop(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Put the loop form in place of every linear layer of the blocks."""
    for name, module in list(model.model.layers.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), last, LoopLinear(module))
    return model


def make_step(model: nn.Module, ids: Tensor, capture: bool = False) -> Callable[[], None]:
    """One training step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        with GateCapture(model, enabled=capture) as gates:
            loss = model(input_ids=ids, labels=ids).loss
            if capture:
                gates.take()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure_training(shape: str, rounds: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """A training step of a whole model whose linear layers are all adapted."""
    batch, tokens, vocabulary = SHAPES[shape][4], SHAPES[shape][5], SHAPES[shape][3]
    models: dict[str, Any] = {
        "lora": get_peft_model(build_base(shape), lora_config(TARGETS)),
        "hydralora": get_peft_model(build_base(shape), hydra_config(TARGETS)),
        "loop": with_loop(build_base(shape)),
    }
    for model in models.values():
        model.to(device, dtype).train()
    ids = torch.randint(0, vocabulary, (batch, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    steps = {name: make_step(model, ids) for name, model in models.items()}
    steps["captured"] = make_step(models["hydralora"], ids, capture=True)
    seconds = take_turns(steps, rounds, device)
    memory = {
        name: saved_bytes(lambda m=model: m(input_ids=ids, labels=ids).loss, list(model.parameters()))  # type: ignore[misc]
        for name, model in models.items()
    }
    row = f"training, {shape}"
    return {
        f"{row}: hydralora / lora": ratio(seconds, "hydralora", "lora"),
        f"{row}: loop / hydralora": ratio(seconds, "loop", "hydralora"),
        f"{row}: capture / no capture": ratio(seconds, "captured", "hydralora"),
        f"{row}: saved, hydralora / lora": memory["hydralora"] / memory["lora"],
        f"{row}: saved, loop / lora": memory["loop"] / memory["lora"],
    }


def measure_generation(title: str, base: Any, rounds: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Greedy answers of 8 tokens to a prompt of 16, as the chat makes them, with gates and without."""
    model: Any = get_peft_model(base, hydra_config(TARGETS)).to(device, dtype).eval()
    for name, weight in model.named_parameters():
        if "hydralora_" in name:
            nn.init.normal_(weight, std=0.02)
    vocabulary = base.config.vocab_size
    ids = torch.randint(6, vocabulary, (1, 16), generator=torch.Generator().manual_seed(0)).to(device)

    @torch.inference_mode()
    def generate(enabled: bool) -> None:
        with GateCapture(model, enabled=enabled) as capture:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                use_cache=True,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
                streamer=GateStreamer(queue.Queue(), capture),
            )

    def base_alone() -> None:
        with model.disable_adapter():
            generate(False)

    steps = {"captured": lambda: generate(True), "plain": lambda: generate(False), "base": base_alone}
    seconds = take_turns(steps, ANSWERS * rounds, device)
    return {
        f"generation, {title}: capture / no capture": ratio(seconds, "captured", "plain"),
        f"generation, {title}: adapter / base": ratio(seconds, "plain", "base"),
    }


def machine(device: str, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Where and how the figures were made."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    return {
        "machine": name,
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def verdict(name: str, value: float) -> str:
    if name not in LIMITS:
        return ""
    limit, larger = LIMITS[name]
    kept = value >= limit if larger else value <= limit
    return f"{'at least' if larger else 'at most'} {limit}: {'kept' if kept else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--layer", type=int, nargs=3, default=LAYER, metavar=("IN", "OUT", "TOKENS"))
    parser.add_argument("--compile", action="store_true", help="compile the layers of the first table")
    parser.add_argument("--only", default="", help="layer, narrow, training or generation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds, how = options.rounds, (options.device, getattr(torch, options.dtype))
    is_narrow = options.device == "cpu" and wide.is_slow()
    narrow = [("narrow", lambda: measure_narrow(max(1, rounds // 4)))] if is_narrow else []
    measures: list[tuple[str, Callable[[], dict[str, float]]]] = [
        ("layer", lambda: measure_layer(rounds, *how, tuple(options.layer), options.compile)),
        *narrow,
        *[("training", lambda shape=shape: measure_training(shape, rounds // 2, *how)) for shape in SHAPES],  # type: ignore[misc]
        ("generation", lambda: measure_generation("width 1,024", build_base("wide"), rounds, *how)),
        ("generation", lambda: measure_generation("starter", load_base("starter", device="cpu")[0], rounds, *how)),
    ]
    about, results = machine(*how, rounds), {}
    for kind, measure in measures:
        if options.only in ("", kind):
            for name, value in measure().items():
                results[name] = round(value, 3)
                print(f"{name:<52} {value:7.3f}  {verdict(name, value)}", flush=True)
            if options.json:
                options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", "utf-8")
    print(json.dumps(about))


if __name__ == "__main__":
    main()
