"""Tables whose examples are conversations, or questions with choices: known by what their cells hold."""

from __future__ import annotations

from typing import Any

from hydralora.corpus import header_words as words
from hydralora.corpus.role_columns import Columns
from hydralora.corpus.shapes.choices import choice_columns, find_choices
from hydralora.corpus.shapes.messages import is_messages
from hydralora.corpus.shapes.wrapped import find_family


def find_messages(table: Columns) -> bool:
    if table.guess.has("prompt", "answer", "text"):
        return False
    column = _conversation(table)
    if not column:
        return False
    table.guess.take("messages", column, "its values are conversations")
    table.take_named("answer", ("chosen",))
    table.take_named("system", words.SYSTEMS)
    table.take_named("tools", words.TOOLS)
    return True


def _conversation(table: Columns) -> str:
    named = table.first(words.MESSAGES)
    if named and any(is_messages(row.get(named)) or _talk(row.get(named)) for row in table.rows):
        return named
    chosen, prompt = table.first(("chosen", "chosen response")), table.first(("prompt", "question", "instruction"))
    if chosen and _is_dialogue(table, chosen) and not (prompt and not _repeats(table, prompt, chosen)):
        return chosen
    lists = [column for column in table.free() if _all_messages(table, column)]
    return lists[0] if len(lists) == 1 else ""


def _all_messages(table: Columns, column: str) -> bool:
    cells = [row[column] for row in table.rows if row.get(column)]
    return bool(cells) and all(map(is_messages, cells))


def _is_dialogue(table: Columns, column: str) -> bool:
    """Whether every value holds both sides of a conversation, as messages or as text with marks."""
    cells = [row[column] for row in table.rows if row.get(column)]
    if cells and all(isinstance(cell, list) and len(cell) > 1 and is_messages(cell) for cell in cells):
        return True
    texts = [cell for cell in cells if isinstance(cell, str)]
    return bool(texts) and len(texts) == len(cells) and find_family(texts)[0] is not None


def _repeats(table: Columns, prompt: str, chosen: str) -> bool:
    """Whether a prompt stands in the chosen dialogue once more."""
    pairs = [(row.get(prompt), row.get(chosen)) for row in table.rows if row.get(prompt) and row.get(chosen)]
    return all(isinstance(p, str) and p.strip()[:200] in str(c).replace("\\n", "\n") for p, c in pairs)


def find_choice_table(table: Columns) -> bool:
    """A question, its choices, and an answer that names one of them."""
    columns = choice_columns(table.free(), table.rows)
    if not columns and not table.has_header:
        columns = _choices_by_position(table)
    if not columns:
        return False
    others = [column for column in table.free() if column not in columns]
    named = [table.by_name[name] for name in words.CHOICE_ANSWERS if table.by_name.get(name) in others]
    answer = next((c for c in [*named, *others[::-1]] if find_choices(columns, c, table.rows)), "")
    left = [column for column in others if column != answer and table.facts[column].kind in ("text", "short")]
    question = next((c for c in left if words.plain_name(c) in words.PROMPTS), "") or (left[0] if left else "")
    if not answer or not question:
        return False
    context = next((c for c in left if c != question and words.plain_name(c) in words.EXTRAS), "")
    table.guess.take("prompt", question, "the question of a table of choices")
    table.guess.take("prompt", context, "it stands beside the question")
    for column in columns:
        table.guess.take("choices", column, "a choice" if len(columns) > 1 else "it lists the choices")
    table.guess.take("answer", answer, "it names one of the choices")
    return True


def find_choices_of_answer(table: Columns) -> None:
    """Where prompt and answer were chosen: the choices that the answer names."""
    columns, answer = choice_columns(table.free(), table.rows), table.guess.roles.get("answer", "")
    if columns and answer and find_choices(columns, answer, table.rows):
        for column in columns:
            table.guess.take("choices", column, "the answer names one of the choices")


def _choices_by_position(table: Columns) -> tuple[str, ...]:
    """Without a header: a question, three or more choices, and a letter (MMLU)."""
    if len(table.columns) < 5:
        return ()
    inner, last = tuple(table.columns[1:-1]), table.columns[-1]
    found = find_choices(inner, last, table.rows)
    return inner if found is not None and found.kind == "letter" else ()


def _talk(value: Any) -> bool:
    """Whether a value is what two said in turn, without names."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)
