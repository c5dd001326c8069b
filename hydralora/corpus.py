"""A corpus: examples of one dataset, imported from files once and read at random ever after.

An imported corpus is a folder: ``examples.arrow`` (Arrow IPC, memory-mapped, batches of
``BATCH_ROWS`` rows), ``rejected.jsonl`` (the rows that were refused, with reasons) and
``corpus.json`` (the manifest, written last). The folder appears under its name only when
complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from hydralora.errors import CorpusError, StoppedError
from hydralora.formats import MAX_CHARACTERS, SPLIT_NAMES, Rejected, Row, Table, open_table

BATCH_ROWS = 1_000
MIN_EXAMPLES = 2
MAX_REJECTED_KEPT = 10_000  # listed one by one; beyond, only counted

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [("prompt", pa.string()), ("answer", pa.string()), ("system", pa.string()),
     ("history", pa.list_(TURN)), ("label", pa.string()), ("split", pa.string()),
     ("row", pa.int64()), ("source", pa.string())]
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One prompt with its answer.

    Plain text has an empty prompt and the text as its answer. ``history`` holds the earlier
    ``(role, content)`` turns of a conversation, ``label`` what the corpus calls its kind (never
    trained on), ``split`` is ``""``, ``"train"`` or ``"held_out"``, ``row`` and ``source`` say
    where it came from.
    """

    prompt: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    label: str = ""
    split: str = ""
    row: int = 0
    source: str = ""

    def text(self) -> str:
        """Prompt and answer as one text: what clusters are made of."""
        return f"{self.prompt}\n{self.answer}".strip()

    def content_hash(self) -> bytes:
        """SHA-256 of everything that is trained on; equal examples have equal hashes."""
        turns = [self.system, *(part for turn in self.history for part in turn)]
        return hashlib.sha256("\x1f".join([*turns, self.prompt, self.answer]).encode()).digest()


@dataclass(frozen=True)
class Roles:
    """Which column plays which part. ``prompt`` may name several columns, joined by newlines."""

    prompt: tuple[str, ...] = ()
    answer: str = ""
    text: str = ""
    messages: str = ""
    system: str = ""
    history: str = ""
    label: str = ""
    split: str = ""

    @property
    def shape(self) -> str:
        """What an example is made of: ``messages``, ``question and answer`` or ``plain text``."""
        if self.messages:
            return "messages"
        return "question and answer" if self.prompt and self.answer else "plain text"


@dataclass
class CorpusReport:
    """What came of an import."""

    examples: int = 0
    rejected: int = 0
    format: str = ""
    roles: Roles = field(default_factory=Roles)
    columns: list[str] = field(default_factory=list)
    reasons: list[Rejected] = field(default_factory=list)


MESSAGES = ("messages", "chosen messages", "conversations", "conversation", "dialogue", "dialog", "turns")
PROMPTS = ("instruction", "prompt", "question", "query", "problem", "inputs", "user", "source")
EXTRAS = ("input", "context", "contexts", "passage", "options")
ANSWERS = ("output", "response", "answer", "completion", "target", "targets", "chosen", "reply",
           "long answer", "canonical solution", "solution", "code", "summary", "assistant")  # fmt: skip
TEXTS = ("text", "content", "document", "story", "body", "message", "sentence", "v2", "sms")
LABELS = ("label", "task", "kind", "category", "topic", "template", "subject", "class", "type",
          "top", "domain", "v1")  # fmt: skip
SPLITS = ("split", "partition", "subset")


