"""The factory of HTTP connections: the resource tree, the clock, the limits, the log, and the graceful end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource, getChildForRequest
from zope.interface import implementer

from aisobj.web.accesslog import AccessLog
from aisobj.web.admission import Admission, Entry
from aisobj.web.auditlog import AuditLog
from aisobj.web.channel import Channel
from aisobj.web.limits import Limits
from aisobj.web.outbox import Outbox
from aisobj.web.request import Ended, Request
from aisobj.web.transport import HeldBlocks

Observer = Callable[[Sequence[Ended]], None]
#: Answers a request, now or later, if it knows what has been received as one, and then has the channel ``begin`` it, or
#: ``run_request`` where more of its body may come. False: nothing is done, ask the tree.
Shortcut = Callable[[Channel, bytes], bool]

#: Requests that are told of together. Their lines in the log are made in a row: 8 us each, 20 between other work
#: (measured).
_BATCH: Final = 64


@implementer(IProtocolNegotiationFactory)
class Site(Factory):
    """Listen with this.

    :param root: the root of the resource tree. Its ``render`` gets a request when the head has arrived, before the
        body, and returns ``NOT_DONE_YET`` or a whole body.
    :param clock: the reactor, or a ``task.Clock``; counts seconds, from any moment.
    :param now: seconds since the epoch, which may jump; None: those of ``clock``.
    :ivar shortcuts: which is asked, before the head is parsed, by the first byte of the request.
    :ivar observers: the access log, and others; called with the requests that have ended, many at a time, by
        :meth:`flush`: when there are enough, each second, and by who wants to know.
    :ivar connections: the open ones.
    :ivar closed: how many connections were closed for a limit's sake, by the limit (``aisobj.metrics.CLOSED``).
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        root: IResource,
        clock: IReactorTime,
        limits: Limits | None = None,
        access_log: AccessLog | None = None,
        audit_log: AuditLog | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.root = root
        self.clock = clock
        self.limits = limits or Limits()
        self.access_log = access_log
        self.audit_log = audit_log
        self.shortcuts: dict[bytes, Shortcut] = {}
        self.observers: list[Observer] = [] if access_log is None else [access_log.add]
        self._ended: list[Ended] = []
        self.closed: Counter[str] = Counter()
        self.outbox = Outbox(clock)
        self.held_blocks = HeldBlocks(self.limits.held_blocks)
        self.draining = False
        self.seconds: Callable[[], float] = clock.seconds
        self.now: Callable[[], float] = now or clock.seconds
        self._admission = Admission(self.limits, clock.seconds, self.count_closed)
        self.connections = self._admission.connections
        self._sweep_call: IDelayedCall | None = None
        self._swept = 0.0
        self._emptied: Deferred[None] | None = None
        self._second = -1
        self._common_headers = b""

    def acceptableProtocols(self) -> list[bytes]:
        """For TLS: with none, Twisted ends every handshake in which the client names some (ALPN)."""
        return [b"http/1.1", b"http/1.0"]

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return Channel(self, addr)

    def getResourceFor(self, request: Request) -> IResource:
        """Walk the tree; ``request.postpath`` is what the resource found has not consumed."""
        resource: IResource = getChildForRequest(self.root, request)
        return resource

    def common_headers(self) -> bytes:
        """Date and Server, formatted once per second."""
        now = self.now()
        if int(now) != self._second:
            self._second = int(now)
            date = datetimeToString(now)
            self._common_headers = b"Date: %b\r\nServer: ais-s3\r\n" % date
        return self._common_headers

    def drain(self, timeout: float) -> Deferred[None]:
        """Close what is idle, answer what runs with ``Connection: close``, abort what is left after ``timeout``.

        Stop listening first.

        :param timeout: seconds.
        :return: fires when no connection is left and the access log is written.
        """
        if self._emptied is None:
            self.draining = True
            self._emptied = Deferred()
            abortion = self.clock.callLater(timeout, self._abort_all)
            self._emptied.addBoth(self._drained, abortion)
            for channel in list(self.connections):
                channel.drain()
            self._check_emptied()
        watcher: Deferred[None] = Deferred()
        self._emptied.chainDeferred(watcher)
        return watcher

    def _abort_all(self) -> None:
        for channel in list(self.connections):
            channel.abort()

    def _drained(self, _: object, abortion: IDelayedCall) -> None:
        if abortion.active():
            abortion.cancel()

    def _check_emptied(self) -> None:
        if self.connections or self._emptied is None or self._emptied.called:
            return
        self._stop_sweeping()
        self._emptied.callback(None)

    # For the channels

    def connected(self, channel: Channel) -> Entry:
        """A new connection, and whether there is room for it."""
        entry = self._admission.enter(channel)
        if self._sweep_call is None and entry is not Entry.CUT:
            self._swept = self.seconds()
            self._sweep_call = self.clock.callLater(self.limits.sweep_seconds, self._sweep)
        return entry

    def count_closed(self, reason: str) -> None:
        """A connection is closed for a limit's sake."""
        self.closed[reason] += 1

    def disconnected(self, channel: Channel) -> None:
        self._admission.leave(channel)
        self._check_emptied()

    def request_ended(self, request: Request) -> None:
        """For log and metrics."""
        now = self.now()
        seconds = now - request.started
        if seconds < 0.0:  # noqa: PLR1730 (max costs twice as much); the clock was set back meanwhile
            seconds = 0.0
        self._ended.append((request, now, seconds))
        if len(self._ended) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Tell the observers of the requests that have ended."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        for observer in self.observers:
            try:
                observer(ended)
            except Exception:
                self._log.failure("an observer of requests failed")

    def _sweep(self) -> None:
        """Look at every time-out: one call for all connections instead of two or three for each request."""
        now = self.seconds()
        since, self._swept = max(0.0, now - self._swept), now
        self._sweep_some(iter(list(self.connections)), now, since)

    def _sweep_some(self, channels: Iterator[Channel], now: float, since: float) -> None:
        """Thousands whose time is up at the same moment take longer than a request should have to wait."""
        self._sweep_call = None
        enough = self.seconds() + self.limits.sweep_slice_seconds
        for channel in channels:
            channel.check(now, since)
            if self.seconds() > enough:
                self._sweep_call = self.clock.callLater(0, self._sweep_some, channels, now, since)
                return
        if self.connections:
            self._sweep_call = self.clock.callLater(self.limits.sweep_seconds, self._sweep)
        self.flush()

    def _stop_sweeping(self) -> None:
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        self.flush()
