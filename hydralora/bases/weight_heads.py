"""The head of a safetensors file: names, types and shapes, read within bounds and without torch.

The file begins with eight bytes, the length N of the head, then N bytes of JSON
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydralora.checked_json import parse_object
from hydralora.model_bounds import MOST_NAME, MOST_NUMBER, MOST_TENSORS
from hydralora.plain import shown

MOST_HEAD = 64 * 2**20  # bytes
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class Head:
    """Shapes and types (``F32``, ``BF16`` ...) by name, and the number of elements of all of them together."""

    shapes: dict[str, tuple[int, ...]]
    elements: int
    types: dict[str, str]


def read_head(path: Path) -> Head:
    """What a safetensors file says it holds, compared with how long the file is.

    Raises:
        ValueError: With what is wrong, to stand behind the file's name.
    """
    if not path.is_file():
        raise ValueError("is no ordinary file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST_HEAD, size - 8):
            raise ValueError("is damaged: its head is longer than the file or than 64 MiB")
        values = parse_object(file.read(length))
    values.pop("__metadata__", None)
    if len(values) > MOST_TENSORS:
        raise ValueError(f"holds {len(values):,} weights, more than {MOST_TENSORS:,}")
    shapes = {name: _shape(name, value, size - 8 - length) for name, value in values.items()}
    types = {name: value["dtype"] for name, value in values.items()}
    return Head(shapes, sum(math.prod(shape) for shape in shapes.values()), types)


def _shape(name: str, value: Any, room: int) -> tuple[int, ...]:
    """The shape of one weight, whose bytes must lie within the file."""
    told = value if isinstance(value, dict) and len(name) <= MOST_NAME else {}
    shape, span = _sizes(told.get("shape")), _sizes(told.get("data_offsets"))
    kind = told.get("dtype")
    if (
        not isinstance(kind, str)
        or kind not in BITS
        or shape is None
        or len(shape) > 8
        or span is None
        or len(span) != 2
    ):
        raise ValueError(f"is damaged: {shown(name)} is not described as weights are")
    begin, end = span
    if not begin <= end <= room or 8 * (end - begin) != math.prod(shape) * BITS[kind]:
        raise ValueError(f"is damaged: {shown(name)} does not fill its place in the file")
    return tuple(shape)


def _sizes(values: Any) -> list[int] | None:
    if isinstance(values, list) and all(type(value) is int and 0 <= value <= MOST_NUMBER for value in values):
        return values
    return None
