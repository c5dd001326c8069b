"""The SQLite file of a home: looked at before anything is written, and copied aside before it is migrated.

Looking takes no lock and leaves no trace: a damaged file, somebody else's or one of a newer studio is refused while
everything in the folder is still as it was.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from hydralora.errors import UserError, first_line

NAME = "studio.db"
VERSIONS = Path(__file__).parent / "store" / "migrations" / "versions"
COPIES_KEPT = 3
NOW = "((julianday('now') - 2440587.5) * 86400.0)"  # in SQL, seconds since 1970
COPY = re.compile(r".+-before-\w+\.db(\.part)?")
HEADER = b"SQLite format 3\0"
HEADER_BYTES = 100
OTHER_FOLDER = "choose another folder with --home or HYDRA_STUDIO_HOME"
PUT_BACK = f"Put a copy of it back (one made before an upgrade is called studio-before-….db), or {OTHER_FOLDER}."


def check_database(path: Path, *, used: bool) -> None:
    """Refuse a database file that cannot be this studio's; nothing is changed or created.

    Args:
        path: The file; it may not be there yet.
        used: Whether the folder beside it holds corpora or runs already, so that it must have rows.

    Raises:
        UserError: When it is gone, cut short, damaged, somebody else's, or of a newer version.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        size = 0
    except OSError as error:
        raise UserError(f"The database {path} cannot be read ({error.strerror}). {PUT_BACK}") from error
    if size == 0:
        if used:
            raise UserError(f"The database {path} is gone or empty, while its folder holds corpora or runs. {PUT_BACK}")
        return
    if _is_being_written(path):
        return  # somebody has it open, so it can be opened; a look past their log could see half of it
    _check_whole(path, size)
    _check_revision(path)


def _is_being_written(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _check_whole(path: Path, size: int) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(f"The database {path} cannot be read ({error.strerror}). {PUT_BACK}") from error
    if not header.startswith(HEADER[: len(header)]):
        raise _not_ours(path)
    if len(header) < HEADER_BYTES:
        raise UserError(f"The database {path} is damaged: it has only {size:,} bytes. {PUT_BACK}")
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    wanted = (65_536 if page == 1 else page) * pages
    if size < wanted:
        raise UserError(f"The database {path} is damaged: it has {size:,} bytes of {wanted:,}. {PUT_BACK}")


def _check_revision(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            ours = "alembic_version" in tables
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall() if ours else []
    except sqlite3.Error as error:
        if _is_being_written(path):
            return
        raise UserError(f"The database {path} is damaged: {first_line(error)}. {PUT_BACK}") from error
    if tables and not ours:
        raise _not_ours(path)
    for (revision,) in rows:
        if revision not in known_revisions():
            raise UserError(
                f"The database {path} was made by a newer version of the studio. Update the studio, or {OTHER_FOLDER}."
            )


def _not_ours(path: Path) -> UserError:
    return UserError(
        f"The file {path} cannot be opened: it is not a database of the studio. Move it away, or {OTHER_FOLDER}."
    )


def known_revisions() -> set[str]:
    """Every revision of the database that this studio knows, by the files of its migrations."""
    return {file.stem.partition("_")[0] for file in VERSIONS.glob("[0-9]*.py")}


def copy_aside(path: Path, revision: str) -> Path:
    """Copy a database to ``<stem>-before-<revision>.db`` beside it, whole or not at all; the newest few are kept.

    The caller holds the write lock, so that nothing is written meanwhile and nobody else copies.

    Raises:
        UserError: When there is no space or no permission for the copy.
    """
    copy = path.with_name(f"{path.stem}-before-{revision}.db")
    part = copy.with_name(copy.name + ".part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(part)) as target:
            source.backup(target)
        _sync(part)
        os.replace(part, copy)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):  # what stands in the way may be the part itself
            part.unlink(missing_ok=True)
        raise UserError(
            f"The database {path} must be changed for this version of the studio, and no copy of it could be made "
            f"first ({getattr(error, 'strerror', None) or first_line(error)}); nothing was changed. See that "
            f"{path.stat().st_size:,} bytes can be written beside it, and try again."
        ) from error
    _remove_old_copies(path, copy)
    return copy


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove_old_copies(path: Path, newest: Path) -> None:
    copies = [file for file in path.parent.glob(f"{path.stem}-before-*.db") if COPY.fullmatch(file.name)]
    old = sorted((file for file in copies if file != newest), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in old[COPIES_KEPT - 1 :]:
        file.unlink(missing_ok=True)
