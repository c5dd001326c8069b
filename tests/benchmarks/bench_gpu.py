"""What the routed layer costs on a GPU, in Llama-7B shapes: one table in some five minutes, one JSON line a row.

``make bench-gpu``, or ``python -m tests.benchmarks.bench_gpu --json OUT`` where only the library's packages are
installed. First the fused layer is compared with the torch form in float32 and bfloat16; then each row measures
variants in turns, by CUDA events, and gives the median of the ratios of neighbouring repeats. A row that fails is
kept with its traceback, and the next one begins. ``--small`` runs every row with tiny shapes, on the CPU too.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import math
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

import hydralora
from hydralora.decoding import StaticDecoder, cache_word
from hydralora.tuner.gates import GateCapture

RANK, EXPERTS, SCALING = 8, 4, 2.0
TARGETS = ["gate_proj", "up_proj", "down_proj"]
# {row: (key, limit, whether larger is better)}: what is to hold on an H100 (docs/performance.md).
GOALS = {
    "layer 512": ("hydralora / lora", 1.15, False),
    "layer 1024": ("hydralora / lora", 1.10, False),
    "layer 2048": ("hydralora / lora", 1.00, False),
    "layer 4096": ("hydralora / lora", 0.92, False),
    "layer 16384": ("hydralora / lora", 0.91, False),
    "compiled layer 4096": ("hydralora / lora", 1.00, False),
    "compiled layer 16384": ("hydralora / lora", 1.00, False),
    "training step": ("hydralora / lora", 1.02, False),
    "decode eager": ("speed, hydralora / lora", 0.95, True),
    "decode graph, compiled": ("speed, hydralora / lora", 0.98, True),
}


class Sizes(NamedTuple):
    """Shapes of one run of the bench."""

    width: int = 4096
    inner: int = 11008
    heads: int = 32
    vocabulary: int = 32_000
    depth: int = 32  # layers of the model that trains and decodes eagerly
    short: int = 8  # layers of the model that decodes by graphs
    tokens: tuple[int, ...] = (512, 1024, 2048, 4096, 16384)
    compiled: tuple[int, ...] = (4096, 16384)
    batch: tuple[int, int] = (2, 1024)
    prompt: int = 128
    answer: int = 32
    rounds: int = 40


SMALL = Sizes(64, 96, 4, 128, 2, 2, (5, 40), (), (2, 8), 4, 3, 2)


class Bench:
    """Device, shapes and clock of one run."""

    def __init__(self, device: str, dtype: torch.dtype, sizes: Sizes, seconds: float) -> None:
        self.device, self.dtype, self.sizes = device, dtype, sizes
        self.began, self.seconds = time.monotonic(), seconds

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - (time.monotonic() - self.began)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def clock(self, step: Callable[[], Any]) -> float:
        """Milliseconds of one call: by CUDA events on a GPU, which sees launching and running alike."""
        self.wait()
        if self.device != "cuda":
            began = time.perf_counter()
            step()
            return 1e3 * (time.perf_counter() - began)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        step()
        last.record()
        last.synchronize()
        return first.elapsed_time(last)

    def turns(self, steps: dict[str, Callable[[], Any]], rounds: int, warm: int = 5, inner: int = 1) -> dict[str, list]:
        """Milliseconds of each repeat of each variant; one repeat of all before the next of any."""

        def many(step: Callable[[], Any]) -> None:
            for _ in range(inner):
                step()

        found: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(rounds + warm):
            order = list(steps.items())
            for name, step in order if number % 2 else order[::-1]:
                took = self.clock(lambda step=step: many(step)) / inner  # type: ignore[misc]
                if number >= warm:
                    found[name].append(took)
        return found

    def peak(self, step: Callable[[], Any]) -> float:
        """MiB that a step needed beside what was there before it."""
        if self.device != "cuda":
            return 0.0
        step()
        gc.collect()
        torch.cuda.empty_cache()
        self.wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def ratio(found: dict[str, list[float]], first: str, second: str) -> float:
    """Median of the ratios of neighbouring repeats."""
    return statistics.median(a / b for a, b in zip(found[first], found[second], strict=True))


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    return {f"{name}, ms": statistics.median(values) for name, values in found.items()}


def hydra_config(targets: list[str]) -> Any:
    return hydralora.HydraLoraConfig(r=RANK, num_experts=EXPERTS, lora_alpha=SCALING * RANK, target_modules=targets)


def lora_config(targets: list[str]) -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=SCALING * RANK, target_modules=targets)


def randomise(model: nn.Module) -> None:
    for weight in model.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.02)


def make_layers(bench: Bench, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """One frozen layer, and the same with LoRA and with HydraLoRA."""
    sizes = bench.sizes
    set_seed(0)
    frozen = nn.Linear(sizes.width, sizes.inner, bias=False, device=bench.device, dtype=dtype or bench.dtype)
    frozen.requires_grad_(False)

    def adapted(config: Any) -> nn.Module:
        holder: Any = get_peft_model(nn.ModuleDict({"proj": copy.deepcopy(frozen)}), config)
        layer = holder.base_model.model["proj"].to(bench.device, dtype or bench.dtype).train()
        randomise(layer)
        return layer

    found = {"lora": adapted(lora_config(["proj"])), "hydralora": adapted(hydra_config(["proj"]))}
    return {"frozen": frozen, **found}


def make_step(layer: Any, x: Tensor, given: Tensor, call: Any = None) -> Callable[[], None]:
    """Forward and backward, with the gradient of the input, as inside a model."""
    forward, weights = (
        layer if call is None else call,
        [weight for weight in layer.parameters() if weight.requires_grad],
    )

    def step() -> None:
        forward(x).backward(given)
        x.grad = None
        for weight in weights:
            weight.grad = None

    return step


def check_layer(bench: Bench) -> dict[str, Any]:
    """Greatest difference of fused from torch's outputs and gradients, as a share of the largest value."""
    found: dict[str, Any] = {"kernels": bench.device == "cuda" and _kernels_work()}
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        for tokens in (1, 3, 17, bench.sizes.tokens[-1]):
            layer: Any = make_layers(bench, dtype)["hydralora"]
            x = torch.randn(tokens, bench.sizes.width, device=bench.device, dtype=dtype)
            given = torch.randn(tokens, bench.sizes.inner, device=bench.device, dtype=dtype)
            results = {}
            for fused in (True, False):
                plans, layer.plans = layer.plans, layer.plans if fused else dict.fromkeys(layer.plans)
                results[fused] = _outputs(layer, x, given)
                layer.plans = plans
            worst = max(
                ((one - two).float().abs().max() / two.float().abs().max()).item()
                for one, two in zip(results[True], results[False], strict=True)
            )
            found[f"{str(dtype)[6:]}, {tokens} tokens"] = worst
            if not worst <= limit:
                raise AssertionError(f"fused differs from torch by {worst:.1e} in {dtype} with {tokens} tokens")
    return found


