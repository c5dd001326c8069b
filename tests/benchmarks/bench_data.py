"""How fast a corpus is imported, checked and paged through; ``docs/performance.md`` shows the figures.

``python -m tests.benchmarks.bench_data --json FILE`` makes tables of 100,000 rows (``--rows`` says otherwise) and
measures each step in a process of its own, beside pandas, which only reads them.
"""

from __future__ import annotations

import argparse
import csv
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
import pandas as pd
import psutil

from hydralora.config import TrainConfig
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.loop import points_inside
from hydralora.corpus.narrowing import search_texts
from hydralora.corpus.preview import preview_files
from hydralora.corpus.quality.report import check_corpus
from tests.benchmarks.map_cost import measure_map

WORDS, PROMPT, ANSWER = 20_000, 30, 27  # different words, and words in a prompt and in an answer
PAGES = 200
SEARCHES = ("e", "zebra", "%_\"'", "中文", "Q" * 40)  # that stand in every row, in none, and in between


def write_table(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of words drawn by Zipf's law, about 370 characters each."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 4 + i % 7)) for i in range(WORDS)])
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["question", "answer"])
        for start in range(0, rows, 10_000):
            drawn = words[np.minimum(rng.zipf(1.3, (min(10_000, rows - start), PROMPT + ANSWER)), WORDS) - 1]
            out.writerows((" ".join(row[:PROMPT]), " ".join(row[PROMPT:])) for row in drawn)


def alone(work: Callable[..., Any], *given: Any) -> dict[str, float]:
    """Seconds and peak memory of a call in a process of its own, imports and start left out of the seconds."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(writer, work, given))
    process.start()
    writer.close()
    found: dict[str, float] = reader.recv()
    process.join()
    return found


def _measure(writer: Any, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    wall, spent = time.perf_counter(), time.process_time()
    work(*given)
    found = {"seconds": round(time.perf_counter() - wall, 2), "processor": round(time.process_time() - spent, 2)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**20
    writer.send({**found, "peak_mib": round(peak)})


def run_import(table: Path, folder: Path) -> None:
    import_corpus([table], folder)


def run_pandas(table: Path) -> None:
    pd.read_csv(table)


def run_preview(table: Path) -> None:
    preview_files([table])


def run_check(folder: Path, base: str) -> None:
    check_corpus(folder, TrainConfig(), base=base)


def run_pages(folder: Path) -> None:
    corpus = Corpus(folder)
    for start in np.random.default_rng(0).integers(0, len(corpus) - 10, PAGES):
        corpus.page(int(start), 10)


def least(work: Callable[[], Any], times: int = 5) -> float:
    """Milliseconds of one core that the quickest of several calls took; one thread works."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return round(1000 * min(taken), 1)


def time_searches(folder: Path) -> dict[str, float]:
    """Milliseconds of each search, of a loop of 400 corners (each the least of five), and the memory they took."""
    corpus, process = Corpus(folder), psutil.Process()
    word = corpus.take([0])[0].prompt.split()[-1].upper()
    search_texts(corpus, "warm")
    before, found = process.memory_info().rss, {}
    for text in (*SEARCHES, word):
        found[text if text != word else "a rare word"] = least(lambda text=text: search_texts(corpus, text))
    x, y = np.random.default_rng(0).integers(0, 65_536, (2, len(corpus)))
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    corners = list(zip(32_768 + 20_000 * np.cos(angle), 32_768 + 20_000 * np.sin(angle), strict=True))
    found["a loop of 400 corners"] = least(lambda: points_inside(x, y, corners))
    return {**found, "memory, MiB": round((process.memory_info().rss - before) / 2**20, 1)}


def run_cluster(folder: Path, out: Path) -> None:
    cluster_corpus(folder, out, k=12)


def measure(rows: int) -> dict[str, Any]:
    """Every figure for one number of rows."""
    with tempfile.TemporaryDirectory() as work:
        table, folder = Path(work) / "rows.csv", Path(work) / "corpus"
        write_table(table, rows)
        found = {
            "mib": round(table.stat().st_size / 2**20, 1),
            "preview": alone(run_preview, table),
            "pandas": alone(run_pandas, table),
            "import": alone(run_import, table, folder),
            "check": alone(run_check, folder, ""),
            "check with tokens": alone(run_check, folder, "starter"),
        }
        pages = alone(run_pages, folder)
        found["page of ten rows, ms"] = round(1000 * pages["seconds"] / PAGES, 2)
        found["search, processor ms"] = time_searches(folder)
        found["cluster, k = 12"] = alone(run_cluster, folder, Path(work) / "clusters")
        found["map"] = measure_map(Path(work) / "home", table)
        return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    options = parser.parse_args()
    machine = {"machine": platform.machine(), "cores": psutil.cpu_count(), "python": platform.python_version()}
    figures = {**machine, **{f"{rows:,} rows": measure(rows) for rows in options.rows}}
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
