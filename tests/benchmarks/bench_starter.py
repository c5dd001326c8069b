"""What tuning the starter does on a sample corpus: HydraLoRA beside LoRA of equal size, several seeds.

``make starter-table``. All runs have the steps that *Quick* gives HydraLoRA on this machine. Every run is kept
in the JSON as soon as it has ended, and one that is there already is not repeated.
Exact match is on held-out questions, worded as training never saw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from hydralora.analysis.answers import compare_answers
from hydralora.analysis.routing import measure_routing
from hydralora.bases.load import fit_threads
from hydralora.config import parse_config
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.imports import import_corpus
from hydralora.samples import CORPORA
from hydralora.training.presets import preset_settings
from hydralora.training.speed import measure_speed
from hydralora.training.train import train_adapter

# LoRA of rank 21 has 325,920 trainable parameters, HydraLoRA of rank 8 with four heads 327,680 and
# 28,160 more in its router, which the papers leave out.
VARIANTS: dict[str, dict[str, Any]] = {
    "hydralora": {"method": "hydralora", "adapter": {"rank": 8, "num_experts": 4, "alpha": 16.0}},
    "lora": {"method": "lora", "adapter": {"rank": 21, "alpha": 42.0}},
}


def prepare(corpus: str, work: Path) -> tuple[Path, Path]:
    """Folders of a sample corpus and of its clusters."""
    rows, clusters = work / corpus, work / f"{corpus}-clusters"
    if not rows.exists():
        import_corpus([CORPORA / corpus / f"{corpus}.jsonl"], rows)
        cluster_corpus(rows, clusters, k=None, seed=0)
    return rows, clusters


def quick_settings(corpus: str, work: Path) -> dict[str, Any]:
    """Steps and batch of Quick for HydraLoRA here, from a few timed steps."""
    config = parse_config({"base": "starter", "train": preset_settings("Quick"), **VARIANTS["hydralora"]})
    settings = preset_settings("Quick", measure_speed(config, prepare(corpus, work)[0]))
    return {name: settings[name] for name in ("max_steps", "batch_size")}


def measure(name: str, corpus: str, seed: int, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one variant and score it."""
    (rows, clusters), run = prepare(corpus, work), work / f"{name}-{corpus}-{seed}"
    train = {**preset_settings("Quick"), **settings, "seed": seed, "save_every": 0}
    began = time.perf_counter()
    summary = train_adapter(parse_config({"base": "starter", "train": train, **VARIANTS[name]}), rows, run)
    minutes = (time.perf_counter() - began) / 60
    scores = compare_answers(run, rows, run / "answers").scores
    found = {
        "variant": name,
        "corpus": corpus,
        "seed": seed,
        "settings": settings,
        "minutes": round(minutes, 2),
        "trainable": summary.trainable + summary.router,
        "held_out_loss": summary.held_out_loss,
        "base": scores["base"].by_label,
        "tuned": scores["tuned"].by_label,
        "base_all": scores["base"].exact_match,
        "tuned_all": scores["tuned"].exact_match,
        "threads": torch.get_num_threads(),
    }
    if name == "hydralora":
        groups = measure_routing(run, rows, run / "routing", clusters_folder=clusters).groups
        found["gates"] = {
            kind: {"r2": mean(g.r2), "band": g.band, "real": g.real} for kind, g in groups.items() if g.is_measured
        }
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    lines = ["| corpus | variant | seeds | " + "exact match | held-out loss | minutes |", "|---|---|---|---|---|---|"]
    for corpus in dict.fromkeys(r["corpus"] for r in results):
        for name in VARIANTS:
            found = [r for r in results if r["variant"] == name and r["corpus"] == corpus]
            if found:
                right = [100 * r["tuned_all"] for r in found]
                spread = stdev(right) if len(right) > 1 else 0.0
                lines.append(
                    f"| {corpus} | {name} | {len(found)} | {mean(right):.1f} ± {spread:.1f} % | "
                    f"{mean(r['held_out_loss'] for r in found):.3f} | {mean(r['minutes'] for r in found):.1f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--corpora", nargs="*", default=["four-trades"])
    options = parser.parse_args()
    fit_threads("starter")  # as the studio's jobs do
    results: list[dict[str, Any]] = json.loads(options.json.read_text("utf-8")) if options.json.exists() else []
    done = {(r["variant"], r["corpus"], r["seed"]) for r in results}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for corpus in options.corpora:
            known = next((r["settings"] for r in results if r["corpus"] == corpus), None)
            settings = known or quick_settings(corpus, work)
            for seed in range(options.seeds):
                for name in VARIANTS:
                    if (name, corpus, seed) not in done:
                        results.append(measure(name, corpus, seed, work, settings))
                        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
                        print(json.dumps(results[-1]), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
