"""The bench compares like with like, and the page shows the figures that were kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.bench_adapters import LIMITS, layers, saved_bytes, verdict

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_loop_and_the_routed_layer_compute_the_same():
    found: dict[str, Any] = layers("cpu", torch.float32)
    loop, hydra = found["loop"], found["hydralora"]
    loop.a.weight, loop.router.weight = hydra.hydralora_A["default"].weight, hydra.hydralora_router["default"].weight
    for head, weight in zip(loop.heads, hydra.hydralora_B["default"].weight.view(2752, 4, 8).unbind(1), strict=True):
        head.weight.data = weight.contiguous()
    x = torch.randn(1, 4, 1024)
    torch.testing.assert_close(loop(x), hydra(x), rtol=1e-5, atol=1e-5)


def test_the_routed_layer_keeps_at_most_a_twentieth_of_a_mebibyte_for_the_backward_pass():
    layer, x = layers("cpu", torch.float32)["hydralora"], torch.randn(1, 1024, 1024, requires_grad=True)
    assert saved_bytes(lambda: layer(x), [x, *layer.parameters()]) <= 0.05 * 2**20


def test_the_page_shows_the_kept_figures():
    page = (DOCS / "performance.md").read_text("utf-8")
    kept = json.loads((DOCS / "bench.json").read_text("utf-8"))["results"]
    shown = {name: float(value) for name, value in re.findall(r"^\| ([^|]+?) \| ([\d.]+) \|", page, re.MULTILINE)}
    assert shown == kept


def test_the_page_says_of_every_limit_whether_it_was_kept():
    page = (DOCS / "performance.md").read_text("utf-8")
    kept = json.loads((DOCS / "bench.json").read_text("utf-8"))["results"]
    for name in LIMITS:
        assert f"| {name} | {kept[name]:.3f} | {verdict(name, kept[name])} |" in page
