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


class PackingCollator(Collator):
    """Lay the examples of a batch end to end in few rows: as ``Collator``, with ``position_ids`` that begin again.

    Longest first, each into the first row that has room (first-fit decreasing, Johnson 1973). Models that find
    ``position_ids`` and no mask let each example see itself alone. The first label of an example is ignored: the end
    of its neighbour must not predict it. A place of padding has position 0.

    Args:
        longest: Tokens of a row; an example is never longer.
    """

    def __init__(self, pad_id: int, longest: int) -> None:
        super().__init__(pad_id)
        self.longest = longest

    def __call__(self, examples: list[Encoded]) -> dict[str, Tensor]:
        rows = [_joined([examples[place] for place in places]) for places in self.places(examples)]
        batch = super().__call__(rows)
        width = batch["input_ids"].shape[1]
        positions = [row["position_ids"] + [0] * (width - len(row["position_ids"])) for row in rows]
        return batch | {"position_ids": torch.tensor(positions)}

    def places(self, examples: list[Encoded]) -> list[list[int]]:
        """Places of the examples that share a row, for each row."""
        lengths = [len(example["input_ids"]) for example in examples]
        rows: list[list[int]] = []
        room: list[int] = []
        for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
            row = next((row for row, left in enumerate(room) if left >= lengths[place]), len(rows))
            if row == len(rows):
                rows.append([])
                room.append(max(self.longest, lengths[place]))
            rows[row].append(place)
            room[row] -= lengths[place]
        return rows


def _joined(examples: list[Encoded]) -> Encoded:
    return {
        "input_ids": [token for example in examples for token in example["input_ids"]],
        "labels": [label for example in examples for label in (IGNORED, *example["labels"][1:])],
        "position_ids": [place for example in examples for place in range(len(example["input_ids"]))],
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
