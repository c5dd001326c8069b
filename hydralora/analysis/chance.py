"""What random heads would show: the 99 % points of every measure of similarity in ``weights.py``.

Random means Gaussian heads ``B`` (no direction preferred) under the A matrices the adapter has. A
pair of real heads below such a level looks no more alike than noise does.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import stdtrit

POINT = 0.99  # of the draws stay below a chance level
DRAWS = 1000  # random pairs behind a level that has no closed form
WIDTH = 256  # rows drawn at most; wider layers are rescaled


def cosine_level(dimensions: np.ndarray | float) -> np.ndarray:
    """The ``POINT`` quantile of |cosine| between random directions in so many dimensions each.

    From Student's t: ``c = t / sqrt(D - 1 + t^2)``; ``dimensions`` need not be whole, and the result has their shape.
    """
    freedom = np.maximum(np.asarray(dimensions, dtype=float) - 1, 1e-9)
    t = stdtrit(freedom, 0.5 + POINT / 2)
    return t / np.sqrt(freedom + t * t)


def update_levels(inner: torch.Tensor, out: int) -> list[list[float]]:
    """Levels ``(N, N)`` for the cosine of updates ``B_i A_i`` with ``inner[i, j] = A_i A_j^T``.

    The cosine of two such updates spreads like that of random directions in
    ``D = out * tr M_ii * tr M_jj / |M_ij|^2`` dimensions (equal variance): an A with one strong
    direction leaves ``out``, an even one ``out * r``.
    """
    trace = torch.einsum("iiaa->i", inner)
    size = inner.square().sum((-1, -2)).clamp(min=1e-300)
    found: list[list[float]] = cosine_level((out * torch.outer(trace, trace) / size).numpy()).tolist()
    return found


@lru_cache(maxsize=64)
def overlap_level(out: int, first: int, second: int) -> float:
    """Level of the overlap of two random subspaces of ``first`` and ``second`` dimensions in ``out``."""
    if first + second > out:
        return 1.0
    one, two = _draws(min(out, WIDTH), first, second)
    q1, q2 = torch.linalg.qr(one).Q, torch.linalg.qr(two).Q
    overlap = (q1.transpose(1, 2) @ q2).square().sum((1, 2)) / min(first, second)
    return min(1.0, float(overlap.quantile(POINT)) * min(out, WIDTH) / out)


def cka_level(inner: torch.Tensor, out: int) -> float:
    """Level of the CKA of two updates whose heads are random, with ``inner = A A^T`` ``(r, r)``."""
    values = torch.linalg.eigvalsh(inner).clamp(min=0)
    values = (values / values.max().clamp(min=1e-300)).round(decimals=2)  # so that like layers share a draw
    return _cka_level(tuple(values.tolist()), out)


@lru_cache(maxsize=1024)
def _cka_level(values: tuple[float, ...], out: int) -> float:
    width, spectrum = min(out, WIDTH), torch.tensor(values, dtype=torch.float32)
    k11, k12, k22 = (squares @ torch.outer(spectrum, spectrum).ravel() for squares in _squares(width, len(values)))
    level = float((k12 / (k11 * k22).sqrt().clamp(min=1e-30)).quantile(POINT))
    # The law for other widths: E|K_12|^2 = w tr(M)^2 and E|K_11|^2 = w^2 tr(M^2) + w tr(M)^2.
    even = float(spectrum.sum() ** 2 / spectrum.square().sum().clamp(min=1e-30))
    return min(1.0, level * (width + even) / (out + even))


@lru_cache(maxsize=16)
def _squares(width: int, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Squared entries of ``B_1^T B_1``, ``B_1^T B_2``, ``B_2^T B_2``, ``(draws, r r)``."""
    one, two = _draws(width, rank, rank)
    pairs = ((one, one), (one, two), (two, two))
    first, cross, second = ((x.transpose(1, 2) @ y).square().flatten(1) for x, y in pairs)
    return first, cross, second


def _draws(width: int, first: int, second: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian matrices ``(draws, width, first)`` and ``(draws, width, second)``, always the same."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(DRAWS, width, first, generator=generator),
        torch.randn(DRAWS, width, second, generator=generator),
    )
