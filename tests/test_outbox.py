"""The answers of one turn leave together at its end, whatever becomes of one of them."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from aisobj.web.outbox import MAX_WAIT, Outbox


class Answer:
    def __init__(self, name: str, events: list[str], fails: str = "") -> None:
        self._name = name
        self._events = events
        self._fails = fails

    def _do(self, what: str) -> None:
        self._events.append(f"{what} {self._name}")
        if what == self._fails:
            raise RuntimeError(what)

    def send_waiting(self) -> None:
        self._do("send")

    def report_sent(self) -> None:
        self._do("report")


def test_all_are_sent_at_the_end_of_the_turn_before_any_is_reported() -> None:
    clock, events = Clock(), list[str]()
    outbox = Outbox(clock)
    outbox.add(Answer("a", events))
    outbox.add(Answer("b", events))
    assert events == []
    clock.advance(0)
    assert events == ["send a", "send b", "report a", "report b"]
    outbox.add(Answer("c", events))
    clock.advance(0)
    assert events[4:] == ["send c", "report c"]


def test_in_a_long_turn_what_waits_is_sent_before_more_is_added() -> None:
    clock, events = Clock(), list[str]()
    outbox = Outbox(clock)
    outbox.add(Answer("a", events))
    clock.rightNow += MAX_WAIT * 2  # the turn has not ended
    outbox.add(Answer("b", events))
    assert events == ["send a"]
    clock.advance(0)
    assert events == ["send a", "send b", "report a", "report b"]


def test_one_that_fails_holds_up_no_other() -> None:
    clock, events, logged = Clock(), list[str](), []
    outbox = Outbox(clock)
    for name, fails in (("a", "send"), ("b", "report"), ("c", "")):
        outbox.add(Answer(name, events, fails))
    globalLogPublisher.addObserver(logged.append)
    try:
        clock.advance(0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert events == ["send a", "send b", "send c", "report a", "report b", "report c"]
    assert sum("log_failure" in event for event in logged) == 2