def _kernels_work() -> bool:
    from hydralora.tuner import routing

    return routing._working_kernels(torch.cuda.current_device()) is not None


def _outputs(layer: Any, x: Tensor, given: Tensor) -> list[Tensor]:
    """Output in inference with gates, output in training, gradients of input and weights."""
    layer.capture = True
    with torch.inference_mode():
        plain = layer(x)
    gates = layer.kept_gates.pop().view(len(x), -1)
    layer.capture = False
    own = x.clone().requires_grad_(True)
    y = layer(own)
    y.backward(given)
    weights = [weight for weight in layer.parameters() if weight.requires_grad]
    found = [plain, gates, y.detach(), own.grad, *[weight.grad for weight in weights]]
    for weight in weights:
        weight.grad = None
    return found  # type: ignore[return-value]


def measure_layer(bench: Bench, tokens: int, compiled: bool = False) -> dict[str, Any]:
    """Forward and backward of one layer, eager or compiled; memory of a step beside its weights and inputs."""
    sizes, layers = bench.sizes, make_layers(bench)
    x = torch.randn(1, tokens, sizes.width, device=bench.device, dtype=bench.dtype, requires_grad=True)
    given = torch.randn(1, tokens, sizes.inner, device=bench.device, dtype=bench.dtype)
    calls = {name: torch.compile(layer, fullgraph=True) if compiled else None for name, layer in layers.items()}
    steps = {name: make_step(layer, x, given, calls[name]) for name, layer in layers.items()}
    found = bench.turns(steps, sizes.rounds, inner=1 if tokens > 4096 else 4)
    peaks = {f"{name}, peak MiB": round(bench.peak(step), 2) for name, step in steps.items()}
    result = {
        "hydralora / lora": ratio(found, "hydralora", "lora"),
        "frozen / lora": ratio(found, "frozen", "lora"),
        **medians(found),
        **peaks,
    }
    if compiled:
        torch.compiler.reset()
    return result


