"""The reactor's loop, without what it spends on the context of log lines, and the end of each of its turns.

``EPollReactor.doPoll`` calls each reader and writer through ``twisted.python.log.callWithLogger``, so that lines of the
old ``twisted.python.log`` know their "system". Nothing here writes such lines (``twisted.logger`` has namespaces), and
it is 1.7 us for each event: 4 % of a GET (docs/performance.md).

What is to be done once for all that a turn brings (send its answers, send its commits) is a call of :class:`TurnEnd`:
a delayed call, even for no time, takes some 5 us to be made, put in order and found.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINTR
from functools import partial
from select import EPOLLIN
from typing import Any
from weakref import WeakKeyDictionary, ref

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger()
_USED = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")


class TurnEnd:
    """What is to be called at the end of a reactor's turn: of this one, if the loop is ours, or by ``callLater(0)``.

    :ivar polled: the loop is ours.
    """

    __slots__ = ("_calls", "_clock", "polled")

    def __init__(self, clock: IReactorTime) -> None:
        self.polled = False
        self._clock = ref(clock)  # it is the key under which this is found, and must not be kept by it
        self._calls: list[Callable[[], object]] = []

    def call(self, what: Callable[[], object]) -> None:
        """Have ``what`` called once, in the order of the calls. From the reactor's thread only."""
        if self.polled:
            self._calls.append(what)
        elif (clock := self._clock()) is not None:
            clock.callLater(0, what)

    def make_calls(self) -> bool:
        """For the loop: make those that were asked for, and others only in the next turn. Whether there were any."""
        if not self._calls:
            return False
        calls, self._calls = self._calls, []
        for what in calls:
            try:
                what()
            except Exception:
                _log.failure("a call at the end of a turn failed")
        return True


_turn_ends: WeakKeyDictionary[Any, TurnEnd] = WeakKeyDictionary()


def turn_end(clock: IReactorTime) -> TurnEnd:
    """That of a reactor; always the same one."""
    found = _turn_ends.get(clock)
    if found is None:
        found = _turn_ends[clock] = TurnEnd(clock)
    return found


def poll_quietly(reactor: Any) -> None:
    """Change the loop of Twisted's own epoll reactor, from its next turn on; any other reactor stays as it is."""
    if type(reactor) is EPollReactor and all(hasattr(reactor, name) for name in _USED):
        end = turn_end(reactor)
        end.polled = True
        reactor.doIteration = partial(_poll, reactor, end)  # type: ignore[method-assign]


def _poll(reactor: Any, end: TurnEnd, timeout: float | None) -> None:
    """As ``EPollReactor.doPoll``."""
    if end.make_calls():  # those of delayed calls; they may have asked for delayed calls themselves, or for such again
        timeout = 0
    selectables = reactor._selectables
    try:
        ready = reactor._poller.poll(-1 if timeout is None else timeout, len(selectables))
    except OSError as error:
        if error.errno != EINTR:
            raise
        return
    act = reactor._doReadOrWrite
    for descriptor, event in ready:
        selectable = selectables.get(descriptor)
        if selectable is None:
            continue
        why = None
        try:
            if event == EPOLLIN:  # mostly; the other case does it too, in three more calls
                why = selectable.doRead()
            else:
                act(selectable, descriptor, event)
        except BaseException as error:
            _log.failure("an event could not be dealt with")
            why = error
        if why:
            _disconnect(reactor, selectable, why)
    end.make_calls()


def _disconnect(reactor: Any, selectable: Any, why: BaseException) -> None:
    try:
        reactor._disconnectSelectable(selectable, why, True)
    except Exception:
        _log.failure("an end of a connection could not be dealt with")
