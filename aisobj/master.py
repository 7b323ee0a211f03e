"""The master of several workers: it binds the ports and holds the data directory's lock, runs the index writer and the
workers, and runs them again when they die. It never opens the index and answers no request.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Sequence

from prometheus_client.multiprocess import mark_process_dead
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from aisobj import control
from aisobj.listening import Listener, StartupError
from aisobj.options import Settings
from aisobj.programs import module_command
from aisobj.serving import DRAIN_SECONDS
from aisobj.shared_metrics import DIRECTORY_VARIABLE
from aisobj.storage.embedded import DataDirectory, remove_writer_socket, start_writer
from aisobj.storage.ids import first_id
from aisobj.storage.index_client import IIndexReactor, WriterClient
from aisobj.storage.unsettled import MARGIN_NS
from aisobj.worker import FIRST_SOCKET, FROM_MASTER, LOCK, TO_MASTER

#: A worker that lived less long than this (seconds) is started again only after a delay, doubled each time.
_SHORT_LIFE = 10.0
_FIRST_DELAY = 0.1
_LAST_DELAY = 5.0
#: What a worker may take for its end when the drain is over, before it is killed, seconds.
_PATIENCE = 10.0


class WorkerProcess(ProcessProtocol):
    """One worker, from its start to its end.

    :param number: from 0; a worker that takes the place of another one has its number.
    :ivar settled: what it last said about its blobs (``control.Settled``).
    :ivar ready: fires when it lets clients in; errback StartupError: it cannot, or has ended before.
    :ivar ended: fires when it has ended.
    """

    transport: IProcessTransport
    _log = Logger()

    def __init__(self, master: Master, number: int, now: float) -> None:
        self.number = number
        self.born = now
        # Whatever it makes comes later than this; its own word follows.
        self.settled = first_id(time.time_ns() - MARGIN_NS)
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.running = True
        self.pid = 0
        self._master = master
        self._lines = control.Lines()

    def connectionMade(self) -> None:
        self.pid = self.transport.pid or 0

    def tell(self, message: control.ToWorker) -> None:
        """Nothing happens where it has ended."""
        if self.running:
            self.transport.writeToChild(FROM_MASTER, control.encode(message))

    def kill(self) -> None:
        if self.running:
            self.transport.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == TO_MASTER:
            for line in self._lines.feed(data):
                self._hear(control.decode_to_master(line))
        else:
            self._log.error("worker {number}: {text}", number=self.number, text=data.decode(errors="replace").rstrip())

    def _hear(self, message: control.ToMaster) -> None:
        match message:
            case control.Ready():
                if not self.ready.called:
                    self.ready.callback(None)
            case control.Failed(text):
                if self.ready.called or self._master.started:
                    self._log.error("worker {number}: {text}", number=self.number, text=text)
                self._fail(text)
            case control.Settled(blob_id):
                self.settled = blob_id
                self._master.settled()
            case control.Log(level, text):
                self._log.emit(LogLevel.lookupByName(level), "worker {number}: {text}", number=self.number, text=text)

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        how = "" if reason.check(ProcessDone) else f": {reason.getErrorMessage()}"
        if self._master.ending and not self.ready.called:
            self.ready.callback(None)  # nobody wants to know any more
        self._fail(f"worker {self.number} ended{how}")
        self._master.worker_ended(self, how)
        self.ended.callback(None)

    def _fail(self, text: str) -> None:
        if not self.ready.called:
            self.ready.errback(StartupError(text))


class Master:
    """What twistd's service runs where several workers serve (``daemon.Server``).

    It owns what it is given: ends the listeners, the writer's socket, the lock, the directory of the metrics.

    :param credentials: the text of the credentials file, or None.
    :param cwd: what relative paths in endpoint strings start from.
    :param metrics: a private, empty directory for the workers' metrics.
    :ivar started: all workers have served. :ivar ending: it drains.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IIndexReactor,
        settings: Settings,
        listeners: Sequence[Listener],
        directory: DataDirectory,
        writer_socket: socket.socket,
        *,
        credentials: str | None,
        cwd: str,
        metrics: str,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._listeners = listeners
        self._directory = directory
        self._writer_socket = writer_socket
        self._credentials = credentials
        self._cwd = cwd
        self._metrics = metrics
        self._writer: WriterClient | None = None
        self._workers: list[WorkerProcess] = []
        self._delays = [0.0] * settings.workers
        self._restarts: dict[int, IDelayedCall] = {}
        self._dead_settled: bytes | None = None
        self._greeting: Deferred[None] | None = None
        self.started = False
        self.ending = False

    @property
    def urls(self) -> list[str]:
        return [listener.url for listener in self._listeners]

    async def start(self) -> None:
        """The writer, then one worker that looks after what a crash has left, then the others."""
        self._writer = start_writer(
            self._directory, self._writer_socket, reactor=self._reactor, sync=self._settings.sync
        )
        self._workers = [self._spawn(number) for number in range(self._settings.workers)]
        self._greeting = self._writer.greeted()
        with contextlib.suppress(CancelledError):
            await self._greeting
        if self.ending:
            return
        first, *others = self._workers
        self._serve(first, alone=True)
        await first.ready
        if self.ending:
            return
        for worker in others:
            self._serve(worker)
        await gatherResults([worker.ready for worker in others], consumeErrors=True)
        for worker in self._workers:
            if not worker.running and not self.ending:
                raise StartupError(f"worker {worker.number} ended at the start")
        self.started = True

    async def drain(self) -> None:
        self.ending = True
        if self._greeting is not None:
            self._greeting.cancel()
        for call in self._restarts.values():
            call.cancel()
        for listener in self._listeners:
            await listener.close()
        for worker in self._workers:
            worker.tell(control.Drain())
        patience = self._reactor.callLater(DRAIN_SECONDS + _PATIENCE, self._kill_all)
        await DeferredList([worker.ended if worker.running else succeed(None) for worker in self._workers])
        if patience.active():
            patience.cancel()

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        remove_writer_socket(self._directory.path)
        self._writer_socket.close()
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._directory.release()

    def cut(self) -> None:
        for worker in self._workers:
            worker.tell(control.Cut())

    def reopen_logs(self) -> None:
        for worker in self._workers:
            worker.tell(control.ReopenLogs())

    def settled(self) -> None:
        """A worker has said something new about its blobs: tell the one that writes the checkpoint.

        What a worker that died had begun is found by the next start of the server: no checkpoint passes it before.
        """
        known = [worker.settled for worker in self._workers]
        if self._dead_settled is not None:
            known.append(self._dead_settled)
        self._workers[0].tell(control.OthersSettled(min(known)))

    def worker_ended(self, worker: WorkerProcess, how: str) -> None:
        mark_process_dead(worker.pid, self._metrics)  # type: ignore[no-untyped-call]
        self._dead_settled = min(self._dead_settled or worker.settled, worker.settled)
        if self.ending or not self.started:
            return
        self._log.error("worker {number} ended{how}", number=worker.number, how=how)
        lived = self._reactor.seconds() - worker.born
        delay = 0.0 if lived >= _SHORT_LIFE else min(max(2 * self._delays[worker.number], _FIRST_DELAY), _LAST_DELAY)
        self._delays[worker.number] = delay
        self._restarts[worker.number] = self._reactor.callLater(delay, self._restart, worker.number)

    def _restart(self, number: int) -> None:
        del self._restarts[number]
        worker = self._workers[number] = self._spawn(number)
        worker.ready.addCallbacks(
            lambda _: self._log.info("worker {number} serves again", number=number),
            lambda _: None,  # it has said why, and will be started again
        )
        self._serve(worker)

    def _serve(self, worker: WorkerProcess, alone: bool = False) -> None:
        worker.tell(control.Serve(self._settings, self._credentials, self._cwd, worker.number, alone))

    def _spawn(self, number: int) -> WorkerProcess:
        worker = WorkerProcess(self, number, self._reactor.seconds())
        program, arguments, env = module_command("aisobj.worker")
        with open(os.devnull, "rb") as nothing:
            descriptors: dict[int, int | str] = {
                0: nothing.fileno(),
                1: 1,  # the access log may go there
                2: "r",
                FROM_MASTER: "w",
                TO_MASTER: "r",
                LOCK: self._directory.descriptor,
            }
            for place, listener in enumerate(self._listeners, FIRST_SOCKET):
                descriptors[place] = listener.fileno()
            env[DIRECTORY_VARIABLE] = self._metrics
            self._reactor.spawnProcess(worker, program, arguments, env=env, childFDs=descriptors)
        return worker

    def _kill_all(self) -> None:
        for worker in self._workers:
            if worker.running:
                self._log.error("worker {number} does not end and is killed", number=worker.number)
                worker.kill()
