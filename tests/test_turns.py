"""Long computations take turns."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aisobj.storage.turns import Turns


def work(name: str, slices: int, log: list[str]) -> Generator[None, None, str]:
    try:
        for number in range(slices):
            log.append(f"{name}{number}")
            if number < slices - 1:
                yield
        return name
    finally:
        log.append(f"{name} closed")


def test_one_slice_of_one_of_them_a_turn_of_the_reactor() -> None:
    clock, log = Clock(), list[str]()
    turns = Turns(clock)
    running = [Deferred.fromCoroutine(turns.run(work(name, 2, log))) for name in "abc"]
    seen = [list(log)]
    while clock.getDelayedCalls():
        clock.advance(0)
        seen.append(log[len(sum(seen, [])) :])
    made = [[entry for entry in turn if "closed" not in entry] for turn in seen]
    assert made == [["a0"], ["b0"], ["c0"], ["a1"], ["b1"], ["c1"], []]
    assert [done.result for done in running] == ["a", "b", "c"]


def test_who_comes_later_begins_at_once_where_nobody_works() -> None:
    clock, log = Clock(), list[str]()
    turns = Turns(clock)
    for _ in range(2):
        Deferred.fromCoroutine(turns.run(work("a", 1, log)))
        clock.advance(0)
    assert log == ["a0", "a closed"] * 2
    assert not clock.getDelayedCalls(), "an idle server has nothing to do"


def test_a_failure_is_its_own_and_the_others_go_on() -> None:
    clock, log = Clock(), list[str]()
    turns = Turns(clock)

    def failing() -> Generator[None, None, str]:
        yield
        raise ValueError("no")

    failed = Deferred.fromCoroutine(turns.run(failing()))
    other = Deferred.fromCoroutine(turns.run(work("b", 2, log)))
    for _ in range(6):
        clock.advance(0)
    assert other.result == "b"
    with pytest.raises(ValueError, match="no"):
        failed.result.raiseException()  # type: ignore[attr-defined]
    failed.addErrback(lambda _: None)
