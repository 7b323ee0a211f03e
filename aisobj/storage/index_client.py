"""The reactor's side of the index writer: sends commits, pairs answers with them, starts the writer and restarts it.

The writer is a process or a thread (``index_writer`` is both); a pair of connected sockets joins the two sides.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lmdb
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost, ProcessDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorProcess,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

import aisobj
from aisobj.errors import CommitUnknown, StorageError, StoreFull, StoreReadOnly
from aisobj.storage.index_protocol import (
    Answer,
    Commit,
    FrameReader,
    Outcome,
    decode_answers,
    encode_frame,
)
from aisobj.storage.index_writer import IndexWriter
from aisobj.storage.interfaces import CommitResult

#: seconds before a writer that died without ever having answered is started again: doubled each time, up to the last
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 5.0
_RECEIVE: Final = 1 << 18

_RESULTS: Final = {Outcome.OK: CommitResult.OK, Outcome.CONFLICT: CommitResult.CONFLICT}
_ERRORS: Final[dict[Outcome, type[StorageError]]] = {
    Outcome.FAILED: StorageError,
    Outcome.FULL: StoreFull,
    Outcome.READ_ONLY: StoreReadOnly,
}

#: starts a writer; gives a socket connected to it. Raises OSError.
StartWriter = Callable[[], socket.socket]


class IIndexReactor(IReactorFDSet, IReactorProcess, IReactorTime):
    """What the index needs of a reactor."""


class ThreadWriter:
    """Runs the writer in a thread, on the server's own environment (LMDB forbids opening it twice in a process)."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        writer = IndexWriter(self._environment, [theirs])
        threading.Thread(target=self._run, args=(writer,), name="index writer", daemon=True).start()
        return ours

    @staticmethod
    def _run(writer: IndexWriter) -> None:
        try:
            writer.run()
        finally:
            writer.close()


class ProcessWriter(ProcessProtocol):
    """Runs the writer as a process of its own; what it says on stderr goes to our log."""

    _log = Logger()

    def __init__(self, reactor: IReactorProcess, path: Path, sync: bool, map_size: int, keep_open: int | None) -> None:
        self._reactor = reactor
        self._keep_open = keep_open
        self._arguments = [str(path), str(map_size), "sync" if sync else "nosync"]

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "r+b", buffering=0) as nothing:
            # The writer must be this very package, wherever it was imported from, and nothing of the working directory.
            home = str(Path(aisobj.__file__).parent.parent)
            search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
            descriptors: dict[int, int | str] = {0: nothing.fileno(), 1: nothing.fileno(), 2: "r", 3: theirs.fileno()}
            if self._keep_open is not None:
                descriptors[4] = self._keep_open
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-P", "-m", "aisobj.storage.index_writer", *self._arguments, "3"],
                env={**os.environ, "PYTHONPATH": search},
                childFDs=descriptors,
            )
        return ours

    def errReceived(self, data: bytes) -> None:
        self._log.error("{text}", text=data.decode(errors="replace").rstrip())

    def processEnded(self, reason: Failure) -> None:
        if not reason.check(ProcessDone):
            self._log.error("the index writer ended: {reason}", reason=reason.getErrorMessage())


