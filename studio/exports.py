"""How exports and parameter counts are told, the same on the page and in the commands."""

from __future__ import annotations

from hydralora.results import Export, ExportedPart, RunSummary
from studio import cards

EXPORT_HEAD = ["part", "examples", "loss", "live", "base", "KL from live", "KL of base", "llama.cpp gap", "of base"]


def export_row(part: ExportedPart) -> list[object]:
    """One exported part as a row under ``EXPORT_HEAD``; losses and KL are nats per answer token, gaps nats."""
    figures = [part.loss, part.live_loss, part.base_loss, part.kl, part.base_kl]
    check = part.llama
    figures += [check.gap, check.base_gap] if check else [None, None]
    return [part.name, part.examples, *(cards.number(figure, 4) for figure in figures)]


def is_doubtful(export: Export) -> bool:
    """Whether llama.cpp makes something else of a part than it should."""
    return any(part.llama is not None and not part.llama.is_close for part in export.parts)


def trainable(summary: RunSummary) -> str:
    """Trainable parameters without and with the router, and their share of all."""
    router, total = summary.router, summary.total
    whole = summary.trainable + router
    words = f"{summary.trainable:,} trainable"
    if router:
        words += f" + {router:,} of the router = {whole:,}"
    return f"{words}, {whole / max(1, total):.1%} of {total:,}" if total else words
