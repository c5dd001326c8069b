"""What is free on this machine is read from the system, and of a driver's program only what has its form."""

from __future__ import annotations

import psutil
import pytest

from jobs.machine import Gpu, Machine, look_at_machine, own_address, read_gpus, visible

MIB = 2**20


def test_memory_and_cores_are_those_of_the_system() -> None:
    machine = look_at_machine()
    assert machine.total == psutil.virtual_memory().total and 0 < machine.free <= machine.total
    assert machine.cores >= 1


def test_gpus_are_read_from_lines_with_a_uuid_a_name_and_two_numbers() -> None:
    said = "GPU-1, NVIDIA H100, 80GB, 81559, 80000\nrubbish\nGPU-3, A, x, 3\n\nGPU-2, Tesla T4, 15360, 12\n"
    assert read_gpus(said) == (
        Gpu("NVIDIA H100, 80GB", 81559 * MIB, 80000 * MIB, "GPU-1"),
        Gpu("Tesla T4", 15360 * MIB, 12 * MIB, "GPU-2"),
    )


def test_room_is_that_of_the_gpu_with_the_most_free_memory() -> None:
    gpus = (Gpu("a", 100, 10), Gpu("b", 80, 60))
    machine = Machine(1000, 500, 2, gpus)
    assert (machine.room, machine.whole) == (60, 80)
    assert (Machine(1000, 500, 2).room, Machine(1000, 500, 2).whole) == (500, 1000)


def test_numbers_of_unlike_gpus_are_believed_in_the_order_of_their_slots_only(monkeypatch: pytest.MonkeyPatch) -> None:
    unlike = (Gpu("a", 1, 1, "GPU-1"), Gpu("b", 2, 2, "GPU-2"))
    assert visible(unlike, "0") == () and visible(unlike, "GPU-2") == (unlike[1],)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert visible(unlike, "1,0") == (unlike[1], unlike[0])
    alike = (Gpu("a", 1, 1, "GPU-1"), Gpu("a", 1, 1, "GPU-2"))
    assert visible(alike, "0,0") == (alike[0],)


def test_the_address_is_one_by_which_others_of_the_database_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_address("sqlite:////home/studio.db") == "127.0.0.1"
    assert own_address("postgresql://127.0.0.1:5432/studio") == "127.0.0.1"
    monkeypatch.setenv("HYDRA_STUDIO_ADDRESS", "gpu7.example")
    assert own_address("postgresql://127.0.0.1:5432/studio") == "gpu7.example"
