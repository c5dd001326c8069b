"""What comes out of a file is bounded, whatever its size says: every bad file is one sentence in little memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hydralora import limits
from hydralora.adapters.files import gather
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.plan import LOOKED_AT
from hydralora.corpus.rows import Rejected
from hydralora.errors import AdapterError, CorpusError
from hydralora.progress import Progress
from tests.hydralora.office import docx, epub, pack, paragraph, xlsx
from tests.jobs.conftest import PROJECT
from tests.security.bombs import BOMBS

MIB = 2**20
FAR = '<worksheet><sheetData><row r="1"><c r="A1"/></row><row><c r="XFD1048576"/></row></sheetData></worksheet>'
MEMORY = 400 * MIB  # for each of them; the interpreter with Arrow takes 120 of it
READ_ALL = """
import json, os, resource, sys
from pathlib import Path
from hydralora.corpus.imports import import_corpus
from hydralora.progress import Progress


def read(path):
    try:
        return f"taken: {import_corpus([path], path.with_name('corpus')).examples}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]),) * 2)
said = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    here, there = os.pipe()
    if os.fork() == 0:  # each file in a process of its own, as jobs read them
        os.write(there, read(path).encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as answer:
        said[path.name] = answer.read().decode()
    os.wait()
print(json.dumps(said))
"""


def packed(head: bytes, piece: bytes, times: int) -> bytes:
    """Gzip members one after the other, which unpack to ``head`` and ``times`` pieces."""
    return gzip.compress(head) + gzip.compress(piece, 6) * times


def parquet(columns: dict[str, pa.Array], path: Path, **options: object) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd", **options)


def repeated(text: str, times: int) -> pa.Array:
    """One text that is kept once and stands in many rows."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


def arrow(columns: dict[str, pa.Array], path: Path) -> None:
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)


def zstd(path: Path, piece: bytes, times: int) -> None:
    with pa.output_stream(path, compression="zstd") as file:
        for _ in range(times):
            file.write(piece)


