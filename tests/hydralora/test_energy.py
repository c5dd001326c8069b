"""The electricity of a training: counted beside it, added up over attempts, told with what was measured."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hydralora.results.energy import Energy, add_up
from hydralora.training.energy import FOLDER, Meter, counting

WORK = 2_000_000


@pytest.fixture
def codecarbon() -> None:
    pytest.importorskip("codecarbon", reason="codecarbon is not installed: pip install '.[energy]'")


def count(folder: Path, country: str | None = "FRA") -> Energy:
    """What an attempt that works for a moment is told."""
    with counting(folder, country) as meter:
        assert meter is not None
        meter._begin.join()
        found, deadline = None, time.monotonic() + 30
        while (found is None or found.cpu_kwh == 0) and time.monotonic() < deadline:  # it looks once a second
            sum(range(WORK))
            found = meter.total()
    assert found is not None
    return found


def test_parts_are_told_apart_and_how_each_was_found(tmp_path: Path, codecarbon: None) -> None:
    found = count(tmp_path)
    assert found.cpu_kwh > 0 and found.ram_kwh > 0 and found.gpu_kwh == 0
    assert (found.gpu, found.ram) == ("none", "estimated") and found.cpu in ("measured", "estimated")
    assert found.country == "FRA" and found.co2e_kg > 0


def test_attempts_add_up_also_one_that_was_killed(tmp_path: Path, codecarbon: None) -> None:
    killed = Energy(cpu_kwh=1.0, ram_kwh=0.5, cpu="measured", ram="estimated", co2e_kg=0.2, seconds=60.0)
    killed.write(tmp_path / FOLDER, step=1)
    found = count(tmp_path)
    assert found.cpu_kwh >= 1.0 and found.ram_kwh > 0.5 and found.seconds > 60.0
    assert sorted(file.name for file in (tmp_path / FOLDER).iterdir()) == ["energy-1.json", "energy-2.json"]


def test_a_sum_is_as_good_as_its_worst_part() -> None:
    one, other = Energy(cpu="measured", gpu="measured"), Energy(cpu="estimated", gpu="none")
    found = add_up([one, other])
    assert found is not None and (found.cpu, found.gpu) == ("estimated", "measured")
    assert add_up([]) is None


@pytest.mark.parametrize("name", ["energy-1.json", "energy-x.json"])
def test_a_damaged_count_ends_no_training(tmp_path: Path, name: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / name).write_text('{"cpu_kwh": ', "utf-8")
    meter = Meter(tmp_path, None)  # without codecarbon it counts nothing itself
    meter._begin.join()
    assert meter.total() is None
    meter.stop()


def test_nothing_is_asked_of_a_network(tmp_path: Path, codecarbon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it asked a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert count(tmp_path).cpu_kwh > 0


def test_settings_of_the_user_send_nothing_anywhere(
    tmp_path: Path, codecarbon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = "[codecarbon]\nemissions_endpoint=http://127.0.0.1:9\nsave_to_file=true\nsave_to_api=true\n"
    (tmp_path / ".codecarbon.config").write_text(settings, "utf-8")
    assert count(tmp_path / "run").cpu_kwh > 0
    assert not list(tmp_path.rglob("*.csv"))


def test_an_unknown_country_is_the_worlds_mean(tmp_path: Path, codecarbon: None) -> None:
    found = count(tmp_path, "XYZ")
    assert found.country is None and found.co2e_kg > 0
    assert "the world's mean electricity" in found.sentence


def test_no_thread_of_it_is_left(tmp_path: Path, codecarbon: None) -> None:
    before = threading.active_count()
    count(tmp_path)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(15)
    assert threading.active_count() <= before


def test_without_the_package_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydralora.training.energy.find_spec", lambda name: None)
    with counting(tmp_path) as meter:
        assert meter is None
    assert not (tmp_path / FOLDER).exists()


def test_its_sentence_says_what_is_measured_and_what_is_estimated() -> None:
    found = Energy(
        cpu_kwh=0.012, gpu_kwh=1.5, ram_kwh=0.004, cpu="estimated", gpu="measured", ram="estimated", co2e_kg=0.08
    )
    assert found.sentence == (
        "1.52 kWh of electricity: CPU 12 Wh (estimated), GPU 1.5 kWh (measured), RAM 4 Wh (estimated). "
        "By the world's mean electricity that is 80 g CO2e (estimated)."
    )
