"""Runs of a training to which something happens, each judged; what came of all of them as a table."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.faults import VICTIMS, Fault, choose, make_clock
from tests.chaos.verdict import Ending, Watch, check_ending, check_tidy, wait_for_end, wait_for_truth
from tests.chaos.world import World

ALWAYS = ["one death"] * 4 + ["two deaths"] * 3 + ["power cut", "reboot", "no descriptors", "eight writers", "noise"]

HOME_RUNS = 30  # of one home


@dataclass(frozen=True)
class Verdict:
    """What came of one run; ``true_seconds`` is how long after the fault its state was not told truly."""

    index: int
    fault: str
    details: str
    seconds: float
    true_seconds: float | None
    wrong: list[str] = field(default_factory=list)


class Suite:
    """Runs over one home after the other: a new one after ``HOME_RUNS``, and after each that was judged wrong.

    Args:
        seed: Decides the faults, together with the number of a run.
        tell: Called with each verdict.
    """

    world_of: type[World] = World
    disk = "size=192m"
    end_seconds = 120.0
    training = 2.5  # seconds that it takes, about
    victims: Sequence[str] = VICTIMS

    def __init__(self, seed: int, folder: Path, tell: Any = lambda verdict: None) -> None:
        self.seed, self.folder, self.tell = seed, folder, tell
        self.clock, self.verdicts = make_clock(folder), list[Verdict]()
        self.names = [*ALWAYS, *(["clock step"] if self.clock else [])]
        self.left_out = [] if self.clock else ["clock step: there is no compiler"]
        self._world: World | None = None
        self._expected: Ending | None = None

    @contextmanager
    def small_disk(self) -> Iterator[None]:
        """Homes on a disk of their own that can be filled, where this account may mount one."""
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", self.disk, "tmpfs", str(disk)], capture_output=True)
        if mounted.returncode:
            self.left_out.append("full disk: this account may mount none")
        else:
            self.names.append("full disk")
        try:
            yield
        finally:
            self.close()
            if not mounted.returncode:
                subprocess.run(["umount", "-l", str(disk)], check=True)

    def close(self) -> None:
        """End what runs, and make room for the next home."""
        if self._world is not None:
            self._world.close()
            shutil.rmtree(self._world.home.root.parent, ignore_errors=True)
            self._world = None

    def world(self) -> World:
        """A home with a studio that works: another one from time to time, since the disk of these is small."""
        if len(self.verdicts) % HOME_RUNS == 0:
            self.close()
        if self._world is None:
            place = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder / "disk"))
            self._world = self.world_of(place / "home", self.clock)
        self._world.open()
        return self._world

    def expected(self) -> Ending:
        """What the undisturbed run leaves."""
        if self._expected is None:
            world = self.world()
            job = world.begin(seed=1)
            wait_for_end(world, job, self.end_seconds)
            check_tidy(world, job)
            self._expected = Ending.of(world, job)
        return self._expected

    def run(self, index: int, fault: Fault | None = None) -> Verdict:
        """One run to which a fault happens; by chance where none is given."""
        expected, began, truth = self.expected(), time.monotonic(), None
        fault = fault or choose(random.Random(f"{self.seed} {index}"), self.names, self.training, self.victims)
        wrong: list[str] = []
        try:
            world = self.world()
            world.store.queue.only("serve", max_attempts=1)
            job = world.begin(seed=1, noise=fault.name == "noise")
            with Watch(world, job) as watch:
                fault.do(world, job)
                truth = wait_for_truth(world, job)
                world.open()
                wait_for_end(world, job, self.end_seconds)
            wrong += sorted(set(watch.wrong))
            check_ending(world, job, expected)
            check_tidy(world, job)
        except Exception as error:  # every kind of trouble is a verdict
            wrong.append(str(error) or type(error).__name__)
        if self._world is not None:
            self._world.set_clock(0)
        if wrong:
            self.close()
        verdict = Verdict(index, fault.name, fault.details, time.monotonic() - began, truth, wrong)
        self.verdicts.append(verdict)
        self.tell(verdict)
        return verdict

    def summary(self, first: int = 0) -> dict[str, Any]:
        """All verdicts as an answer; ``first`` is the number of the first run."""
        good = [verdict for verdict in self.verdicts if not verdict.wrong]
        all_, passed = (Counter(verdict.fault for verdict in some) for some in (self.verdicts, good))
        return {
            "seed": self.seed,
            "first": first,
            "runs": len(self.verdicts),
            "passed": len(good),
            "by_fault": {name: f"{passed[name]} of {number}" for name, number in sorted(all_.items())},
            "slowest_to_be_true": max((verdict.true_seconds or 0.0 for verdict in good), default=0.0),
            "left_out": self.left_out,
            "failures": [asdict(verdict) for verdict in self.verdicts if verdict.wrong],
        }
