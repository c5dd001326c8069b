"""Mean routing weights of a step as bytes: one 16-bit share for each expert but a layer's last.

Shares of a layer sum to one, so the last one is what the others leave. ``share = value / 65535``, little-endian, layer
after layer: within 8e-6 of what was measured, the last within 8e-6 for each expert before it. Weights that are no
shares are kept in full as 32-bit floats; the length tells which it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hydralora.errors import UserError

WHOLE = 65_535  # the share 1.0
SUM_TOLERANCE = 1e-3  # of the weights of a layer from one, to be shares

Layers = list[list[Any]]  # [[name, experts], ...]


def pack(gates: dict[str, list[float]]) -> tuple[Layers, bytes]:
    """Layers with their numbers of experts, and the weights ``{layer: [N]}`` as bytes."""
    rows = [np.asarray(row, dtype=np.float64) for row in gates.values()]
    layers = [[name, len(row)] for name, row in zip(gates, rows, strict=True)]
    if all(len(row) and row.min() >= 0 and abs(row.sum() - 1) < SUM_TOLERANCE for row in rows):
        shares = np.concatenate([row[:-1] for row in rows])
        return layers, np.minimum(np.rint(shares * WHOLE), WHOLE).astype("<u2").tobytes()
    return layers, np.concatenate(rows).astype("<f4").tobytes()


def unpack(weights: bytes, layers: Layers) -> dict[str, list[float]]:
    """Weights by layer, ``{layer: [N]}``.

    Raises:
        UserError: When there are not as many bytes as these layers need.
    """
    counts = [int(count) for _, count in layers]
    in_full = len(weights) == 4 * sum(counts)
    if not in_full and len(weights) != 2 * (sum(counts) - len(counts)):
        raise UserError(
            f"Routing weights of {len(counts)} layers are damaged: they have {len(weights):,} bytes. "
            "Put a copy of the database back."
        )
    values = np.frombuffer(weights, "<f4").tolist() if in_full else (np.frombuffer(weights, "<u2") / WHOLE).tolist()
    gates, place = {}, 0
    for (name, _), count in zip(layers, counts, strict=True):
        stored = count if in_full else count - 1
        row = values[place : place + stored]
        gates[name] = row if in_full else [*row, max(0.0, 1.0 - sum(row))]
        place += stored
    return gates
