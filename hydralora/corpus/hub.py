"""The names of data sets of a hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hydralora.errors import CorpusError

PREFIX = "hub:"
NAME = re.compile(r"(?:hub:)?([\w.-]{1,96}/[\w.-]{1,96})((?:/[^/\\\x00-\x1f]{1,200}){0,8})/?", re.ASCII)


@dataclass(frozen=True)
class HubDataset:
    """A data set ``owner/name`` of the hub, or what lies in one ``folder`` of it."""

    repository: str
    folder: str = ""

    @classmethod
    def of(cls, text: str) -> HubDataset:
        """Read ``owner/name`` or ``owner/name/folder``, with or without ``hub:``.

        Raises:
            CorpusError: When it is neither.
        """
        found = NAME.fullmatch(text.strip())
        if not found or ".." in text:
            raise CorpusError(
                f"{text.strip()[:200]!r} is no data set of the hub. Write its name there, as in 'owner/name', or "
                "'owner/name/folder' for a part of it."
            )
        return cls(found[1], found[2].strip("/"))

    @property
    def title(self) -> str:
        """What a corpus of it is called."""
        return "-".join(filter(None, [self.repository.split("/")[1], self.folder.replace("/", "-")]))

    def __str__(self) -> str:
        return "/".join(filter(None, [self.repository, self.folder]))