def measure_paths(bench: Bench, tokens: int) -> dict[str, Any]:
    """The ways through the fused layer: products in the kernel or apart, torch's operations, kernels off."""
    from hydralora.tuner import routing

    sizes, layer = bench.sizes, make_layers(bench)["hydralora"]
    kernels = routing._working_kernels(torch.cuda.current_device()) if bench.device == "cuda" else None
    x = torch.randn(1, tokens, sizes.width, device=bench.device, dtype=bench.dtype, requires_grad=True)
    given = torch.randn(1, tokens, sizes.inner, device=bench.device, dtype=bench.dtype)
    plain = make_step(layer, x, given)

    def with_limit(limit: int) -> Callable[[], None]:
        def step() -> None:
            before, kernels.SOME_TOKENS = kernels.SOME_TOKENS, limit  # type: ignore[union-attr]
            plain()
            kernels.SOME_TOKENS = before  # type: ignore[union-attr]

        return step

    def without_kernels() -> None:
        before, routing.KERNEL_TYPES = routing.KERNEL_TYPES, ()
        plain()
        routing.KERNEL_TYPES = before

    def by_reference() -> None:
        plans, layer.plans = layer.plans, dict.fromkeys(layer.plans)
        plain()
        layer.plans = plans

    steps: dict[str, Callable[[], None]] = {"torch operations": without_kernels, "reference": by_reference}
    if kernels is not None:
        steps |= {"product in the kernel": with_limit(1 << 40), "product apart": with_limit(0)}
    found = bench.turns(steps, max(1, sizes.rounds // 2), inner=1 if tokens > 4096 else 4)
    return medians(found)


def measure_launches(bench: Bench) -> dict[str, Any]:
    """Microseconds of CPU time that one call takes, the GPU's work left out: what short inputs pay."""
    from hydralora.tuner import routing

    layers, few = make_layers(bench), 16
    x = torch.randn(1, few, bench.sizes.width, device=bench.device, dtype=bench.dtype)
    own = x.clone().requires_grad_(True)
    calls: dict[str, Callable[[], Any]] = {"product": lambda: x @ x.mT}
    for name, layer in layers.items():
        calls[f"{name}, forward in training"] = lambda layer=layer: layer(own)  # type: ignore[misc]
        calls[f"{name}, inference"] = torch.inference_mode()(lambda layer=layer: layer(x))  # type: ignore[misc]
    plan = layers["hydralora"].plans["default"]
    hidden = torch.randn(few, plan.rows + plan.heads, device=bench.device, dtype=bench.dtype)
    kernels = routing.kernels_for(hidden, plan)
    if kernels is not None:
        calls["routing kernel"] = lambda: kernels.route(hidden, plan, None)

        def by_triton() -> None:
            kernels._compiled.clear()
            kernels.route(hidden, plan, None)

        calls["routing kernel, launched by Triton"] = by_triton
    found = {}
    for name, call in calls.items():
        for _ in range(20):
            call()
        bench.wait()
        began = time.perf_counter()
        for _ in range(200):
            call()
        found[f"{name}, us"] = (time.perf_counter() - began) / 200 * 1e6
        bench.wait()
    return found


def build_llama(bench: Bench, depth: int) -> Any:
    sizes = bench.sizes
    set_seed(0)
    config = LlamaConfig(
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=depth,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=2048,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(bench.dtype)
    try:
        with torch.device(bench.device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return model.requires_grad_(False)


class Bases:
    """One base model with one adapter of each kind in turn; weights of the base are not copied."""

    def __init__(self, bench: Bench, depth: int) -> None:
        self.bench, self.base = bench, build_llama(bench, depth)

    def adapt(self, kind: str) -> Any:
        """The base alone, or with a LoRA or HydraLoRA of random weights in its own layers' places."""
        if kind == "base":
            return self.base
        config = lora_config(TARGETS) if kind == "lora" else hydra_config(TARGETS)
        model: Any = get_peft_model(_share(self.base), config, autocast_adapter_dtype=False)
        model.to(self.bench.dtype)
        randomise(model)
        return model


def _share(model: Any) -> Any:
    """A copy of the modules that holds the same parameters."""
    memo = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, memo)


def measure_training(bench: Bench) -> dict[str, Any]:
    """Forward, backward and AdamW of a whole model; peak memory of all, and what of it is neither weight nor state."""
    sizes, depth = bench.sizes, bench.sizes.depth
    bases = Bases(bench, depth)
    ids = torch.randint(0, sizes.vocabulary, sizes.batch, device=bench.device)
    models = {kind: bases.adapt(kind).train() for kind in ("lora", "hydralora")}
    steps, peaks = {}, {}
    for kind, model in models.items():
        model.config.use_cache = False
        steps[kind] = _training_step(model, ids)
    found = bench.turns(steps, max(2, sizes.rounds // 8), warm=2)
    if bench.device == "cuda":
        for kind, model in models.items():
            own = sum(w.numel() * w.element_size() * 3 for w in model.parameters() if w.requires_grad)
            other = sum(
                w.numel() * w.element_size() * 3
                for name, m in models.items()
                if name != kind
                for w in m.parameters()
                if w.requires_grad
            )
            torch.cuda.reset_peak_memory_stats()
            steps[kind]()
            bench.wait()
            whole = torch.cuda.max_memory_allocated() - other
            peaks[f"{kind}, peak GiB"] = round(whole / 2**30, 3)
            peaks[f"{kind}, peak without its weights and optimizer state, GiB"] = round((whole - own) / 2**30, 3)
    return {"layers": depth, "hydralora / lora": ratio(found, "hydralora", "lora"), **medians(found), **peaks}


def _training_step(model: Any, ids: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-5)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure_eager_decode(bench: Bench) -> dict[str, Any]:
    """One token after the other, batch 1, by transformers' growing cache."""
    sizes, bases = bench.sizes, Bases(bench, bench.sizes.depth)
    prompt = torch.randint(6, sizes.vocabulary, (1, sizes.prompt), device=bench.device)
    models = {kind: bases.adapt(kind).eval() for kind in ("base", "lora", "hydralora")}
    steps = {kind: _answer(model, prompt, sizes.answer) for kind, model in models.items()}
    found = bench.turns(steps, max(2, sizes.rounds // 8), warm=1)
    per_token = {name: [value / sizes.answer for value in values] for name, values in found.items()}
    return {
        "layers": sizes.depth,
        "speed, hydralora / lora": ratio(found, "lora", "hydralora"),
        "speed, hydralora / base": ratio(found, "base", "hydralora"),
        **medians(per_token),
    }


def _answer(model: Any, prompt: Tensor, tokens: int) -> Callable[[], Any]:
    """Steps of one token each, without the sampling around them."""

    word = cache_word(model)

    @torch.inference_mode()
    def step() -> None:
        out = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        for _ in range(tokens):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            out = model(input_ids=token, **{word: out[word]}, use_cache=True, logits_to_keep=1)

    return step


def measure_graph_decode(bench: Bench, compiled: bool) -> dict[str, Any]:
    """A token's pass with a static cache as one CUDA graph, of the eager kernels or compiled; gates in the graph."""
    sizes, bases = bench.sizes, Bases(bench, bench.sizes.short)
    prompt = torch.randint(6, sizes.vocabulary, (1, sizes.prompt), device=bench.device)
    token = prompt[:, :1].clone()
    steps: dict[str, Callable[[], Any]] = {}
    seconds, room = {}, sizes.prompt + 16 + (sizes.rounds + 8) * 4 * 2
    captures = []
    for name in ("base", "lora", "hydralora", "captured"):
        model = bases.adapt("hydralora" if name == "captured" else name).eval()
        capture = GateCapture(model, enabled=name == "captured").__enter__()
        captures.append(capture)
        began = time.monotonic()
        decoder = StaticDecoder(model, room, capture if name == "captured" else None, compiled=compiled)
        decoder.prefill(prompt)
        bench.wait()
        seconds[f"{name}, preparing s"] = round(time.monotonic() - began, 1)
        steps[name] = lambda decoder=decoder: decoder.step(token)  # type: ignore[misc]
    found = bench.turns(steps, sizes.rounds, inner=4)
    for capture in captures:
        capture.__exit__()
    return {
        "layers": sizes.short,
        "speed, hydralora / lora": ratio(found, "lora", "hydralora"),
        "speed, hydralora / base": ratio(found, "base", "hydralora"),
        "captured / hydralora": ratio(found, "captured", "hydralora"),
        **medians(found),
        **seconds,
    }


def check_graph(bench: Bench) -> dict[str, Any]:
    """Logits of steps by the graph against eager passes over the same tokens, and the gates of the last."""
    sizes, model = bench.sizes, Bases(bench, 2).adapt("hydralora").eval()
    ids = torch.randint(6, sizes.vocabulary, (1, sizes.prompt), device=bench.device)
    with GateCapture(model) as capture, torch.inference_mode():
        whole = model(input_ids=ids).logits[:, -1].float()
        gates = capture.take()[:, :, -1:]
        decoder = StaticDecoder(model, sizes.prompt, capture)
        decoder.prefill(ids[:, :-2])
        for place in (-2, -1):
            logits = decoder.step(ids[:, place : place + 1 or None]).float()
        difference = (capture.take() - gates).abs().max().item()
    worst = ((logits - whole).abs().max() / whole.abs().max()).item()
    if not (worst <= 5e-2 and difference <= 5e-2):
        raise AssertionError(f"the graph's logits differ by {worst:.1e}, its gates by {difference:.1e}")
    return {"logits differ by, of the largest": worst, "gates differ by": difference}


def rows(bench: Bench) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name of each row and what measures it, dearest last."""
    sizes = bench.sizes
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "check layer": lambda: check_layer(bench),
        "check graph": lambda: check_graph(bench),
    }
    for tokens in sizes.tokens:
        found[f"layer {tokens}"] = lambda tokens=tokens: measure_layer(bench, tokens)  # type: ignore[misc]
    for tokens in sizes.tokens:
        found[f"ways {tokens}"] = lambda tokens=tokens: measure_paths(bench, tokens)  # type: ignore[misc]
    found["launches"] = lambda: measure_launches(bench)
    found["decode graph, eager kernels"] = lambda: measure_graph_decode(bench, False)
    found["training step"] = lambda: measure_training(bench)
    found["decode eager"] = lambda: measure_eager_decode(bench)
    for tokens in sizes.compiled:
        found[f"compiled layer {tokens}"] = lambda tokens=tokens: measure_layer(bench, tokens, True)  # type: ignore[misc]
    if sizes.compiled:
        found["decode graph, compiled"] = lambda: measure_graph_decode(bench, True)
    return found


def about(bench: Bench) -> dict[str, Any]:
    """Where and how the figures were made."""
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "not installed"
    import peft
    import transformers

    return {
        "card": torch.cuda.get_device_name() if bench.device == "cuda" else platform.machine(),
        "device": bench.device,
        "dtype": str(bench.dtype)[6:],
        "torch": torch.__version__,
        "triton": version,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
        "sizes": bench.sizes._asdict(),
    }


def verdict(name: str, result: dict[str, Any]) -> str:
    """Whether a row keeps its goal, in words; empty where it has none."""
    if name not in GOALS or GOALS[name][0] not in result:
        return ""
    key, limit, larger = GOALS[name]
    kept = result[key] >= limit if larger else result[key] <= limit
    return f"{'at least' if larger else 'at most'} {limit}: {'kept' if kept else 'MISSED'}"


def run_rows(bench: Bench, only: str, path: Path | None) -> dict[str, Any]:
    """Every row whose name contains ``only``; the file at ``path`` is written after each."""
    facts, found = about(bench), {}
    for name, measure in rows(bench).items():
        if only not in name:
            continue
        began = time.monotonic()
        if bench.left() <= 0:
            result: dict[str, Any] = {"skipped": "no time was left"}
        else:
            try:
                result = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in measure().items()}
            except Exception as error:  # the next row may go well
                result = {"error": repr(error), "traceback": traceback.format_exc()}
        gc.collect()
        if bench.device == "cuda":
            torch.cuda.empty_cache()
        result |= {"goal": verdict(name, result), "seconds": round(time.monotonic() - began, 1)}
        found[name] = result
        print(json.dumps({"row": name, **{k: v for k, v in result.items() if k != "traceback"}}), flush=True)
        if path is not None:
            path.write_text(json.dumps({"about": facts, "rows": found}, indent=1) + "\n", "utf-8")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="tiny shapes, on the CPU where there is no GPU")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no row after this many")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.small:
        print("There is no GPU here, so nothing was measured; `--small` tries the script on the CPU.")
        return 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    bench = Bench(device, dtype, SMALL if options.small else Sizes(), options.seconds)
    print(json.dumps(about(bench)), flush=True)
    found = run_rows(bench, options.only, options.json)
    return 1 if any("error" in result for result in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
