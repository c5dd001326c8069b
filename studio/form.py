"""Inputs drawn from the settings classes: description, bounds, unit and default are written once, there."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from hydralora.config import TrainConfig
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.settings import INTERNAL, Settings

BASIC = ("max_steps", "num_experts", "r")  # shown in the open, in this order; the rest is folded


def method_fields() -> dict[str, FieldInfo]:
    """Every option of every method, by name, as first described."""
    fields: dict[str, FieldInfo] = {}
    for method in METHODS.values():
        for name, info in method.options.model_fields.items():
            fields.setdefault(name, info)
    return fields


def title(name: str) -> str:
    """``max_steps`` as ``Max steps``."""
    return name.replace("_", " ").capitalize()


def bound(info: FieldInfo, *names: str) -> float | None:
    """The first of the limits ``ge``, ``gt``, ``le``, ``lt`` that a field has."""
    for rule in info.metadata:
        for name in names:
            if getattr(rule, name, None) is not None:
                return float(getattr(rule, name))
    return None


def field_input(name: str, info: FieldInfo) -> gr.components.Component:
    """The input that suits a field's type."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    label = info.title or title(name)
    label += f" ({extra['unit']})" if "unit" in extra and extra["unit"] != label.lower() else ""
    common: dict[str, Any] = {"label": label, "info": info.description, "min_width": 180, "elem_id": f"field-{name}"}
    default = info.get_default(call_default_factory=True)
    if info.annotation is bool:
        return gr.Checkbox(default, **common)
    if get_origin(info.annotation) is Literal:
        return gr.Dropdown(list(get_args(info.annotation)), value=default, **common)
    if info.annotation in (int, float):
        whole = {"precision": 0, "step": 1} if info.annotation is int else {"step": 0.0001}
        return gr.Number(default, minimum=bound(info, "ge", "gt"), maximum=bound(info, "le", "lt"), **whole, **common)
    return gr.Textbox("", placeholder=str(extra.get("placeholder", "all linear layers")), max_lines=1, **common)


def field_value(name: str, info: FieldInfo, value: Any) -> Any:
    """What an input holds, as the settings class expects it.

    Raises:
        UserError: When a number is missing.
    """
    if info.annotation is bool:
        return False if value is None else value
    if info.annotation in (int, float):
        if value is None:
            raise UserError(f"`{name}` is empty. Give it a number.")
        return value
    if get_origin(info.annotation) is Literal:
        return value
    return [part.strip() for part in str(value or "").split(",") if part.strip()] or None


def shown_value(value: Any) -> Any:
    """A stored setting, as its input shows it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else ("" if value is None else value)


def collect(settings: type[Settings], values: dict[str, Any]) -> dict[str, Any]:
    """The values of one settings class out of all inputs' values."""
    fields = settings.model_fields
    return {name: field_value(name, info, values[name]) for name, info in fields.items() if name in values}


def train_fields() -> dict[str, FieldInfo]:
    """The fields of the training settings that a person decides."""
    fields = TrainConfig.model_fields
    return {name: info for name, info in fields.items() if info.json_schema_extra != INTERNAL}
