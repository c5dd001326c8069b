"""The shapes that one JSON value of many rows can have: by rows, by columns, as data frames write it, or nested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydralora import limits
from hydralora.corpus.header import column_names, is_header
from hydralora.corpus.rows import SPLIT_NAMES, Rejected, Row, fault_of_names
from hydralora.errors import CorpusError

WRAPPED = 3  # objects around the rows at most
MAPPING = 20  # texts under different keys that are a dictionary and no row
SCALARS = (str, int, float, bool, type(None))


def row_or_rejected(number: int, value: Any, word: str, split: str = "") -> Row | Rejected:
    """One JSON value as a row: an object with named fields, or a text."""
    if isinstance(value, str):
        return Row(number, {"text": value}, split)
    if not isinstance(value, dict):
        kind = {list: "a list", type(None): "nothing"}.get(type(value), "a single value")
        return Rejected(number, f"{word} {number} holds {kind}; it must be an object with named fields.")
    fault = fault_of_names(value)
    if len(value) > limits.MAX_COLUMNS:
        fault = f"{len(value):,} fields; at most {limits.MAX_COLUMNS:,} are read"
    elif not fault and _is_deep(value):
        fault = f"values more than {limits.MAX_DEPTH} deep in each other"
    return Rejected(number, f"{word} {number} has {fault}.") if fault else Row(number, value, split)


def _is_deep(value: Any) -> bool:
    """Whether objects and lists stand more than ``MAX_DEPTH`` deep in each other."""
    level = [value]
    for _ in range(limits.MAX_DEPTH):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True


def rows_of(value: Any, name: str) -> Iterator[Row | Rejected]:
    """The rows in one JSON value.

    Raises:
        CorpusError: When it is a value of another shape, or has too many columns.
    """
    if isinstance(value, list):
        return _rows_of_cells(value, name) if _is_grid(value) else _numbered(value)
    rows = _of_object(value, name) if isinstance(value, dict) else None
    for _ in range(WRAPPED):
        if rows is not None or not isinstance(value, dict):
            break
        inner = [item for item in value.values() if isinstance(item, dict)]
        value = inner[0] if len(inner) == 1 else None
        rows = _of_object(value, name) if isinstance(value, dict) else None
    if rows is None:
        raise CorpusError(
            f'{name}: the JSON is one object, not rows. Use a list of objects, {{"train": [...]}}, an object of '
            "objects, or columns with lists of one length."
        )
    return rows


def _of_object(value: dict[str, Any], name: str) -> Iterator[Row | Rejected] | None:
    """The rows in an object; None where it is one row itself, or something else."""
    frame = value.get("data")
    if isinstance(value.get("columns"), list) and isinstance(frame, list) and all(isinstance(r, list) for r in frame):
        return _rows_of_cells([value["columns"], *frame], name, has_header=True)
    columns = _columns(value)
    if columns:
        return _rows_of_columns(columns)
    lists = {key: item for key, item in value.items() if _is_table(item)}
    if lists:
        return _rows_of_lists(lists)
    if (len(value) > 1 and all(isinstance(item, dict) for item in value.values())) or _is_one_keyed(value):
        named = enumerate(value.items(), 1)
        return (row_or_rejected(number, {"id": key, **item}, "Item") for number, (key, item) in named)
    texts = [item for item in value.values() if isinstance(item, list)]
    if len(texts) == 1 and len(texts[0]) > 1 and all(isinstance(text, str) for text in texts[0]):
        return _numbered(texts[0])
    if len(value) >= MAPPING and all(isinstance(item, str) for item in value.values()):
        pairs = enumerate(value.items(), 1)
        return (row_or_rejected(number, {"key": key, "value": item}, "Item") for number, (key, item) in pairs)
    return None


def _is_one_keyed(value: dict[str, Any]) -> bool:
    """An object with one row by its id: its fields are no rows themselves."""
    (only,) = value.values() if len(value) == 1 else (None,)
    return isinstance(only, dict) and any(isinstance(item, str) for item in only.values())


def _numbered(items: list[Any]) -> Iterator[Row | Rejected]:
    return (row_or_rejected(number, item, "Item") for number, item in enumerate(items, 1))


def _is_grid(value: Any) -> bool:
    """Rows as lists of one width, without names."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, list) and len(row) == len(value[0]) for row in value)
        and len(value[0]) > 1
        and not all(isinstance(cell, dict) for cell in value[0])
    )