def detect_roles(columns: list[str], rows: list[dict[str, Any]], has_header: bool = True) -> Roles:
    """Guess the roles from the columns' names and the first rows.

    Raises:
        CorpusError: When no column can be an example's text; the columns are named.
    """
    by_name = {column.strip().lower().replace("_", " "): column for column in reversed(columns)}

    def first(names: Iterable[str], *taken: str) -> str:
        return next((by_name[n] for n in names if n in by_name and by_name[n] not in taken), "")

    messages = first(MESSAGES)
    if messages and any(isinstance(row.get(messages), list) for row in rows):
        return Roles(messages=messages, answer=first(("chosen",)), system=first(("system",)),
                     label=_label(first(LABELS), rows), split=first(SPLITS))  # fmt: skip
    strings = [c for c in columns if any(isinstance(row.get(c), str) and row[c] for row in rows)]
    answer = first(ANSWERS)
    prompt = first(PROMPTS, answer)
    extra = first(EXTRAS, answer)
    if answer and not prompt:
        prompt, extra = (extra, "") if extra else (first(TEXTS, answer), "")
    text = "" if prompt and answer else first(TEXTS)
    common: dict[str, Any] = {"label": first(LABELS, prompt, answer, text, extra), "split": first(SPLITS)}
    if prompt and answer:
        return Roles(prompt=tuple(c for c in (prompt, extra) if c), answer=answer,
                     system=first(("system", "system prompt")),
                     history=first(("history",)), **common)  # fmt: skip
    if text:
        return Roles(text=text, **common)
    if not has_header and len(columns) == 2 and len({row.get(columns[0]) for row in rows}) <= 8:
        return Roles(text=columns[1], label=columns[0])
    if not has_header and len(columns) > 1:
        last = 2 if len(columns) <= 3 else len(columns)
        return Roles(prompt=tuple(columns[: last - 1]), answer=columns[last - 1])
    free = [c for c in strings if c not in common.values()]
    if len(free) == 2:
        return Roles(prompt=(free[0],), answer=free[1], **common)
    if len(free) == 1:
        return Roles(text=free[0], **common)
    raise CorpusError(
        f"No column looks like a question, an answer or a text; found: {', '.join(columns) or 'none'}. "
        "Say which column is the prompt and which the answer."
    )


def _label(column: str, rows: list[dict[str, Any]]) -> str:
    return column if any(isinstance(row.get(column), str) for row in rows) else ""


