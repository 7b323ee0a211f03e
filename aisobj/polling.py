"""The reactor's loop, without what it spends on the context of log lines.

``EPollReactor.doPoll`` calls each reader and writer through ``twisted.python.log.callWithLogger``, so that lines of the
old ``twisted.python.log`` know their "system". Nothing here writes such lines (``twisted.logger`` has namespaces), and
it is 1.7 us for each event: 4 % of a GET (docs/performance.md).
"""

from __future__ import annotations

from errno import EINTR
from functools import partial
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

_log = Logger()
_USED = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")


def poll_quietly(reactor: object) -> None:
    """Change the loop of Twisted's own epoll reactor, from its next turn on; any other reactor stays as it is."""
    if type(reactor) is EPollReactor and all(hasattr(reactor, name) for name in _USED):
        reactor.doIteration = partial(_poll, reactor)  # type: ignore[method-assign]


def _poll(reactor: Any, timeout: float | None) -> None:
    """As ``EPollReactor.doPoll``."""
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
        try:
            if event == EPOLLIN:  # mostly; the other case does it too, in three more calls
                _read(reactor, selectable)
            else:
                act(selectable, descriptor, event)
        except Exception:
            _log.failure("an event could not be dealt with")


def _read(reactor: Any, selectable: Any) -> None:
    """As ``_doReadOrWrite`` where there is only something to read."""
    try:
        why = selectable.doRead()
    except BaseException as error:
        _log.failure("reading failed")
        why = error
    if why:
        reactor._disconnectSelectable(selectable, why, True)
