"""The bounds of what is taken from outside, each declared once; ``checked`` refuses in one sentence.

Settings with a meaning of their own (``TrainConfig``, a method's options) write their bounds beside the field; what
several of them share is here. Numbers are finite everywhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from hydralora.errors import UserError
from hydralora.model_bounds import MOST_NAME
from hydralora.plain import one_line, shown, storable

LARGEST_ID = 2**31 - 1  # what every database and a browser count exactly
LARGEST_SEED = 2**31 - 1
MOST_STEPS = 1_000_000
LARGEST_RANK, MOST_EXPERTS = 4_096, 64  # of an adapter trained here
LONGEST_EXAMPLE = 131_072  # tokens
MOST_LAYERS = 2_000
LARGEST_SCALE = 1e6  # of alpha, and of anything that multiplies weights
LARGEST_FACTOR = 100.0  # on a gate weight, either way
LONGEST_NAME = 300  # characters of a layer, a column, a choice
LONGEST_COLUMN, MOST_COLUMNS = 1_000, 10_000
LONGEST_BASE = 500
LONGEST_TOKEN, MOST_TOKENS = 64, 1_024  # characters of a new token, and how many there may be
LONGEST_TITLE = 200
LONGEST_SYSTEM = 8_000
LONGEST_MESSAGE = 100_000
INSIDE = re.compile(r"^[a-z-]+\[.*\]$|^(?:str|int|float|bool)$")  # pydantic's own word for a kind of value, no field
LAYER_NAME = re.compile(rf"[\w.]{{1,{MOST_NAME}}}")

Id = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Step = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK)]
Experts = Annotated[int, Field(ge=1, le=MOST_EXPERTS)]
Expert = Annotated[int, Field(ge=0, lt=MOST_EXPERTS)]
Scale = Annotated[float, Field(gt=0.0, le=LARGEST_SCALE, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=-LARGEST_FACTOR, le=LARGEST_FACTOR, allow_inf_nan=False)]
Length = Annotated[int, Field(ge=0, le=LONGEST_EXAMPLE)]
Minutes = Annotated[float, Field(ge=0.1, le=600.0, allow_inf_nan=False)]
Clusters = Annotated[int, Field(ge=1, le=10_000)]
_STORABLE = BeforeValidator(lambda text: storable(text) if isinstance(text, str) else text)
ColumnName = Annotated[str, Field(max_length=LONGEST_COLUMN), _STORABLE]
LayerName = Annotated[str, Field(max_length=LONGEST_NAME), _STORABLE]
Message = Annotated[str, Field(max_length=LONGEST_MESSAGE), _STORABLE]
Title = Annotated[str, Field(max_length=LONGEST_TITLE), _STORABLE]
System = Annotated[str, Field(max_length=LONGEST_SYSTEM), _STORABLE]
TokenText = Annotated[str, Field(min_length=1, max_length=LONGEST_TOKEN), _STORABLE]
BaseName = Annotated[str, Field(max_length=LONGEST_BASE), _STORABLE]
# Which columns of a file are what: a column for each role, several for the prompt.
GivenRoles = dict[LayerName, ColumnName | Annotated[list[ColumnName], Field(max_length=MOST_COLUMNS)]]


def checked(kind: Any, value: Any, name: str) -> Any:
    """``value`` as this kind of number or text.

    Raises:
        UserError: When it is none, or out of bounds; with the name, the rule and the value.
    """
    config = None if hasattr(kind, "model_fields") else ConfigDict(strict=False, allow_inf_nan=False)
    try:
        return TypeAdapter(kind, config=config).validate_python(value)
    except ValidationError as error:
        raise UserError(sentences(error.errors(), name)) from error


def sentences(details: Any, name: str = "") -> str:
    """What pydantic refuses, one sentence for each wrong field: its name, the rule and the value."""
    return " ".join(dict.fromkeys(_sentence(detail, name) for detail in list(details)[:5]))


def _sentence(detail: Any, whole: str) -> str:
    parts = [str(part) for part in detail["loc"] if not INSIDE.search(str(part))]
    name = one_line(".".join(filter(None, [whole, *parts])))[:LONGEST_NAME]
    if detail["type"] == "value_error" and not name:
        return str(detail["ctx"]["error"])
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "extra_forbidden":
        return f"`{name}` is not a setting here."
    return f"`{name}`: {message[0].lower()}{message[1:]}, got {shown(detail['input'])}."


def is_layer_name(name: Any) -> bool:
    """Whether this is the plain name of a layer, or the end of one, and no pattern."""
    return isinstance(name, str) and LAYER_NAME.fullmatch(name) is not None
