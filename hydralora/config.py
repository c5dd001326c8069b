"""What one run is made of: base model, method, adapter settings and training settings.

The form on the page, the command line, the stored JSON and the documentation all read these
fields (description, bounds, unit), so a setting is described once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hydralora.errors import UserError


class Settings(BaseModel):
    """Base of every settings object: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def unit(name: str) -> dict[str, Any]:
    """``json_schema_extra`` that gives a field its unit."""
    return {"unit": name}


class TrainConfig(Settings):
    """How long, how fast and on what part of a corpus one adapter is trained."""

    max_steps: int = Field(
        200, ge=1, le=1_000_000, title="Steps", description="Optimizer steps to run", json_schema_extra=unit("steps")
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=4096,
        description="Examples in one forward pass",
        json_schema_extra=unit("examples"),
    )
    accumulation: int = Field(1, ge=1, le=4096, description="Forward passes added up before one optimizer step")
    learning_rate: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Peak learning rate; 0 chooses 0.64 / width of the base, at most 0.004 (a tenth of it where every weight is trained)",
    )
    warmup_fraction: float = Field(0.05, ge=0.0, le=1.0, description="Share of the steps before the peak is reached")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the peak"
    )
    weight_decay: float = Field(0.0, ge=0.0, le=1.0, description="Decay of the adapter's weights")
    max_grad_norm: float = Field(1.0, gt=0.0, description="Gradients longer than this are shortened")
    max_length: int = Field(
        256, ge=8, le=131_072, description="Longest example kept whole", json_schema_extra=unit("tokens")
    )
    held_out_fraction: float = Field(
        0.1, ge=0.0, le=0.9, description="Share of the corpus kept for measuring, never trained on"
    )
    only_cluster: int = Field(
        0, ge=0, le=10_000, description="Train and measure on the examples of this cluster only (1 is C1); 0 takes all"
    )
    eval_every: int = Field(
        50,
        ge=0,
        description="Measure the held-out loss every so many steps; 0 is never",
        json_schema_extra=unit("steps"),
    )
    save_every: int = Field(
        50,
        ge=0,
        description="Write a checkpoint every so many steps; 0 is only at the end",
        json_schema_extra=unit("steps"),
    )
    gate_every: int = Field(
        5,
        ge=0,
        description="Record mean gate weights every so many steps; 0 is never",
        json_schema_extra=unit("steps"),
    )
    keep_checkpoints: int = Field(8, ge=1, le=1000, description="Newest checkpoints kept; older ones are deleted")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of initial weights and data order")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format of the frozen base model")
    gradient_checkpointing: bool = Field(False, description="Trade time for memory by computing activations twice")


class RunConfig(Settings):
    """Everything that decides the outcome of a run, apart from the corpus itself.

    ``adapter`` holds the options of ``method``; they are checked against
    ``METHODS[method].options`` and stored with every default written out.
    """

    base: str = Field("starter", min_length=1, description="Base model: starter, a folder, or a hub id")
    method: str = Field("hydralora", description="Name of the method, a key of `METHODS`")
    adapter: dict[str, Any] = Field(default_factory=dict, description="Options of the method")
    train: TrainConfig = Field(default_factory=TrainConfig)

    @model_validator(mode="before")
    @classmethod
    def _fill_adapter(cls, values: Any) -> Any:
        from hydralora.methods import METHODS

        values = dict(values)
        name = values.get("method", "hydralora")
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"Method '{name}' is unknown. Choose one of: {', '.join(METHODS)}.")
        given = values.get("adapter", {})
        if not isinstance(given, dict):
            raise ValueError(f"`adapter` must hold settings by name, got {given!r}.")
        options = METHODS[name].options(**given)
        values["adapter"] = options.model_dump()
        return values


def parse_config(values: dict[str, Any]) -> RunConfig:
    """Check a configuration and fill in its defaults.

    Raises:
        UserError: With one sentence per wrong setting: its name, the rule and the value.
    """
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise UserError(" ".join(_sentence(detail) for detail in error.errors())) from error


def _sentence(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "value_error" and not name:
        return str(detail["ctx"]["error"])
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "extra_forbidden":
        return f"`{name}` is not a setting of this method."
    return f"`{name}`: {message[0].lower()}{message[1:]}, got {detail['input']!r}."
