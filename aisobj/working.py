"""What a worker does: it serves as its master tells it (``control``), and tells the master what that must know."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure

from aisobj import control
from aisobj.errors import StorageError
from aisobj.listening import ISharingReactor, SharedPort, StartupError, one_line, worker_factory
from aisobj.metrics import Gauges
from aisobj.programs import steady
from aisobj.serving import Serving
from aisobj.shared_metrics import SharedMetrics
from aisobj.storage.embedded import DataDirectory
from aisobj.tap import IServerReactor, make_serving
from aisobj.web.site import Site
from aisobj.worker import FIRST_SOCKET, FROM_MASTER, LOCK, TO_MASTER

#: How often what was counted goes where the other workers see it, seconds.
_METRICS_SECONDS = 1.0
#: How often the master is told which blobs are settled, seconds.
_SETTLED_SECONDS = 10.0


class IWorkerReactor(IServerReactor, ISharingReactor):
    """What a worker needs of a reactor."""


class Worker(Protocol):
    """The worker's end of the pipes, and its life."""

    _log = Logger()

    def __init__(self, reactor: IWorkerReactor, leave: Callable[[], None]) -> None:
        self._reactor = reactor
        self._leave_master = leave
        self._lines = control.Lines()
        self._serving: Serving | None = None
        self._starting: Deferred[None] | None = None
        self._ending = False
        self._metrics: SharedMetrics | None = None
        self._flushing = LoopingCall(self._flush)
        self._telling = LoopingCall(self._tell_settled)

    def log(self, event: LogEvent) -> None:
        """Observer of this process's log."""
        level = cast(Any, event.get("log_level") or LogLevel.info)
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        self._tell(control.Log(level.name, text[: control.LOG_LIMIT]))

    def dataReceived(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._obey(control.decode_to_worker(line))

    def _obey(self, message: control.ToWorker) -> None:
        match message:
            case control.Serve() as orders:
                self._starting = Deferred.fromCoroutine(self._start(orders))
                self._starting.addErrback(self._start_failed)
            case control.Drain():
                self._end()
            case control.Cut():
                if self._serving is not None:
                    self._serving.cut()
            case control.ReopenLogs():
                if self._serving is not None:
                    self._serving.reopen_logs()
            case control.OthersSettled(blob_id):
                if self._serving is not None and self._serving.store is not None:
                    self._serving.store.sweeper.others = blob_id

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What we have said is on its way to the master: this is the end."""
        self._reactor.stop()

    async def _start(self, orders: control.Serve) -> None:
        settings = orders.settings

        def listen(site: Site) -> list[SharedPort]:
            with chdir(orders.cwd):
                return [
                    SharedPort(self._reactor, descriptor, worker_factory(description, site))
                    for descriptor, description in enumerate(settings.listen, FIRST_SOCKET)
                ]

        self._serving = make_serving(
            settings,
            orders.credentials,
            DataDirectory(settings.data, LOCK),
            self._reactor,
            listen,
            worker=orders.number,
            alone=orders.alone,
            metrics=partial(self._make_metrics, orders.number),
        )
        await self._serving.start()
        if self._ending:
            return
        self._flushing.start(_METRICS_SECONDS)
        self._telling.start(_SETTLED_SECONDS)
        self._tell(control.Ready())

    def _make_metrics(self, number: int, gauges: Callable[[], Gauges]) -> SharedMetrics:
        self._metrics = SharedMetrics(gauges, number)
        return self._metrics

    def _start_failed(self, failure: Failure) -> None:
        if not failure.check(StartupError, StorageError, OSError):
            self._log.failure("the worker cannot start", failure)
        self._tell(control.Failed(one_line(failure.value)))
        self._end()

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            Deferred.fromCoroutine(self._finish()).addErrback(self._finish_failed)

    async def _finish(self) -> None:
        if self._serving is not None:
            await self._serving.drain()
            if self._starting is not None and not self._starting.called:
                await self._starting
            for loop in (self._flushing, self._telling):
                if loop.running:
                    loop.stop()
            await self._serving.close()
            self._flush()
        self._leave()

    def _finish_failed(self, failure: Failure) -> None:
        self._log.failure("the worker ends badly", failure)
        self._leave()

    def _leave(self) -> None:
        self._leave_master()
        if self.transport is not None:
            self.transport.loseConnection()

    def _flush(self) -> None:
        if self._serving is not None:
            self._serving.flush()
        if self._metrics is not None:
            self._metrics.flush(0 if self._serving is None else self._serving.connections)

    def _tell_settled(self) -> None:
        if self._serving is not None and self._serving.store is not None:
            self._tell(control.Settled(self._serving.store.settled_before()))

    def _tell(self, message: control.ToMaster) -> None:
        if self.transport is not None:
            self.transport.write(control.encode(message))


def work(leave: Callable[[], None]) -> None:
    """Run a worker until the master ends it. ``leave`` is called when the end of the pipe means nothing any more."""
    from twisted.internet import reactor  # noqa: PLC0415 (it is installed by its import)

    steady(reactor)
    worker = Worker(cast(IWorkerReactor, reactor), leave)
    cast(Any, StandardIO)(worker, stdin=FROM_MASTER, stdout=TO_MASTER)  # typed for Windows
    globalLogBeginner.beginLoggingTo([cast(ILogObserver, worker.log)], redirectStandardIO=False)
    cast(Any, reactor).run(installSignalHandlers=False)
