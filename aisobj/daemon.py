"""The service that twistd runs: signals, and words for the operator and for systemd. What serves is a ``Serving`` in
this process or, for several workers, a ``Master``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from aisobj.errors import StorageError
from aisobj.listening import StartupError, one_line


class IDaemonReactor(IReactorCore, IReactorFromThreads):
    """What the service needs of a reactor."""


class Server(Protocol):
    """What the service starts and ends."""

    @property
    def urls(self) -> Sequence[str]:
        """Where clients find it."""

    def start(self) -> Awaitable[None]:
        """Until clients are let in. Raises StartupError, StorageError, OSError."""

    def drain(self) -> Awaitable[None]:
        """Let nobody in any more and finish what is in flight. It may be starting still: that ends soon then."""

    def close(self) -> Awaitable[None]:
        """After ``start`` and ``drain`` have ended: give everything back."""

    def cut(self) -> None:
        """Drain no longer."""

    def reopen_logs(self) -> None:
        """The access log and the audit log were renamed."""


class AisService(Service):
    """One server, from twistd's start to its end.

    :param notices: what the log says loudly at the start.
    """

    name = "ais-s3"
    _log = Logger()

    def __init__(self, reactor: IDaemonReactor, server: Server, notices: Sequence[str] = ()) -> None:
        self._reactor = reactor
        self._server = server
        self._notices = notices
        self._user = os.geteuid()
        self._starting: Deferred[None] | None = None
        self._ending = False

    def startService(self) -> None:
        Service.startService(self)
        # Not before the reactor runs: a store that will not open must end it, and its signal handlers must be there
        # already to be replaced.
        self._reactor.callWhenRunning(self._reactor_runs)

    def _reactor_runs(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal(self._end))
        signal.signal(signal.SIGHUP, self._on_signal(self._server.reopen_logs))
        for notice in self._notices:
            self._log.warn("{notice}", notice=notice)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    async def _start(self) -> None:
        if os.geteuid() != self._user:
            # What has been made until now is root's: the lock, the logs, the sockets; and the key of TLS is read again.
            raise StartupError("twistd's --uid is not supported: start the server as the user that it is to run as")
        await self._server.start()
        if self._ending:
            return
        for url in self._server.urls:
            self._log.info("listening on {url}", url=url)
        notify_systemd("READY=1")

    def _start_failed(self, failure: Failure) -> None:
        error = failure.value
        if failure.check(StartupError, StorageError, OSError):
            message = one_line(error)
        else:
            self._log.failure("the store cannot be opened", failure)
            message = f"the store cannot be opened: {type(error).__name__}: {one_line(error)}"
        self._log.critical("{message}", message=message)
        print(f"ais-s3: {message}", file=sys.__stderr__, flush=True)
        # twistd ends with status 0 whatever happened while the reactor ran. This runs when it has cleaned up.
        atexit.register(os._exit, 1)
        if not self._ending:
            self._end()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._ending = True
        notify_systemd("STOPPING=1")
        await self._server.drain()
        if self._starting is not None:
            await self._starting
        await self._server.close()
        self._log.info("stopped")

    # Signals

    def _on_signal(self, action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda number, frame: self._reactor.callFromThread(action)

    def _end(self) -> None:
        """SIGTERM, SIGINT: end, with status 0 (twistd's own handlers end with the signal); a second one: at once."""
        if self._ending:
            self._server.cut()
        else:
            self._ending = True
            self._reactor.stop()


def notify_systemd(message: str) -> None:
    """sd_notify(3): tell systemd, if it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(message.encode(), address)
