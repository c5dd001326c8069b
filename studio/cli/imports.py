"""What an import made of files, or would make of them, for people to read."""

from __future__ import annotations

from hydralora.results import CorpusManifest, ImportCounts, Preview, PreviewExample, PreviewTable
from hydralora.results.runs import NOT_TOLD_APART
from studio.cli.terminal import out, print_table

SHOWN = 400  # characters of a piece of an example


def print_manifest(manifest: CorpusManifest) -> None:
    """Roles with their reasons, unused columns, and what became of the rows."""
    if manifest.reasons:  # an earlier version kept none
        rows = [[column, manifest.roles.role_of(column), why] for column, why in manifest.reasons.items()]
        print_table(["column", "role", "why"], [list(row) for row in rows])
        out.print(f"  not used: {', '.join(manifest.unused) or 'none'}")
    print_counts(manifest.counts)
    for note in manifest.notes:
        out.print(f"  {note}")


def print_counts(counts: ImportCounts) -> None:
    """The counts that are not zero, each with its meaning."""
    for name, field in ImportCounts.model_fields.items():
        if getattr(counts, name):
            out.print(f"  {getattr(counts, name):,}: {str(field.description)[0].lower()}{str(field.description)[1:]}")


def print_preview(preview: Preview) -> None:
    """Every table, then the first examples as the model will see them."""
    for table in preview.tables:
        print_preview_table(table)
    print_counts(preview.counts)
    for example in preview.examples:
        print_example(example)
    if preview.base_problem:
        out.print(f"  {preview.base_problem}")
    if preview.measured:
        out.print(
            f"At {preview.max_length:,} tokens, {preview.cut:,} of the first {preview.measured:,} examples would lose "
            f"their end and {preview.left_out:,} would be left out."
        )
    if preview.partly:
        out.print(f"{preview.partly:,} of them would be learnt in part. {NOT_TOLD_APART}")


def print_preview_table(table: PreviewTable) -> None:
    """One table: format, columns with roles and samples, and what is wrong with it."""
    out.print(f"{table.name}: {table.told_details(repr)}; {table.shape or 'not readable so'}")
    if table.problem:
        out.print(f"  {table.problem}")
    samples = [[c.name, c.role, c.reason, " | ".join(c.samples)[:100]] for c in table.columns]
    print_table(["column", "role", "why", "samples"], [list(row) for row in samples])
    out.print(f"  not used: {', '.join(table.unused) or 'none'}")
    for line in [*table.notes, *table.rejected]:
        out.print(f"  {line}")


def print_example(example: PreviewExample) -> None:
    """One example: learnt pieces in double brackets, what would be cut in braces."""
    count = "" if example.tokens is None else f", {example.tokens:,} tokens"
    out.print(f"{example.table}, row {example.row_number}{count}{', left out' if example.left_out else ''}:")
    marks = {True: ("[[", "]]"), False: ("", "")}
    for piece in example.pieces:
        begin, end = marks[piece.learned]
        text = f"{begin}{piece.text[:SHOWN]}{end}"
        out.print(f"  {{cut: {text}}}" if piece.cut else f"  {text}")
