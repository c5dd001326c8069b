"""What every result is: frozen fields with a meaning, read from and written to one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hydralora.checked_json import first_problem
from hydralora.errors import ResultError
from hydralora.files import write_json

Vector = list[float]
Matrix = list[list[float]]


class Part(BaseModel):
    """Base of everything inside a result: frozen; what an earlier version did not write has a default."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    @classmethod
    def load(cls, values: dict[str, Any], where: str) -> Self:
        """The result that was dumped as ``values``; ``where`` says who kept them.

        Raises:
            ResultError: When a field is not what it must be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ResultError(f"{where} holds a damaged {cls.__name__}: {first_problem(error)}.") from error

    def dump(self) -> dict[str, Any]:
        """As JSON holds it: the keys that were set, under the names of the file."""
        return self.model_dump(mode="json", exclude_unset=True)

    def row(self) -> dict[str, Any]:
        """What the database keeps of it: all, unless a subclass says otherwise."""
        return self.dump()


class Result(Part):
    """A result with a file of its own.

    Attributes:
        FILE: Name of the file; ``{step}`` in it stands for an optimizer step.
        ROW: Fields that the database keeps beside the job, so that a list of jobs reads no files.
    """

    FILE: ClassVar[str]
    ROW: ClassVar[tuple[str, ...]] = ("sentence",)

    @classmethod
    def read(cls, folder: Path, *, step: int | None = None) -> Self:
        """The result that is stored in a folder.

        Raises:
            ResultError: When its file is gone, cut short, or a field is not what it must be.
        """
        path = folder / cls.FILE.format(step=step)
        name = f"{path.name} of {folder.parent.name}/{folder.name}"
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ResultError(f"{name} is gone or damaged. {WAY_OUT}") from error
        except ValidationError as error:
            raise ResultError(f"{name} is gone or damaged. {WAY_OUT} What is wrong: {first_problem(error)}.") from error

    def write(self, folder: Path, *, step: int | None = None) -> Self:
        """Write it into ``folder``, which is made where there is none: aside, flushed, then renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / self.FILE.format(step=step), self.dump())
        return self

    def row(self) -> dict[str, Any]:
        """What the database keeps of it."""
        return {key: value for key, value in self.dump().items() if key in self.ROW}


WAY_OUT = (
    "Put that folder back from a copy of yours, or measure it anew: the adapter can be imported again and looked into."
)
