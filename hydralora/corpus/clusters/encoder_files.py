"""The files of a sentence encoder, checked before sentence-transformers reads them.

``modules.json`` names classes, which that library imports and calls, and ``sentence_bert_config.json`` a method of the
model. So both may only say what a plain encoder of texts says; a transformer inside is checked like a base model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from hydralora.bases.folder import UNSAFE_KEYS, check_folder
from hydralora.bases.schema import Text, Word, check_numbers, read_checked
from hydralora.bases.weight_heads import read_head
from hydralora.bounds import LONGEST_EXAMPLE
from hydralora.checked_json import MOST_BYTES, first_problem, parse_object, read_object
from hydralora.errors import BaseModelError, CorpusError

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
MOST_MODULES = 16
MOST_FILES = 10_000  # below the folder
WIDEST = 65_536  # of a vector
KINDS = r"^sentence_transformers\.([a-z_]+\.)*(Transformer|Pooling|Normalize|Dense)$"
ACTIVATION = r"^torch\.nn\.modules\.(activation|linear)\.[A-Za-z]+$"
MODULES, TRANSFORMER, WHOLE = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
Nothing = Annotated[dict[str, Any], Field(max_length=0)]


class Module(BaseModel):
    """One entry of ``modules.json``: a class of sentence-transformers, and the folder of its files."""

    model_config = ConfigDict(extra="ignore", strict=True)
    path: Annotated[str, StringConstraints(pattern=r"^[\w-]*$", max_length=64)]
    type: Annotated[str, StringConstraints(pattern=KINDS, max_length=200)]

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.type.rpartition(".")[2]


class Modality(BaseModel):
    """What is done with one kind of input."""

    model_config = ConfigDict(extra="allow", strict=True)
    method: Literal["forward"] = "forward"
    method_output_name: Word | None = None


class TransformerSchema(BaseModel):
    """``sentence_bert_config.json``, under the two sets of names that it had."""

    model_config = ConfigDict(extra="forbid", strict=True)
    max_seq_length: int | None = Field(None, ge=1, le=LONGEST_EXAMPLE)
    do_lower_case: bool = False
    transformer_task: Literal["feature-extraction"] = "feature-extraction"
    modality_config: dict[Word, Modality] | None = Field(None, max_length=8)
    module_output_name: Word | None = None
    model_args: Nothing | None = None
    tokenizer_args: Nothing | None = None
    config_args: Nothing | None = None
    model_kwargs: Nothing | None = None
    processor_kwargs: Nothing | None = None
    config_kwargs: Nothing | None = None


class WholeSchema(BaseModel):
    """``config_sentence_transformers.json``."""

    model_config = ConfigDict(extra="allow", strict=True)
    model_type: Literal["SentenceTransformer"] | None = None
    similarity_fn_name: Word | None = None
    default_prompt_name: Text | None = None
    prompts: dict[Text, Annotated[str, StringConstraints(max_length=10_000)]] | None = Field(None, max_length=64)


class DenseSchema(BaseModel):
    """``config.json`` of a dense layer."""

    model_config = ConfigDict(extra="allow", strict=True)
    in_features: int = Field(ge=1, le=WIDEST)
    out_features: int = Field(ge=1, le=WIDEST)
    activation_function: Annotated[str, StringConstraints(pattern=ACTIVATION, max_length=100)] | None = None


def check_encoder(folder: Path) -> None:
    """Refuse a folder that is no sentence encoder which may be loaded.

    Raises:
        CorpusError: Naming the file, and what is wrong with it.
    """
    if not (folder / MODULES).is_file():
        raise CorpusError(
            f"`model` must be the folder of a sentence encoder, with its modules.json; {folder.name[:100]!r} has none. "
            "Download one, such as all-MiniLM-L6-v2, and name its folder."
        )
    _refuse_pickles(folder)
    try:
        if (folder / WHOLE).exists():
            read_checked(folder / WHOLE, WholeSchema, MOST_BYTES)
        for module in _modules(folder / MODULES):
            _check_module(folder / module.path, module.kind)
    except (ValueError, OSError, BaseModelError) as error:
        raise CorpusError(f"The encoder in {folder.name[:100]!r} cannot be loaded: {_said(error)}") from error


def _said(error: Exception) -> str:
    said = str(error) if not isinstance(error, OSError) else f"{error.strerror}."
    return said if said.endswith(".") else f"{said}. Take another."


def _refuse_pickles(folder: Path) -> None:
    for count, file in enumerate(sorted(folder.rglob("*"))):
        if file.suffix.lower() in PICKLED:
            raise CorpusError(
                f"The encoder holds {file.name}, which may run code when it is loaded. Take safetensors alone."
            )
        if count >= MOST_FILES:
            raise CorpusError(f"The encoder's folder holds more than {MOST_FILES:,} files. Name that of the encoder.")


def _modules(path: Path) -> list[Module]:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES)
    listed = parse_object(b'{"modules": ' + content + b"}")  # a list, read within the bounds of an object
    kind = TypeAdapter(Annotated[list[Module], Field(min_length=1, max_length=MOST_MODULES)])
    try:
        return kind.validate_python(listed["modules"])
    except ValidationError as error:
        raise ValueError(f"{MODULES} cannot be used: {first_problem(error)}") from error


def _check_module(folder: Path, kind: str) -> None:
    if kind == "Transformer":
        _check_transformer(folder)
    elif kind == "Dense":
        told = _read(folder / "config.json", DenseSchema)
        held = read_head(folder / "model.safetensors").elements
        if told["in_features"] * told["out_features"] > held:
            raise ValueError(f"{folder.name}/config.json tells of more numbers than the {held:,} of its weights")
    elif (folder / "config.json").exists():
        values = read_object(folder / "config.json")
        check_numbers(values)


def _check_transformer(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise ValueError("it holds an adapter, which names a model elsewhere")
    check_folder(folder, folder.name)
    if (folder / TRANSFORMER).exists():
        _read(folder / TRANSFORMER, TransformerSchema)


def _read(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
    try:
        values = read_checked(path, schema, MOST_BYTES)
    except ValueError as error:
        raise ValueError(f"{path.name} {error}") from error
    if re.search("|".join(UNSAFE_KEYS), str(values)):
        raise ValueError(f"{path.name} asks to run code of its own, which is never done here")
    return values
