"""The places in a corpus where each expert's gate is highest, with the words around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hydralora.results import Context

KEPT = 400  # places kept for each expert while reading
SHOWN = 6
BEFORE, AFTER = 6, 3  # tokens shown around a favourite


class Contexts:
    """Collects gates ``(L, batch, tokens, N)`` and keeps, for each expert, the tokens above its own mean most.

    A token's gate is the mean over layers.
    """

    def __init__(self, layers: list[str], experts: int, tokenizer: Any) -> None:
        self.tokenizer, self.tokens = tokenizer, 0
        self.sums = np.zeros((len(layers), experts))
        self.places: list[list[tuple[float, int, list[int], int]]] = [[] for _ in range(experts)]

    def add(self, gates: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Add a batch: gates ``(L, batch, tokens, N)``, ids and mask ``(batch, tokens)``."""
        real = mask.bool()
        flat = gates[:, real]  # (L, real tokens, N)
        self.sums += flat.sum(1).double().cpu().numpy()
        self.tokens += flat.shape[1]
        mean = flat.mean(0).cpu()  # (real tokens, N)
        where = real.nonzero().cpu()
        for expert, kept in enumerate(self.places):
            top = mean[:, expert].topk(min(KEPT // 4, len(mean)))
            for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                row, column = where[index].tolist()
                kept.append(
                    (value, int(ids[row, column]), self._around(ids[row], real[row], column), min(column, BEFORE))
                )
            kept.sort(key=lambda place: -place[0])
            del kept[KEPT:]

    @staticmethod
    def _around(ids: torch.Tensor, real: torch.Tensor, column: int) -> list[int]:
        """Ids near a place of one example, whose ids and mask are ``(tokens,)``."""
        found: list[int] = ids[max(0, column - BEFORE) : min(column + AFTER + 1, int(real.sum()))].tolist()
        return found

    def mean(self) -> np.ndarray:
        """Mean gates ``(L, N)`` over all tokens read."""
        return self.sums / max(self.tokens, 1)

    def favourites(self, expert: int) -> list[Context]:
        """Up to ``SHOWN`` places with different tokens: the token, its gate, and the text before and after."""
        found: list[Context] = []
        seen: set[int] = set()
        decode = self.tokenizer.decode
        for gate, token, around, place in self.places[expert]:
            if token in seen or len(found) == SHOWN:
                continue
            seen.add(token)
            found.append(
                Context(
                    gate=round(gate, 4),
                    text=decode([token]),
                    before=decode(around[:place]),
                    after=decode(around[place + 1 :]),
                )
            )
        return found
