"""Attempts as jobs of a Ray cluster, by its Jobs API over HTTP.

Nothing of Ray is imported here, and its package is needed only where a Ray of this machine is to be started. A handle
is the id of the submitted job and the address of its cluster. Ray tries nothing again, and the log of a node that has
died is gone with it: the queue does the one, the attempt's folder keeps the other. Where several processes train one
run, the attempt's own takes no processor and asks the nodes for them (``jobs.runner.ray_nodes``).
"""

from __future__ import annotations

import json
import logging
import math
import shlex
import time
from pathlib import Path
from typing import Any

from hydralora.errors import UserError
from hydralora.files import write_json
from jobs.runner.begin import command, leave, leave_needs
from jobs.runner.choice import HANDLE, Choice, Handle, need
from jobs.runner.ownership import ENDED, STARTED, give_up
from jobs.runner.ray_api import RayApi
from jobs.runner.ray_head import find_head
from jobs.runner.ray_room import WAITING, here, needs_on, refuse_too_small, trainings_on

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0  # between two looks at the nodes
ASK_SECONDS = 1.0  # between two questions after one attempt
STOP_SECONDS = 6  # between Ray's TERM and its KILL: what looks after the attempt ends the rest of it meanwhile


class RayExecutor:
    """Submits attempts to the cluster of ``choice``, or to a Ray of this machine that is started for the home."""

    def __init__(self, choice: Choice, home: Path) -> None:
        self.choice, self.home = choice, home
        self._fits, self._looked = 0, -math.inf
        self._states: dict[str, tuple[float, str]] = {}  # by id: when it was asked for, and what was said

    def check(self) -> None:
        """See whether the cluster answers, or could be started, and can ever hold all processes of a training.

        Raises:
            UserError: When it does not, the package is not installed, or the cluster is too small.
        """
        if not self.choice.address:
            need("ray", "ray")
        refuse_too_small(self.choice, self._api().nodes() if self.choice.address else here())

    def slots(self, kind: str) -> int | None:
        """How many attempts fit on the nodes that live; 0 while the cluster cannot be asked."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                nodes = self._api().nodes()
                self._fits = trainings_on(nodes, self.choice)
                refuse_too_small(self.choice, nodes)
            except UserError as error:
                self._fits = 0
                log.warning("%s", error)
        return self._fits

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Whether any node has room for such an attempt."""
        return bool(self.slots(kind))

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        """Submit the attempt under an id of its own, which is written down before.

        Raises:
            UnreachableError: When the cluster does not answer.
        """
        api, spec = self._api(), json.loads((folder / "spec.json").read_bytes())
        name = f"studio-{spec['job']}-{spec['attempt']}-{(spec['token'] or '')[:8]}"
        handle = {"engine": "ray", "id": name, "address": api.address, "folder": str(folder)}
        needs = needs_on(api.nodes(), self.choice)
        if kind == "train" and self.choice.processes > 1:
            leave_needs(folder, needs)
            needs = WAITING
        leave(folder, kind, self.choice, int(needs["GPU"]))
        write_json(folder / HANDLE, handle)
        asked = {
            "submission_id": name,
            "entrypoint": f"exec {shlex.join(command(folder))}",
            "entrypoint_num_cpus": needs["CPU"],
            "entrypoint_num_gpus": needs["GPU"],
            "entrypoint_memory": needs["memory"] or None,
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}},
        }
        api.ask("POST", "/api/jobs/", asked)
        return handle

    def is_alive(self, handle: Handle) -> bool:
        """Whether Ray works on it or will; what waits there and was given up never begins.

        Raises:
            UnreachableError: When the cluster does not answer.
        """
        folder = Path(handle["folder"])
        if (folder / "exit.json").exists():
            return False
        state = self._state(handle)
        return state == "RUNNING" or (state == "PENDING" and not (folder / ENDED).exists())

    def stop(self, handle: Handle, *, at_once: bool = False) -> None:
        """An attempt that has begun sees the file ``stop`` by itself; one that waits is given up."""
        folder = Path(handle["folder"])
        if at_once or not (folder / STARTED).exists():
            give_up(folder)
            self._states.pop(handle["id"], None)
            self._tell(handle, "POST", "/stop")

    def logs(self, handle: Handle) -> str:
        """The log that Ray keeps, and what it says of the end."""
        said, facts = self._tell(handle, "GET", "/logs"), self._tell(handle, "GET")
        return "\n".join(filter(None, [said.get("logs"), facts.get("message")]))

    def collect(self, handle: Handle) -> None:
        """Have Ray forget it."""
        self._states.pop(handle["id"], None)
        self._tell(handle, "DELETE")

    def _api(self, address: str = "") -> RayApi:
        return RayApi(address or self.choice.address or find_head(self.home), self.home)

    def _state(self, handle: Handle) -> str:
        when, state = self._states.get(handle["id"], (-math.inf, ""))
        if time.monotonic() - when > ASK_SECONDS:
            state = self._api(handle["address"]).ask("GET", f"/api/jobs/{handle['id']}").get("status", "")
            self._states[handle["id"]] = time.monotonic(), state
        return state

    def _tell(self, handle: Handle, method: str, below: str = "") -> dict[str, Any]:
        """Ask about one attempt; nothing where there is no answer."""
        try:
            found: dict[str, Any] = self._api(handle["address"]).ask(method, f"/api/jobs/{handle['id']}{below}")
        except UserError as error:
            log.warning("%s", error)
            return {}
        return found
