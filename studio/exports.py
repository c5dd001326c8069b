"""How exports and parameter counts are told, the same on the page and in the commands."""

from __future__ import annotations

from typing import Any

from studio import cards

EXPORT_HEAD = ["part", "examples", "loss", "live", "base", "KL from live", "KL of base"]


def export_row(part: dict[str, Any]) -> list[object]:
    """One exported part as a row under ``EXPORT_HEAD``; losses and KL are nats per answer token."""
    figures = [cards.number(part[key], 4) for key in ("loss", "live_loss", "base_loss", "kl", "base_kl")]
    return [part["name"], part["examples"], *figures]


def trainable(summary: dict[str, Any]) -> str:
    """Trainable parameters without and with the router, and their share of all."""
    router = summary.get("router", 0)
    whole = summary["trainable"] + router
    words = f"{summary['trainable']:,} trainable"
    if router:
        words += f" + {router:,} of the router = {whole:,}"
    total = summary["total"]  # None for an imported adapter whose base is not there
    return f"{words}, {whole / max(1, total):.1%} of {total:,}" if total else words
