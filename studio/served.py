"""Which models the endpoint serves: every finished run, and every base."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hydralora.bases.folder import is_hub_id
from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.chat.client import base_of
from jobs.store.bases import is_hub_allowed
from jobs.store.records import Run
from jobs.store.store import Store

OWNER = "hydra-studio"
RUN = re.compile(r"run-([1-9][0-9]{0,15})")


class UnknownModel(UserError):
    """A model that is not served, by its name."""


@dataclass(frozen=True)
class Served:
    """A model by its name; ``run`` is None for a base alone.

    Args:
        name: ``run-12``, or what the list of bases calls a base.
        base: The base as questions name it, with its type.
    """

    name: str
    base: dict[str, str]
    run: Run | None = None

    @property
    def experts(self) -> int:
        """How many experts its adapter has that can be changed; 0 where it has none."""
        options = self.run.config.adapter if self.run else None
        return options.experts if options and options.combined_by is not None else 0

    @property
    def speaker(self) -> dict[str, Any]:
        """As the model server wants it."""
        return {**self.base, "run_id": self.run.id if self.run else None}


class Models:
    """The models of one store.

    Args:
        only: Serve these runs and their bases only; None serves all.
    """

    def __init__(self, store: Store, only: Collection[int] | None = None) -> None:
        self.store, self.only = store, only

    def all(self) -> list[Served]:
        """Finished runs, the newest first, then bases."""
        runs = self._runs()
        bases = {self.store.bases.name_of(run.base): base_of(run) for run in reversed(runs)}  # the newest one's type
        names = list(bases)
        if self.only is None:
            hub = [run.base for run in runs if is_hub_id(run.base) and is_hub_allowed()]
            names = list(dict.fromkeys(["starter", *(base.name for base in self.store.bases.all()), *hub]))
        # A base answers in the type of the newest run on it, so that both find the same model in memory.
        served = [Served(name, bases.get(name) or {"base": name, "dtype": "auto"}) for name in names]
        return [*(Served(name_of(run), base_of(run), run) for run in runs), *served]

    def find(self, name: str) -> Served:
        """The model of this name.

        Raises:
            UnknownModel: When there is none.
        """
        found = next((served for served in self.all() if served.name == name), None)
        if found is None:
            raise UnknownModel(self._why(name))
        return found

    def view(self, served: Served) -> dict[str, Any]:
        """A model as the API lists it; what the API has no field for stands under ``hydra``."""
        run = served.run
        more: dict[str, Any] = {"base": self.store.bases.name_of(served.base["base"])}
        if run is not None:
            more |= {"run_id": run.id, "name": run.name, "method": run.method, "experts": served.experts}
        return {
            "id": served.name,
            "object": "model",
            "created": int(run.created_at) if run else 0,
            "owned_by": OWNER,
            "hydra": more,
        }

    def _runs(self) -> list[Run]:
        runs = [run for run in self.store.runs.all() if run.summary is not None and not run.summary.base_problem]
        return [run for run in runs if self.only is None or run.id in self.only]

    def _why(self, name: str) -> str:
        given = RUN.fullmatch(name)
        if given and self.only is None and int(given[1]) <= LARGEST_ID:
            run = next((run for run in self.store.runs.all() if run.id == int(given[1])), None)
            if run is not None:
                return (
                    f"Run {run.id} has no adapter to answer with ({run.status}). `GET /v1/models` names those that do."
                )
        return f"There is no model called {shown(name)}. `GET /v1/models` names all: run-1, run-2, ..., and the bases."


def name_of(run: Run) -> str:
    """The model's name of a run: by its id, since two runs may have one name."""
    return f"run-{run.id}"
