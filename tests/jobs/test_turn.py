"""First come, first served."""

from __future__ import annotations

import threading

from jobs.chat.fair_lock import Turn
from tests.jobs.conftest import wait_for


def test_those_who_wait_come_in_the_order_they_asked() -> None:
    turn, order = Turn(), []

    def take(number: int) -> None:
        with turn:
            order.append(number)

    with turn:
        threads = []
        for number in range(12):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            wait_for(lambda number=number: turn.waiting == number + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(12)) and not turn.is_held


def test_only_one_has_it_at_a_time() -> None:
    turn, inside, most = Turn(), [], []

    def work() -> None:
        for _ in range(200):
            with turn:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 800


def test_an_error_inside_gives_it_back() -> None:
    turn = Turn()
    try:
        with turn:
            raise KeyError
    except KeyError:
        assert not turn.is_held
