"""The quiet loop does what Twisted's does."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from aisobj.polling import poll_quietly, turn_end


@pytest.fixture
def loop() -> Iterator[EPollReactor]:
    """A reactor beside that of the tests."""
    made = EPollReactor()
    poll_quietly(made)
    yield made
    made.removeAll()
    made._poller.close()


class Reader:
    """One end of a pipe."""

    def __init__(self, name: str, events: list[str], fails: bool = False) -> None:
        self._name = name
        self._events = events
        self._fails = fails
        self._end, self.other = os.pipe()

    def fileno(self) -> int:
        return self._end

    def logPrefix(self) -> str:
        raise AssertionError("nobody logs")

    def doRead(self) -> BaseException | None:
        self._events.append(f"{self._name} {os.read(self._end, 10).decode()}")
        if self._fails:
            raise RuntimeError("doRead fails")
        return None

    def connectionLost(self, reason: Any) -> None:
        self._events.append(f"{self._name} lost")
        if self._fails:
            raise RuntimeError("connectionLost fails")


def test_it_is_the_one_that_runs(loop: EPollReactor) -> None:
    assert "doIteration" in vars(loop), "Twisted has other names for what it uses"
    other = SelectReactor()
    poll_quietly(other)
    assert "doIteration" not in vars(other)


def test_what_is_ready_is_called_and_one_that_fails_stops_no_other(loop: EPollReactor) -> None:
    events, logged = list[str](), list[Any]()
    readers = [Reader(name, events, name == "b") for name in "abc"]
    for reader in readers:
        loop.addReader(reader)  # type: ignore[arg-type]
        os.write(reader.other, b"x")
    globalLogPublisher.addObserver(logged.append)
    try:
        loop.doIteration(0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert sorted(events) == ["a x", "b lost", "b x", "c x"]
    failures = [event.get("log_failure") or event.get("failure") for event in logged]
    assert {str(failure.value) for failure in failures if failure} == {"doRead fails", "connectionLost fails"}
    events.clear()
    for reader in readers:
        os.write(reader.other, b"y")
    loop.doIteration(0)
    assert sorted(events) == ["a y", "c y"]


def test_calls_at_the_end_of_a_turn_come_after_what_was_ready(loop: EPollReactor) -> None:
    events, reader = list[str](), Reader("a", list[str]())
    end = turn_end(loop)
    assert turn_end(loop) is end

    def read() -> None:
        os.read(reader.fileno(), 10)
        events.append("read")
        end.call(lambda: events.append("end"))

    reader.doRead = read  # type: ignore[method-assign]
    loop.addReader(reader)  # type: ignore[arg-type]
    os.write(reader.other, b"x")
    end.call(lambda: events.append("of a delayed call"))  # before the turn waits for anything
    loop.doIteration(0)
    assert events == ["of a delayed call", "read", "end"]


def test_a_turn_does_not_wait_when_calls_at_its_beginning_asked_for_more(loop: EPollReactor) -> None:
    events, end = list[str](), turn_end(loop)
    end.call(lambda: end.call(lambda: events.append("again")))
    began = time.monotonic()
    loop.doIteration(20)
    assert events == ["again"]
    end.call(lambda: loop.callLater(0, events.append, "delayed"))
    loop.doIteration(20)
    loop.runUntilCurrent()
    assert events == ["again", "delayed"]
    assert time.monotonic() - began < 10


def test_a_call_that_fails_stops_no_other(loop: EPollReactor) -> None:
    events, logged, end = list[str](), list[Any](), turn_end(loop)
    end.call([].pop)
    end.call(lambda: events.append("b"))
    globalLogPublisher.addObserver(logged.append)
    try:
        loop.doIteration(0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert events == ["b"]
    assert [str(event["log_failure"].value) for event in logged] == ["pop from empty list"]


def test_a_clock_is_not_kept_by_what_its_turns_end_with() -> None:
    clock = Clock()
    known = ref(clock)
    turn_end(clock).call(gc.collect)
    del clock
    gc.collect()
    assert known() is None


def test_where_the_loop_is_another_the_end_of_a_turn_is_a_delayed_call() -> None:
    clock, events = Clock(), list[str]()
    turn_end(clock).call(lambda: events.append("end"))
    assert events == []
    clock.advance(0)
    assert events == ["end"]
