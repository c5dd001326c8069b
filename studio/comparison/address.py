"""Which runs an address or a command names: ``1,4-9`` stands for 1, 4, 5, 6, 7, 8 and 9."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.plain import shown

MOST = 1_000  # runs compared at once
LONGEST = 12_000  # characters of such a list
SEPARATOR = ","
PART = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


def parse_ids(text: str) -> list[int]:
    """The ids that a list names, each once, in its order.

    Raises:
        UserError: When a part is no id and no range of them, or there are more than ``MOST``.
    """
    if len(text) > LONGEST:
        raise UserError(f"The list of runs has {len(text):,} characters; {LONGEST:,} are the most. Choose fewer runs.")
    found: dict[int, None] = {}
    for part in filter(None, (part.strip() for part in text.split(SEPARATOR))):
        match = PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 < first <= last <= LARGEST_ID:
            raise UserError(f"{shown(part)} names no runs. Write ids and ranges of them, such as 3,5-8.")
        if last - first >= MOST or len(found) + last - first >= MOST:
            raise UserError(f"At most {MOST:,} runs are compared at once. Choose fewer.")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)


def written(run_ids: Iterable[int]) -> str:
    """Ids as a list for an address: neighbours in a row as a range."""
    parts: list[tuple[int, int]] = []
    for run_id in run_ids:
        if parts and parts[-1][1] + 1 == run_id:
            parts[-1] = (parts[-1][0], run_id)
        else:
            parts.append((run_id, run_id))
    return SEPARATOR.join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)
