"""How fast a corpus is imported, checked and paged through; ``docs/performance.md`` shows the figures.

``python -m tests.benchmarks.bench_data --json FILE`` makes tables of 100,000 rows (``--rows`` says otherwise) and
measures each step in a process of its own, beside pandas, which only reads them.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.corpus.loop import points_inside
from hydralora.corpus.narrowing import search_texts
from jobs.home import Home
from jobs.store.store import Store
from tests.benchmarks.job_cost import job_cost
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


def time_pandas(table: Path) -> dict[str, float]:
    """What pandas takes to read the table, and no more, in a process of its own."""
    code = (
        "import sys, time, pandas; began = time.perf_counter(); pandas.read_csv(sys.argv[1]); "
        "print(time.perf_counter() - began, next(l for l in open('/proc/self/status') if 'VmHWM' in l).split()[1])"
    )
    told = subprocess.run([sys.executable, "-c", code, str(table)], capture_output=True, text=True, check=True)
    seconds, peak = map(float, told.stdout.split())
    return {"seconds": round(seconds, 2), "peak_mib": round(peak / 1024)}


def time_pages(folder: Path) -> float:
    """Milliseconds of a page of ten rows."""
    corpus = Corpus(folder)
    began = time.perf_counter()
    for start in np.random.default_rng(0).integers(0, len(corpus) - 10, PAGES):
        corpus.page(int(start), 10)
    return round(1000 * (time.perf_counter() - began) / PAGES, 2)


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


def jobs_of(name: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Kind and payload of each job that is measured; ``name`` is the file to import."""
    files = {"files": [name], "roles": None, "options": {}}
    check = {"corpus_id": 1, "train": TrainConfig().model_dump(mode="json")}
    return {
        "preview": ("preview", {**files, "base": "", "max_length": 512}),
        "import": ("ingest", {**files, "corpus_id": 1}),
        "check": ("check", {**check, "base": ""}),
        "check with tokens": ("check", {**check, "base": "starter"}),
        "cluster": ("cluster", {"corpus_id": 1, "clustering_id": 1, "k": None, "seed": 0}),
        "cluster, k = 12": ("cluster", {"corpus_id": 1, "clustering_id": 2, "k": 12, "seed": 0}),
    }


def measure(rows: int, only: list[str]) -> dict[str, Any]:
    """Every figure for one number of rows, or those of ``only`` (an import comes first in any case)."""
    with tempfile.TemporaryDirectory() as work:
        home = Store(Home(Path(work) / "home")).home  # with a database, which its jobs ask for
        table = home.uploads / "rows.csv"
        write_table(table, rows)
        found: dict[str, Any] = {"mib": round(table.stat().st_size / 2**20, 1)}
        for name, (kind, payload) in jobs_of(table.name).items():
            if not only or name in only or name == "import":
                found[name] = job_cost(home, kind, payload)
                print(f"{rows:,} rows, {name}: {found[name]}", file=sys.stderr, flush=True)
        if not only or "pages" in only:
            found["pandas"] = time_pandas(table)
            found["page of ten rows, ms"] = time_pages(home.corpus(1))
            found["search, processor ms"] = time_searches(home.corpus(1))
        if not only or "map" in only:
            found["map"] = measure_map(Path(work) / "map", table)
        return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--only", nargs="*", default=[], help="steps by name, besides the import")
    options = parser.parse_args()
    machine = {"machine": platform.machine(), "cores": psutil.cpu_count(), "python": platform.python_version()}
    figures = {**machine, **{f"{rows:,} rows": measure(rows, options.only) for rows in options.rows}}
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
