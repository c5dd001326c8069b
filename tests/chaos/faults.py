"""What happens to a studio that works: processes die at bad moments, and the machine fails it otherwise."""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from jobs.store.records import Job
from jobs.store.tables import JobRow
from tests.chaos.world import CLOCK_VARIABLE, World, kill, wait_dead

VICTIMS = ("web", "worker", "job", "reaper", "server")
DATABASE = "database"  # one more, where it is a server
MOMENTS = ("start", "any", "checkpoint", "save", "commit")
NOBODY = 2**22 + 1  # a pid that no process has
WRITING = 60.0  # seconds
LONGEST = 20.0  # seconds to wait for a moment
CLOCK = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: a name for the table, details, and what does it."""

    name: str
    details: str
    do: Callable[[World, Job], None]


def choose(chance: random.Random, names: list[str], training: float, victims: Sequence[str] = VICTIMS) -> Fault:
    """A fault by chance, of these names; ``training`` is how many seconds a run takes."""
    name = chance.choice(names)
    if name in ("one death", "two deaths"):
        return _deaths(chance, 1 if name == "one death" else 2, training, victims)
    return FAULTS[name](chance, training)


def _deaths(chance: random.Random, number: int, training: float, victims: Sequence[str] = VICTIMS) -> Fault:
    dying, moment = list(dict.fromkeys(chance.sample(victims, number))), chance.choice(MOMENTS)
    wait, between = chance.uniform(0.0, training), chance.choice((0.0, chance.uniform(0.0, 0.5)))
    down = chance.uniform(0.0, 5.0) if DATABASE in dying else 0.0
    return deaths(dying, moment, wait, between, down)


def deaths(victims: Sequence[str], moment: str, wait: float = 0.0, between: float = 0.0, down: float = 0.0) -> Fault:
    """Processes die one after the other.

    Args:
        wait: Seconds after the beginning, where the moment is ``any``.
        between: Seconds between two of them.
        down: Seconds until a database that died is there again.
    """

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, moment, wait)
        found, dead = world.victims(job), list[int]()
        for victim in victims:
            if victim == DATABASE:
                world.crash_database()
            else:  # without a database nobody can say who came meanwhile
                dead.append((found if DATABASE in victims else world.victims(job)).get(victim, NOBODY))
                kill(dead[-1])
            time.sleep(between)
        time.sleep(down)
        world.mend_database()
        wait_dead(dead)

    name = "one death" if len(victims) == 1 else "two deaths"
    gone = f", {down:.1f} s without a database" if DATABASE in victims else ""
    return Fault(name, f"{' and '.join(victims)}, {moment}, {between:.2f} s apart{gone}", do)


def wait_for_moment(world: World, job: Job, moment: str, wait: float) -> None:
    """Wait for the training to be somewhere; not for ever, since it may be past it."""
    deadline = time.monotonic() + LONGEST
    while not world.moment(job, "start" if moment == "any" else moment) and time.monotonic() < deadline:
        time.sleep(0.002)
    if moment == "any":
        time.sleep(wait)


def kill_all(world: World, job: Job) -> None:
    """Everything at the same time; a database is there again at once."""
    found = world.victims(job)
    world.crash_database()
    others = world.processes()
    for pid in found.values():
        kill(pid)
    for process in others:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    world.mend_database()
    wait_dead([*found.values(), *(process.pid for process in others)])


def _power_cut(chance: random.Random, training: float) -> Fault:
    moment, wait = chance.choice(MOMENTS), chance.uniform(0.0, training)

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, moment, wait)
        kill_all(world, job)
        for name in ("progress.json", "log.txt"):  # what is not flushed may be empty afterwards
            for file in world.home.attempts(job.id).glob(f"*/{name}"):
                file.write_bytes(b"")

    return Fault("power cut", moment, do)


def _reboot(chance: random.Random, training: float) -> Fault:
    moment, wait = chance.choice(MOMENTS), chance.uniform(0.0, training)

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, moment, wait)
        kill_all(world, job)
        with world.store._rows.writing() as session:
            for row in session.query(JobRow).filter(JobRow.host.is_not(None)):
                row.host = f"{(row.host or '').partition('/')[0]}/another"
        for file in world.home.attempts(job.id).glob("*/started.json"):
            file.write_text(json.dumps({**json.loads(file.read_text()), "boot": "another"}))

    return Fault("reboot", moment, do)


def _no_descriptors(chance: random.Random, training: float) -> Fault:
    wait, seconds = chance.uniform(0.0, training), chance.uniform(0.5, 3.0)

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, "any", wait)
        found = world.victims(job)
        with no_descriptors([found[name] for name in ("web", "worker") if name in found]):
            time.sleep(seconds)

    return Fault("no descriptors", f"{seconds:.1f} s", do)


@contextmanager
def no_descriptors(pids: list[int]) -> Iterator[None]:
    """Processes that can open no file more."""
    before: dict[int, tuple[int, int]] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            before[pid] = process.rlimit(resource.RLIMIT_NOFILE)
            process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds(), before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).rlimit(resource.RLIMIT_NOFILE, limits)


def _full_disk(chance: random.Random, training: float) -> Fault:
    wait, seconds = chance.uniform(0.0, training), chance.uniform(0.5, 4.0)

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, "any", wait)
        filler = world.home.root / "filler"
        deadline = time.monotonic() + seconds
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < deadline:
                try:
                    file.write(b"x" * 65_536)
                except OSError:
                    time.sleep(0.01)
        filler.unlink()

    return Fault("full disk", f"{seconds:.1f} s", do)


def _clock_step(chance: random.Random, training: float) -> Fault:
    wait, step = chance.uniform(0.0, training), chance.choice((-3600.0, -2.0, 2.0, 90.0, 3600.0))
    dies = chance.random() < 0.5

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, "any", wait)
        world.set_clock(step)
        time.sleep(0.5)
        if dies:
            kill(worker := world.victims(job).get("worker", NOBODY))
            wait_dead([worker])

    return Fault("clock step", f"{step:+.0f} s{', and the worker dies' if dies else ''}", do)


def _writers(chance: random.Random, training: float) -> Fault:
    """Eight threads, each with a connection of its own, write as fast as they can; nothing that was written is lost."""
    wait = chance.uniform(0.0, training)

    def do(world: World, job: Job) -> None:
        wait_for_moment(world, job, "any", wait)
        deadline, last = time.monotonic() + WRITING, dict[str, int]()

        def write(number: int) -> None:
            name, count = f"chaos {number}", 0
            while time.monotonic() < deadline:
                world.store.settings.set(name, {"count": (count := count + 1)})
                last[name] = count

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = {name: (world.store.settings.get(name) or {}).get("count") for name in last}
        if found != last or len(last) != len(writers):
            raise AssertionError(f"written {last}, there is {found}")

    return Fault("eight writers", f"{WRITING:.0f} s", do)


def _noise(chance: random.Random, training: float) -> Fault:
    """A death of the job, which has said 4 MiB on standard error (see ``payload``)."""
    one = _deaths(chance, 1, training)
    return Fault("noise", one.details, one.do)


FAULTS: dict[str, Callable[[random.Random, float], Fault]] = {
    "power cut": _power_cut,
    "reboot": _reboot,
    "no descriptors": _no_descriptors,
    "full disk": _full_disk,
    "clock step": _clock_step,
    "eight writers": _writers,
    "noise": _noise,
}


def make_clock(folder: Path) -> dict[str, str]:
    """Environment of processes whose clock can be set, where there is a compiler; else empty."""
    compiler, library, step = shutil.which("cc"), folder / "clock.so", folder / "clock"
    if compiler is None:
        return {}
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(CLOCK), "-ldl"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return {}
    step.write_text("0")
    return {"LD_PRELOAD": str(library), CLOCK_VARIABLE: str(step)}
