"""The electricity of a run stands on its tab Training and in `runs show`; where none was counted nothing does."""

from __future__ import annotations

from hydralora.results.energy import Energy
from jobs.store.records import Run
from studio.pages.run.views import time_taken
from tests.studio.commands import Commands
from tests.studio.stored import SUMMARY, Stored

ENERGY = Energy(cpu_kwh=0.012, ram_kwh=0.004, cpu="estimated", ram="estimated", co2e_kg=0.001, country="FRA")
SENTENCE = (
    "16 Wh of electricity: CPU 12 Wh (estimated), RAM 4 Wh (estimated). "
    "By the electricity of FRA that is 1 g CO2e (estimated)."
)


def trained(stored: Stored, energy: Energy | None) -> Run:
    run = stored.run(stored.corpus(), finished=False)
    stored.end(run.job, SUMMARY.model_copy(update={"energy": energy} if energy else {}).row())
    return stored.store.runs.get(run.id)


def test_it_stands_beside_time_and_memory(stored: Stored) -> None:
    run = trained(stored, ENERGY)
    assert run.job is not None and time_taken(stored.store, run, run.job).endswith(SENTENCE)
    shown = Commands(stored.home.root)("runs", "show", run.id)
    assert SENTENCE in shown.stdout, shown.stderr


def test_nothing_is_said_where_nothing_was_counted(stored: Stored) -> None:
    run = trained(stored, None)
    assert run.job is not None and "electricity" not in time_taken(stored.store, run, run.job)
    assert "electricity" not in Commands(stored.home.root)("runs", "show", run.id).stdout
