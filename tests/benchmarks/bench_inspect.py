"""How long the pictures of a large adapter take, and how much memory: one shaped for a 7B model.

``make bench-inspect`` prints the numbers and keeps them as JSON. 32 layers, gate/up/down projections of
Llama-2-7B (4,096 and 11,008 wide), one A and four heads of rank 8, random. Every part runs in a
process of its own, whose peak memory is told; two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAYERS, WIDE, INNER, RANK, EXPERTS = 32, 4096, 11_008, 8, 4
LIMIT_SECONDS, LIMIT_BYTES = 10.0, 1e9


def write_large(folder: Path) -> None:
    """The random adapter, as ``save_pretrained`` lays it out."""
    import torch
    from safetensors.torch import save_file

    generator, weights = torch.Generator().manual_seed(0), {}
    for layer in range(LAYERS):
        for name, wide, out in (("gate", WIDE, INNER), ("up", WIDE, INNER), ("down", INNER, WIDE)):
            stem = f"base_model.model.model.layers.{layer}.mlp.{name}_proj.hydralora_"
            weights[f"{stem}A.weight"] = torch.randn(RANK, wide, generator=generator)
            weights[f"{stem}B.weight"] = torch.randn(out, EXPERTS * RANK, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"num_experts": EXPERTS}))


def run_part(part: str, adapter: Path) -> dict[str, Any]:
    """One part in this process: seconds, and peak bytes of the process with all it has imported."""
    import torch

    torch.set_num_threads(2)
    from hydralora.analysis.maps import draw_map
    from hydralora.analysis.weights import compare_adapter, heads_of

    began = time.perf_counter()
    if part == "weights":
        heads_of(compare_adapter(adapter)).dump()
    else:
        which, layout, similarity = part.split()[1:]
        draw_map({"run": adapter}, which, layout, similarity=similarity).dump()
    seconds = time.perf_counter() - began
    return {"part": part, "seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def measure(adapter: Path) -> list[dict[str, Any]]:
    """All parts, each in a fresh process."""
    parts = [
        "weights",
        *(f"map {which} pca {similarity}" for which in "AB" for similarity in ("cosine", "subspace")),
        "map B tsne cosine",
    ]
    found = []
    for part in parts:
        line = [sys.executable, "-m", "tests.benchmarks.bench_inspect", "--part", part, "--adapter", str(adapter)]
        done = subprocess.run(
            line, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
        row = found[-1]
        print(f"{row['part']:22} {row['seconds']:6.1f} s {row['peak_bytes'] / 1e6:7.0f} MB", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--adapter", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="keep the numbers here")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_part(options.part, options.adapter)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_large(Path(folder) / "adapter")
        rows = measure(Path(folder) / "adapter")
    if options.json:
        options.json.write_text(
            json.dumps(
                {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "rows": rows}, indent=1
            )
        )
    worst = rows[0]
    verdict = worst["seconds"] <= LIMIT_SECONDS and worst["peak_bytes"] <= LIMIT_BYTES
    print(f"within {LIMIT_SECONDS:.0f} s and {LIMIT_BYTES / 1e9:.0f} GB: {'yes' if verdict else 'NO'}")


if __name__ == "__main__":
    main()
