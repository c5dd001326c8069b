"""Many files in one: zip, tar, or a folder. Names in it are shown and compared, never used as paths."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from hydralora import limits
from hydralora.corpus.packing import pieces_of, write_out
from hydralora.corpus.reading import Budget, Source, mebibytes, shown_name
from hydralora.corpus.rows import SPLIT_NAMES, name_some
from hydralora.corpus.zip_file import BoundedReads, member_pieces, open_zip, zip_kind
from hydralora.errors import CorpusError, first_line

TAR = b"ustar"  # at byte 257
NOTES = re.compile(
    r"(readme|licen[sc]e|copying|notice|authors|changelog|citation|source)([._-].*)?|"
    r"(dataset_infos?|dataset_dict|state)\.json|thumbs\.db|desktop\.ini|sha\d+sums.*|md5sums.*",
    re.IGNORECASE,
)
SAVED = "state.json"  # beside the tables of a data set that `datasets` saved
BAD_TAR = (tarfile.TarError, OSError, EOFError, ValueError, RecursionError)  # heads that follow heads


@dataclass(frozen=True)
class Member:
    """A file in an archive or folder: its name there, its size as listed, and what it is opened by."""

    name: str
    size: int
    place: zipfile.ZipInfo | tarfile.TarInfo | Path


@dataclass
class Contents:
    """What an archive holds: the members to read, and the names of those passed over with the reason."""

    members: list[Member] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def details(self) -> dict[str, str]:
        """What to tell of those passed over."""
        return {"passed_over": name_some(self.passed_over)} if self.passed_over else {}


def is_archive(source: Source, head: bytes) -> bool:
    """Whether a file is a zip of files, and no document, or a tar."""
    return head[257:262] == TAR or zip_kind(source, head) == "zip"


@contextmanager
def unpacked(source: Source, endings: Iterable[str]) -> Iterator[tuple[Contents, Iterator[Source]]]:
    """What an archive or folder holds, and its members as files, each there until the next one is asked for.

    Args:
        endings: Of names that are read; others are passed over where there are such.

    Raises:
        CorpusError: Naming a member that leads out of the archive, is a link or a device, or is too large.
    """
    with ExitStack() as stack:
        listed = _listed(source, stack)
        contents = _chosen(listed, tuple(endings))
        if not contents.members:
            raise CorpusError(f"{source.name} holds no files to read. Put files with rows into it.")
        yield contents, _sources(source, contents, stack)


def _listed(source: Source, stack: ExitStack) -> list[Member]:
    if source.path.is_dir():
        return list_folder(source.path, source.name)
    if _is_tar(source):
        members = _of_tar(source)
    else:
        with open_zip(source) as archive:
            items = [item for item in archive.infolist() if not item.is_dir()]
            members = [Member(_checked(item.filename, _zip_kind(item), source), item.file_size, item) for item in items]
    declared = sum(member.size for member in members)
    if declared > _most(source):
        raise CorpusError(
            f"{source.name} would unpack to {mebibytes(declared)}; at most {mebibytes(_most(source))} are unpacked for "
            f"an archive of its {source.size:,} bytes. Give its files in parts."
        )
    return members


def _is_tar(source: Source) -> bool:
    return source.head(512)[257:262] == TAR


def _most(source: Source) -> int:
    return min(limits.MAX_ARCHIVE_BYTES, max(limits.RATIO_FLOOR, limits.MAX_RATIO * source.size))


def _checked(name: str, kind: str, source: Source) -> str:
    """A member's name, where it stays inside and the member is a plain file."""
    fault = "" if kind == "file" else f"is {kind}, which is never unpacked"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        fault = "leads out of the archive"
    if fault:
        raise CorpusError(f"{source.name}: {shown_name(name)} {fault}. Pack it again without that.")
    return name


