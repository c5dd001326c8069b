"""Work on threads comes back in order, and is only begun when there is room for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hydralora.threads import in_order


def test_parts_come_back_in_order_and_are_not_all_taken_at_once() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    made = in_order(lambda number: number * number, parts())
    assert next(made) == 0 and len(taken) <= 3
    assert list(made) == [number * number for number in range(1, 50)]


def test_an_error_in_a_part_reaches_who_asks_for_it() -> None:
    made = in_order(lambda number: 1 // number, [1, 0, 1])
    assert next(made) == 1
    with pytest.raises(ZeroDivisionError):
        next(made)