@implementer(IReadDescriptor, IWriteDescriptor)
class _Connection:
    """The socket to one writer. Sends at once where the kernel takes it, so that the writer never waits for us."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        connection: socket.socket,
        answered: Callable[[list[Answer]], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._socket = connection
        self._answered = answered
        self._lost = lost
        self._frames = FrameReader(decode_answers)
        self._out = bytearray()
        connection.setblocking(False)
        # The kernel's default has room for 40 commits of 4 KiB, and what it has not got the writer cannot batch.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "index writer"

    def send(self, frame: bytearray) -> None:
        if self._out:
            self._out += frame
            return
        try:
            sent = self._socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the writer has gone: doRead is about to find the end of the stream
        if sent < len(frame):
            self._out += memoryview(frame)[sent:]
            self._reactor.addWriter(self)

    def finish(self) -> None:
        """No more commits will come: the writer ends when it has answered what it got."""
        with contextlib.suppress(OSError):  # it has gone already
            self._socket.shutdown(socket.SHUT_WR)

    # The interface says Failure, but what reactors take is the exception (posixbase._disconnectSelectable).
    def doRead(self) -> Exception | None:  # type: ignore[override]
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return None
        except OSError as error:
            return ConnectionLost(str(error))
        if not data:
            return ConnectionDone()
        for answers in self._frames.feed(data):
            self._answered(answers)
        return None

    def doWrite(self) -> None:
        try:
            del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # as in send
        if not self._out:
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._socket.close()
        self._lost()


class WriterClient:
    """Commits, from the reactor thread.

    :param start: starts a writer; called again whenever it has died.
    """

    _log = Logger()

    def __init__(self, reactor: IIndexReactor, start: StartWriter) -> None:
        #: why nothing more is written, or ""
        self.read_only = ""
        self._reactor = reactor
        self._start_writer = start
        self._seq = 0
        self._pending: dict[int, Deferred[CommitResult]] = {}
        self._unsent: list[bytearray] = []  # while no writer runs
        self._connection: _Connection | None = None
        self._delay = 0.0
        self._restart: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None
        self._start()

    def commit(self, commit: Commit) -> Deferred[CommitResult]:
        """Send one; its ``seq`` is set here. Fires and fails as ``IIndex.commit``. Raises ValueError (too large)."""
        if self.read_only:
            return fail(StoreReadOnly(self.read_only))
        if self._closed is not None:
            return fail(StoreReadOnly("the index is closed"))
        self._seq = commit.seq = self._seq + 1
        frame = encode_frame(commit)
        deferred: Deferred[CommitResult] = Deferred()
        self._pending[commit.seq] = deferred
        if self._connection is None:
            self._unsent.append(frame)
        else:
            self._connection.send(frame)
        return deferred

    def close(self) -> Deferred[None]:
        """Wait for the answers, then end the writer; fires when it has let go of the index."""
        if self._closed is None:
            self._closed = Deferred()
            self._finish_if_idle()
        done: Deferred[None] = Deferred()
        self._closed.chainDeferred(done)
        return done

    def _start(self) -> None:
        self._restart = None
        try:
            connection = self._start_writer()
        except OSError as error:
            self._log.error("the index writer cannot be started: {error}", error=error)
            self._fail_pending(f"the index writer cannot be started: {error}")
            self._start_later()
            return
        self._connection = _Connection(self._reactor, connection, self._answered, self._lost)
        unsent, self._unsent = self._unsent, []
        for frame in unsent:
            self._connection.send(frame)

    def _start_later(self) -> None:
        if self._closed is not None and not self._pending:
            self._closed.callback(None)
            return
        self._restart = self._reactor.callLater(self._delay, self._start)
        self._delay = min(max(self._delay * 2, _FIRST_DELAY), _LAST_DELAY)

    def _answered(self, answers: list[Answer]) -> None:
        self._delay = 0.0
        for answer in answers:
            deferred = self._pending.pop(answer.seq)
            result = _RESULTS.get(answer.outcome)
            if result is not None:
                deferred.callback(result)
                continue
            if answer.outcome is Outcome.READ_ONLY:
                self.read_only = answer.text
            deferred.errback(_ERRORS[answer.outcome](answer.text))
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        if self._closed is None or self._closed.called or self._pending:
            return
        if self._connection is not None:
            self._connection.finish()
        elif self._restart is not None:
            self._restart.cancel()
            self._restart = None
            self._closed.callback(None)

    def _lost(self) -> None:
        self._connection = None
        if self._closed is not None and not self._pending:
            self._closed.callback(None)
            return
        self._log.error("the index writer has gone; {count} commits have no answer", count=len(self._pending))
        self._fail_pending("the index writer died before it answered")
        self._start_later()

    def _fail_pending(self, text: str) -> None:
        pending, self._pending = self._pending, {}
        self._unsent.clear()
        for deferred in pending.values():
            deferred.errback(CommitUnknown(text))
