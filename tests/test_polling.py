"""The quiet loop does what Twisted's does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import globalLogPublisher

from aisobj.polling import poll_quietly


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
