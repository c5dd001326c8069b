"""Archives and folders give the rows of their files; members that would leave the archive are refused by name."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hydralora import limits
from hydralora.corpus.formats import open_tables
from hydralora.corpus.rows import Row
from hydralora.errors import CorpusError
from hydralora.files import file_hash, size_on_disk
from tests.hydralora.office import xlsx

LINES = "".join(json.dumps({"question": f"Where is box {i}?", "answer": f"Hall {i}."}) + "\n" for i in range(3))
FILES = {"data/train.jsonl": LINES, "data/b.csv": "question,answer\nq,a\n", "README.md": "# About\n\nwords\n"}


def as_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def as_tar(path: Path, files: dict[str, str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(text.encode())
            archive.addfile(item, io.BytesIO(text.encode()))
    return path


def as_folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, "utf-8")
    return path


WRITERS: dict[str, Callable[[Path, dict[str, str]], Path]] = {
    "files.zip": as_zip,
    "files.tar": as_tar,
    "files.tar.gz": lambda path, files: as_tar(path, files, "w:gz"),
    "files.tgz": lambda path, files: as_tar(path, files, "w:gz"),
    "files.tar.xz": lambda path, files: as_tar(path, files, "w:xz"),
    "folder": as_folder,
}


def read(path: Path) -> dict[str, int]:
    """How many rows each table has, by its name."""
    return {table.source: sum(isinstance(row, Row) for row in table.rows) for table in open_tables(path)}


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_of_an_archive_is_a_table_and_notes_are_passed_over_and_told(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / name, FILES)
    assert read(path) == {f"{name}: data/b.csv": 1, f"{name}: data/train.jsonl": 3}
    assert next(open_tables(path)).details["passed_over"] == "README.md"


@pytest.mark.parametrize("name", WRITERS)
def test_what_systems_leave_behind_is_passed_over_and_told(name: str, tmp_path: Path) -> None:
    more = {"__MACOSX/data/._train.jsonl": "x", ".DS_Store": "x", "logo.png": "x", "LICENSE": "words", "none.csv": ""}
    path = WRITERS[name](tmp_path / name, FILES | more)
    assert len(read(path)) == 2
    told = next(open_tables(path)).details["passed_over"]
    assert sorted(told.split(", ")) == sorted([*more, "README.md"])


def test_a_note_alone_is_read(tmp_path: Path) -> None:
    assert read(as_zip(tmp_path / "a.zip", {"README.md": "# About\n\nwords\n"})) == {"a.zip: README.md": 1}


def test_files_without_known_endings_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    files = {"alt.atheism/49960": "First text.\n", "sci.space/59497": "Second text.\n"}
    assert read(as_zip(tmp_path / "news.zip", files)) == {
        "news.zip: alt.atheism/49960": 1,
        "news.zip: sci.space/59497": 1,
    }


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", lambda data: pa.compress(data, codec="zstd", asbytes=True)),
    ],
)
def test_a_packed_file_is_read_alone_and_in_an_archive(
    ending: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    if ending == ".zst":
        with pa.output_stream(tmp_path / "a.jsonl.zst", compression="zstd") as file:
            file.write(LINES.encode())
    else:
        (tmp_path / f"a.jsonl{ending}").write_bytes(pack(LINES.encode()))
    assert read(tmp_path / f"a.jsonl{ending}") == {f"a.jsonl{ending}": 3}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / f"a.jsonl{ending}", "a.jsonl" + ending)
    assert list(read(tmp_path / "a.zip").values()) == [3]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_that_ends_too_early_is_refused(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.x").write_bytes(pack(LINES.encode() * 50)[:-12])
    with pytest.raises(CorpusError, match=r"a.jsonl.x is a damaged \w+ file"):
        read(tmp_path / "a.jsonl.x")


def test_streams_of_xz_one_after_the_other_are_one_text(tmp_path: Path) -> None:
    half = lzma.compress(LINES.encode())
    (tmp_path / "a.jsonl.xz").write_bytes(half + b"\0" * 8 + half)
    assert read(tmp_path / "a.jsonl.xz") == {"a.jsonl.xz": 6}


def test_binary_formats_are_read_packed_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert read(tmp_path / "a.parquet.gz") == {"a.parquet.gz": 2}
    book = xlsx(tmp_path / "b.xlsx", {"one": [["q", "a"], ["x", "y"]], "two": [["q", "a"], ["x", "y"]]})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(book, "b.xlsx")
    assert read(tmp_path / "a.zip") == {"a.zip: b.xlsx: one": 1, "a.zip: b.xlsx: two": 1}


@pytest.mark.parametrize("name", ["../../evil.csv", "/etc/evil.csv", "C:\\evil.csv", "a\\..\\..\\evil.csv"])
@pytest.mark.parametrize("write", [as_zip, as_tar])
def test_a_member_that_leads_out_of_the_archive_is_refused_by_name(
    write: Callable[[Path, dict[str, str]], Path], name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.archive", {**FILES, name: "q,a\n"})
    with pytest.raises(CorpusError, match=r"a\.archive: .*evil\.csv leads out of the archive"):
        read(path)
    assert not list(tmp_path.parent.glob("evil.csv"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused_by_name(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        item = tarfile.TarInfo("odd.csv")
        item.type, item.linkname = kind, "/etc/passwd"
        archive.addfile(item)
    with pytest.raises(CorpusError, match=r"a.tar: odd.csv is a (link|device), which is never unpacked"):
        read(tmp_path / "a.tar")


def test_a_link_in_a_zip_is_refused_by_name(tmp_path: Path) -> None:
    item = zipfile.ZipInfo("odd.csv")
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(item, "/etc/passwd")
    with pytest.raises(CorpusError, match=r"a.zip: odd.csv is a link"):
        read(tmp_path / "a.zip")


def test_a_link_out_of_a_folder_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "set", {"a.csv": "q,a\nx,y\n"})
    (folder / "b.csv").symlink_to(folder / "a.csv")
    assert read(folder) == {"set: a.csv": 1, "set: b.csv": 1}
    (folder / "c.csv").symlink_to("/etc/passwd")
    with pytest.raises(CorpusError, match=r"set: c.csv is a link that leads out of it"):
        read(folder)


def test_an_archive_in_an_archive_is_refused_by_name(tmp_path: Path) -> None:
    inner = as_zip(tmp_path / "inner.zip", FILES)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "deep/inner.zip")
    with pytest.raises(CorpusError, match=r"outer.zip: deep/inner.zip is an archive inside of an archive"):
        read(tmp_path / "outer.zip")


def test_a_member_with_a_password_is_refused_by_name(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"secret.csv": "q,a\n"})
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorpusError, match=r"a.zip: secret.csv is protected by a password"):
        read(path)


def test_a_zip_bomb_is_refused_by_what_it_lists(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"a.csv": "q,a\n" * 2**24 * 2})
    with pytest.raises(CorpusError, match=r"a.zip would unpack to 128 MiB; at most 64 MiB are unpacked"):
        read(path)


def test_a_zip_bomb_that_lists_small_sizes_is_refused_by_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATIO_FLOOR", 10_000)
    path = as_zip(tmp_path / "a.zip", {"a.csv": "q,a\n" * 100_000})
    data = path.read_bytes()
    honest, lie = (400_000).to_bytes(4, "little"), (400).to_bytes(4, "little")
    path.write_bytes(data.replace(honest, lie))
    with pytest.raises(CorpusError, match=r"a.zip: a.csv is larger than"):
        read(path)


def test_more_members_than_are_looked_at_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 5)
    many = {f"{i}.csv": "q,a\n" for i in range(6)}
    for name, write in WRITERS.items():
        with pytest.raises(CorpusError, match=r"6 files; at most 5|more than 5 files"):
            read(write(tmp_path / name, many))


def test_a_huge_head_of_a_tar_is_not_read_into_memory(tmp_path: Path) -> None:
    item = tarfile.TarInfo("././@LongLink")
    item.type, item.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(item.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**30 + 2048)
    with pytest.raises(CorpusError, match=r"a.tar"):
        read(tmp_path / "a.tar")


def test_names_in_an_archive_are_shown_without_what_would_move_the_cursor(tmp_path: Path) -> None:
    (name,) = read(as_zip(tmp_path / "a.zip", {"x\x1b[2J\n" + "y" * 300 + ".csv": "q,a\nx,y\n"}))
    assert name.isprintable() and len(name) < 230


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "folder"])
def test_nothing_unpacked_is_left_behind(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    os.mkdir(tmp_path / "temp")
    path = WRITERS[name](tmp_path / name, FILES | {"z.json": "[1"})
    with pytest.raises(CorpusError, match=r"z.json: not valid JSON"):
        read(path)
    assert os.listdir(tmp_path / "temp") == []


def test_the_hash_of_a_folder_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    first, same, other = (as_folder(tmp_path / name, FILES) for name in ("first", "same", "other"))
    (other / "data" / "b.csv").rename(other / "data" / "c.csv")
    assert file_hash(first) == file_hash(same) != file_hash(other)
    assert size_on_disk(first) == sum(len(text.encode()) for text in FILES.values())


def save_to_disk(folder: Path, splits: dict[str, list[str]]) -> Path:
    """As `datasets` saves a data set with splits."""
    for split, texts in splits.items():
        (folder / split).mkdir(parents=True)
        table = pa.table({"text": texts})
        with pa.OSFile(str(folder / split / "data-00000-of-00001.arrow"), "wb") as sink:
            with pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)
        (folder / split / "state.json").write_text("{}")
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def test_a_saved_data_set_gives_its_rows_with_their_splits(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "set", {"train": ["a", "b"], "test": ["c"]})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    for place in (folder, tmp_path / "set.zip"):
        rows = [row for table in open_tables(place) for row in table.rows if isinstance(row, Row)]
        assert [(row.values["text"], row.split) for row in rows] == [
            ("c", "held_out"),
            ("a", "train"),
            ("b", "train"),
        ]


def test_arrow_files_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"] * 50, "n": range(100)})
    with pa.OSFile(str(tmp_path / "a.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    assert read(tmp_path / "a.feather") == {"a.feather": 100}
    data = (tmp_path / "a.feather").read_bytes()
    for number, damaged in enumerate([data[:200], data[:-20], data[:400] + b"\xff" * 64 + data[464:]]):
        (tmp_path / f"{number}.arrow").write_bytes(damaged)
        with pytest.raises(CorpusError) as error:
            read(tmp_path / f"{number}.arrow")
        assert f"{number}.arrow" in str(error.value) and "\n" not in str(error.value)


def test_packed_members_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATIO_FLOOR", 100_000)
    monkeypatch.setattr(limits, "MAX_RATIO", 1)
    lines = gzip.compress(b'{"text": "words"}\n' * 2_000)  # 36,000 bytes unpacked
    for count, name in ((2, "few.zip"), (3, "many.zip")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for number in range(count):
                archive.writestr(f"{number}.jsonl.gz", lines)
    assert sum(read(tmp_path / "few.zip").values()) == 4_000
    with pytest.raises(
        CorpusError, match=r"many.zip: 2.jsonl.gz and the packed files before it are larger than 100,000 b"
    ):
        read(tmp_path / "many.zip")


def test_an_archive_is_opened_once_for_all_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = zipfile.ZipFile.__init__

    def count(self: zipfile.ZipFile, *given: object, **named: object) -> None:
        opened.append(1)
        real(self, *given, **named)  # type: ignore[arg-type]

    few, many = (as_zip(tmp_path / f"{n}.zip", {f"{i}.csv": "q,a\nx,y\n" for i in range(n)}) for n in (2, 40))
    monkeypatch.setattr(zipfile.ZipFile, "__init__", count)
    read(few)
    before = len(opened)
    read(many)
    assert len(opened) == 2 * before


def test_a_tar_of_heads_that_name_the_next_head_is_one_sentence(tmp_path: Path) -> None:
    item = tarfile.TarInfo("././@LongLink")
    item.type, item.size = tarfile.GNUTYPE_LONGNAME, 5
    (tmp_path / "a.tar").write_bytes((item.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")) * 2_000)
    with pytest.raises(CorpusError, match=r"a.tar is a damaged tar file"):
        read(tmp_path / "a.tar")


def test_special_files_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "set", {"a.csv": "q,a\nx,y\n"})
    os.mkfifo(folder / "pipe")
    with pytest.raises(CorpusError, match=r"set: pipe is a device, which is never read. Take it out"):
        read(folder)


@pytest.mark.parametrize("target", ["nothing.csv", "loop.csv"])
def test_a_link_that_leads_nowhere_is_refused_by_name(target: str, tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "set", {"a.csv": "q,a\nx,y\n"})
    (folder / "loop.csv").symlink_to(folder / target)
    with pytest.raises(CorpusError, match=r"set: loop.csv is a link that leads nowhere. Take it out"):
        read(folder)


def test_a_link_to_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "set", {"in/a.csv": "q,a\nx,y\n"})
    (folder / "again").symlink_to(folder / "in")
    with pytest.raises(CorpusError, match=r"set: again is a link to a folder. Copy what it leads to"):
        read(folder)


RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2**30], pa.int32()), pa.array(["words"]))
UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["words"])])


@pytest.mark.parametrize("column", [RUNS, UNION, pa.StructArray.from_arrays([UNION], ["inner"])])
def test_columns_whose_size_cannot_be_told_are_refused_by_name(column: pa.Array, tmp_path: Path) -> None:
    batch = pa.record_batch([column], ["odd"])
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    with pytest.raises(CorpusError, match=r"a.arrow: the column 'odd' is run-end encoded or a union"):
        read(tmp_path / "a.arrow")
