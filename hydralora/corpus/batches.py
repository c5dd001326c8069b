"""Batches of encoded examples, padded to the longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hydralora.corpus.encode import IGNORED

Encoded = dict[str, list[int]]  # ``input_ids`` and ``labels`` of one example, of equal length


class Collator:
    """Pad a batch on the right: ids, labels and mask ``(batch, longest)``."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: list[Encoded]) -> dict[str, Tensor]:
        longest = max(len(example["input_ids"]) for example in examples)

        def padded(name: str, filler: int) -> Tensor:
            return torch.tensor([example[name] + [filler] * (longest - len(example[name])) for example in examples])

        mask = [[1] * len(e["input_ids"]) + [0] * (longest - len(e["input_ids"])) for e in examples]
        return {
            "input_ids": padded("input_ids", self.pad_id),
            "labels": padded("labels", IGNORED),
            "attention_mask": torch.tensor(mask),
        }


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Places of at most ``size`` items of similar length at a time, shortest first, so that little is padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded_batches(
    rows: Sequence[Encoded], pad_id: int, size: int, device: torch.device | str
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Places among ``rows`` and their padded batch ``(batch, longest)`` on a device, by length."""
    collate = Collator(pad_id)
    for places in by_length([len(row["input_ids"]) for row in rows], size):
        yield places, on_device(collate([rows[place] for place in places]), device)


def on_device(batch: dict[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """The same batch on another device; shapes stay."""
    return {name: value.to(device) for name, value in batch.items()}
