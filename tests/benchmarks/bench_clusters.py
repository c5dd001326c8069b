"""How well, how steadily and how fast corpora are clustered; ``docs/clusters.md`` explains the figures.

``python -m tests.benchmarks.bench_clusters --data FOLDER --json FILE`` reads public sets from FOLDER (what is not
there is left out) and takes an hour on two cores; ``--only made steady quality speed`` does a part. Figures of other
parts in FILE are kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import sklearn
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from hydralora.corpus.clusters.choice import compare_choices, suggest_experts
from hydralora.corpus.clusters.clustering import CHOICE_TEXTS, K_MAX, cluster_corpus
from hydralora.corpus.clusters.vectors import fit_spaces
from hydralora.corpus.imports import import_corpus
from tests.benchmarks.labelled import PUBLIC, Row, made, sample

SEEDS, SIZES = 10, (1_000, 1_500, 2_000, 4_000, 8_000)
STEADY = ("gsm8k", "newsgroups20", "natural_instructions")
SAMPLES = ("four-trades", "noisy", "two-tongues", "one-voice", "overlap")
# Kinds and the share of words that are a kind's own; 0 kinds: every text mixes six of them, so there are no clusters.
MADE = [
    (1, 0.0),
    (0, 0.15),
    (0, 0.3),
    (0, 0.5),
    (2, 0.15),
    (2, 0.3),
    (4, 0.15),
    (4, 0.3),
    (8, 0.2),
    (8, 0.3),
    (12, 0.3),
]
GOALS = {
    "newsgroups20": 0.58,
    "natural_instructions": 0.98,
    "natural_instructions_inputs": 0.55,
    "mmlu": 0.47,
    "bbh": 0.88,
    "p3_t0": 0.72,
    "xquad_zh": 0.75,
}


def suggest(texts: list[str], seed: int) -> dict[str, Any]:
    """What is suggested for these texts, with the measures that decide."""
    space = fit_spaces(pa.array(texts), seed).choosing
    points = space.points(space.rows(pa.array(texts[:CHOICE_TEXTS])))
    choices, elbows = compare_choices(points, K_MAX, seed, lambda k: None)
    found = suggest_experts(choices)
    told = str(found.k) if found.is_clear else f"{found.k} ({found.low}-{found.high})"
    best = max(choices[1:], key=lambda choice: choice.strength)
    return {"told": told, "strength": best.strength, "gap": best.gap, "elbow": int(np.median(elbows))}


def drawn(rows: list[Row], size: int, seed: int) -> list[str]:
    """Distinct texts drawn by lot, in no order."""
    texts = list(dict.fromkeys(f"{r['prompt']}\n{r['answer']}" for r in rows))
    places = np.random.default_rng(seed).permutation(len(texts))[:size]
    return [texts[place] for place in places]


def bench_made(folder: Path) -> dict[str, Any]:
    """On made texts, on which the limits were chosen: what is suggested over three seeds."""
    found = {}
    for kinds, share in MADE:
        for size in (300, 1_000):
            rows = [made(size, kinds or 6, share, seed, mixed=not kinds) for seed in range(3)]
            told = [suggest(drawn(texts, size, seed), seed) for seed, texts in enumerate(rows)]
            found[f"{kinds} kinds, share {share}, {size} texts"] = told
            print(kinds, share, size, [t["told"] for t in told], round(told[0]["strength"], 2), flush=True)
    return found


def bench_steady(folder: Path) -> dict[str, Any]:
    """What is suggested for corpora over seeds and sizes; every seed draws its own texts."""
    corpora = {name: sample(name) for name in SAMPLES}
    corpora |= {name: reader(folder) for name, reader in PUBLIC.items() if name in STEADY and (folder / name).is_dir()}
    found: dict[str, Any] = {}
    for name, rows in corpora.items():
        distinct = len({f"{r['prompt']}\n{r['answer']}" for r in rows})
        for size in sorted({min(size, distinct) for size in SIZES}):
            told = [suggest(drawn(rows, size, seed), seed)["told"] for seed in range(SEEDS)]
            found[f"{name}, {size} texts"] = told
            print(name, size, told, flush=True)
    return found


def bench_quality(folder: Path) -> dict[str, Any]:
    """Agreement with the labels at the true number of kinds, beside the goal."""
    found = {}
    for name, goal in GOALS.items():
        rows = PUBLIC[name](folder)
        with tempfile.TemporaryDirectory() as work:
            corpus = stored(rows, Path(work))
            clusters = cluster_corpus(corpus, Path(work) / "clusters", k=len({r["label"] for r in rows}))
        found[name] = {"rows": len(rows), "k": clusters.k, "nmi": clusters.nmi, "ari": clusters.ari, "goal": goal}
        print(name, found[name], flush=True)
    return found


def stored(rows: list[Row], work: Path) -> Path:
    """The rows as an imported corpus."""
    file = work / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    import_corpus([file], work / "corpus")
    return work / "corpus"


def bench_speed(folder: Path) -> dict[str, Any]:
    """Seconds and memory of a clustering with its suggestion, beside plain scikit-learn on the same rows."""
    found = {}
    for count in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as work:
            corpus = stored(long_rows(count), Path(work))
            size = (Path(work) / "rows.jsonl").stat().st_size
            ours = measured(_ours, corpus, Path(work) / "clusters")
            plain = measured(_plain, corpus, Path(work) / "clusters") if count <= 100_000 else None
        found[f"{count:,} rows"] = {"mb": round(size / 1e6), "ours": ours, "scikit-learn": plain}
        print(count, found[f"{count:,} rows"], flush=True)
    return found


def long_rows(count: int) -> list[Row]:
    """Rows of about 370 bytes in eight kinds, all distinct."""
    base = made(20_000, 8, 0.3, 0, words=60)
    return [{**base[i % len(base)], "answer": f"number {i}"} for i in range(count)]


def measured(work: Callable[[Path, Path], None], corpus: Path, out: Path) -> dict[str, float]:
    """Wall and CPU seconds and the peak of memory in a process of its own."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    process = context.Process(target=_timed, args=(work, corpus, out, told))
    process.start()
    found: dict[str, float] = told.get()
    process.join()
    return found


