"""An adapter as plain LoRAs or as a merged model, and how far each is from the live one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hydralora.results.base import Part, Result


class LlamaCheck(Part):
    """What llama.cpp makes of a GGUF file, beside what torch makes of the model that it was written from."""

    prompts: int = Field(description="Places where the next token was compared")
    gap: float = Field(description="Mean ``|log p_llama.cpp - log p_torch|`` of the likeliest token, nats")
    largest: float = Field(description="The largest of them, nats")
    base_gap: float = Field(description="The same of the base alone in the same kind of file, nats")
    texts: int = Field(description="Texts whose tokens were compared")
    same_tokens: int = Field(description="How many of them llama.cpp cuts into the same tokens")
    is_close: bool = Field(description="Whether the gap is at most 0.1 beyond the base's, and all tokens are the same")


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
    files: list[str] = Field([], description="GGUF files and Modelfile, from the export's folder, if any")
    llama: LlamaCheck | None = Field(None, description="Its check by llama.cpp; null where it was not at hand")
    gates: dict[str, list[float]] = Field({}, description="Constant gate weights by layer, ``(N,)``; empty if merged")


class Export(Result):
    """What an export has written, and its gap."""

    FILE = "export.json"

    how: str = Field("", description="`uniform`, `mean_gate`, `cluster`, `own`, `merged` or `merged_mean`")
    form: str = Field("safetensors", description="`safetensors`, `gguf` or `gguf-q8_0`")
    method: str = Field("", description="Name of the run's method")
    measured_on: str = Field(description="`held-out` or `training` examples")
    parts: list[ExportedPart] = Field(description="One entry for each exported adapter or model")
    sentence: str = Field(description="The gap in words")

    def row(self) -> dict[str, Any]:
        """All but the gates, which are as long as the adapter has layers."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"parts": {"__all__": {"gates"}}})
