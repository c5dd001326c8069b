"""What an import would make of files, told before it is made; not kept in a file of its own."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from hydralora.results.base import Part
from hydralora.results.corpus import ImportCounts, ImportOptions, Roles


class PreviewColumn(Part):
    """One column of a table, with the part it would play."""

    name: str = Field(description="Its name")
    role: str = Field(description="The part it plays, or `not used`")
    reason: str = Field(description="Why it plays that part, or none")
    samples: list[str] = Field(description="Its first filled values, shortened")


class PreviewTable(Part):
    """One table of the files, as far as it was looked at."""

    name: str = Field(description="The file, and the part of it")
    format: str = Field(description="What it was taken for")
    details: dict[str, str] = Field({}, description="What else its format tells: encoding, delimiter")
    shape: str = Field("", description="What its rows were taken for; empty where nothing could be guessed")
    problem: str = Field("", description="Why it cannot be read so, with the way out; empty where it can")
    columns: list[PreviewColumn] = Field([], description="Its columns in order")
    unused: list[str] = Field([], description="Columns that play no part")
    notes: list[str] = Field([], description="What else was decided, a sentence each")
    rows: int = Field(0, description="Rows looked at")
    examples: int = Field(0, description="Examples that these became")
    rejected: list[str] = Field([], description="The first reasons why rows were rejected")

    def told_details(self, visible: Callable[[str], str] = str) -> str:
        """Format and details for people, each guess with its reason: ``encoding cp1251, a guess (...)``."""
        found = [self.format.upper()]
        for name, value in self.details.items():
            if name == "format_reason":
                found[0] += f" ({value})"
            elif not name.endswith(("_reason", "_sure")):
                guess = ", a guess" if self.details.get(f"{name}_sure") == "no" else ""
                reason = self.details.get(f"{name}_reason", "")
                found.append(f"{name.replace('_', ' ')} {visible(value)}{guess}" + (f" ({reason})" if reason else ""))
        return "; ".join(found)


class Piece(Part):
    """A stretch of an example as the model sees it."""

    text: str = Field(description="The text, special tokens written out; shortened in the middle where it is long")
    learned: bool = Field(description="Whether it carries loss")
    cut: bool = Field(False, description="Whether it stands beyond the longest length, and would be cut off")
    tokens: int | None = Field(None, description="How many tokens it has; null without a tokenizer")


class PreviewExample(Part):
    """One example as the model will see it."""

    table: str = Field(description="The table it came from")
    row_number: int = Field(description="Its row there")
    label: str = Field("", description="Its label")
    split: str = Field("", description="`train` or `held_out`, where the files say")
    pieces: list[Piece] = Field(description="Its text, cut where the loss begins or ends, and at the longest length")
    tokens: int | None = Field(None, description="How many tokens it has; null without a tokenizer")
    left_out: bool = Field(False, description="Whether it would be left out, since its prompt alone fills the length")


class Preview(Part):
    """The contract of an import, from the first rows of its files."""

    tables: list[PreviewTable] = Field(description="What was found, one a table")
    roles: Roles = Field(description="Which column plays which part in the last table that can be read")
    options: ImportOptions = Field(description="What is done with rows that may be read in more than one way")
    counts: ImportCounts = Field(description="What would become of the rows looked at")
    examples: list[PreviewExample] = Field([], description="The first examples as the model will see them")
    base: str = Field("", description="The base they are rendered for; empty without one")
    base_problem: str = Field("", description="Why they are not rendered for it, or what it cannot do")
    max_length: int = Field(description="The longest length, in tokens")
    measured: int = Field(0, description="Examples whose tokens were counted")
    cut: int = Field(0, description="How many of these would lose their end")
    left_out: int = Field(
        0,
        description="How many of these would be left out, since their prompt alone fills the length",
    )
    partly: int = Field(
        0,
        description="How many of these have answers that are not learnt, since the template does not let them be told",
    )
