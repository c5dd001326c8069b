"""Files of many formats made into a corpus, once.

A corpus is a folder: ``examples.arrow`` (Arrow IPC, memory-mapped, batches of ``BATCH_ROWS`` rows),
``rejected.jsonl`` (the first rejected rows, with reasons) and ``corpus.json`` (the manifest, written last). The folder
appears under its name only when complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hydralora import limits
from hydralora.corpus.examples import BATCH_ROWS, EXAMPLES, SCHEMA, Example, batch_of
from hydralora.corpus.formats import open_tables
from hydralora.corpus.plan import LOOKED_AT, FileNames, Plan, plan_table
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Table, check_columns
from hydralora.corpus.shapes.values import Tally
from hydralora.errors import CorpusError
from hydralora.files import file_hash, size_on_disk, written_aside
from hydralora.progress import SILENT, Progress
from hydralora.results import CorpusManifest, ImportCounts, ImportOptions, Roles, SourceFile
from hydralora.results.corpus import REJECTED

MIN_EXAMPLES = 2
MOST_LABELS_LISTED = 200


def import_corpus(
    paths: list[Path],
    folder: Path,
    *,
    roles: Roles | None = None,
    options: ImportOptions | None = None,
    progress: Progress = SILENT,
) -> CorpusManifest:
    """Read ``paths`` into one corpus at ``folder``, which appears only when complete.

    Args:
        roles: Which column plays which part; guessed where left out, or where no example can be made by those given.
        options: What is done with rows that may be read in more than one way.

    Raises:
        CorpusError: When a file cannot be read at all or fewer than two examples are left.
        StoppedError: When asked to stop; nothing is kept.
    """
    with written_aside(folder) as aside:  # in the place of an earlier import with other roles
        aside.mkdir(parents=True)
        return _Import(paths, aside, roles, options or ImportOptions(), progress).run()


@dataclass
class _Counts:
    """What is counted while examples are written; grows by eight bytes an example and no more."""

    examples: int = 0
    rejected: int = 0
    characters: int = 0
    conversations: int = 0
    earlier_answers: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, example: Example) -> None:
        """Count one example."""
        self.examples += 1
        if example.label in self.labels or len(self.labels) < limits.MAX_LABELS:
            self.labels[example.label] += 1
        self.splits[example.split] += 1
        self.characters += len(example.prompt) + len(example.answer)
        self.hashes.append(example.hash_number())
        self.digest.update(example.content_hash())
        if example.history:
            self.conversations += 1
            self.earlier_answers += sum(role == "assistant" for role, _ in example.history)

    def duplicates(self) -> int:
        """Examples that are equal to an earlier one."""
        return len(self.hashes) - len(np.unique(np.frombuffer(self.hashes, np.uint64)))


class _Import:
    """One import: its files are read one after the other, and what is found is written at once."""

    def __init__(
        self, paths: list[Path], folder: Path, roles: Roles | None, options: ImportOptions, progress: Progress
    ) -> None:
        self.paths, self.folder, self.given, self.options, self.progress = paths, folder, roles, options, progress
        self.roles, self.counts, self.tally = roles or Roles(), _Counts(), Tally()
        self.names = FileNames.of(paths)
        self.columns: list[str] = []
        self.used: set[str] = set()
        self.why: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self.files: list[SourceFile] = []
        self.reasons: list[Rejected] = []  # of the first rejected rows

    def run(self) -> CorpusManifest:
        """Write examples, then rejected rows, then the manifest."""
        with pa.OSFile(str(self.folder / EXAMPLES), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as out:
            for batch in _batched(self._examples(), BATCH_ROWS):
                out.write_batch(batch_of(batch))
        self._refuse_too_few()
        with (self.folder / REJECTED).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self.reasons)
        return self._manifest().write(self.folder)

    def _examples(self) -> Iterator[Example]:
        """Every usable row of every table of every file; the others are counted."""
        for number, path in enumerate(self.paths):
            self.progress.report(number / len(self.paths), f"Reading {path.name}")
            digest = ""
            for table in open_tables(path, ReadOptions.of(self.options)):
                digest = digest or file_hash(path)
                for item in self._items(table, path, digest):
                    if isinstance(item, Example):
                        self.counts.add(item)
                        yield item
                    else:
                        self._reject(item)

    def _items(self, table: Table, path: Path, digest: str) -> Iterator[Example | Rejected]:
        """The rows of one table as examples; how it is read is decided from the first ones."""
        head = list(islice(table.rows, LOOKED_AT))
        plan = plan_table(
            table, head, path.name, given=self.given, options=self.options, names=self.names, tally=self.tally
        )
        self._note(plan, table, path, digest)
        convert, source, number = plan.converter.convert, table.source, self.paths.index(path)
        for count, item in enumerate(chain(head, table.rows), 1):
            if isinstance(item, Rejected):
                self.tally.rows += 1
                yield Rejected(item.row, item.reason, source)
            else:
                yield from convert(item)
            if max(self.tally.rows, self.counts.examples) > limits.MAX_ROWS:
                raise CorpusError(
                    f"{path.name}: more than {limits.MAX_ROWS:,} rows came together. Split them into several corpora."
                )
            if count % BATCH_ROWS == 0:
                self._look_up(number)

    def _note(self, plan: Plan, table: Table, path: Path, digest: str) -> None:
        """Keep what was decided about a table."""
        size = size_on_disk(path)
        self.columns = list(dict.fromkeys([*self.columns, *plan.columns]))
        check_columns(self.columns, table.source)
        self.roles = plan.roles
        self.used |= set(plan.roles.columns())
        self.why = {**plan.guess.reasons, **self.why}
        self.notes |= dict.fromkeys(plan.notes)
        kept = {"name": table.source, "bytes": size, "format": table.format, "sha256": digest, "shape": plan.shape}
        self.files.append(SourceFile(**{**table.details, **kept}))

    def _reject(self, row: Rejected) -> None:
        self.counts.rejected += 1
        if len(self.reasons) < limits.MAX_REJECTED_KEPT:
            self.reasons.append(row)

    def _look_up(self, number: int) -> None:
        """Every ``BATCH_ROWS`` rows, usable or not: report, and stop where asked to or where the disk is full."""
        if shutil.disk_usage(self.folder).free < limits.SPARE_DISK_BYTES:
            raise CorpusError(
                f"The disk has no room for {self.paths[number].name}. Free some space and import it again."
            )
        self.progress.step(number / len(self.paths), f"{self.counts.examples:,} examples read", "The import")

    def _refuse_too_few(self) -> None:
        if self.counts.examples >= MIN_EXAMPLES:
            return
        names = ", ".join(path.name for path in self.paths)
        found = "one usable example" if self.counts.examples else "no usable example"
        reason = f" First refusal: {self.reasons[0].reason}" if self.reasons else ""
        if self.tally.marked_bad and not self.reasons:
            reason = f" {self.tally.marked_bad:,} rows are marked bad in `{self.roles.mark}`."
        raise CorpusError(f"{names}: {found}; a corpus needs at least {MIN_EXAMPLES}.{reason}")

    def _manifest(self) -> CorpusManifest:
        counts = self.counts
        return CorpusManifest(
            examples=counts.examples,
            rejected=counts.rejected,
            rejected_listed=len(self.reasons),
            format=" + ".join(sorted({file.format for file in self.files})),
            shape=self.roles.shape,
            roles=self.roles,
            columns=self.columns,
            unused=[column for column in self.columns if column not in self.used],
            reasons=self.why,
            notes=[*self.notes, *self._conversation_note()],
            options=self.options,
            counts=ImportCounts(**asdict(self.tally)),
            files=self.files,
            content_hash=counts.digest.hexdigest(),
            characters=counts.characters,
            duplicates=counts.duplicates(),
            labels=dict(counts.labels.most_common(MOST_LABELS_LISTED)) if set(counts.labels) != {""} else {},
            splits=dict(counts.splits) if set(counts.splits) != {""} else {},
        )

    def _conversation_note(self) -> list[str]:
        if not self.counts.earlier_answers:
            return []
        return [
            f"{self.counts.conversations:,} conversations hold {self.counts.earlier_answers:,} earlier answers: every "
            "answer is learnt, or only the last answer of each with `train.learn=last`."
        ]


def _batched(items: Iterator[Example], size: int) -> Iterator[list[Example]]:
    while batch := list(islice(items, size)):
        yield batch
