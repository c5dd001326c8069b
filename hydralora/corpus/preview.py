"""What an import would make of files, from their first rows: formats, roles with reasons, and examples as the model
will see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydralora.config import TrainConfig
from hydralora.corpus.examples import Example, conversation_of
from hydralora.corpus.formats import open_tables
from hydralora.corpus.plan import LOOKED_AT, FileNames, Plan, plan_table
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.shapes.values import Tally
from hydralora.errors import BaseModelError, CorpusError
from hydralora.plain import shortened
from hydralora.results import ImportCounts, ImportOptions, Roles
from hydralora.results.preview import Piece, Preview, PreviewColumn, PreviewExample, PreviewTable

if TYPE_CHECKING:
    from hydralora.corpus.rendering import Fate

MOST_TABLES = 20  # that are looked at; the others are like them, or a few of a great many
SAMPLES, SAMPLE_CHARACTERS = 3, 200
SAMPLED = 100  # first columns whose values are shown, beside those that are used
RENDERED = 3  # examples that are shown as the model sees them
MEASURED = 200  # examples whose tokens are counted
REASONS = 5  # rejected rows that are told of each table
TEXT_CHARACTERS = 4_000  # of a message that is shown without a base
UNREADABLE = "this table could not be read so"


def preview_files(
    paths: list[Path],
    *,
    roles: Roles | None = None,
    options: ImportOptions | None = None,
    base: str = "",
    max_length: int = 0,
    resolve: Callable[[str], str] = str,
) -> Preview:
    """Look at the first rows of every table, and say what an import would make of them.

    Args:
        roles: Which column plays which part; guessed where left out.
        base: The base model whose tokenizer the first examples are rendered for; none where empty.
        max_length: Longest example in tokens; that of a new run where 0.
        resolve: What makes of a base's name the one to load, and refuses what may not be loaded.

    Raises:
        CorpusError: When a file cannot be opened at all.
    """
    options = options or ImportOptions()
    looked = _Looked(paths, roles, options)
    for path in paths:
        for table in islice(
            open_tables(path, ReadOptions.of(options, head_only=True)), MOST_TABLES - len(looked.tables)
        ):
            looked.look(table, path)
    max_length = max_length or TrainConfig().max_length
    rendering = _render(looked.examples, base, max_length, resolve)
    return Preview(
        tables=looked.tables,
        roles=looked.roles,
        options=options,
        counts=ImportCounts(**asdict(looked.tally)),
        examples=rendering.examples,
        base=base,
        base_problem=rendering.problem,
        max_length=max_length,
        measured=len(rendering.fates),
        cut=sum(fate.length == "cut" for fate in rendering.fates),
        left_out=sum(fate.length == "left out" for fate in rendering.fates),
        partly=sum(fate.is_partly for fate in rendering.fates),
    )


@dataclass
class _Looked:
    """What was found so far."""

    paths: list[Path]
    given: Roles | None
    options: ImportOptions
    roles: Roles = field(default_factory=Roles)
    tables: list[PreviewTable] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def look(self, table: Table, path: Path) -> None:
        """Add one table, also where it cannot be read as it is: then its columns are what is needed."""
        head = list(islice(table.rows, LOOKED_AT))
        names = FileNames.of(self.paths)
        rows = [item.values for item in head if isinstance(item, Row)]
        kept = {"name": table.source, "format": table.format, "details": table.details, "rows": len(head)}
        try:
            plan = plan_table(
                table, head, path.name, given=self.given, options=self.options, names=names, tally=self.tally
            )
        except CorpusError as error:
            columns = list(dict.fromkeys([*table.columns, *(key for row in rows for key in row)]))
            cells = [_column(c, "not used", UNREADABLE, rows if i < SAMPLED else []) for i, c in enumerate(columns)]
            self.tables.append(PreviewTable(**kept, problem=str(error), columns=cells, unused=columns))
            return
        made, reasons = self._convert(plan, head)
        self.roles = plan.roles
        self.examples += made
        self.tables.append(
            PreviewTable(
                **kept,
                shape=plan.shape,
                columns=_columns(plan, rows),
                unused=plan.unused(),
                notes=plan.notes,
                examples=len(made),
                rejected=reasons,
            )
        )

    def _convert(self, plan: Plan, head: list[Row | Rejected]) -> tuple[list[Example], list[str]]:
        examples: list[Example] = []
        reasons: list[str] = []
        for item in head:
            self.tally.rows += isinstance(item, Rejected)
            found = [item] if isinstance(item, Rejected) else plan.converter.convert(item)
            examples += [one for one in found if isinstance(one, Example)]
            reasons += [one.reason for one in found if isinstance(one, Rejected)]
        return examples, reasons[:REASONS]


def _columns(plan: Plan, rows: list[dict[str, Any]]) -> list[PreviewColumn]:
    flat = [inner for row in rows for inner in plan.converter.unfolding.rows(row)]
    reasons = plan.guess.reasons
    used = set(plan.roles.columns())
    sampled = {name for i, name in enumerate(plan.columns) if i < SAMPLED or name in used}
    return [
        _column(name, plan.roles.role_of(name), reasons.get(name, ""), flat if name in sampled else [])
        for name in plan.columns
    ]


def _column(name: str, role: str, reason: str, rows: list[dict[str, Any]]) -> PreviewColumn:
    filled = (row.get(name) for row in rows)
    samples = [shortened(str(value), SAMPLE_CHARACTERS) for value in filled if value not in (None, "")]
    return PreviewColumn(name=name, role=role, reason=reason, samples=samples[:SAMPLES])


# As the model sees them


@dataclass
class _Rendering:
    """The first examples as a base sees them, or as texts where there is none."""

    problem: str = ""
    fates: list[Fate] = field(default_factory=list)
    examples: list[PreviewExample] = field(default_factory=list)


def _render(examples: list[Example], base: str, max_length: int, resolve: Callable[[str], str]) -> _Rendering:
    if base:
        from hydralora.corpus.rendering import Renderer  # it loads torch, which a look at columns does not need

        has_talks = any(example.history for example in examples)
        try:
            renderer = Renderer(resolve(base), max_length, has_talks=has_talks)
            fates = [renderer.fate(example) for example in examples[:MEASURED]]
            shown = [_example(e, *renderer.pieces(e)) for e in examples[:RENDERED]]
            return _Rendering(renderer.problem, fates, shown)
        except BaseModelError as error:
            problem = str(error)
    else:
        problem = ""
    return _Rendering(problem, [], [_example(e, list(_texts(e)), False) for e in examples[:RENDERED]])


def _example(example: Example, pieces: list[Piece], left_out: bool) -> PreviewExample:
    counts = [piece.tokens for piece in pieces if piece.tokens is not None]
    return PreviewExample(
        table=example.source,
        row_number=example.row,
        label=example.label,
        split=example.split,
        pieces=pieces,
        tokens=sum(counts) if counts else None,
        left_out=left_out,
    )


def _texts(example: Example) -> Iterator[Piece]:
    """Without a tokenizer: the messages, each as it is written."""
    messages = conversation_of(example) if example.prompt else [{"role": "assistant", "content": example.answer}]
    for message in messages:
        text = shortened(str(message.get("text", message["content"])), TEXT_CHARACTERS)
        yield Piece(text=text, learned=message["role"] == "assistant" and message.get("weight", 1) != 0)
