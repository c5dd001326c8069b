"""An adapter as plain LoRAs or as a merged model, and how far each is from the live one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hydralora.results.base import Part, Result


class ExportedPart(Part):
    """One exported adapter or model, measured; losses and KL are null where there was no example to measure on."""

    name: str = Field(description="`all`, or the task that it is for")
    folder: str = Field(description="Name of its folder")
    examples: int = Field(description="Examples measured")
    tokens: int = Field(description="Answer tokens measured")
    live_loss: float | None = Field(description="Mean loss of the live adapter, nats per answer token")
    loss: float | None = Field(description="Mean loss of what was exported, nats per answer token")
    kl: float | None = Field(description="Mean ``KL(live || exported)`` of next-token distributions, nats")
    base_loss: float | None = Field(description="Mean loss of the base alone, nats per answer token")
    base_kl: float | None = Field(description="Mean ``KL(live || base)``, nats")
    gates: dict[str, list[float]] = Field({}, description="Constant gate weights by layer, ``(N,)``; empty if merged")


class Export(Result):
    """What an export has written, and its gap."""

    FILE = "export.json"

    how: str = Field("", description="`uniform`, `mean_gate`, `cluster` or `merged`")
    method: str = Field("", description="Name of the run's method")
    measured_on: str = Field(description="`held-out` or `training` examples")
    parts: list[ExportedPart] = Field(description="One entry for each exported adapter or model")
    sentence: str = Field(description="The gap in words")

    def row(self) -> dict[str, Any]:
        """All but the gates, which are as long as the adapter has layers."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"parts": {"__all__": {"gates"}}})
