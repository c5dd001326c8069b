"""Counts the electricity of a training by codecarbon, where that is installed: https://mlco2.github.io/codecarbon/

It counts in threads of its own, begins in the background, and never asks a network. Its count is written every few
seconds into a file of this attempt, so that what a killed attempt took counts too.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydralora.results.energy import Energy, How, add_up

log = logging.getLogger(__name__)
FOLDER = "energy"  # in the folder of a run: a file for each attempt
SECONDS = 10.0  # between two measurements
LOOK_SECONDS = 5.0  # between two looks at how busy our processes are
START_SECONDS = 30.0  # that the end of a training waits for the beginning of the count


class Meter:
    """Counts for the attempt that trains in ``run_folder``.

    Args:
        country: Whose electricity it is, by ISO 3166 alpha-3; the world's mean where it is not known.
    """

    def __init__(self, run_folder: Path, country: str | None) -> None:
        self.folder, self._country = run_folder / FOLDER, country
        self._number = 1 + len(list(self.folder.glob("energy-*.json")))
        self._tracker: Any = None
        self._how: dict[str, How] = {}
        self._begin = threading.Thread(target=self._start, daemon=True)
        self._begin.start()

    def _start(self) -> None:
        try:
            from codecarbon import OfflineEmissionsTracker
            from codecarbon.core.cpu import is_rapl_available
            from codecarbon.input import DataSource

            source = DataSource()
            logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it talks of every measurement
            mean = source.get_carbon_intensity_per_source_data()["world_average"]
            if self._country not in (None, *source.get_global_energy_mix_data()):
                log.warning("%s is no country whose electricity is known; the world's mean is taken.", self._country)
                self._country = None
            tracker = OfflineEmissionsTracker(
                country_iso_code=self._country or "USA",
                force_carbon_intensity_g_co2e_kwh=None if self._country else mean,
                tracking_mode="process",
                measure_power_secs=SECONDS,
                api_call_interval=1,
                output_methods=[],
                output_handlers=[_Handler(self)],
                output_dir=".",
                emissions_endpoint=None,  # whatever a file of settings of the user says: nothing is sent anywhere
                electricitymaps_api_token=None,
                gpu_ids=visible_gpus(),
                allow_multiple_runs=True,
                log_level="critical",
            )
            self._how = {"cpu": "measured" if is_rapl_available() else "estimated", "ram": "estimated"}
            tracker._scheduler_monitor_power.interval = LOOK_SECONDS  # it walks through all processes each time
            tracker.start()
            self._tracker = tracker
        except Exception as error:  # a count that is not possible ends no training
            log.warning("Energy is not counted: %s: %s", type(error).__name__, error)

    def note(self, total: Any) -> None:
        """Write down what codecarbon has counted since the beginning of this attempt."""
        has_gpu = bool(total.gpu_count) and visible_gpus() != []
        found = Energy(
            cpu_kwh=total.cpu_energy,
            gpu_kwh=total.gpu_energy if has_gpu else 0.0,
            ram_kwh=total.ram_energy,
            cpu=self._how["cpu"],
            gpu="measured" if has_gpu else "none",
            ram="estimated",
            co2e_kg=total.emissions,
            country=self._country,
            seconds=total.duration,
        )
        try:
            found.write(self.folder, step=self._number)
        except OSError as error:
            log.warning("The energy so far could not be written: %s", error.strerror)

    def total(self) -> Energy | None:
        """What all attempts at the run have taken up to now; None where none was counted, or a count is damaged."""
        try:
            if self._tracker is not None:
                self._tracker.flush()
            files = sorted(self.folder.glob("energy-*.json"))
            return add_up(Energy.read(self.folder, step=_number(file)) for file in files)
        except Exception as error:  # no count ends a training
            log.warning("The energy cannot be told: %s: %s", type(error).__name__, error)
            return None

    def stop(self) -> None:
        """Count once more, and no more."""
        self._begin.join(START_SECONDS)
        if self._tracker is None:
            return
        try:
            self._tracker.stop()
        except Exception as error:  # no count ends a training
            log.warning("The last count of energy failed: %s: %s", type(error).__name__, error)


class _Handler:
    """What codecarbon tells its numbers."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def out(self, total: Any, delta: Any) -> None:
        """At the end, and when it is asked to."""
        self._meter.note(total)

    live_out = out

    def task_out(self, data: Any, name: str) -> None:
        """It is asked for no tasks."""

    def exit(self) -> None:
        """Nothing is open."""


@contextmanager
def counting(run_folder: Path, country: str | None = None) -> Iterator[Meter | None]:
    """A meter while the block trains; none where codecarbon is not installed."""
    if find_spec("codecarbon") is None:
        yield None
        return
    meter = Meter(run_folder, country)
    try:
        yield meter
    finally:
        meter.stop()


def visible_gpus() -> list[str] | None:
    """The GPUs that this process sees, by number or uuid; None for all that there are."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else [name.strip() for name in named.split(",") if name.strip()]


def _number(file: Path) -> int:
    return int(file.stem.partition("-")[2])
