"""What an import makes of files, or would make of them: columns with their uses, examples, and what is said of both."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from html import escape
from typing import Literal, get_args, get_origin

from hydralora.corpus.encodings import ENCODINGS
from hydralora.corpus.preview import MOST_TABLES
from hydralora.plain import shortened, without_paths
from hydralora.results import ImportCounts, ImportOptions, Piece, Preview, PreviewExample, PreviewTable
from jobs.store.records import Reading
from studio import cards
from studio.cards import Markup
from studio.pages.corpora.uses import NOT_USED, USES, in_order, uses_of

MOST_CHOICES = 40  # columns of a table whose use can be chosen on the page
PIECE_CHARACTERS = 240  # of a piece of an example: where it would be cut is to be seen
MOST_NAMES = 200  # columns that a sentence names
MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "space", ":": "colon"}
OPTION_WORDS = {
    "answers": ("Several right answers", {"first": "take the first", "each": "one example for each"}),
    "file_names": ("File names", {"True": "label or split", "False": "say nothing"}),
    "unwrap": ("Chat templates in the rows", {"True": "are taken off", "False": "are kept as text"}),
    "layout": (
        "Plain text is cut",
        {
            "": "as it looks",
            "document": "as one document",
            "lines": "at every line",
            "blocks": "at blank lines",
            "questions": "at Q: and A: marks",
        },
    ),
    "encoding": ("Encoding of text files", {"": "as it looks"}),
    "delimiter": (
        "Cells are parted by",
        {"": "what it looks like", ",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"},
    ),
    "header": ("The first row", {"": "as it looks", "True": "names the columns", "False": "is data"}),
}


def contract(reading: Reading) -> Markup:
    """Everything that is to be known before an import."""
    preview = reading.preview
    if preview is None or reading.source is None:
        return Markup("")
    left = [
        _more_files(reading, preview),
        *(_group(reading, preview, group) for group in alike(preview.tables)),
        _options(reading.options),
        counts(preview.counts),
    ]
    right = [_legend()] if preview.examples else []
    right += [*(example(one, preview) for one in preview.examples), _fates(preview)]
    inner = f"<div>{cards.join(*left)}</div><div>{cards.join(*right)}</div>"
    return Markup(f"<div class='hy-reading' data-of='{reading.source.id}'>{inner}</div>")


def _more_files(reading: Reading, preview: Preview) -> Markup:
    """That not every file was looked at, where that is so."""
    if len(preview.tables) < MOST_TABLES or len(reading.files) <= MOST_TABLES:
        return Markup("")
    words = f"The first {MOST_TABLES} of {len(reading.files):,} files were looked at. All of them are imported."
    return Markup(f"<p class='hy-quiet'>{words}</p>")


# Columns


def alike(tables: list[PreviewTable]) -> list[list[int]]:
    """Positions of tables, those with the same columns for the same reasons together."""
    groups: dict[object, list[int]] = {}
    for position, table in enumerate(tables):
        key = tuple((c.name, c.role) for c in table.columns), table.format, bool(table.problem)
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def _group(reading: Reading, preview: Preview, positions: list[int]) -> Markup:
    """Tables that are alike, with one form for their columns."""
    tables = [preview.tables[position] for position in positions]
    first = tables[0]
    title = first.name if len(tables) == 1 else f"{len(tables)} tables alike"
    names = f"{names_of(table.name for table in tables)}. The first: " if tables[1:] else ""
    rejected = [f"{table.name}: {reason}" for table in tables for reason in table.rejected]
    notes = list(dict.fromkeys(note for table in tables for note in table.notes))
    parts = [
        Markup(f"<h3>{cards.text(title)}</h3><p class='hy-quiet'>{cards.text(names + _told(first))}</p>"),
        cards.note("bad", "It cannot be read so.", first.problem) if first.problem else Markup(""),
        _columns(reading, positions[0], first),
        _unused(reading, first),
        _sentences(notes),
        cards.note("warn", "Rows that would be rejected", _sentences(rejected[:10])) if rejected else Markup(""),
    ]
    return cards.join(*parts)


def _told(table: PreviewTable) -> str:
    made = f"rows looked at: {table.rows:,}, examples: {table.examples:,}"
    return "; ".join(filter(None, [table.told_details(_visible), table.shape, made]))


def _visible(value: str) -> str:
    return MARKS.get(value, value)


def _columns(reading: Reading, position: int, table: PreviewTable) -> Markup:
    """The form: one row a column."""
    uses = uses_of(reading, table)
    prompts = [name for name in in_order(reading, list(uses)) if uses[name] == "prompt"]
    shown = [i for i, column in enumerate(table.columns) if i < MOST_CHOICES or uses[column.name] != NOT_USED]
    rows: list[list[object]] = []
    for index in shown[: 2 * MOST_CHOICES]:
        column = table.columns[index]
        name = column.name or "(no name)"
        words = {**USES, **_place(column.name, prompts)}
        select = _select(f"column {position} {index}", f"Use of column {name}", words, uses[column.name])
        sample = cards.long_text(column.samples[0], 120) if column.samples else "(empty)"
        is_guess = uses[column.name] == column.role
        reason = ("" if table.problem else column.reason) if is_guess else "you chose it"
        rows.append([Markup(f"<b>{cards.text(name)}</b>"), sample, select, reason])
    table_of_columns = cards.table(["Column", "For example", "Used as", "Because"], rows, caption="Columns")
    return Markup(f"<div class='hy-columns'>{table_of_columns}</div>")


def _place(name: str, prompts: list[str]) -> dict[str, str]:
    """The word for a column of a prompt of several: which of them it is."""
    return {"prompt": f"Prompt, part {prompts.index(name) + 1}"} if name in prompts and prompts[1:] else {}


def _unused(reading: Reading, table: PreviewTable) -> Markup:
    uses = uses_of(reading, table)
    names = [column.name for column in table.columns if uses[column.name] == NOT_USED]
    words = f"Not used: {names_of(names)}." if names else "Every column is used."
    return Markup(f"<p class='hy-quiet'>{cards.text(words)}</p>") if table.columns else Markup("")


def names_of(names: Iterable[str]) -> str:
    """Names in a sentence, the first ``MOST_NAMES`` of them."""
    known = list(names)
    more = f" and {len(known) - MOST_NAMES:,} more" if len(known) > MOST_NAMES else ""
    return ", ".join(known[:MOST_NAMES]) + more


def _select(name: str, label: str, choices: dict[str, str], value: str) -> Markup:
    options = "".join(
        f"<option value='{escape(key, quote=True)}'{' selected' if key == value else ''}>{cards.text(words)}</option>"
        for key, words in choices.items()
    )
    return Markup(f"<select name='{name}' aria-label='{escape(label, quote=True)}'>{options}</select>")


def _options(options: ImportOptions) -> Markup:
    """How it was read: one select for each choice that an import has."""
    fields = []
    for name, choices in option_choices().items():
        title, words = OPTION_WORDS.get(name, (name.replace("_", " ").capitalize(), {}))
        chosen = getattr(options, name)
        shown = {choice: words.get(choice, choice) for choice in choices}
        select = _select(f"option {name}", title, shown, "" if chosen is None else str(chosen))
        fields.append(f"<label class='hy-field'><span>{cards.text(title)}</span>{select}</label>")
    return Markup(f"<h3>How it was read</h3><div class='hy-fields'>{''.join(fields)}</div>")


def option_choices() -> dict[str, list[str]]:
    """The choices of an import with what each may be, as text."""
    found = {}
    for name, field in ImportOptions.model_fields.items():
        if field.annotation is bool:
            found[name] = ["True", "False"]
        elif get_origin(field.annotation) is Literal:
            found[name] = [str(value) for value in get_args(field.annotation)]
        elif name in ("delimiter", "header"):
            found[name] = list(OPTION_WORDS[name][1])
    return {**found, "encoding": ["", *ENCODINGS]}


# Examples


def _legend() -> Markup:
    return Markup(
        "<p class='hy-quiet'>Examples as the model will see them. <span class='seen'>Grey is read only</span> "
        "<span class='learnt'>coloured is learnt</span></p>"
    )


def example(one: PreviewExample, preview: Preview) -> Markup:
    """One example in pieces, with where it came from and how long it is."""
    pieces = "".join(_piece(piece) for piece in one.pieces)
    is_bad = one.left_out or any(piece.cut for piece in one.pieces)
    where = f"{one.table}, row {one.row_number:,}{_length(one, preview.max_length)}"
    kind = "hy-quiet bad" if is_bad else "hy-quiet"
    return Markup(
        f"<div class='hy-example'><div class='pieces' tabindex='0' role='group' aria-label='Example'>{pieces}</div>"
        f"<p class='{kind}'>{cards.text(where)}</p></div>"
    )


def _piece(piece: Piece) -> str:
    kind = "learnt" if piece.learned else "seen"
    text = f"<span class='{kind}'>{cards.text(shortened(piece.text, PIECE_CHARACTERS))}</span>"
    return f"<b class='cut'>✂ cut here</b> <del>{text}</del>" if piece.cut else text


def _length(one: PreviewExample, longest: int) -> str:
    if one.tokens is None:
        return ""
    lost = sum(piece.tokens or 0 for piece in one.pieces if piece.cut)
    if one.left_out:
        return f", {one.tokens:,} tokens: it is left out, since what stands before its answer fills {longest:,} tokens"
    return f", {one.tokens:,} tokens" + (f": the last {lost:,} are lost at length {longest:,}" if lost else "")


def _fates(preview: Preview) -> Markup:
    """What happens to long examples, for the base that was asked for."""
    parts = (
        [cards.note("warn", f"Base {preview.base}", without_paths(preview.base_problem))]
        if preview.base_problem
        else []
    )
    if preview.measured:
        words = (
            f"For base {preview.base} at {preview.max_length:,} tokens, {preview.cut:,} of the first "
            f"{preview.measured:,} examples lose their end, and {preview.left_out:,} are left out."
        )
        is_bad = preview.cut or preview.left_out
        parts.append(
            cards.note("warn", words, "A longer length, chosen on New run, keeps more.")
            if is_bad
            else Markup(f"<p class='hy-quiet'>{cards.text(words)}</p>")
        )
    return cards.join(*parts)


# Sentences


def counts(found: ImportCounts) -> Markup:
    """What became of the rows, a sentence for each number that is not zero."""
    told = [
        f"{getattr(found, name):,}: {str(field.description)[0].lower()}{str(field.description)[1:]}."
        for name, field in ImportCounts.model_fields.items()
        if getattr(found, name) and name != "rows"
    ]
    return _sentences(told)


def _sentences(lines: list[str]) -> Markup:
    items = "".join(f"<li>{cards.text(line)}</li>" for line in lines)
    return Markup(f"<ul class='hy-lines'>{items}</ul>") if lines else Markup("")


def command(reading: Reading) -> Markup:
    """The command that imports the same files in the same way."""
    words = ["python", "-m", "studio", "corpora", "add", *reading.files[:5], *(["..."] if reading.files[5:] else [])]
    for role, value in reading.roles.dump().items():
        if value:
            words += ["--roles", f"{role}={value if isinstance(value, str) else '+'.join(value)}"]
    options = reading.options
    words += ["--answers", options.answers] if options.answers != "first" else []
    words += [] if options.file_names else ["--no-file-names"]
    words += [] if options.unwrap else ["--no-unwrap"]
    return Markup(f"<p class='hy-quiet'>The same by command: <code>{cards.text(shlex.join(words))}</code></p>")
