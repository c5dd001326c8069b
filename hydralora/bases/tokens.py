"""Texts that may become tokens of a base. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from hydralora.bounds import LONGEST_TOKEN, MOST_TOKENS
from hydralora.errors import BaseModelError
from hydralora.plain import shown


def check_tokens(tokens: Sequence[str]) -> list[str]:
    """Texts that may become tokens, as they were given.

    Raises:
        BaseModelError: Naming the first that may not, and why.
    """
    found = list(tokens)
    if not 1 <= len(found) <= MOST_TOKENS:
        raise BaseModelError(f"{len(found):,} tokens are given. Give between 1 and {MOST_TOKENS:,}.")
    for number, token in enumerate(found):
        if not token.strip() or len(token) > LONGEST_TOKEN or not token.isprintable():
            raise BaseModelError(
                f"{shown(token)} cannot be a token. Give 1 to {LONGEST_TOKEN} characters, not all of them spaces, and "
                "no control characters or line ends."
            )
        if token in found[:number]:
            raise BaseModelError(f"{shown(token)} is given twice. Give each token once.")
    return found