def _timed(work: Callable[[Path, Path], None], corpus: Path, out: Path, told: Any) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    work(corpus, out)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    told.put({"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_mb": round(peak / 1e6)})


def _ours(corpus: Path, out: Path) -> None:
    cluster_corpus(corpus, out)


def _plain(corpus: Path, out: Path) -> None:
    """TF-IDF, SVD, and k-means for each k, as one writes it down without looking further."""
    from hydralora.corpus.folder import Corpus

    texts = [f"{r['prompt']}\n{r['answer']}" for b in Corpus(corpus).scan("prompt", "answer") for r in b.to_pylist()]
    tfidf = TfidfVectorizer(max_features=20_000, sublinear_tf=True, min_df=2, dtype=np.float32).fit_transform(texts)
    points = normalize(TruncatedSVD(50, random_state=0).fit_transform(tfidf))
    sampled = points[np.random.default_rng(0).choice(len(points), CHOICE_TEXTS, replace=False)]
    for k in range(2, K_MAX + 1):
        KMeans(k, n_init=5, random_state=0).fit(sampled)
    MiniBatchKMeans(8, n_init=5, random_state=0).fit(points)


PARTS = {"made": bench_made, "steady": bench_steady, "quality": bench_quality, "speed": bench_speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("build/data"), help="folder of the public sets")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    kept = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {}
    kept["machine"] = f"{platform.machine()}, {psutil.cpu_count()} cores, scikit-learn {sklearn.__version__}"
    for name in options.only:
        kept[name] = PARTS[name](options.data)
        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