def _rows_of_cells(rows: list[list[Any]], name: str, *, has_header: bool | None = None) -> Iterator[Row | Rejected]:
    """Rows of lists; the first one may name the columns."""
    first = ["" if cell is None else str(cell) for cell in rows[0]]
    if has_header is None:
        texts = [[str(cell) for cell in row] for row in rows[1:50]]
        has_header = all(isinstance(cell, str) for cell in rows[0]) and is_header(first, texts)
    columns = column_names(first, has_header, name)
    return (
        row_or_rejected(number, dict(zip(columns, row, strict=True)), "Item")
        if len(row) == len(columns)
        else Rejected(number, f"Item {number} has {len(row)} values, the others {len(columns)}.")
        for number, row in enumerate(rows[has_header:], 1)
    )


def _columns(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Columns by name where the object goes by columns: lists of one length, or ``{row: value}`` with the same rows."""
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    others = [item for key, item in value.items() if key not in lists]
    if lists and all(isinstance(item, SCALARS) for item in others) and (len(lists) > 1 or not others):
        lengths = {len(item) for item in lists.values()}
        of_objects = [key for key, item in lists.items() if _is_table(item)]
        if len(lengths) == 1 and max(lengths) > 0 and (not of_objects or _is_cell_list(lists, of_objects)):
            return lists
    frames = list(value.values())
    if frames and all(isinstance(item, dict) and item for item in frames):
        rows = list(frames[0])
        same = all(item.keys() == frames[0].keys() for item in frames[1:])
        counted = all(key.isdecimal() for key in rows) and not all(key.isdecimal() for key in value)
        if same and (counted or len(rows) > max(20, 4 * len(frames))):
            return {key: [item[row] for row in rows] for key, item in value.items()}
    return {}


def _is_cell_list(lists: dict[str, list[Any]], of_objects: list[str]) -> bool:
    """Some column holds objects as cells, beside others that hold none; names of splits are no columns."""
    return len(of_objects) < len(lists) and not any(key.lower() in SPLIT_NAMES for key in of_objects)


def _rows_of_columns(columns: dict[str, list[Any]]) -> Iterator[Row | Rejected]:
    names = list(columns)
    cells = zip(*columns.values(), strict=True)
    return (row_or_rejected(i, dict(zip(names, row, strict=True)), "Item") for i, row in enumerate(cells, 1))


def _rows_of_lists(lists: dict[str, list[Any]]) -> Iterator[Row | Rejected]:
    number = 0
    for key, items in lists.items():
        for item in _unnest(items):
            number += 1
            yield row_or_rejected(number, item, "Item", SPLIT_NAMES.get(key.lower(), ""))


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _unnest(items: list[Any]) -> Iterator[Any]:
    """Rows of a list; nested question answering (paragraphs, then questions) is laid flat."""
    for item in items:
        if not (isinstance(item, dict) and _is_table(item.get("paragraphs"))):
            yield item
            continue
        for paragraph in item["paragraphs"]:
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                yield paragraph
                continue
            for question in questions:
                yield _question(question, paragraph)


def _question(question: Any, paragraph: dict[str, Any]) -> Any:
    if not isinstance(question, dict):
        return question
    answers: Any = question.get("answers")
    texts = [item.get("text", "") for item in answers if isinstance(item, dict)] if _is_table(answers) else [""]
    are_texts = all(isinstance(text, str) for text in texts)
    different = list(dict.fromkeys(texts)) if are_texts else texts[:1]
    answer = {"text": different} if len(different) > 1 else different[0]  # which ones are learnt is chosen later
    return {"question": question.get("question", ""), "context": paragraph.get("context"), "answer": answer}
