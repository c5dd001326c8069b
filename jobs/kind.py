"""A kind of job as one object, which everything else about that kind is read from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydralora.results import Part, Result
from jobs.home import Home
from jobs.kind_folders import analysis, nothing
from jobs.kind_limits import Limits, only_memory

Lane = Literal["light", "heavy", "server", "network"]


@dataclass(frozen=True)
class Kind:
    """Everything about one kind of job that is not its work.

    Args:
        name: As it is stored, and as commands take it.
        title: What people read for it.
        task: Dotted module and function that does the work, imported in the job's own process only.
        measure: For a look that ``jobs.tasks.measure`` takes, the dotted function of the library that measures a run:
            ``f(run_folder, corpus_folder, out_folder, *, clusters_folder, progress)`` gives the result it wrote.
        lane: Jobs of one lane run one after the other; ``light`` ones never wait behind training,
            and nothing waits behind the ``network``.
        grace_seconds: What it has to save its state after it was asked to end.
        version: For a look into a run, the version of what it writes: raise it when that changes, and what is stored
            from before is measured again when somebody looks. None for any other kind.
        result: For a look, the type of what it finds, which knows its file in the folder of the analysis.
        former: For a look, names of parameters with those they had in an earlier version; what was stored under these
            is found by the new ones.
        look: For a look that the command ``inspect`` takes by itself, the parameters it takes it with.
        on_corpus: Whether it is measured on the examples of a corpus.
        priority: Waiting jobs of higher priority begin first.
        needs_torch: Whether its work imports torch, so that it is forked from a process that has, where one can.
        uses_gpu: Whether it computes on a GPU where there is one; the others see none, so that they can be forked.
        resumes: Whether another attempt goes on where the last one has saved its state.
        shrinks: Whether it can be tried again in smaller parts after it ran out of memory.
        uses_hub: Whether it may load a model from the hub, and so is given the hub's token.
        uses_index: Whether it fetches a package, and so is given what the installer is told by the environment.
        ends: Whether it comes to an end by itself, so that its progress can be told.
        limits: What it may take on a machine with so many bytes of memory.
        leftovers: Folders that it may leave half-written when it is killed.
        outputs: Folders that its task writes into its attempt's own folder (``Job.place``), and that are put in their
            place by the transaction that ends a job which succeeded.
        artefacts: Folders that it has made or changed, which other machines may need (``jobs.artefacts``); that of its
            analysis where it is a look.
        writer: Dotted module and function, called with a session, the job's row and the home in the transaction that
            ends a job which succeeded, to write its result where it belongs; None where the result stays with the job.
        spent: Folders that nothing needs any more once it has succeeded.
    """

    name: str
    title: str
    task: str
    measure: str | None = None
    lane: Lane = "light"
    grace_seconds: float = 8.0
    version: int | None = None
    result: type[Result] | None = None
    former: Mapping[str, str] = field(default_factory=dict)
    look: Mapping[str, Any] | None = None
    on_corpus: bool = False
    priority: int = 0
    needs_torch: bool = False
    uses_gpu: bool = False
    resumes: bool = False
    shrinks: bool = False
    uses_hub: bool = False
    uses_index: bool = False
    ends: bool = True
    limits: Callable[[int], Limits] = field(default=only_memory, repr=False)
    leftovers: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    outputs: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    artefacts: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)
    writer: str | None = None
    spent: Callable[[Home, Mapping[str, Any]], list[Path]] = field(default=nothing, repr=False)

    def load(self) -> Callable[[Any], Part | dict[str, Any]]:
        """The function that does the work; what it gives is a result with a type, or plain JSON."""
        task: Callable[[Any], Part | dict[str, Any]] = named(self.task)
        return task

    def artefacts_of(self, home: Home, payload: Mapping[str, Any]) -> list[Path]:
        """The folders that a job has made for other machines too."""
        return analysis(home, payload) if self.version is not None else self.artefacts(home, payload)

    def write_result(self, session: Any, job: Any, home: Home) -> None:
        """Write the result of a job that succeeded, within the transaction that ends it."""
        if self.writer is not None:
            named(self.writer)(session, job, home)


def named(dotted: str) -> Any:
    """The function or class of a dotted name, imported now."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)
