"""What must hold while and after something was ended: states are true, no number is lost or changed, one attempt
works, the run ends as the undisturbed one, and nothing is left over."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydralora.errors import UserError
from hydralora.files import PART, file_hash
from jobs.runner.cgroup import groups_of
from jobs.runner.reconcile import reconcile
from jobs.store.records import Job
from jobs.store.status import ACTIVE, JobStatus
from tests.chaos.world import World, until

TRUE_SECONDS = 10.0
LOOK_SECONDS = 0.3
TIDY_SECONDS = 10.0


@dataclass(frozen=True)
class Ending:
    """What a training has left: numbers by step, and hashes of the adapter's files."""

    numbers: dict[int, dict[str, Any]]
    gates: dict[int, Any]
    adapter: dict[str, str]

    @classmethod
    def of(cls, world: World, job: Job) -> Ending:
        """That of a run."""
        steps = world.store.runs.steps(job.run_id or 0)
        folder = world.home.run(job.run_id or 0) / "adapter"
        files = [file for file in sorted(folder.iterdir()) if file.suffix in ("", ".safetensors")]
        gates = {step.step: step.gates for step in steps if step.gates is not None}
        numbers = {step.step: {**step.numbers, "tokens_per_second": None} for step in steps}
        return cls(numbers, gates, {file.name: file_hash(file) for file in files})


@dataclass
class Watch:
    """Looks at a job from its beginning to its end, all the time."""

    world: World
    job: Job
    wrong: list[str] = field(default_factory=list)
    seen: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            alive = self.world.attempts_alive(self.job)
            if len(alive) > 1:
                self.wrong.append(f"attempts {alive} worked at once")
            with suppress(UserError):  # there is no database now
                self._look_at_steps()

    def _look_at_steps(self) -> None:
        steps = {step.step: step.numbers.get("loss") for step in self.world.store.runs.steps(self.job.run_id or 0)}
        if gone := [step for step, loss in self.seen.items() if steps.get(step) != loss]:
            self.wrong.append(f"numbers of steps {gone[:5]} were lost or changed")
        self.seen = {**self.seen, **steps}


def is_true(world: World, job: Job) -> bool:
    """Whether what is told of a job is so."""
    now = world.store.queue.get(job.id)
    alive = world.attempts_alive(job)
    if now.status not in ACTIVE:
        return not alive
    just_begun = now.started_at is not None and abs(time.time() + world.step - now.started_at) < TRUE_SECONDS
    return now.attempt in alive or (just_begun and not alive) or world.store.queue.silent_since(now) is not None


def wait_for_truth(world: World, job: Job) -> float:
    """Seconds until what is told is true; a reader looks meanwhile, as a command does.

    Raises:
        AssertionError: When it is not within ``TRUE_SECONDS``.
    """
    began = time.monotonic()
    reconcile(world.store)
    until(lambda: is_true(world, job), TRUE_SECONDS, "the state was not true")
    return time.monotonic() - began


def wait_for_end(world: World, job: Job, seconds: float) -> Job:
    """The job once it has succeeded.

    Raises:
        AssertionError: When it does not, or not in time.
    """
    until(lambda: world.store.queue.get(job.id).is_finished, seconds, "the job did not end")
    ended = world.store.queue.get(job.id)
    assert ended.status == JobStatus.SUCCEEDED, f"it ended {ended.status}: {ended.error or ended.progress_text}"
    return ended


def check_ending(world: World, job: Job, expected: Ending) -> None:
    """Compare with the undisturbed run, bit for bit.

    Raises:
        AssertionError: With what differs.
    """
    found = Ending.of(world, job)
    assert sorted(found.numbers) == sorted(expected.numbers), "steps are missing or too many"
    wrong = [step for step, numbers in expected.numbers.items() if found.numbers[step] != numbers]
    assert not wrong, f"numbers of steps {wrong[:5]} differ"
    assert found.gates == expected.gates, "gates differ"
    assert found.adapter == expected.adapter, "the adapter differs"


def check_tidy(world: World, job: Job) -> None:
    """No process works on the job any more, and no file of it lies half-written.

    Raises:
        AssertionError: With what is left.
    """
    until(lambda: not world.attempts_alive(job), TIDY_SECONDS, "an orphan works on")
    until(lambda: not _groups(world, job), TIDY_SECONDS, "a control group stays")
    deadline = time.monotonic() + TIDY_SECONDS  # the end is told before what nothing needs any more is removed
    while (left := _left(world, job)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"left over: {', '.join(str(path.relative_to(world.home.root)) for path in left[:5])}"


def _left(world: World, job: Job) -> list[Path]:
    places = (world.home.run(job.run_id or 0), world.home.attempts(job.id))
    left = [path for place in places for path in place.rglob("*") if path.suffix in (PART, ".old")]
    return left + [path for path in world.home.attempts(job.id).glob("*/*") if path.name in ("out", "temp")]


def _groups(world: World, job: Job) -> list[int]:
    return [attempt for _, number, attempt in groups_of(world.home.root) if number == job.id]
