"""What an engine costs a job, and what the loss of a node does: ``docs/scaling.md`` shows the figures.

``python -m tests.benchmarks.bench_engines --json FILE`` starts a job that does nothing by each executor that is here,
and then loses one of three nodes of a Ray cluster on this machine while six trainings of numbers run on it.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from jobs.home import Home
from jobs.runner.choice import KEY, NODE_LOST, Choice
from jobs.runner.executors import find_executor
from jobs.runner.processes import Identity, family
from jobs.runner.ray_head import head_of
from jobs.runner.running import write_spec
from jobs.store.store import Store
from tests.chaos.verdict import wait_for_end
from tests.chaos.world import World, until
from tests.jobs.conftest import LITTLE, end_home, wait_for
from tests.jobs.ray_nodes import RayNodes
from tests.jobs.test_ray_nodes import RUNS, STEPS, WORDS, began_on

REPEATS = 5


def engines() -> dict[str, Choice]:
    """Those that can be used here."""
    found = {"local (begun from nothing)": Choice("spawn")}
    if find_spec("submitit"):
        found["submitit, local"] = Choice("slurm", "local", cpus=1)
        if shutil.which("sinfo"):
            found["Slurm, one node"] = Choice("slurm", cpus=1)
    if find_spec("ray"):
        found["Ray of the home's own"] = Choice("ray", cpus=1, gpus=0)
    return found


def cost(home: Home, choice: Choice) -> dict[str, Any]:
    """Median seconds until a job's process begins, and until its end is known; bytes of Ray where it was started."""
    executor, begun, ended = find_executor(choice, home.root), [], []
    since = time.perf_counter()
    wait_for(lambda: executor.is_ready("map", home.root), 120)
    ready = time.perf_counter() - since
    for _ in range(REPEATS):
        folder = write_spec(home, Store(home).queue.submit("map", {"do": "nothing"}), LITTLE)
        since = time.perf_counter()
        handle = executor.start("map", folder, home.root)
        wait_for((folder / "started.json").exists)
        begun.append(time.perf_counter() - since)
        wait_for(lambda handle=handle: not executor.is_alive(handle))
        ended.append(time.perf_counter() - since)
    row = {"ready": ready, "begun": median(begun), "ended": median(ended)}
    who = head_of(home.root)
    return {**row, "bytes": pss(who)} if choice.executor == "ray" else row


def pss(who: Identity) -> int:
    """Bytes of a process and its descendants, shared pages counted once."""
    return sum(psutil.Process(one["pid"]).memory_full_info().pss for one in family(who))


def lose_node(folder: Path) -> dict[str, Any]:
    """Seconds after the loss of a node until its job waits again and until it goes on, and what was repeated."""
    nodes = RayNodes(folder, others=2)
    world = World(folder / "home", words=WORDS)
    try:
        world.store.settings.set(KEY, Choice("ray", nodes.address, cpus=1, gpus=0).dump())
        jobs = [world.begin(seed, steps=STEPS) for seed in range(RUNS)]
        world.open()
        (lost,) = until(lambda: began_on(nodes, 2, jobs, world), 120, "the third node works on nothing")
        reached = len(world.store.runs.steps(lost.run_id or 0))
        since = time.time()
        nodes.kill(2)
        ended = [wait_for_end(world, job, 240) for job in jobs]
        events = world.store.queue.events(lost.id)
        known = next(event.at for event in events if event.why == NODE_LOST)
        again = next(event.at for event in events if event.attempt == 2 and event.after == "running")
        summary = world.store.runs.get(lost.run_id or 0).summary
        return {
            "jobs": len(jobs),
            "succeeded": len(ended),
            "known_after": known - since,
            "goes_on_after": again - since,
            "steps": STEPS,
            "at_step": reached,
            "resumed_from": summary.resumed_from if summary else None,
        }
    finally:
        world.close()
        nodes.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": psutil.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        try:
            found["cost"] = {name: cost(home, choice) for name, choice in engines().items()}
        finally:
            end_home(home)
        if find_spec("ray"):
            found["loss"] = lose_node(Path(folder))
    options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(options.json.read_text("utf-8"))


if __name__ == "__main__":
    main()
