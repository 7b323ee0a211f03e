"""One process that serves: its store, its site, its ports. The whole server, or one of its workers.

The order of a start: store opened and recovered, then clients are let in. Of an end: nobody is let in any more, what is
in flight is finished, the store is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger
from twisted.web.resource import IResource

from aisobj.heap import keep_heap
from aisobj.listening import IListener, one_line
from aisobj.polling import poll_quietly
from aisobj.programs import quiet_collector
from aisobj.storage.embedded import DataDirectory
from aisobj.storage.store import ObjectStore
from aisobj.web.accesslog import AccessLog
from aisobj.web.auditlog import AuditLog
from aisobj.web.health import Phase, State
from aisobj.web.site import Site

#: How long requests in flight may still take once the server was told to end.
DRAIN_SECONDS = 30.0


class Serving:
    """It owns what it is given: ends the listeners, the store, the logs, the lock.

    :param open_store: opens the store; awaited once the reactor runs, so after twistd has forked.
    :param make_root: the root resource over an open store.
    :param alone: no other process uses the store yet. :param sweep: this process does what is done behind the
        clients' backs; both as in ``ObjectStore.start``.
    :ivar store: once it is open.
    """

    _log = Logger()

    def __init__(
        self,
        site: Site,
        state: State,
        listeners: Sequence[IListener],
        directory: DataDirectory,
        open_store: Callable[[], Awaitable[ObjectStore]],
        make_root: Callable[[ObjectStore], IResource],
        alone: bool = True,
        sweep: bool = True,
    ) -> None:
        self.store: ObjectStore | None = None
        self._site = site
        self._state = state
        self._listeners = listeners
        self._directory = directory
        self._open_store = open_store
        self._make_root = make_root
        self._alone = alone
        self._sweep = sweep

    @property
    def urls(self) -> list[str]:
        """Where clients find it."""
        return [listener.url for listener in self._listeners]

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._site.connections)

    def flush(self) -> None:
        """Tell log and metrics of the requests that have ended."""
        self._site.flush()

    async def start(self) -> None:
        """Open the store, let them in. Raises StorageError, OSError."""
        keep_heap()
        poll_quietly(self._site.clock)
        self.store = store = await self._open_store()
        await store.start(self._alone, self._sweep)
        if self._state.phase is Phase.DRAINING:
            return
        self._site.root = self._make_root(store)
        quiet_collector()
        self._state.phase = Phase.READY
        for listener in self._listeners:
            listener.accept()

    async def drain(self) -> None:
        """Let nobody in any more, finish what is in flight, but not for longer than ``DRAIN_SECONDS``."""
        self._state.phase = Phase.DRAINING
        for listener in self._listeners:
            await listener.close()
        await self._site.drain(DRAIN_SECONDS)

    async def close(self) -> None:
        """After ``drain``, and after ``start`` has ended: close the store and give everything back."""
        if self.store is not None:
            await self.store.close()
        self.flush()
        for log in self._logs:
            log.close()
        self._directory.release()

    def cut(self) -> None:
        """Drain no longer."""
        for channel in list(self._site.connections):
            channel.abort()

    def reopen_logs(self) -> None:
        """The files were renamed."""
        self.flush()
        for log in self._logs:
            try:
                log.reopen()
            except OSError as error:
                self._log.error("a log cannot be opened again: {error}", error=one_line(error))

    @property
    def _logs(self) -> list[AccessLog | AuditLog]:
        return [log for log in (self._site.access_log, self._site.audit_log) if log is not None]
