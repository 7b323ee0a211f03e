"""Long computations take turns."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aisobj.storage.turns import MOST_BEGUN, Turns


class Reactor(Clock):
    """A clock that, as a reactor, leaves what is called later in a turn to the next one."""

    def turn(self) -> None:
        due, self.calls = self.calls, []
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)


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
    reactor, log = Reactor(), list[str]()
    turns = Turns(reactor)
    running = [Deferred.fromCoroutine(turns.run(work(name, 2, log))) for name in "abc"]
    made = []
    while reactor.getDelayedCalls():
        made.append([entry for entry in log if "closed" not in entry])
        log.clear()
        reactor.turn()
    # In the order in which they asked: a did it for the second time before b came.
    assert made == [["a0"], ["a1"], ["b0"], ["c0"], ["b1"], ["c1"]]
    assert [done.result for done in running] == ["a", "b", "c"]


def test_some_are_under_way_at_a_time_and_the_others_follow_in_their_order() -> None:
    reactor, log = Reactor(), list[str]()
    turns = Turns(reactor)
    names = [f"{number}-" for number in range(3 * MOST_BEGUN)]
    running = [Deferred.fromCoroutine(turns.run(work(name, 3, log))) for name in names]
    most = 0
    while reactor.getDelayedCalls():
        open_now = {entry for entry in log if entry.endswith("-0")} - {
            entry.replace(" closed", "0") for entry in log if entry.endswith("closed")
        }
        most = max(most, len(open_now))
        reactor.turn()
    assert most == MOST_BEGUN
    assert [entry for entry in log if entry.endswith("-0")] == [f"{name}0" for name in names]
    assert [done.result for done in running] == names
    assert Deferred.fromCoroutine(turns.run(work("late", 1, log))).result == "late"


def test_what_is_done_at_once_does_not_wait_for_the_long_and_none_is_forgotten() -> None:
    """However many there are: not one within the other's end, where the interpreter's stack would be theirs all."""
    reactor, log = Reactor(), list[str]()
    turns = Turns(reactor)
    running = [Deferred.fromCoroutine(turns.run(work(f"long{number}-", 3, log))) for number in range(3 * MOST_BEGUN)]
    short = [Deferred.fromCoroutine(turns.run(work("short", 1, log), at_once=True)) for _ in range(2000)]
    assert [done.result for done in short] == ["short"] * 2000
    longer = [Deferred.fromCoroutine(turns.run(work(f"more{number}-", 1, log))) for number in range(2000)]
    while reactor.getDelayedCalls():
        log.clear()
        reactor.turn()
        assert len([entry for entry in log if "closed" not in entry]) <= 1, "a slice a turn"
    assert [done.result for done in running] == [f"long{number}-" for number in range(3 * MOST_BEGUN)]
    assert [done.result for done in longer] == [f"more{number}-" for number in range(2000)]
    assert turns._begun == 0


def test_who_comes_later_begins_at_once_where_nobody_works() -> None:
    reactor, log = Reactor(), list[str]()
    turns = Turns(reactor)
    for _ in range(2):
        Deferred.fromCoroutine(turns.run(work("a", 1, log)))
        reactor.turn()
    assert log == ["a0", "a closed"] * 2
    assert not reactor.getDelayedCalls(), "an idle server has nothing to do"


def test_a_failure_is_its_own_and_the_others_go_on() -> None:
    reactor, log = Reactor(), list[str]()
    turns = Turns(reactor)

    def failing() -> Generator[None, None, str]:
        yield
        raise ValueError("no")

    failed = Deferred.fromCoroutine(turns.run(failing()))
    other = Deferred.fromCoroutine(turns.run(work("b", 2, log)))
    for _ in range(6):
        reactor.turn()
    assert other.result == "b"
    with pytest.raises(ValueError, match="no"):
        failed.result.raiseException()  # type: ignore[attr-defined]
    failed.addErrback(lambda _: None)
