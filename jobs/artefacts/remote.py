"""One artefact store: what is written there, and in which order.

An artefact is a folder of a home under its place there (`runs/7/adapter`). Its files lie under `PLACE/data/SHA256`, so
a file is never written over; `PLACE/manifest.json` names them with sizes and hashes, and is put there last, in one
piece: that is the commit. What was sent without it is nothing yet, and is used by the next try.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import uuid4

from hydralora.files import file_hash
from jobs.artefacts.address import StoreError

log = logging.getLogger(__name__)
MANIFEST, DATA = "manifest.json", "data"
Seen = dict[str, list[Any]]  # of each file of a folder: size, time of change in ns, SHA-256
PROBE = "probe"  # written, read and deleted to see whether a store can be used
VERSION = 1  # of a manifest
BUCKETS = frozenset({"s3", "gs", "abfs", "oci", "oss"})  # file systems of fsspec whose folders are names only


class Stored(NamedTuple):
    """One file of an artefact: bytes, and SHA-256 as 64 hex digits."""

    size: int
    sha256: str


class Manifest(NamedTuple):
    """The files of an artefact by their names in its folder."""

    files: dict[str, Stored]

    @property
    def mark(self) -> str:
        """SHA-256 over all names and hashes: two that are equal are of equal folders."""
        lines = (f"{name}\0{file.sha256}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class Remote:
    """The store at an address without secrets; credentials come from the environment, as its file system reads them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def check(self) -> None:
        """Write, read and delete a small file.

        Raises:
            StoreError: When one of these cannot be done, or the package of the file system is not installed.
        """
        place, value = f"{PROBE}-{uuid4().hex}", uuid4().bytes
        with self._asked():
            self._make()
            self._fs.pipe_file(self._at(place), value)
            is_same = self._fs.cat_file(self._at(place)) == value
            self._fs.rm_file(self._at(place))
        if not is_same:
            raise StoreError(f"The artefact store {self.url} did not give back what was written. Choose another.")

    def manifest(self, key: str) -> Manifest | None:
        """What an artefact holds; None where it was never committed.

        Raises:
            StoreError: When the store cannot be asked, or the manifest is damaged.
        """
        with self._asked():
            try:
                data = self._fs.cat_file(self._at(key, MANIFEST))
            except FileNotFoundError:
                return None
        return _parsed(data, f"{self.url}/{key}/{MANIFEST}")

    def send(self, key: str, folder: Path, manifest: Manifest, seen: Seen) -> None:
        """Copy the files that are not there yet; this commits nothing.

        Args:
            seen: Size and time of change of each file when it was hashed.

        Raises:
            StoreError: When the store does not take them, or a file has changed meanwhile.
            FileNotFoundError: When a file has gone from the folder meanwhile.
        """
        with self._asked():
            there = self._sizes(key)
        for name, file in manifest.files.items():
            if there.get(file.sha256) == file.size:
                continue
            (folder / name).stat()  # of ours that has gone, which is no fault of the store
            with self._asked():
                self._make(key, DATA)
                self._fs.put_file(str(folder / name), self._at(key, DATA, file.sha256))
            if (folder / name).stat().st_mtime_ns != seen[name][1] or (folder / name).stat().st_size != file.size:
                with self._asked():
                    self._fs.rm_file(self._at(key, DATA, file.sha256))
                raise StoreError(f"{name} of {key} was written while it was sent; it is sent again.")
            there[file.sha256] = file.size

    def commit(self, key: str, manifest: Manifest) -> None:
        """Put the manifest in its place; from now on everybody sees the artefact so.

        Raises:
            StoreError: When the store does not take it.
        """
        files = {name: {"size": file.size, "sha256": file.sha256} for name, file in sorted(manifest.files.items())}
        data = json.dumps({"version": VERSION, "files": files}, indent=1).encode()
        aside = self._at(key, f"{MANIFEST}.{uuid4().hex}")
        with self._asked():
            self._make(key)
            self._fs.pipe_file(aside, data)
            self._fs.mv(aside, self._at(key, MANIFEST))

    def get(self, key: str, name: str, file: Stored, place: Path) -> None:
        """Fetch one file of an artefact to ``place``.

        Raises:
            StoreError: When the store cannot be asked, or the file is missing there or not what the manifest says.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._asked():
            try:
                self._fs.get_file(self._at(key, DATA, file.sha256), str(place))
            except FileNotFoundError:
                raise StoreError(
                    f"{name} of {key} is missing in the artefact store {self.url}. `python -m studio artefacts send` "
                    "on the machine that made it sends it again."
                ) from None
        if place.stat().st_size != file.size or file_hash(place) != file.sha256:
            place.unlink()
            raise StoreError(
                f"{name} of {key} is damaged in the artefact store {self.url}: it is not what its manifest says. "
                "`python -m studio artefacts send --again` on the machine that made it sends it anew."
            )

    def below(self, key: str) -> list[str]:
        """Names of the committed artefacts right below a place.

        Raises:
            StoreError: When the store cannot be asked.
        """
        with self._asked(), suppress(FileNotFoundError):
            files = [PurePosixPath(name) for name in self._fs.find(self._at(key))]
            return sorted(
                file.parent.name
                for file in files
                if file.name == MANIFEST and file.parts[-3:-2] == (key.rpartition("/")[2],)
            )
        return []

    def remove(self, key: str) -> None:
        """Delete an artefact and all below it, its manifest first; nothing where there is none.

        Raises:
            StoreError: When the store cannot be asked.
        """
        with self._asked():
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._at(key, MANIFEST))
            with suppress(FileNotFoundError):
                self._fs.rm(self._at(key), recursive=True)

    def forget_data(self, key: str) -> None:
        """Delete the files of an artefact, which the next ``send`` brings anew.

        Raises:
            StoreError: When the store cannot be asked.
        """
        with self._asked(), suppress(FileNotFoundError):
            self._fs.rm(self._at(key, DATA), recursive=True)

    def _sizes(self, key: str) -> dict[str, int]:
        """Bytes of the files that lie in an artefact, by their hash."""
        with suppress(FileNotFoundError):
            found = self._fs.ls(self._at(key, DATA), detail=True)
            return {PurePosixPath(one["name"]).name: int(one["size"]) for one in found if one["type"] == "file"}
        return {}

    def _make(self, *parts: str) -> None:
        """Make a folder where the store has folders; the others would make a bucket."""
        if not BUCKETS.intersection([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol):
            self._fs.makedirs(self._at(*parts), exist_ok=True)

    def _at(self, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), *parts])

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)  # others write there too
        return fs, root

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn whatever a file system raises into one sentence; its own words may hold a key, so they are left out."""
        try:
            yield
        except StoreError:
            raise
        except ImportError as error:
            raise StoreError(
                f"The artefact store {self.url} needs a package that is not installed ({error.name}): "
                "pip install 'hydra-studio[objects]' (in a checkout: pip install '.[objects]')."
            ) from error
        except Exception as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
            log.debug("%s: %s", self.url, type(error).__name__)
            raise StoreError(
                f"The artefact store {self.url} cannot be used now ({why}). Check that it is reached from here, that "
                "the bucket or folder is there, and the credentials in the environment."
            ) from error


def _parsed(data: bytes, where: str) -> Manifest:
    """A manifest, of names that stay in their folder.

    Raises:
        StoreError: When it is none.
    """
    try:
        told: Mapping[str, Any] = json.loads(data)
        files = {str(name): Stored(int(one["size"]), str(one["sha256"])) for name, one in told["files"].items()}
        paths = [PurePosixPath(name) for name in files]
        if any(path.is_absolute() or ".." in path.parts or not path.parts for path in paths):
            raise ValueError("a name leads out of the folder")
        if any(len(file.sha256) != 64 or not file.sha256.isalnum() for file in files.values()):
            raise ValueError("a hash is none")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is damaged ({type(error).__name__}). `python -m studio artefacts send --again` on the machine "
            "that made it writes it anew."
        ) from error
    return Manifest(files)
