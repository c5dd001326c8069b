"""Which column of a file plays which part, guessed from names and contents, each with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hydralora.corpus import header_words as words
from hydralora.corpus.column_facts import WHY_UNUSED, ColumnFacts, look_at
from hydralora.corpus.role_columns import Columns, Guess
from hydralora.corpus.role_contents import find_by_contents
from hydralora.corpus.role_shapes import find_choice_table, find_choices_of_answer, find_messages
from hydralora.corpus.rows import name_some
from hydralora.corpus.shapes.messages import is_messages
from hydralora.errors import CorpusError
from hydralora.results import Roles
from hydralora.results.corpus import CONTENT, MANY_COLUMNS, ONE_COLUMN

EMPTY = ColumnFacts(0, 0.0, 0.0, 0, 0.0, "empty")
CONTENT_WAY_OUT = (
    "Say which column is the prompt and which the answer (--prompt COLUMN --answer COLUMN, now or with `corpora roles`)"
)


def guess_roles(
    columns: list[str], rows: list[dict[str, Any]], has_header: bool = True, given: Roles | None = None
) -> Guess:
    """Guess the roles from the columns' names and the first rows; roles that were given stay.

    Raises:
        CorpusError: When no column can be an example's text; the columns and the way out are named.
    """
    given = given or Roles()
    empty = set() if given.is_complete else {role for role in CONTENT if not getattr(given, role)}
    guess = Guess(fixed=frozenset(given.model_fields_set - empty))
    for role in (*MANY_COLUMNS, *ONE_COLUMN):
        value = getattr(given, role)
        guess.keep(role, value if isinstance(value, tuple) else (value,))
    free = [column for column in columns if column not in guess.reasons]
    _run(Columns(free, rows, has_header, guess))
    roles = Roles(**guess.roles)
    if not roles.is_complete:
        found = name_some(columns) or "none"
        raise CorpusError(
            f"No column looks like a question, an answer or a text; found: {found}. {CONTENT_WAY_OUT}, or "
            "which is plain text (--text COLUMN)."
        )
    facts = {c: look_at(row.get(c) for row in rows) for c in columns if c not in guess.reasons}
    for column, found_facts in facts.items():
        guess.reasons[column] = WHY_UNUSED.get(found_facts.kind, "neither its name nor its contents say a part")
    return guess


def _run(table: Columns) -> None:
    """Find what an example is made of, then what stands beside it."""
    _beside_content(table)
    if table.is_complete():
        find_choices_of_answer(table)
    elif find_messages(table) or find_choice_table(table):
        pass
    elif table.has_header:
        _named_pair(table)
    else:
        _by_position(table)
    if not table.is_complete():
        find_by_contents(table)
    _label(table)


def _beside_content(table: Columns) -> None:
    """The split, the id, the tools, and what is marked bad, which may not be taken for content."""
    table.take_named("split", words.SPLITS)
    for column in table.free():
        if not table.guess.has("split") and table.facts[column].kind == "split" and column not in words.ANSWERS:
            table.guess.take("split", column, "its values are names of train and test parts")
    table.take_named("id", words.IDS)
    for column in [c for c in table.free() if _is_rejected(table, c)]:
        table.guess.take("rejected", column, "the worse answer of a preference")
    if any(is_messages(row.get(column)) for row in table.rows for column in table.columns):
        table.take_named("tools", words.TOOLS)
    _mark(table)


def _is_rejected(table: Columns, column: str) -> bool:
    name = words.plain_name(column)
    return name in words.REJECTED and not table.guess.has("rejected")


def _mark(table: Columns) -> None:
    """A column of true and false that says whether an answer is good (KTO), or of weights."""
    for column in table.free():
        name, cells = words.plain_name(column), [row.get(column) for row in table.rows]
        filled = [cell for cell in cells if cell is not None and cell != ""]
        is_truth = bool(filled) and all(
            str(cell).lower() in ("true", "false", "0", "1", "0.0", "1.0") for cell in filled
        )
        if is_truth and (name in words.MARKS or (name == "label" and isinstance(filled[0], bool) and _is_kto(table))):
            table.guess.take("mark", column, "it says which answers are good")
            return


def _is_kto(table: Columns) -> bool:
    names = set(table.by_name)
    return "completion" in names or any(is_messages(row.get(column)) for row in table.rows for column in table.columns)


def _named_pair(table: Columns) -> None:
    """Prompt and answer, or a text, by names that datasets share."""
    if not table.guess.has("answer"):
        table.take_named("answer", _longer_than_labels(table, words.ANSWERS))
    if not table.guess.has("prompt"):
        table.take_named("prompt", words.PROMPTS)
    if not table.guess.has("answer"):  # a name like `prompt` says nothing alone
        table.forget_guess("prompt")
        _named_text(table)
        return
    table.take_named("prompt", words.EXTRAS)
    if not table.guess.has("prompt"):
        table.take_named("prompt", words.TEXTS)
    if table.guess.has("prompt"):
        table.take_named("system", words.SYSTEMS)
        table.take_named("history", words.HISTORIES)
    else:
        table.forget_guess("answer")
        _named_text(table)


def _longer_than_labels(table: Columns, names: Iterable[str]) -> list[str]:
    """Names whose column is not empty in the first rows."""
    return [name for name in names if name in table.by_name and table.facts.get(table.by_name[name], EMPTY).filled]


def _named_text(table: Columns) -> None:
    for column in table.free():  # a word inside other names may still say the pair
        if words.says(column, words.ANSWER_WORDS) and table.facts[column].has_sentences:
            return
    table.take_named("text", words.TEXTS)


def _by_position(table: Columns) -> None:
    """Without a header the order says it: label and text, or question(s) and answer."""
    columns = table.free()
    few = {str(row.get(columns[0])) for row in table.rows} if columns else set()
    if len(columns) == 2 and len(few) <= 8 and not table.guess.has("prompt", "answer", "text"):
        table.guess.take("label", columns[0], "few different values in a first column without a header")
        table.guess.take("text", columns[1], "the second of two columns without a header")
    elif len(columns) > 1 and not table.guess.has("prompt", "answer", "text"):
        last = 2 if len(columns) <= 3 else len(columns)
        for column in columns[: last - 1]:
            table.guess.take("prompt", column, "it stands first, without a header")
        table.guess.take("answer", columns[last - 1], "it stands behind the question, without a header")


def _label(table: Columns) -> None:
    if table.guess.has("label"):
        return
    named = table.first(table.short(words.LABELS))
    if named and any(isinstance(row.get(named), str) for row in table.rows):
        table.guess.take("label", named, "a usual name for the label")
        return
    few = [c for c in table.free() if table.facts[c].kind == "label"]
    said = [c for c in table.free() if table.facts[c].kind in ("label", "short") and _says_label(table, c)]
    for column in [*said, *few][:1]:
        count, rows = table.facts[column].distinct, len(table.rows)
        table.guess.take("label", column, f"{count} different short values in the first {rows} rows")


def _says_label(table: Columns, column: str) -> bool:
    return bool(words.says(column, words.LABEL_WORDS)) and table.facts[column].distinct < table.facts[column].filled