def _text_of(value: Any) -> str:
    """A cell as text: lists of texts are joined by newlines, objects are written as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").strip()
    if isinstance(value, bytes):
        raise CorpusError("holds bytes, not text")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        return value["value"]
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


ROLE_NAMES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
              "model": "assistant", "bot": "assistant", "system": "system",
              "function_call": "assistant", "observation": "user", "tool": "user",
              "function": "user"}  # fmt: skip


def example_from_row(row: Row, roles: Roles, source: str = "") -> Example | Rejected:
    """One example, or the sentence that says why this row cannot be one."""
    try:
        missing = [c for c in (*roles.prompt, roles.answer, roles.text, roles.messages)
                   if c and c not in row.values]  # fmt: skip
        if missing and not (roles.messages and missing == [roles.answer]):
            return _rejected(row, source, f"`{missing[0]}` is missing")
        example = (_from_messages if roles.messages else _from_columns)(row, roles, source)
        example.text().encode()
    except CorpusError as error:
        return _rejected(row, source, str(error))
    except UnicodeEncodeError:
        return _rejected(row, source, "it holds a broken character (half of a pair)")
    if len(example.prompt) + len(example.answer) > MAX_CHARACTERS:
        length = len(example.prompt) + len(example.answer)
        return _rejected(row, source, f"{length:,} characters are too long; the limit is {MAX_CHARACTERS:,}")
    return example


def _rejected(row: Row, source: str, why: str) -> Rejected:
    return Rejected(row.number, f"Row {row.number}: {why}.", source)


def _from_columns(row: Row, roles: Roles, source: str) -> Example:
    values = row.values
    if roles.text:
        prompt, answer = "", _text_of(values[roles.text])
    else:
        prompt = "\n".join(filter(None, (_text_of(values[c]) for c in roles.prompt)))
        answer = _text_of(values[roles.answer])
        if not prompt:
            raise CorpusError(f"`{roles.prompt[0]}` is empty")
    if not answer:
        raise CorpusError(f"`{roles.text or roles.answer}` is empty")
    history = values.get(roles.history) if roles.history else None
    turns = [turn for pair in history if isinstance(pair, list) and len(pair) == 2
             for turn in (("user", _text_of(pair[0])), ("assistant", _text_of(pair[1])))
             ] if isinstance(history, list) else []  # fmt: skip
    return _finish(row, roles, source, prompt, answer, _text_of(values.get(roles.system)), turns)


def _from_messages(row: Row, roles: Roles, source: str) -> Example:
    messages = row.values[roles.messages]
    if not isinstance(messages, list) or not messages:
        raise CorpusError(f"`{roles.messages}` is not a list of messages")
    system = _text_of(row.values.get(roles.system)) if roles.system else ""
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, content = _message(message, roles.messages)
        if role == "system":
            system = f"{system}\n{content}".strip()
        else:
            turns.append((role, content))
    if roles.answer and turns and turns[-1][0] == "user" and row.values.get(roles.answer):
        turns.append(("assistant", _text_of(row.values[roles.answer])))
    while turns and turns[-1][0] != "assistant":
        turns.pop()
    if len(turns) < 2 or turns[-2][0] != "user":
        raise CorpusError(f"`{roles.messages}` holds no user message followed by an answer")
    if not turns[-1][1] or not turns[-2][1]:
        raise CorpusError(f"`{roles.messages}` ends with an empty message")
    return _finish(row, roles, source, turns[-2][1], turns[-1][1], system, turns[:-2])


def _message(message: Any, column: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise CorpusError(f"`{column}` holds something that is not a message")
    name = str(message.get("role", message.get("from", "")))
    role = ROLE_NAMES.get(name.lower())
    if role is None:
        raise CorpusError(f"`{column}` has a message with the unknown role '{name[:40]}'")
    content = message.get("content", message.get("value"))
    if content is None and message.get("tool_calls"):
        content = message["tool_calls"]
    if isinstance(content, list):  # parts, as multi-modal chats write them; text parts are kept
        texts = [part.get("text", part.get("value")) for part in content if isinstance(part, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return role, _text_of(content)


def _finish(
    row: Row, roles: Roles, source: str, prompt: str, answer: str, system: str,
    turns: list[tuple[str, str]],
) -> Example:  # fmt: skip
    split = row.split or SPLIT_NAMES.get(_text_of(row.values.get(roles.split)).lower(), "")
    label = _text_of(row.values.get(roles.label)) if roles.label else ""
    return Example(prompt, answer, system, tuple(turns), label, split, row.number, source)


def import_corpus(
    paths: list[Path],
    folder: Path,
    *,
    roles: Roles | None = None,
    report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CorpusReport:
    """Read ``paths`` into one corpus at ``folder``, which appears only when complete.

    Raises:
        CorpusError: When a file cannot be read at all or fewer than two examples are left.
        StoppedError: When ``should_stop`` says so; nothing is kept.
    """
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        result = _write(paths, aside, roles, report, should_stop)
        shutil.rmtree(folder, ignore_errors=True)  # an earlier import with other roles
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return result


def _write(paths, folder, roles, report, should_stop) -> CorpusReport:  # type: ignore[no-untyped-def]
    result, files = CorpusReport(roles=roles or Roles()), []
    labels, splits, hashes = Counter[str](), Counter[str](), set[bytes]()
    characters = 0
    digest = hashlib.sha256()
    with pa.OSFile(str(folder / "examples.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as out:
        batch: list[dict[str, Any]] = []
        for number, path in enumerate(paths):
            table = open_table(path)
            files.append({"name": path.name, "bytes": path.stat().st_size, "format": table.format,
                          "sha256": _file_hash(path), **table.details})  # fmt: skip
            report(number / len(paths), f"Reading {path.name}")
            for item in _examples(table, path.name, result, roles):
                if isinstance(item, Rejected):
                    result.rejected += 1
                    if len(result.reasons) < MAX_REJECTED_KEPT:
                        result.reasons.append(item)
                    continue
                result.examples += 1
                labels[item.label] += 1
                splits[item.split] += 1
                characters += len(item.prompt) + len(item.answer)
                content = item.content_hash()
                hashes.add(content)
                digest.update(content)
                batch.append(_arrow_row(item))
                if len(batch) == BATCH_ROWS:
                    out.write_batch(pa.RecordBatch.from_pylist(batch, SCHEMA))
                    batch = []
                    if should_stop():
                        raise StoppedError("The import was stopped; nothing was kept.")
                    report(number / len(paths), f"{result.examples:,} examples read")
        if batch:
            out.write_batch(pa.RecordBatch.from_pylist(batch, SCHEMA))
    _refuse_too_few(result, paths)
    result.format = " + ".join(sorted({str(file["format"]) for file in files}))
    with (folder / "rejected.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in result.reasons)
    manifest = {
        "examples": result.examples, "rejected": result.rejected, "format": result.format,
        "shape": result.roles.shape, "roles": asdict(result.roles), "columns": result.columns,
        "files": files, "content_hash": digest.hexdigest(), "characters": characters,
        "duplicates": result.examples - len(hashes),
        "labels": dict(labels.most_common(200)) if set(labels) != {""} else {},
        "splits": dict(splits) if set(splits) != {""} else {},
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1), "utf-8")
    return result


def _examples(table: Table, source: str, result: CorpusReport, roles: Roles | None) -> Iterator[Example | Rejected]:
    """Examples of one opened file; its roles are guessed from the first rows unless given."""
    head: list[Row | Rejected] = []
    for item in table.rows:
        head.append(item)
        if len(head) == 50:
            break
    rows = [item for item in head if isinstance(item, Row)]
    if not rows and not head:
        raise CorpusError(f"{source} holds a header but no rows. Add rows below it.")
    if not rows:
        raise CorpusError(f"{source}: no row can be read. {head[0].reason}")  # type: ignore[union-attr]
    columns = table.columns or list(dict.fromkeys(key for row in rows for key in row.values))
    chosen = roles or detect_roles(columns, [row.values for row in rows], table.has_header)
    unknown = [c for c in _role_columns(chosen) if c not in columns]
    if unknown and roles is not None:
        raise CorpusError(f"{source} has no column `{unknown[0]}`; it has: {', '.join(columns)}. Correct the roles.")
    result.roles = chosen
    result.columns = list(dict.fromkeys([*result.columns, *columns]))
    for item in (*head, *table.rows):
        if isinstance(item, Rejected):
            yield Rejected(item.row, item.reason, source)
        else:
            yield example_from_row(item, chosen, source)


def _role_columns(roles: Roles) -> list[str]:
    named = [roles.answer, roles.text, roles.messages, roles.system, roles.history, roles.label,
             roles.split]  # fmt: skip
    return [column for column in (*roles.prompt, *named) if column]


def _refuse_too_few(result: CorpusReport, paths: list[Path]) -> None:
    if result.examples >= MIN_EXAMPLES:
        return
    names = ", ".join(path.name for path in paths)
    found = "one usable example" if result.examples else "no usable example"
    reason = f" First refusal: {result.reasons[0].reason}" if result.reasons else ""
    raise CorpusError(f"{names}: {found}; a corpus needs at least {MIN_EXAMPLES}.{reason}")


def _arrow_row(example: Example) -> dict[str, Any]:
    values = {name: getattr(example, name) for name in SCHEMA.names}
    values["history"] = [{"role": role, "content": content} for role, content in example.history]
    return values


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Corpus:
    """An imported corpus, read from its folder without loading it whole.

    ``len(corpus)``, ``corpus.page(offset, limit)`` and ``corpus.take(ids)`` give examples;
    ids are positions ``0..len-1``. The file is memory-mapped, so a page costs the rows on it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "corpus.json"
        if not path.exists():
            raise CorpusError(f"No corpus is kept at {folder.name}. Import it again.")
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self._reader = pa.ipc.open_file(pa.memory_map(str(folder / "examples.arrow")))

    def __len__(self) -> int:
        return int(self.manifest["examples"])

    def page(self, offset: int, limit: int) -> list[Example]:
        """Examples ``offset .. offset + limit``, fewer at the end."""
        return self.take(range(max(offset, 0), min(offset + limit, len(self))))

    def take(self, ids: Iterable[int]) -> list[Example]:
        """The examples at these positions, in the order given."""
        found, batches = [], {}
        for position in ids:
            if not 0 <= position < len(self):
                raise CorpusError(f"Example {position} is outside this corpus of {len(self):,}.")
            number, place = divmod(position, BATCH_ROWS)
            if number not in batches:
                batches[number] = self._reader.get_batch(number)
            found.append(_example_at(batches[number], place))
        return found

    def __iter__(self) -> Iterator[Example]:
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            for place in range(batch.num_rows):
                yield _example_at(batch, place)

    def rejected(self) -> list[Rejected]:
        """The refused rows that were listed, in file order."""
        lines = (self.folder / "rejected.jsonl").read_text("utf-8").splitlines()
        return [Rejected(**json.loads(line)) for line in lines]


def _example_at(batch: pa.RecordBatch, place: int) -> Example:
    values = {name: batch.column(i)[place].as_py() for i, name in enumerate(SCHEMA.names)}
    values["history"] = tuple((turn["role"], turn["content"]) for turn in values["history"])
    return Example(**values)


def split_examples(corpus: Corpus, held_out_fraction: float) -> tuple[list[int], list[int]]:
    """Positions to train on and positions held out.

    A corpus with its own split keeps it. Otherwise an example is held out when the first eight
    bytes of its content hash, read as a share of the whole range, fall below the fraction; so
    equal examples stay on one side and the same corpus always splits the same way.
    """
    train: list[int] = []
    held_out: list[int] = []
    own_split = "held_out" in corpus.manifest["splits"]
    for position, example in enumerate(corpus):
        share = int.from_bytes(example.content_hash()[:8]) / 2**64
        is_held_out = example.split == "held_out" if own_split else share < held_out_fraction
        (held_out if is_held_out else train).append(position)
    if not train:
        raise CorpusError("Every example is held out. Lower `held_out_fraction`.")
    return train, held_out
