"""How exports and parameter counts are told, the same on the page and in the commands."""

from __future__ import annotations

from hydralora.results import ExportedPart, RunSummary
from studio import cards

EXPORT_HEAD = ["part", "examples", "loss", "live", "base", "KL from live", "KL of base"]


def export_row(part: ExportedPart) -> list[object]:
    """One exported part as a row under ``EXPORT_HEAD``; losses and KL are nats per answer token."""
    figures = [part.loss, part.live_loss, part.base_loss, part.kl, part.base_kl]
    return [part.name, part.examples, *(cards.number(figure, 4) for figure in figures)]


def trainable(summary: RunSummary) -> str:
    """Trainable parameters without and with the router, and their share of all."""
    router, total = summary.router, summary.total
    whole = summary.trainable + router
    words = f"{summary.trainable:,} trainable"
    if router:
        words += f" + {router:,} of the router = {whole:,}"
    return f"{words}, {whole / max(1, total):.1%} of {total:,}" if total else words
