"""What each column of a table is used as, by what was guessed and what somebody chose, and a choice changed."""

from __future__ import annotations

from typing import Any

from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.results import PreviewTable
from hydralora.results.corpus import CONTENT, MANY_COLUMNS, ONE_COLUMN
from jobs.store.records import Reading

NOT_USED = "not used"
USES = {
    "prompt": "Prompt",
    "answer": "Answer",
    "text": "Text",
    "messages": "Messages",
    "label": "Label",
    "split": "Split",
    "choices": "Choices",
    "id": "Id",
    "system": "System",
    "history": "History",
    "mark": "Mark",
    "rejected": "Rejected",
    "tools": "Tools",
    NOT_USED: NOT_USED,
}
# A column used as one of these leaves none for the others of what an example is made of.
BESIDE = {"prompt": {"prompt", "answer"}, "answer": {"prompt", "answer"}, "text": {"text"}, "messages": {"messages"}}


def uses_of(reading: Reading, table: PreviewTable) -> dict[str, str]:
    """The use of each column by its name: as chosen, else as guessed where nothing chosen takes its place."""
    given, taken = reading.roles, {role for role, value in reading.roles.dump().items() if value}
    uses = {}
    for column in table.columns:
        chosen = given.role_of(column.name)
        is_free = column.name not in given.unused and column.role not in taken
        uses[column.name] = chosen if chosen != NOT_USED else column.role if is_free else NOT_USED
    return uses


def with_use(reading: Reading, position: int, index: int, use: str) -> dict[str, Any]:
    """The roles after one column got another use; what is shown of the others stays as it is.

    Raises:
        UserError: When there is no such table, column or use.
    """
    tables = reading.preview.tables if reading.preview else []
    if not 0 <= position < len(tables) or not 0 <= index < len(tables[position].columns):
        raise UserError("That column is not there. Reload the page and choose again.")
    if use not in USES:
        raise UserError(f"A column cannot be used as {shown(use)}. Choose one of: {', '.join(USES)}.")
    table = tables[position]
    name, uses = table.columns[index].name, uses_of(reading, table)
    for other, former in uses.items():
        if (use in ONE_COLUMN and former == use) or (use in CONTENT and former in set(CONTENT) - BESIDE[use]):
            uses[other] = NOT_USED
    uses[name] = use
    return _roles(reading, table, uses, name)


def _roles(reading: Reading, table: PreviewTable, uses: dict[str, str], changed: str) -> dict[str, Any]:
    """Uses as roles: of columns that every table has, of those chosen before, and of the one that is changed."""
    given, tables = reading.roles, reading.preview.tables if reading.preview else []
    everywhere = set.intersection(*({column.name for column in one.columns} for one in tables))
    chosen = {changed, *given.columns(), *given.unused}
    uses = {name: use for name, use in uses.items() if name in everywhere | chosen}
    roles: dict[str, Any] = {role: [] if role in MANY_COLUMNS else "" for role in (*MANY_COLUMNS, *ONE_COLUMN)}
    for name in in_order(reading, list(uses)):
        use = uses[name]
        if use == NOT_USED and (not table.problem or name in {changed, *given.unused}):
            roles["unused"].append(name)  # what cannot be read so is guessed anew with what is left
        elif use in MANY_COLUMNS:
            roles[use].append(name)
        elif use != NOT_USED:
            roles[use] = name
    return {role: value for role, value in roles.items() if value}


def in_order(reading: Reading, names: list[str]) -> list[str]:
    """Columns of the prompt in the order that was chosen or guessed, a new one behind them; then the others."""
    guessed = reading.preview.roles if reading.preview else reading.roles
    first = [*(reading.roles.prompt or guessed.prompt), *(reading.roles.choices or guessed.choices)]
    return [*(name for name in first if name in names), *(name for name in names if name not in first)]
