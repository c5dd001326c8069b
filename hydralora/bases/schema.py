"""What the JSON files of a base model may say, checked before any library reads them.

Names differ from family to family (``num_hidden_layers``, ``n_layer``, ``decoder_layers``), so every whole number of
``config.json`` is bounded by the words in its name (``model_bounds.SIZES``), in whatever depth it stands.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from hydralora.checked_json import first_problem, read_object
from hydralora.model_bounds import MOST_LAYERS_TIMES_EXPERTS, MOST_NAME, MOST_NUMBER, MOST_TENSORS, SIZES
from hydralora.plain import shown

MOST_CONFIG = 2**20  # bytes of config.json and generation_config.json
MOST_TOKENIZER = 16 * 2**20  # bytes of tokenizer_config.json, which may list every added token
MOST_INDEX = 64 * 2**20  # bytes of the index of several weight files
MOST_TEMPLATE = 2**18  # characters of a chat template
EXPERTS = re.compile(r"^(?:num|n)(?:_local|_routed)?_experts$")
LAYERS = re.compile(r"^(?:num_hidden_layers|n_layers?|num_layers)$")

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*$", max_length=64)]
Text = Annotated[str, StringConstraints(max_length=MOST_NAME)]
Template = Annotated[str, StringConstraints(max_length=MOST_TEMPLATE)]


class BaseSchema(BaseModel):
    """``config.json``. Which ``model_type`` there are, transformers knows; here it is a plain word."""

    model_config = ConfigDict(extra="allow", strict=True)
    model_type: Word
    architectures: list[Word] | None = Field(None, max_length=16)
    dtype: Word | dict[str, Any] | None = None
    torch_dtype: Word | dict[str, Any] | None = None
    tie_word_embeddings: bool | None = None
    transformers_version: Text | None = None
    quantization_config: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, values: Any) -> Any:
        check_numbers(values)
        check_product(values)
        return values


class GenerationSchema(BaseModel):
    """``generation_config.json``: how answers are drawn where nothing else is said."""

    model_config = ConfigDict(extra="allow", strict=True)
    temperature: float | None = Field(None, ge=0.0, le=1e4)
    top_p: float | None = Field(None, ge=0.0, le=1.0)
    top_k: int | None = Field(None, ge=0, le=MOST_NUMBER)
    do_sample: bool | None = None
    custom_generate: None = None  # names code

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, values: Any) -> Any:
        check_numbers(values)
        return values


class NamedTemplate(BaseModel):
    """One of several chat templates."""

    name: Word
    template: Template


class TokenizerSchema(BaseModel):
    """``tokenizer_config.json``."""

    model_config = ConfigDict(extra="allow", strict=True)
    tokenizer_class: Word | None = None
    model_max_length: int | float | None = Field(None, ge=0)  # 10^30 stands for "no limit"
    chat_template: Template | list[NamedTemplate] | None = None
    added_tokens_decoder: dict[Text, dict[str, Any]] | None = Field(None, max_length=MOST_TENSORS)


class IndexSchema(BaseModel):
    """``model.safetensors.index.json``: which file holds which weight. Names of files are never paths."""

    model_config = ConfigDict(extra="allow", strict=True)
    weight_map: dict[
        Text, Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*\.safetensors$", max_length=200)]
    ] = Field(min_length=1, max_length=MOST_TENSORS)


# File, schema, most bytes. The first must be there.
SCHEMAS: tuple[tuple[str, type[BaseModel], int], ...] = (
    ("config.json", BaseSchema, MOST_CONFIG),
    ("generation_config.json", GenerationSchema, MOST_CONFIG),
    ("tokenizer_config.json", TokenizerSchema, MOST_TOKENIZER),
    ("model.safetensors.index.json", IndexSchema, MOST_INDEX),
)


def check_numbers(values: Any, name: str = "") -> None:
    """Refuse numbers that are negative or too large for what their name says, at any depth.

    Raises:
        ValueError: Naming the field, its bound and its value.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            check_numbers(value, str(key))
    elif isinstance(values, list):
        for value in values:
            check_numbers(value, name)
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        # -1 stands for "none" in many files.
        most = next((most for words, most in SIZES if words.search(name)), MOST_NUMBER)
        whole = isinstance(values, int)
        if whole and not (-1 if most < MOST_NUMBER else -MOST_NUMBER) <= values <= most:
            raise ValueError(f"`{name[:MOST_NAME]}` must be between 0 and {most:,}, got {shown(values)}")


def check_product(values: Any) -> None:
    """Refuse a model of more experts in all layers than are ever built one by one.

    Raises:
        ValueError: Naming both numbers.
    """
    if not isinstance(values, dict):
        return
    for inner in values.values():
        check_product(inner)
    whole = {name: value for name, value in values.items() if isinstance(value, int)}
    layers = max((value for name, value in whole.items() if LAYERS.match(name)), default=1)
    experts = max((value for name, value in whole.items() if EXPERTS.match(name)), default=1)
    if layers * experts > MOST_LAYERS_TIMES_EXPERTS:
        raise ValueError(f"{layers:,} layers of {experts:,} experts are more than {MOST_LAYERS_TIMES_EXPERTS:,} in all")


def read_checked(path: Path, schema: type[BaseModel], most_bytes: int) -> dict[str, Any]:
    """A JSON file that its schema allows.

    Raises:
        ValueError: With what is wrong, to stand behind the file's name.
    """
    values = read_object(path, most_bytes)
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"cannot be used: {first_problem(error)}") from error
    return values