def _zip_kind(item: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(item.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    return "file" if kind in (0, stat.S_IFREG) else "a device"


def _of_tar(source: Source) -> list[Member]:
    members: list[Member] = []
    try:
        with BoundedReads(source.path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for count, item in enumerate(archive):
                if count >= limits.MAX_MEMBERS:
                    raise _too_many(source.name)
                kind = "a link" if item.issym() or item.islnk() else "file" if item.isfile() else "a device"
                if not item.isdir():
                    members.append(Member(_checked(item.name, kind, source), item.size, item))
    except CorpusError as error:
        raise error if str(error).startswith(source.name) else CorpusError(f"{source.name}: {error}") from error
    except BAD_TAR as error:
        raise CorpusError(f"{source.name} is a damaged tar file: {first_line(error)}. Pack it again.") from error
    return members


def list_folder(top: Path, shown_as: str) -> list[Member]:
    """The plain files below a folder, which messages call ``shown_as``.

    Raises:
        CorpusError: Where there are too many, or too much in them, or one is a device,
            a link to a folder, or one that leads out.
    """
    members: list[Member] = []
    base = top.resolve()
    for folder, below, files in os.walk(top):
        for name in [*below, *files]:
            path = Path(folder) / name
            shown = path.relative_to(top).as_posix()
            if path.is_symlink() and not path.exists():
                raise CorpusError(f"{shown_as}: {shown_name(shown)} is a link that leads nowhere. Take it out.")
            if path.is_symlink() and not path.resolve().is_relative_to(base):
                raise CorpusError(
                    f"{shown_as}: {shown_name(shown)} is a link that leads out of it. Copy what it leads to."
                )
            if name in below and path.is_symlink():
                raise CorpusError(f"{shown_as}: {shown_name(shown)} is a link to a folder. Copy what it leads to.")
            if name in files and not path.is_file():
                raise CorpusError(f"{shown_as}: {shown_name(shown)} is a device, which is never read. Take it out.")
            if name in files and path.is_file():
                members.append(Member(shown, path.stat().st_size, path))
            if len(members) > limits.MAX_MEMBERS:
                raise _too_many(shown_as)
    if sum(member.size for member in members) > limits.MAX_ARCHIVE_BYTES:
        raise CorpusError(f"{shown_as} holds more than {mebibytes(limits.MAX_ARCHIVE_BYTES)}. Give its files in parts.")
    return members


def _too_many(shown_as: str) -> CorpusError:
    return CorpusError(
        f"{shown_as} holds more than {limits.MAX_MEMBERS:,} files. Give those with rows, or pack them into one."
    )


def _chosen(listed: list[Member], endings: tuple[str, ...]) -> Contents:
    """Which members to read, in the order of their names."""
    contents = Contents()
    saved = {str(PurePosixPath(member.name).parent) for member in listed if PurePosixPath(member.name).name == SAVED}
    waiting: list[Member] = []
    for member in sorted(listed, key=lambda member: member.name):
        path = PurePosixPath(member.name)
        is_cache = path.name.startswith("cache-") and str(path.parent) in saved
        if any(part.startswith(".") or part == "__MACOSX" for part in path.parts) or is_cache:
            contents.passed_over.append(shown_name(member.name))
        elif member.size == 0 or NOTES.fullmatch(path.name):
            waiting.append(member)
        else:
            contents.members.append(member)
    known = [member for member in contents.members if member.name.lower().endswith(endings)]
    kept = known or contents.members or [member for member in waiting if member.size]
    places = {id(member) for member in kept}
    others = [*contents.members, *waiting]
    contents.passed_over += [shown_name(member.name) for member in others if id(member) not in places]
    contents.members = kept
    return contents


def saved_split(member: Source) -> str:
    """The split that the folder of a saved data set names; empty where there is none."""
    path = PurePosixPath(member.name)
    folder = path.parent.name.rpartition(": ")[2].lower()
    return SPLIT_NAMES.get(folder, "") if path.suffix == ".arrow" else ""


def _sources(source: Source, contents: Contents, stack: ExitStack) -> Iterator[Source]:
    if source.path.is_dir():
        packed = Budget(limits.MAX_ARCHIVE_BYTES)
        for member in contents.members:
            assert isinstance(member.place, Path)
            packed.begin_member()
            yield replace(source, path=member.place, name=_name(source, member), is_member=True, budget=packed)
        return
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hydra-unpacked-")))
    total, target, packed = 0, folder / "member", Budget(_most(source))
    pieces = _opened(source, stack)
    for member in contents.members:
        name = _name(source, member)
        total += write_out(pieces(member), target, name)
        if total > _most(source):
            raise CorpusError(f"{name} unpacks to more than {mebibytes(_most(source))}. Give its files in parts.")
        packed.begin_member()
        yield replace(source, path=target, name=name, is_member=True, budget=packed)


def _name(source: Source, member: Member) -> str:
    return f"{source.name}: {shown_name(member.name)}"


def _opened(source: Source, stack: ExitStack) -> Callable[[Member], Iterator[bytes]]:
    """A function for the bytes of each member of an archive, whose list was read before; it is opened once for all."""
    most = min(limits.MAX_BYTES, _most(source))
    file = stack.enter_context(BoundedReads(source.path))
    if _is_tar(source):
        tar = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))
        return lambda member: _tar_pieces(tar, member, source)
    archive = stack.enter_context(zipfile.ZipFile(file))  # type: ignore[type-var]
    return lambda member: member_pieces(archive, cast(zipfile.ZipInfo, member.place), source, most)


def _tar_pieces(archive: tarfile.TarFile, member: Member, source: Source) -> Iterator[bytes]:
    try:
        yield from pieces_of(_stream(archive, cast(tarfile.TarInfo, member.place)))
    except BAD_TAR as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{_name(source, member)} is damaged: {first_line(error)}. Pack it again.") from error


def _stream(archive: tarfile.TarFile, item: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(item)
    assert stream is not None  # a plain file, as was checked
    return stream
