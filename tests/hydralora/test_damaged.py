"""A file that was damaged anywhere gives rows or one plain sentence, whatever its format; the process lives on."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from hydralora.corpus.formats import open_tables
from hydralora.errors import CorpusError
from tests.hydralora.office import docx, epub, ods, paragraph, pdf, table, xlsx
from tests.hydralora.test_archives import FILES, as_tar, as_zip

CELLS = [["q", "a"], ["Where?", "Here."], ["When?", "Now."]]
TIMES = 60  # a file is damaged in different places


def arrow(path: Path) -> Path:
    rows = pa.table({"text": ["a", None, "ccc"] * 9, "list": [[{"role": "user"}], [], None] * 9, "n": range(27)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as out:
        out.write_table(rows)
    return path


def packed(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "a.xlsx": lambda path: xlsx(path, {"one": list(CELLS)}),
    "a.ods": lambda path: ods(path, {"one": list(CELLS)}),
    "a.docx": lambda path: docx(path, paragraph("Kasse", "berschrift1") + paragraph("Text") + table(CELLS)),
    "a.epub": lambda path: epub(path, ["<html><body><h1>One</h1><p>Text</p></body></html>"]),
    "a.pdf": lambda path: pdf(path, ["Where is the ladder?", "In hall 3."]),
    "a.zip": lambda path: as_zip(path, FILES),
    "a.tar": lambda path: as_tar(path, FILES),
    "a.arrow": arrow,
    "a.jsonl.gz": lambda path: packed(path, gzip.compress(FILES["data/train.jsonl"].encode())),
    "a.jsonl.xz": lambda path: packed(path, lzma.compress(FILES["data/train.jsonl"].encode())),
    "a.html": lambda path: packed(path, b"<html><body><table><tr><td>a<td>b</table><p>text</body></html>"),
    "a.csv": lambda path: packed(path, 'q;a\n"Wo?";"Köln, ""dort"""\n'.encode("cp1252") * 9),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_damaged_anywhere_is_rows_or_one_sentence(name: str, tmp_path: Path) -> None:
    whole = WRITERS[name](tmp_path / name).read_bytes()
    chance = Random(name)
    for _ in range(TIMES):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / name).write_bytes(data[: chance.choice([len(data), chance.randrange(1, len(data))])])
        try:
            for each in open_tables(tmp_path / name):
                list(each.rows)
        except CorpusError as error:
            assert name in str(error) and "\n" not in str(error) and str(error).endswith(".")
