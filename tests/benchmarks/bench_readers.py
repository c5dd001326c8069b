"""How the studio answers beside many readers of one slow answer: ``/ui/health`` alone, and with 200 of them.

``python -m tests.benchmarks.bench_readers --json FILE`` prints milliseconds and keeps them as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from jobs.home import Home
from studio.web.answers import Live
from studio.web.server import create_app
from tests.security.conftest import Served
from tests.security.test_bounds import answers_of

READERS, ASKED = 200, 100


async def measure(address: str, headers: dict[str, str], live: Live) -> dict[str, float]:
    """Median and 95th percentile of one request, in ms."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=60) as client:
        alone = await ask(client)
        readers = [asyncio.create_task(read(client)) for _ in range(READERS)]
        while live.readers < READERS:
            await asyncio.sleep(0.05)
        beside = await ask(client)
        live.add({"end": "done"}, ended=True)
        await asyncio.gather(*readers)
    return {f"{name}_{key}": value for name, found in (("alone", alone), ("beside", beside)) for key, value in found}


async def ask(client: httpx.AsyncClient) -> list[tuple[str, float]]:
    times = []
    for _ in range(ASKED):
        began = time.perf_counter()
        (await client.get("/ui/health")).raise_for_status()
        times.append(1e3 * (time.perf_counter() - began))
    return [("median_ms", statistics.median(times)), ("p95_ms", sorted(times)[int(0.95 * ASKED)])]


async def read(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/ui/chat/answers/7") as reply:
        async for _ in reply.aiter_text():
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        made = create_app(Home(Path(work) / "home"), keep_worker=False)
        live = answers_of(made).live[7] = Live()
        live.add({"text": "slow"})
        headers = {"Authorization": f"Bearer {made.state.door.secret}"}
        with Served(made) as served:
            found = asyncio.run(measure(f"http://127.0.0.1:{served.port}", headers, live))
    kept = {"machine": f"{platform.machine()}, {psutil.cpu_count()} cores", "readers": READERS}
    kept |= {name: round(value, 1) for name, value in found.items()}
    print(json.dumps(kept, indent=1))
    options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
