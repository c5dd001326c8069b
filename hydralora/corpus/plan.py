"""What a table is taken for, decided once from its first rows: roles with reasons, shape, and how its rows are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydralora import limits
from hydralora.corpus.conversion import Converter
from hydralora.corpus.header_words import MARKS, plain_name
from hydralora.corpus.role_columns import Guess
from hydralora.corpus.roles import guess_roles
from hydralora.corpus.rows import SPLIT_NAMES, Rejected, Row, Table, check_columns, name_some
from hydralora.corpus.shapes.choices import find_choices
from hydralora.corpus.shapes.unfold import find_unfolding
from hydralora.corpus.shapes.values import Tally, parsed
from hydralora.corpus.shapes.wrapped import ENDS, ENOUGH, Family, find_family
from hydralora.errors import CorpusError
from hydralora.results import ImportOptions, Roles

LOOKED_AT = 200  # first rows from which roles are guessed
SHARD = re.compile(r"[-_. ]?\d+([-_ ]of[-_ ]\d+)?")
PART_OF_NAME = re.compile(r"[^\W_]+")
HELD_OUT = {name for name, side in SPLIT_NAMES.items() if side == "held_out"}


@dataclass
class Plan:
    """How one table is read.

    Args:
        columns: Its columns, laid flat.
        shape: What its rows are taken for.
        notes: What else was decided, a sentence each.
    """

    converter: Converter
    columns: list[str]
    guess: Guess
    shape: str
    notes: list[str] = field(default_factory=list)

    @property
    def roles(self) -> Roles:
        """Which column plays which part."""
        return self.converter.roles

    def unused(self) -> list[str]:
        """Columns that play no part."""
        taken = set(self.roles.columns())
        return [column for column in self.columns if column not in taken]


@dataclass(frozen=True)
class FileNames:
    """What the names of the files of one corpus say: each the label of its rows, or their split."""

    splits: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: list[Path]) -> FileNames:
        """Nothing for one file, where all say the same, or where all were held out."""
        names = list(dict.fromkeys(path.name for path in paths))
        splits = {name: split_in(name) for name in names}
        labels = {name: label_in(name) for name in names}
        if len(names) < 2:
            return cls()
        return cls(
            splits if any(splits.values()) and set(splits.values()) != {"held_out"} else {},
            labels if len(set(labels.values()) - {""}) > 1 else {},
        )

    def split(self, source: str, file: str) -> str:
        """What the name of a table says of its split; that of a part of an archive speaks for itself."""
        return self.splits.get(file, "") or (split_in(source) if source != file else "")

    def label(self, source: str, file: str) -> str:
        """The label that the name of a table is."""
        return label_in(source) if source != file else self.labels.get(file, "")


def split_in(name: str) -> str:
    """``train`` or ``held_out`` where the last part of a name says so."""
    parts = [part.lower() for part in PART_OF_NAME.findall(SHARD.sub(" ", _stem(name)))]
    said = [SPLIT_NAMES[part] for part in (*parts[:1], *parts[-1:]) if part in SPLIT_NAMES]
    return said[-1] if said else ""


def label_in(name: str) -> str:
    """A name without its ending, its number among others and its split: `anatomy` of `anatomy_test.csv`."""
    parts = re.split(r"([-_. ]+)", SHARD.sub("", _stem(name)))
    while parts and (parts[-1].lower() in SPLIT_NAMES or not parts[-1].strip("-_. ")):
        parts.pop()
    while parts and (parts[0].lower() in SPLIT_NAMES or not parts[0].strip("-_. ")):
        parts.pop(0)
    return "".join(parts)


def _stem(name: str) -> str:
    last = re.split(r"[/\\]|: ", name)[-1][-limits.MAX_NAME_CHARACTERS :]
    return re.sub(r"(\.[A-Za-z]{1,8}\d?)+\Z", "", last)


def plan_table(
    table: Table,
    head: list[Row | Rejected],
    file: str,
    *,
    given: Roles | None = None,
    options: ImportOptions | None = None,
    names: FileNames | None = None,
    tally: Tally | None = None,
) -> Plan:
    """Decide how a table is read, from its first rows.

    Raises:
        CorpusError: When there are no rows, a chosen column is not there, or nothing can be guessed.
    """
    options, names, source = options or ImportOptions(), names or FileNames(), table.source
    rows = _rows_of(head, source)
    unfolding = find_unfolding(rows)
    if unfolding.column:
        rows = [inner for row in rows for inner in unfolding.rows(row)]
    columns = [column for column in table.columns if column != unfolding.column]
    columns = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    check_columns(columns, source)
    if given is not None:
        _refuse_unknown([*given.columns(), *given.unused], columns, source)
    guess = _guess(columns, rows, table.has_header, given, source)
    roles = Roles(**guess.roles)
    family, notes = _family(roles, rows, options)
    converter = Converter(
        roles,
        source,
        options,
        unfolding,
        find_choices(roles.choices, roles.answer, rows) if roles.choices else None,
        family,
        _is_list_of_answers(rows, roles.answer) if roles.answer else False,
        MARKS.get(plain_name(roles.mark), True),
        names.split(source, file) if options.file_names else "",
        names.label(source, file) if options.file_names and not roles.label else "",
        _end_with_marks(rows, roles.answer or roles.text),
        tally or Tally(),
    )
    plan = Plan(converter, columns, guess, _shape(converter), notes)
    plan.notes += _decisions(converter, rows)
    return plan


def _rows_of(head: list[Row | Rejected], source: str) -> list[dict[str, Any]]:
    if not head:
        raise CorpusError(f"{source} holds a header but no rows. Add rows below it.")
    rows = [item.values for item in head if isinstance(item, Row)]
    if not rows:
        refused = next(item for item in head if isinstance(item, Rejected))
        raise CorpusError(f"{source}: no row can be read. {refused.reason}")
    return rows


def _refuse_unknown(wanted: list[str], columns: list[str], source: str) -> None:
    unknown = [column for column in wanted if column not in columns]
    if unknown:
        raise CorpusError(f"{source} has no column `{unknown[0]}`; it has: {name_some(columns)}. Correct the roles.")


def _guess(columns: list[str], rows: list[dict[str, Any]], has_header: bool, given: Roles | None, source: str) -> Guess:
    try:
        return guess_roles(columns, rows, has_header, given)
    except CorpusError as error:
        raise CorpusError(f"{source}: {error}") from error


def _family(roles: Roles, rows: list[dict[str, Any]], options: ImportOptions) -> tuple[Family | None, list[str]]:
    """The chat template that prompts or texts lie in already, and what is said about it."""
    column = roles.messages or roles.text or (roles.prompt[0] if roles.prompt else "")
    texts = [row[column] for row in rows if isinstance(row.get(column), str)]
    family, count = find_family(texts)
    if family is None:
        few = (
            f"{count} of the first {len(rows)} rows hold marks of a chat template in `{column}`; they are kept as text."
        )
        return None, [few] if count else []
    if options.unwrap or roles.messages:
        return family, [f"`{column}` lies in the template of {family.name} and is taken out of it."]
    return None, [f"`{column}` lies in the template of {family.name} and is kept so, as was asked for."]


def _is_list_of_answers(rows: list[dict[str, Any]], column: str) -> bool:
    cells = [parsed(row[column]) for row in rows if row.get(column)]
    return bool(cells) and all(isinstance(cell, list) and all(map(_is_answer, cell)) for cell in cells)


def _end_with_marks(rows: list[dict[str, Any]], column: str) -> bool:
    """Whether answers end with the end token of some model, which is no part of them."""
    texts = [row[column].rstrip() for row in rows if isinstance(row.get(column), str)]
    return bool(texts) and sum(text.endswith(ENDS) for text in texts) >= ENOUGH * len(texts)


def _is_answer(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and isinstance(item.get("text"), str))


def _shape(converter: Converter) -> str:
    roles = converter.roles
    if converter.choices is not None:
        return "multiple choice"
    name = converter.unfolding.name or ("preference" if roles.rejected else "") or roles.shape
    return f"{name} in {converter.family.name}" if converter.family else name


def _decisions(converter: Converter, rows: list[dict[str, Any]]) -> list[str]:
    """What a user may want otherwise, a sentence each."""
    roles, notes = converter.roles, []
    answers = [row.get(roles.answer) for row in rows] if roles.answer else []
    if converter.several_answers or any(isinstance(cell, dict) and "text" in cell for cell in answers):
        taken = "the first is taken (--answers each makes one example for each)"
        taken = "each makes one example" if converter.options.answers == "each" else taken
        notes.append(f"`{roles.answer}` may hold several right answers: {taken}.")
    if roles.rejected:
        notes.append(
            f"`{roles.rejected}` holds the worse answers of preferences: only a run whose `objective` is dpo learns "
            "from them."
        )
    if roles.choices and converter.choices is None:
        notes.append("The answers name none of the choices; the choices are not used.")
    if converter.choices is not None and converter.choices.kind == "number":
        notes.append(f"`{roles.answer}` counts the choices from {converter.choices.base}.")
    if converter.choices is not None and converter.choices.doubt:
        notes.append(
            f"It is unclear how `{roles.answer}` names the choices: {converter.choices.doubt}. Look at the examples; "
            "where they are wrong, put the text of the right choice in this column."
        )
    if converter.has_end_marks:
        notes.append(f"`{roles.answer or roles.text}` ends with a model's end token, which is taken off.")
    if converter.split:
        side = {"train": "trained on", "held_out": "held out"}[converter.split]
        notes.append(f"{converter.source} is {side}: its name says so (--no-file-names reads it otherwise).")
    return notes
