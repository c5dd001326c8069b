"""What every settings class shares: frozen, unknown names refused, fields with a unit."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Base of every settings object: frozen, every number finite, and unknown names are refused.

    ``renamed`` tells under which name a setting was stored by earlier versions; it is still read, never written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    renamed: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        today = {old: new for old, new in cls.renamed.items() if new in cls.model_fields and new not in values}
        return {today.get(name, name): value for name, value in values.items()}


INTERNAL: dict[str, Any] = {
    "internal": True
}  # ``json_schema_extra`` of a field that no form asks for: the studio sets it


def unit(name: str) -> dict[str, Any]:
    """``json_schema_extra`` that gives a field its unit."""
    return {"unit": name}
