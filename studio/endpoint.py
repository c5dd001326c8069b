"""How the endpoint is told, the same on the page and in the commands."""

from __future__ import annotations


def count_keys(count: int) -> str:
    """How many keys open the endpoint, and how one is made where there is none."""
    if not count:
        return "no key opens it yet: python -m studio keys create NAME"
    return f"{count} {'key opens' if count == 1 else 'keys open'} it"
