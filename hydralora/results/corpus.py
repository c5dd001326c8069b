"""What an imported corpus is: the manifest that lies beside its examples."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from hydralora.results.base import Part, Result

REJECTED = "rejected.jsonl"  # the first rejected rows with their reasons, beside the manifest
ONE_COLUMN = ("answer", "text", "messages", "system", "history", "label", "split", "id", "mark", "rejected", "tools")
CONTENT = ("prompt", "answer", "text", "messages")  # roles of which an example is made
MANY_COLUMNS = ("prompt", "choices", "unused")


class Roles(Part):
    """Which column plays which part. ``prompt`` may name several columns, joined by newlines."""

    prompt: tuple[str, ...] = Field((), description="Columns of the question, joined by newlines")
    answer: str = Field("", description="Column of the answer")
    text: str = Field("", description="Column of plain text")
    messages: str = Field("", description="Column of a list of messages")
    system: str = Field("", description="Column of the system text")
    history: str = Field("", description="Column of earlier messages")
    label: str = Field("", description="Column of the label, which is never trained on")
    split: str = Field("", description="Column that says what is held out")
    choices: tuple[str, ...] = Field((), description="Columns of the choices, or the one that lists them")
    id: str = Field("", description="Column of an id, which is never trained on")
    mark: str = Field("", description="Column that says which answers are bad (or weighed 0); these are left out")
    rejected: str = Field("", description="Column of the worse answer of a preference, learnt from by `objective` dpo")
    tools: str = Field("", description="Column of the tools that a conversation may call")
    unused: tuple[str, ...] = Field((), description="Columns that are not to be used")

    @property
    def shape(self) -> str:
        """What an example is made of: ``messages``, ``question and answer`` or ``plain text``."""
        if self.messages:
            return "messages"
        return "question and answer" if self.prompt and self.answer else "plain text"

    @property
    def is_complete(self) -> bool:
        """Whether an example can be made by these roles alone."""
        return bool(self.messages or self.text or (self.prompt and self.answer))

    def columns(self) -> list[str]:
        """Every column that plays a part."""
        single = [getattr(self, role) for role in ONE_COLUMN]
        return list(dict.fromkeys(column for column in (*self.prompt, *self.choices, *single) if column))

    def role_of(self, column: str) -> str:
        """The part that a column plays; ``not used`` where it plays none."""
        for role in ("prompt", "choices", *ONE_COLUMN):
            value = getattr(self, role)
            if column == value or (isinstance(value, tuple) and column in value):
                return role
        return "not used"


class ImportOptions(Part):
    """What is done with rows that may be read in more than one way."""

    answers: Literal["first", "each"] = Field(
        "first", description="Of a question with several answers, the first one, or one example for each"
    )
    file_names: bool = Field(True, description="Whether a file's name may be the split (`test.jsonl`) or the label")
    unwrap: bool = Field(True, description="Whether prompts that lie in a chat template are taken out of it")
    encoding: str = Field(
        "", max_length=40, description="Encoding of text files, such as `cp1251`; guessed where empty"
    )
    delimiter: str = Field("", max_length=1, description="Character between the cells of a table; found where empty")
    header: bool | None = Field(None, description="Whether first rows name the columns; guessed where null")
    layout: Literal["", "document", "lines", "blocks", "questions"] = Field(
        "", description="How plain text is cut; guessed where empty"
    )
    sheet: str = Field("", max_length=200, description="The one sheet of a workbook to read; all where empty")


class ImportCounts(Part):
    """What became of the rows."""

    rows: int = Field(0, description="Rows read, rejected ones included")
    several: int = Field(0, description="Rows that became more than one example")
    other_answers: int = Field(0, description="Further right answers that were left out, since the first was taken")
    marked_bad: int = Field(0, description="Rows left out since they are marked bad or weighed 0")
    worse_answers: int = Field(0, description="Rows with the worse answer of a preference")
    pairs: int = Field(0, description="Examples that hold a better and a worse answer to one prompt")
    unpaired: int = Field(
        0,
        description="Worse answers that were left out: empty, equal to the better one, of another "
        "prompt, several, or with calls of tools",
    )
    unwrapped: int = Field(0, description="Rows taken out of a chat template that was written into them")
    end_marks: int = Field(0, description="Answers that lost the end token of a model written behind them")
    line_ends: int = Field(0, description="Values whose line ends were made those of Unix")
    trimmed: int = Field(0, description="Values that lost white space around them; indentation stays")
    other_parts: int = Field(0, description="Parts of messages left out since they are no text (pictures, sounds)")


class SourceFile(Part):
    """One file that the corpus was read from; what else its format tells (`encoding`) stands beside these keys."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    name: str = Field(description="Its name")
    bytes: int = Field(description="Its size in bytes, packed as it was given")
    format: str = Field(description="What it was taken for")
    sha256: str = Field(description="SHA-256 of it, hexadecimal")
    shape: str = Field("", description="What its rows were taken for")


class CorpusManifest(Result):
    """An imported corpus; its examples lie beside the file in `examples.arrow`, rejected rows in `rejected.jsonl`."""

    FILE = "corpus.json"
    ROW = ("examples", "rejected", "format")

    examples: int = Field(description="Examples kept")
    rejected: int = Field(description="Rows that could not become examples")
    rejected_listed: int = Field(0, description="How many of these are listed in `rejected.jsonl`")
    format: str = Field(description="Formats of the files")
    shape: str = Field("", description="What an example is made of")
    roles: Roles = Field(description="Which column plays which part")
    columns: list[str] = Field([], description="All columns of the files")
    unused: list[str] = Field([], description="Columns that play no part")
    reasons: dict[str, str] = Field({}, description="Why each column plays its part, or none, by column")
    notes: list[str] = Field([], description="What else was decided, a sentence each")
    options: ImportOptions = Field(ImportOptions(), description="What was done with rows that may be read in two ways")
    counts: ImportCounts = Field(ImportCounts(), description="What became of the rows")
    files: list[SourceFile] = Field([], description="The files it was read from")
    content_hash: str = Field("", description="SHA-256 over everything that is trained on, in order, hexadecimal")
    characters: int = Field(0, description="Characters of all prompts and answers")
    duplicates: int = Field(0, description="Examples equal to an earlier one")
    labels: dict[str, int] = Field({}, description="Examples by label, the 200 most frequent; empty without labels")
    splits: dict[str, int] = Field({}, description="Examples by `train` and `held_out`, where the files say")
