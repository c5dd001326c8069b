"""The electricity that a training took, and what that emits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from hydralora.results.base import Result

How = Literal["measured", "estimated", "none"]
WORST: tuple[How, ...] = ("none", "measured", "estimated")  # a sum is as good as its worst part


class Energy(Result):
    """What codecarbon has counted for a process and those that it started."""

    FILE = "energy-{step}.json"

    cpu_kwh: float = Field(0.0, description="Energy of the processor, in kWh")
    gpu_kwh: float = Field(0.0, description="Energy of the GPUs, in kWh")
    ram_kwh: float = Field(0.0, description="Energy of the memory, in kWh")
    cpu: How = Field("none", description="Whether the processor's was measured by its counters or estimated by load")
    gpu: How = Field("none", description="Whether that of GPUs was measured; `none` without a GPU")
    ram: How = Field("none", description="Memory is always estimated, by its size")
    co2e_kg: float = Field(0.0, description="CO2 equivalents of this electricity, in kg")
    country: str | None = Field(None, description="Whose electricity, by ISO 3166 alpha-3; null for the world's mean")
    seconds: float = Field(0.0, description="Seconds that it was counted, over all attempts")

    @property
    def kwh(self) -> float:
        """All of it, in kWh."""
        return self.cpu_kwh + self.gpu_kwh + self.ram_kwh

    @property
    def sentence(self) -> str:
        """For people: the parts, whether each was measured, and what they emit."""
        parts = (("CPU", self.cpu_kwh, self.cpu), ("GPU", self.gpu_kwh, self.gpu), ("RAM", self.ram_kwh, self.ram))
        told = ", ".join(f"{name} {electricity(kwh)} ({how})" for name, kwh, how in parts if how != "none")
        where = f"the electricity of {self.country}" if self.country else "the world's mean electricity"
        return (
            f"{electricity(self.kwh)} of electricity: {told}. By {where} that is {mass(self.co2e_kg)} CO2e (estimated)."
        )


def electricity(kwh: float) -> str:
    """An amount in a unit that fits: Wh below one kWh."""
    return f"{kwh:,.3g} kWh" if kwh >= 1 else f"{1000 * kwh:,.3g} Wh"


def mass(kg: float) -> str:
    """A mass in a unit that fits: g below one kg."""
    return f"{kg:,.3g} kg" if kg >= 1 else f"{1000 * kg:,.3g} g"


def add_up(parts: Iterable[Energy]) -> Energy | None:
    """The sum over the attempts at a run; None of none."""
    found = list(parts)
    if not found:
        return None
    sums = {
        name: sum(getattr(one, name) for one in found)
        for name in ("cpu_kwh", "gpu_kwh", "ram_kwh", "co2e_kg", "seconds")
    }
    how = {name: max((getattr(one, name) for one in found), key=WORST.index) for name in ("cpu", "gpu", "ram")}
    return Energy(**sums, **how, country=found[-1].country)
