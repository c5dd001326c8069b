"""What carries heavy jobs out, as it was chosen, and what the attempts elsewhere are given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from typing import Any

from hydralora.errors import UserError

Handle = dict[str, Any]  # finds a started attempt again, also for a later worker; it is stored with the job as JSON
HANDLE = "engine.json"  # in the folder of an attempt: its handle, written before an engine is asked to begin
NODE_LOST = "Its node was lost."
NO_ROOM = "The cluster has no room for all of its processes now."
KEY = "executor"  # of the setting that keeps the choice


class UnreachableError(UserError):
    """An engine that cannot be asked now; what works there may go on."""


@dataclass(frozen=True)
class Choice:
    """Name of an executor, and what each heavy job is given there.

    Args:
        address: Of Ray's dashboard; without one a Ray of the home's own is started. For Slurm ``local`` tries
            submitit without a cluster.
        cpus: Processors of an attempt.
        gpus: GPUs of an attempt; None for one where the cluster has any.
        memory_gib: GiB of memory that are kept for an attempt; None for no bound.
        processes: That train one run together, each with a GPU where there are any: of this machine, or of the nodes of
            a Ray cluster, where each is given ``cpus``, ``gpus`` and ``memory_gib``.
        options: Further options of Slurm's `sbatch`, by name.
    """

    executor: str = "local"
    address: str = ""
    cpus: int = 2
    gpus: int | None = None
    memory_gib: float | None = None
    processes: int = 1
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = {"--job-cpus": self.cpus - 1, "--job-gpus": self.gpus or 0, "processes": self.processes - 1}
        if any(not 0 <= number < 1024 for number in numbers.values()) or not 0 <= (self.memory_gib or 0) < 1e5:
            raise UserError(
                f"A job needs at least one processor and no negative number of anything, got {self.cpus} CPUs, "
                f"{self.gpus} GPUs, {self.memory_gib} GiB and {self.processes} processes. Check --job-cpus, "
                "--job-gpus, --job-memory-gib and --job-processes."
            )
        if self.processes > 1 and self.executor not in ("local", "spawn", "ray"):
            raise UserError(
                f"Several processes train one run on the worker's own machine or over the nodes of a Ray cluster, got "
                f"--job-processes {self.processes} with {self.executor}. Leave it out, or take --executor local or ray."
            )

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def load(cls, stored: dict[str, Any] | None) -> Choice:
        """From JSON, the default where nothing is stored; what another version has stored besides is left out."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in (stored or {}).items() if name in names})

    def shown(self) -> str:
        """As one line for people."""
        given = {
            name: value for name, value in asdict(self).items() if name != "executor" and value not in (None, "", {})
        }
        if self.executor in ("local", "spawn"):
            return self.executor if self.processes == 1 else f"{self.executor}, {self.processes} processes a training"
        return f"{self.executor} {json.dumps(given)}"


def need(package: str, extra: str) -> None:
    """Refuse to go on without a package that an extra brings.

    Raises:
        UserError: With the command that installs it.
    """
    if find_spec(package) is None:
        raise UserError(
            f"--executor {extra} needs the package {package}, which is not installed: "
            f"pip install 'hydra-studio[{extra}]' (in a checkout: pip install '.[{extra}]')."
        )
