"""The reactor's side of the index writer: sends commits, pairs answers with them, starts the writer and restarts it.

How a writer is started, or reached, ``index_writer_start`` knows.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorProcess,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from aisobj.errors import CommitUnknown, StorageError, StoreFull, StoreReadOnly
from aisobj.polling import turn_end
from aisobj.storage.index_protocol import (
    NOTICE,
    Answer,
    Commit,
    FrameReader,
    Outcome,
    append_frame,
    decode_answers,
    encode_frame,
    notice_commit,
)
from aisobj.storage.index_writer_start import StartWriter
from aisobj.storage.interfaces import CommitResult

#: seconds before a writer that died without ever having answered is started again: doubled each time, up to the last
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 5.0
_RECEIVE: Final = 1 << 18
#: Seconds after which what waits is sent although the turn goes on: the writer can sync it meanwhile.
MAX_WAIT: Final = 0.002

_RESULTS: Final = {Outcome.OK: CommitResult.OK, Outcome.CONFLICT: CommitResult.CONFLICT}
_ERRORS: Final[dict[Outcome, type[StorageError]]] = {
    Outcome.FAILED: StorageError,
    Outcome.FULL: StoreFull,
    Outcome.READ_ONLY: StoreReadOnly,
}


class IIndexReactor(IReactorFDSet, IReactorProcess, IReactorTime):
    """What the index needs of a reactor."""


@implementer(IReadDescriptor, IWriteDescriptor)
class _Connection:
    """The socket to one writer. The commits of one turn of the reactor go out together at its end.

    A send wakes the writer, which costs more than all else about a small commit; and what comes together shares its
    transaction (``docs/performance.md``).
    """

    def __init__(
        self,
        reactor: IIndexReactor,
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
        self._turn_end = turn_end(reactor)
        self._due = False  # at the end of this turn
        self._since = 0.0  # when the first of what waits for it came
        self._blocked = False  # the kernel took no more: doWrite goes on
        connection.setblocking(False)
        # The kernel's default has room for 40 commits of 4 KiB, and what it has not got the writer cannot batch.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "index writer"

    def send(self, message: Commit) -> None:
        """Raises ValueError (too large), and then nothing of it is sent."""
        append_frame(self._out, message)
        if self._blocked:
            return
        if not self._due:
            self._due = True
            self._since = self._reactor.seconds()
            self._turn_end.call(self._turn_ended)
        elif self._reactor.seconds() - self._since > MAX_WAIT:
            self.flush()
            self._since = self._reactor.seconds()

    def _turn_ended(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it; the rest follows by itself."""
        if self._out and not self._blocked:
            self.doWrite()
            if self._out:
                self._blocked = True
                self._reactor.addWriter(self)

    def finish(self) -> None:
        """No more commits will come: the writer ends when it has answered what it got. All commits have been sent."""
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
            self._out.clear()  # the writer has gone: doRead is about to find the end of the stream
        if self._blocked and not self._out:
            self._blocked = False
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._out.clear()
        self._socket.close()
        self._lost()


class WriterClient:
    """Commits, from the reactor thread.

    A commit that a writer took and did not answer before it died fails with CommitUnknown, but only when the next
    writer has greeted us: by then it is visible, or it will never be.

    :param start: starts a writer, or connects to one; called again whenever the connection has ended.
    :ivar read_only: why nothing more is written, or "".
    """

    _log = Logger()

    def __init__(self, reactor: IIndexReactor, start: StartWriter) -> None:
        self.read_only = ""
        self._reactor = reactor
        self._start_writer = start
        self._seq = 0
        self._pending: dict[int, Deferred[CommitResult]] = {}
        self._unsettled: list[Deferred[CommitResult]] = []  # taken by a writer that is gone
        self._unsent: list[Commit] = []  # while there is no writer
        self._connection: _Connection | None = None
        self._greeted = False
        self._ready: list[Deferred[None]] = []
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
        if self._connection is None:
            encode_frame(commit)  # is it too large?
            self._unsent.append(commit)
        else:
            self._connection.send(commit)
        deferred: Deferred[CommitResult] = Deferred()
        self._pending[commit.seq] = deferred
        return deferred

    def refuse(self, why: str) -> None:
        """Nobody may write any more, in no process: a blob could not be synced."""
        self.read_only = self.read_only or why
        if self._connection is not None:
            self._connection.send(notice_commit(self.read_only))
            self._connection.flush()

    def greeted(self) -> Deferred[None]:
        """Fires when a writer serves us. Errback: StorageError, the index cannot be opened."""
        if self._greeted:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._ready.append(waiting)
        return waiting

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
            if self._closed is not None:  # what is not settled then is so when the next server starts
                self._fail_unsettled()
            self._start_later()
            return
        self._connection = _Connection(self._reactor, connection, self._answered, self._lost)
        if self.read_only:
            self.refuse(self.read_only)  # whoever begins anew does not know it
        unsent, self._unsent = self._unsent, []
        for commit in unsent:
            self._connection.send(commit)

    def _start_later(self) -> None:
        if self._closed is not None and not self._pending and not self._unsettled:
            self._closed.callback(None)
            return
        self._restart = self._reactor.callLater(self._delay, self._start)
        self._delay = min(max(self._delay * 2, _FIRST_DELAY), _LAST_DELAY)

    def _answered(self, answers: list[Answer]) -> None:
        for answer in answers:
            if answer.seq == NOTICE:
                self._noticed(answer)
                continue
            self._delay = 0.0
            deferred = self._pending.pop(answer.seq)
            result = _RESULTS.get(answer.outcome)
            if result is not None:
                deferred.callback(result)
                continue
            if answer.outcome is Outcome.READ_ONLY:
                self.read_only = answer.text
            deferred.errback(_ERRORS[answer.outcome](answer.text))
        self._finish_if_idle()

    def _noticed(self, notice: Answer) -> None:
        if notice.outcome is Outcome.FAILED:
            self._log.error("the index writer cannot begin: {error}", error=notice.text)
            ready, self._ready = self._ready, []
            for waiting in ready:
                waiting.errback(StorageError(notice.text))
            return
        if notice.outcome is Outcome.READ_ONLY and not self.read_only:
            self.read_only = notice.text
            self._log.critical("read-only from now on: {why}", why=notice.text)
        self._greeted = True
        self._fail_unsettled()
        ready, self._ready = self._ready, []
        for waiting in ready:
            waiting.callback(None)

    def _finish_if_idle(self) -> None:
        if self._closed is None or self._closed.called or self._pending or self._unsettled:
            return
        if self._connection is not None:
            self._connection.finish()
        elif self._restart is not None:
            self._restart.cancel()
            self._restart = None
            self._closed.callback(None)

    def _lost(self) -> None:
        self._connection = None
        self._greeted = False
        if self._closed is not None and not self._pending and not self._unsettled:
            self._closed.callback(None)
            return
        self._log.error("the index writer has gone; {count} commits have no answer", count=len(self._pending))
        self._unsettled += self._pending.values()
        self._pending.clear()
        self._start_later()

    def _fail_pending(self, text: str) -> None:
        pending, self._pending = self._pending, {}
        self._unsent.clear()
        for deferred in pending.values():
            deferred.errback(CommitUnknown(text))

    def _fail_unsettled(self) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for deferred in unsettled:
            deferred.errback(CommitUnknown("the index writer died before it answered"))
