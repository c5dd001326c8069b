"""How quickly the studio is there and how much it holds: start, first page, a page of rows, first word of the chat.

``python -m tests.benchmarks.bench_studio --json FILE`` prints the numbers and keeps them as JSON. They are times of
this machine, for people to read; no test asks for them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from jobs.chat.client import ChatClient
from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import Studio, wait_until

ROWS, PAGES = 100_000, 200


def first_page(studio: Studio) -> dict[str, float]:
    """Seconds from the command to the first whole page, and megabytes then held."""
    began = time.perf_counter()
    studio.start()
    assert studio.ask("/").status_code == 200
    seconds = time.perf_counter() - began
    assert studio.process is not None
    return {"first_page_seconds": seconds, "web_process_mb": psutil.Process(studio.process.pid).memory_info().rss / 1e6}


def page_of_rows(folder: Path) -> dict[str, float]:
    """Median milliseconds of one page of 20 rows, anywhere in a corpus of ``ROWS``."""
    file = folder / "large.csv"
    file.write_text("question,answer\n" + "".join(f"what is {i}?,it is {i}\n" for i in range(ROWS)), "utf-8")
    began = time.perf_counter()
    import_corpus([file], folder / "corpus")
    imported, rows, times = time.perf_counter() - began, Corpus(folder / "corpus"), []
    for number in range(PAGES):
        began = time.perf_counter()
        rows.page((number * 7_919) % (ROWS - 20), 20)
        times.append(1e3 * (time.perf_counter() - began))
    return {"import_100k_seconds": imported, "page_of_rows_ms": statistics.median(times)}


def first_word(home: Home) -> dict[str, float]:
    """Median seconds from question to first word, once the model server is warm."""
    client, times = ChatClient(Store(home)), []
    client.warm({"base": "starter"})
    for number in range(20):
        began = time.perf_counter()
        question = {
            "request_id": f"bench-{number}",
            "base": "starter",
            "messages": [{"role": "user", "content": "What does a cow say?"}],
        }
        for line in client.ask(question):
            if "text" in line and len(times) == number:  # the answer is read to its end
                times.append(time.perf_counter() - began)
    return {"first_word_seconds": statistics.median(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        studio = Studio(folder / "home")
        try:
            found: dict[str, Any] = {
                "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
                **first_page(studio),
            }
            home = Home(folder / "home")
            wait_until(lambda: Store(home).workers.seen())
            found |= {**page_of_rows(folder), **first_word(home)}
        finally:
            studio.end()
    found = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps(found, indent=1))
    options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