def wide_xz(data: bytes) -> bytes:
    """An xz file that asks for a dictionary of 1.5 GiB to unpack a few bytes."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**20}]
    packed = bytearray(lzma.compress(data, check=lzma.CHECK_NONE, filters=filters))
    place = packed.index(bytes([0x21, 0x01, 16]), 12)
    packed[place + 2] = 39  # of 40 sizes, the last but one
    begin, size = 12, (packed[12] + 1) * 4
    packed[begin + size - 4 : begin + size] = zlib.crc32(packed[begin : begin + size - 4]).to_bytes(4, "little")
    return bytes(packed)


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "bomb.csv.gz": (lambda p: p.write_bytes(packed(b"a,b\n", b"a,b\n" * 4 * MIB, 64)), "MiB unpacked, the limit"),
    "line.jsonl.gz": (lambda p: p.write_bytes(packed(b'{"text": "', b"a" * 16 * MIB, 64)), "MiB unpacked, the limit"),
    "twice.csv.gz": (lambda p: p.write_bytes(gzip.compress(packed(b"a,b\n", b"a,b\n" * MIB, 9))), "is packed twice"),
    "long.csv": (lambda p: sparse(p, 3 * 2**30), "holds 3,072 MiB, more than the 2,048 MiB"),
    "cells.parquet": (lambda p: parquet({"text": repeated("a" * 450_000, 1000)}, p), "larger than 64 MiB unpacked"),
    "rows.parquet": (lambda p: parquet({"text": repeated("a" * 90_000, 100_000)}, p), "larger than 64 MiB unpacked"),
    "prefixes.parquet": (  # each text is the one before and nothing more: the footer says 200 kB
        lambda p: parquet(
            {"text": pa.array(["a" * 200_000] * 2000)},
            p,
            use_dictionary=False,
            column_encoding={"text": "DELTA_BYTE_ARRAY"},
        ),
        "larger than 64 MiB unpacked",
    ),
    "cell.parquet": (lambda p: parquet({"text": pa.array(["a" * 100 * MIB])}, p), "larger than 64 MiB unpacked"),
    "list.parquet": (lambda p: parquet({"text": pa.array([["x"] * 10**6])}, p), "more than 100,000 values"),
    "nulls.parquet": (lambda p: parquet({"text": pa.nulls(20_000_000, pa.string())}, p), "20,000,000 rows; at most"),
    "columns.parquet": (lambda p: parquet({f"c{i}": pa.array(["a"]) for i in range(2000)}, p), "2,000 columns"),
    "name.parquet": (lambda p: parquet({"n" * 9 * MIB: pa.array(["a", "b"])}, p), "at most 8 MiB are read"),
    "word.parquet": (lambda p: parquet({"n" * 500: pa.array(["a", "b"])}, p), "a column name of 500 characters"),
    "pairs.json": (lambda p: p.write_bytes(b"[" + b"[]," * 15 * MIB + b"[]]"), "commas, colons and brackets"),
    "brackets.json": (lambda p: p.write_bytes(b"[" * 11 * MIB), "colons and brackets"),
    "deep.json": (lambda p: p.write_bytes(b"[" * 10**6), "nested too deeply"),
    "digits.json": (lambda p: p.write_bytes(b"[" + b"1" * 10**6 + b"]"), "a number has too many digits"),
    "keys.json": (lambda p: p.write_text(json.dumps([{f"k{i}": "v" for i in range(10**5)}] * 2)), "100,000 fields"),
    "line.jsonl": (
        lambda p: p.write_bytes(b'{"text": "' + b"a" * 48 * MIB + b'"}\n{"text": "b"}\n'),
        "Line 1 cannot be read",
    ),
    "header.csv": (lambda p: p.write_text(",".join("c" for _ in range(10**5)) + "\n1\n"), "100,000 columns"),
    "wide.csv": (lambda p: p.write_text(",".join(f"c{i}" for i in range(10**6)) + "\n1\n"), "4,194,304 characters"),
    "quote.csv": (lambda p: p.write_text('prompt,answer\na,"' + "x\n" * 16 * MIB), "4,194,304 characters"),
    "bomb.csv.bz2": (lambda p: p.write_bytes(bz2.compress(b"a,b\n" * MIB) * 20), "MiB unpacked, the limit"),
    "bomb.csv.xz": (lambda p: p.write_bytes(lzma.compress(b"a,b\n" * MIB, preset=0) * 20), "MiB unpacked, the limit"),
    "bomb.csv.zst": (lambda p: zstd(p, b"a,b\n" * MIB, 20), "MiB unpacked, the limit"),
    "window.csv.xz": (lambda p: p.write_bytes(wide_xz(b"a,b\n" * 9)), "is a damaged xz file"),
    "bomb.zip": (lambda p: pack(p, {"a.csv": b"a,b\n" * 20 * MIB}), "would unpack to 80 MiB"),
    "many.zip": (lambda p: pack(p, {f"{i}.csv": b"" for i in range(10_001)}), "lists 10,001 files"),
    "bomb.xlsx": (lambda p: xlsx(p, {"a": [["b"]]}, a=" " * 80 * MIB), "larger than 64 MiB"),
    "far.xlsx": (lambda p: xlsx(p, {"a": [["b"]]}, a=FAR), "spreads over 17,179,869,184 cells"),
    "bomb.docx": (lambda p: docx(p, paragraph("a" * 40 * MIB)), "is larger than 32 MiB"),
    "bomb.epub": (lambda p: epub(p, ["a" * 40 * MIB]), "is larger than 32 MiB"),
    "long.html": (lambda p: p.write_text("<html>" + "<p>a</p>" * 5 * MIB), "is one page of 40 MiB"),
    "deep.html": (lambda p: p.write_text("<html>" + "<b><i>" * 2**16), "more than 1,000 deep"),
    "cells.arrow": (lambda p: arrow({"text": repeated("a" * 450_000, 1000)}, p), "larger than 86 MiB unpacked"),
    "list.arrow": (lambda p: arrow({"text": pa.array([["x"] * 10**7])}, p), "take more than 256 MiB of memory"),
    "paragraph.txt": (lambda p: p.write_text("word\n" * 10 * MIB), "longer than 200,000 characters"),
    **BOMBS,
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process with little memory says of each bad file."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (write, _) in BAD.items():
        write(folder / name)
    (folder / "refused.csv").write_text("prompt,answer\na,b\nc,d\n" + "x\n" * 1_200_000)
    command = [sys.executable, "-c", READ_ALL, str(folder), str(MEMORY)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=200, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_would_become_too_much_is_one_sentence_in_little_memory(name: str, said: dict[str, str]) -> None:
    assert said[name].startswith(f"CorpusError: {name}") and BAD[name][1] in said[name]
    assert "\n" not in said[name] and len(said[name]) < 400


def test_rejected_rows_pass_through_and_do_not_pile_up(said: dict[str, str]) -> None:
    assert said["refused.csv"] == "taken: 2"


def test_many_blank_lines_are_no_long_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_CHARACTERS", 1000)
    (tmp_path / "q.csv").write_text("prompt,answer\n" + "\n" * 2000 + "a,b\nc,d\n")
    assert import_corpus([tmp_path / "q.csv"], tmp_path / "corpus").examples == 2


def test_a_small_file_that_packs_very_well_is_taken(tmp_path: Path) -> None:
    data = gzip.compress(b"prompt,answer\n" + b"the same question,the same answer\n" * 20_000)
    assert 20_000 * 34 > limits.MAX_RATIO * len(data)
    (tmp_path / "q.csv.gz").write_bytes(data)
    assert import_corpus([tmp_path / "q.csv.gz"], tmp_path / "corpus").examples == 20_000


def test_a_line_that_is_too_long_costs_only_itself(tmp_path: Path) -> None:
    long = json.dumps({"text": "a" * limits.MAX_ROW_CHARACTERS})
    (tmp_path / "q.jsonl").write_text('{"text": "a"}\n' + long + '\n{"text": "b"}\n')
    manifest = import_corpus([tmp_path / "q.jsonl"], tmp_path / "corpus")
    assert (manifest.examples, manifest.rejected) == (2, 1)
    assert Corpus(tmp_path / "corpus").rejected() == [
        Rejected(2, "Line 2 cannot be read: it is longer than 4,194,304 characters.", "q.jsonl")
    ]


def test_rejected_rows_are_all_counted_and_the_first_ones_listed(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("prompt,answer\na,b\nc,d\n" + "x\n" * 30_000)
    manifest = import_corpus([tmp_path / "q.csv"], tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert (manifest.rejected, corpus.manifest.rejected) == (30_000, 30_000)
    assert len(corpus.rejected()) == corpus.manifest.rejected_listed == limits.MAX_REJECTED_KEPT


def test_an_import_can_be_stopped_while_every_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("prompt,answer\n" + "a,b\n" * 60 + "x\n" * 10_000)
    asked: list[int] = []
    import_corpus(
        [tmp_path / "q.csv"], tmp_path / "corpus", progress=Progress(should_stop=lambda: bool(asked.append(1)))
    )
    assert len(asked) == 10


def test_more_rows_than_a_corpus_may_have_are_refused_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ROWS", 100)
    (tmp_path / "q.csv").write_text("prompt,answer\n" + "a,b\n" * 101)
    with pytest.raises(CorpusError, match=r"q.csv: more than 100 rows"):
        import_corpus([tmp_path / "q.csv"], tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["q.csv"]


def test_an_import_ends_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPARE_DISK_BYTES", 2**62)
    (tmp_path / "q.csv").write_text("prompt,answer\n" + "a,b\n" * 1000)
    with pytest.raises(CorpusError, match=r"The disk has no room for q.csv"):
        import_corpus([tmp_path / "q.csv"], tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["q.csv"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a", "n" * 201: 1}, "a column name of 201 characters"),
        ({"text": "a", "\ud800": 1}, "a broken character"),
        ({"prompt": "a", "answer": "b", "system": "\ud800"}, "broken character"),
        ({"text": "a", "label": "\ud800"}, "broken character"),
        ({"text": "a", "label": "l" * 1001}, "1,001 characters, which is no label"),
        ({"text": json.loads("[" * 65 + "]" * 65)}, "more than 64 deep"),
        ({"prompt": "a", "answer": "b", "history": [["c" * 100_000, "d" * 100_000]]}, "200,015 characters"),
    ],
)
def test_a_row_beyond_a_bound_is_refused_by_number(row: dict[str, object], words: str, tmp_path: Path) -> None:
    good = [{**{name: "x" for name in row if name.isidentifier() and len(name) < 9}, "history": []}] * LOOKED_AT
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(item) + "\n" for item in [*good, row]))
    manifest = import_corpus([tmp_path / "q.jsonl"], tmp_path / "corpus")
    assert (manifest.examples, manifest.rejected) == (LOOKED_AT, 1)
    (rejected,) = Corpus(tmp_path / "corpus").rejected()
    assert words in rejected.reason and f" {LOOKED_AT + 1}" in rejected.reason


def test_a_column_of_long_texts_is_not_guessed_to_be_the_label(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "b", "template": "long " * 300}] * 2
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = import_corpus([tmp_path / "q.jsonl"], tmp_path / "corpus")
    assert (manifest.examples, manifest.roles.label) == (2, "")


def test_only_so_many_different_labels_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LABELS", 3)
    (tmp_path / "q.csv").write_text("text,label\n" + "".join(f"text {i},kind {i}\n" for i in range(9)) + "x,kind 0\n")
    import_corpus([tmp_path / "q.csv"], tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").manifest.labels == {"kind 0": 2, "kind 1": 1, "kind 2": 1}


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "q.csv")
    with pytest.raises(CorpusError, match=r"q.csv is not a file"):
        import_corpus([tmp_path / "q.csv"], tmp_path / "corpus")


def test_odd_question_answering_is_refused_row_by_row(tmp_path: Path) -> None:
    odd = [{}, 5, {"qas": 7}, {"qas": [5, {"question": "Who?", "answers": 1}]}]
    data = {
        "data": [{"paragraphs": odd}, {"paragraphs": [{"qas": [{"question": "a", "answers": [{"text": "b"}]}] * 2}]}]
    }
    (tmp_path / "q.json").write_text(json.dumps(data))
    manifest = import_corpus([tmp_path / "q.json"], tmp_path / "corpus")
    assert (manifest.examples, manifest.rejected) == (2, 5)


def test_weights_that_unpack_to_far_more_than_they_were_packed_to_are_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_model.safetensors", bytes(65 * MIB))
    with pytest.raises(AdapterError, match=r"adapter_model.safetensors is larger than 64 MiB"):
        gather([tmp_path / "a.zip"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("entries", "words"), [(10_001, "lists 10,001 files"), (90_000, "in more than 4 MiB")])
def test_an_archive_of_very_many_files_is_refused(entries: int, words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(entries):
            archive.writestr(str(number), "")
    with pytest.raises(AdapterError, match=words):
        gather([tmp_path / "a.zip"], tmp_path / "out")
