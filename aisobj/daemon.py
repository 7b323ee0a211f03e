"""The service that twistd runs: opens the store, lets clients in, and takes a decent end.

The order of a start: store opened and recovered, then clients are let in, then systemd is told. Of an end: nobody is
let in any more, what is in flight is finished, the store is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from aisobj.errors import StorageError
from aisobj.listening import Listener, StartupError, one_line
from aisobj.storage.embedded import DataDirectory
from aisobj.storage.store import ObjectStore
from aisobj.web.health import Phase, State
from aisobj.web.site import Site

#: How long requests in flight may still take once the server was told to end.
DRAIN_SECONDS = 30.0

#: More open files than this are of no use to one process: connections (``Limits``), blobs and the rest.
_OPEN_FILES = 65536


class IDaemonReactor(IReactorCore, IReactorFromThreads):
    """What the service needs of a reactor."""


class AisService(Service):
    """One server. It owns what it is given: ends the listeners, the store, the access log, the lock.

    :param open_store: opens the store; awaited once the reactor runs, so after twistd has forked.
    :param make_root: the root resource over an open store.
    """

    name = "ais-s3"
    _log = Logger()

    def __init__(
        self,
        reactor: IDaemonReactor,
        site: Site,
        state: State,
        listeners: Sequence[Listener],
        directory: DataDirectory,
        open_store: Callable[[], Awaitable[ObjectStore]],
        make_root: Callable[[ObjectStore], IResource],
        notices: Sequence[str] = (),
    ) -> None:
        self._reactor = reactor
        self._site = site
        self._state = state
        self._listeners = listeners
        self._directory = directory
        self._open_store = open_store
        self._make_root = make_root
        self._notices = notices
        self._store: ObjectStore | None = None
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        Service.startService(self)
        # Not before the reactor runs: a store that will not open must end it, and its signal handlers must be there
        # already to be replaced.
        self._reactor.callWhenRunning(self._reactor_runs)

    def _reactor_runs(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal(self._end))
        signal.signal(signal.SIGHUP, self._on_signal(self._reopen_access_log))
        _allow_open_files()
        for notice in self._notices:
            self._log.warn("{notice}", notice=notice)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    async def _start(self) -> None:
        self._store = store = await self._open_store()
        await store.start()
        if self._state.phase is Phase.DRAINING:
            return
        self._site.root = self._make_root(store)
        self._state.phase = Phase.READY
        for listener in self._listeners:
            listener.accept()
            self._log.info("listening on {url}", url=listener.url)
        notify_systemd("READY=1")

    def _start_failed(self, failure: Failure) -> None:
        error = failure.value
        if failure.check(StorageError, OSError):
            message = one_line(error)
        else:
            self._log.failure("the store cannot be opened", failure)
            message = f"the store cannot be opened: {type(error).__name__}: {one_line(error)}"
        self._log.critical("{message}", message=message)
        print(f"ais-s3: {message}", file=sys.__stderr__, flush=True)
        # twistd ends with status 0 whatever happened while the reactor ran. This runs when it has cleaned up.
        atexit.register(os._exit, 1)
        self._end()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._state.phase = Phase.DRAINING
        notify_systemd("STOPPING=1")
        for listener in self._listeners:
            await listener.close()
        await self._site.drain(DRAIN_SECONDS)
        if self._starting is not None:
            await self._starting
        if self._store is not None:
            await self._store.close()
        if self._site.access_log is not None:
            self._site.access_log.close()
        self._directory.release()
        self._log.info("stopped")

    # Signals

    def _on_signal(self, action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda number, frame: self._reactor.callFromThread(action)

    def _end(self) -> None:
        """SIGTERM, SIGINT: end, with status 0 (twistd's own handlers end with the signal); a second one: at once."""
        if self._state.phase is Phase.DRAINING:
            for channel in list(self._site.connections):
                channel.abort()
        else:
            self._state.phase = Phase.DRAINING
            self._reactor.stop()

    def _reopen_access_log(self) -> None:
        """SIGHUP: the access log was renamed."""
        if self._site.access_log is not None:
            try:
                self._site.access_log.reopen()
            except OSError as error:
                self._log.error("the access log cannot be opened again: {error}", error=one_line(error))


def notify_systemd(message: str) -> None:
    """sd_notify(3): tell systemd, if it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(message.encode(), address)


def _allow_open_files() -> None:
    """Raise the soft limit as far as we are allowed and have use for: 1,024 is not enough for our connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


__all__ = ["DRAIN_SECONDS", "AisService", "StartupError", "notify_systemd"]
