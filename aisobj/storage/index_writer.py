"""The one writer of the index: a blocking loop that takes every waiting commit, writes them in one transaction with one
sync, and answers them all. It runs as a thread of the server or, by default, as a process of its own::

    python -m aisobj.storage.index_writer PATH MAP_SIZE sync|nosync SOCKET_FD ... [listen:SOCKET_FD]

The clients are the sockets named, and whoever connects to the listening one. The process ends when the other ends of
all of them are closed, after it has finished what it got; so it survives nobody it works for, and it ignores SIGINT and
SIGTERM, which also reach it where a terminal or systemd ends the whole group while the server still drains. It imports
no Twisted (13 MB of its own memory).

Every client is greeted with a commit of nothing that waits in line like its own would (``NOTICE``). That is a write
transaction, and beginning one makes LMDB show what a writer that was killed had written but not shown yet.
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import lmdb

from aisobj.errors import StorageError
from aisobj.programs import quiet_collector
from aisobj.storage.index_log import IndexLog
from aisobj.storage.index_protocol import (
    NOTICE,
    Answer,
    Commit,
    FrameReader,
    Outcome,
    decode_commit,
    encode_frame,
    notice_commit,
)
from aisobj.storage.index_transactions import IndexTransactions, note
from aisobj.storage.lmdb_env import open_environment

#: the most one transaction takes: LMDB keeps its pages in memory, and the last commit waits for the first
MAX_BATCH_COMMITS: Final = 1024
MAX_BATCH_BYTES: Final = 16 << 20
_RECEIVE: Final = 1 << 20
#: seconds; the most that commits wait for others to share their transaction
MAX_GATHERING: Final = 0.002
#: less is not waited: epoll counts whole milliseconds
_LEAST_WAIT: Final = 0.0005


class _Client:
    """One connection: a server, or one of its workers."""

    __slots__ = ("ended", "frames", "out", "socket", "unfinished")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.frames = FrameReader(decode_commit)
        self.out = bytearray()  # answers it was too slow to take; while there are any, its commits are not read
        self.unfinished = 0  # commits taken and not answered
        self.ended = False


class IndexWriter:
    """The loop. Everything but ``read_only`` belongs to the thread that calls :meth:`run`.

    :param environment: stays the caller's, who closes it after :meth:`run` has returned.
    :param clients: connected stream sockets, from now on the writer's.
    :param read_only: begin with this as :attr:`read_only`.
    :param listener: a listening socket for further clients, from now on the writer's.
    :param log: makes commits durable, from now on the writer's; without it a power cut may lose or spoil everything.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        clients: Iterable[socket.socket],
        read_only: str = "",
        listener: socket.socket | None = None,
        log: IndexLog | None = None,
    ) -> None:
        self._transactions = IndexTransactions(environment, read_only, log)
        self._told = read_only  # what every client knows, or learns from its greeting
        self._environment = environment
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._waiting: deque[tuple[_Client, Commit, int]] = deque()
        self._buffer = memoryview(bytearray(_RECEIVE))
        self._expected = 0  # commits that the next transaction waits for
        self._patience = 0.0  # how long, in seconds
        self._listener = listener
        if listener is not None:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        for connection in clients:
            self.add_client(connection)

    def add_client(self, connection: socket.socket) -> None:
        """Serve one more."""
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        client.unfinished += 1
        self._waiting.append((client, notice_commit(), 0))

    def run(self) -> None:
        """Serve until every client has closed its end and has its answers. Call :meth:`close` afterwards."""
        while True:
            batch = self._next_batch()
            if batch:
                begun = time.monotonic()
                answers = self.process([commit for _, commit in batch])
                self._patience = min(4 * (time.monotonic() - begun), MAX_GATHERING)
                self._expected = len(batch)
                self._answer(batch, answers)
            if self.read_only != self._told:
                self._tell_all()
            ended = [client for client in self._clients if client.ended and not client.unfinished and not client.out]
            if len(ended) == len(self._clients) and not self._accept():
                return  # their sockets stay open until close(), so that the end of the stream says all is released
            for client in ended:
                self._drop(client)
            if ended:  # perhaps by a kill: a snapshot that it held makes the index grow
                self._environment.reader_check()
            self._read(0 if self._waiting else None)
            self._gather()

    @property
    def read_only(self) -> str:
        """Why nothing is written any more, or ""."""
        return self._transactions.read_only

    def process(self, commits: Sequence[Commit]) -> list[Answer]:
        """See :meth:`IndexTransactions.process`."""
        return self._transactions.process(commits)

    def close_log(self) -> None:
        """See :meth:`IndexTransactions.close_log`."""
        self._transactions.close_log()

    def close(self) -> None:
        """Close the log and the sockets."""
        self.close_log()
        for client in list(self._clients):
            self._drop(client)
        if self._listener is not None:
            self._listener.close()
        self._selector.close()

    def _gather(self) -> None:
        """Wait for as many commits as the last transaction had; a few times as long as that one took, and two or three
        milliseconds at most.

        Whoever was just answered mostly comes again, and what comes together shares its transaction, its sync and the
        wake-ups of the writer and of those who wait for it (``docs/performance.md``). Commits that come one at a time,
        each after the answer to the one before, never wait.
        """
        end = time.monotonic() + self._patience
        while 0 < len(self._waiting) < self._expected:
            left = end - time.monotonic()
            if left < _LEAST_WAIT or not self._read(left):
                break

    def _next_batch(self) -> list[tuple[_Client, Commit]]:
        batch: list[tuple[_Client, Commit]] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_COMMITS and size < MAX_BATCH_BYTES:
            client, commit, length = self._waiting.popleft()
            batch.append((client, commit))
            size += length
        return batch

    def _answer(self, batch: Sequence[tuple[_Client, Commit]], answers: Sequence[Answer]) -> None:
        by_client: dict[_Client, list[Answer]] = {}
        for (client, _), answer in zip(batch, answers, strict=True):
            by_client.setdefault(client, []).append(answer)
        for client, its_answers in by_client.items():
            client.unfinished -= len(its_answers)
            client.out += encode_frame(its_answers)
            self._send(client)

    def _tell_all(self) -> None:
        """Every client must stop writing, not only those whose commits are refused."""
        self._told = self.read_only
        frame = encode_frame([Answer(NOTICE, Outcome.READ_ONLY, self.read_only)])
        for client in list(self._clients):
            client.out += frame
            self._send(client)

    def _accept(self) -> bool:
        """Take whoever has connected; whether anybody had."""
        found = False
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            except OSError as error:  # the connection is gone already, or there are too many open files
                note(f"a client cannot be accepted: {error}")
                break
            self.add_client(connection)
            found = True
        return found

    def _read(self, timeout: float | None) -> bool:
        """What has come, after at most ``timeout`` seconds (None: any number); whether anything had."""
        ready = self._selector.select(timeout)
        for selected, events in ready:
            if selected.fileobj is self._listener:
                self._accept()
                continue
            client: _Client = selected.data
            if events & selectors.EVENT_WRITE:
                self._send(client)
            if events & selectors.EVENT_READ:
                self._receive(client)
        return bool(ready)

    def _receive(self, client: _Client) -> None:
        try:
            count = client.socket.recv_into(self._buffer)
            commits = client.frames.feed(self._buffer[:count])
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            note(f"a client of the index writer is cut off: {type(error).__name__}: {error}")
            self._give_up(client)
            return
        if not count:
            client.ended = True
            self._watch(client)
        for commit in commits:
            if commit.refuse:
                self._transactions.refuse(commit.refuse)
                continue
            client.unfinished += 1
            self._waiting.append((client, commit, sum(map(len, commit.put.values()))))

    def _send(self, client: _Client) -> None:
        if client.socket.fileno() == -1:  # it was cut off
            client.out.clear()
            return
        try:
            sent = client.socket.send(client.out)
        except BlockingIOError:
            sent = 0
        except OSError:  # it has gone; what it sent before that is read to its end
            sent = len(client.out)
        del client.out[:sent]
        self._watch(client)

    def _watch(self, client: _Client) -> None:
        """Wait for room if answers are left, otherwise for commits."""
        reading = 0 if client.ended else selectors.EVENT_READ
        events = selectors.EVENT_WRITE if client.out else reading
        known = self._selector.get_map().get(client.socket)
        if known is None:
            if events:
                self._selector.register(client.socket, events, client)
        elif not events:
            self._selector.unregister(client.socket)
        elif known.events != events:
            self._selector.modify(client.socket, events, client)

    def _give_up(self, client: _Client) -> None:
        """Nothing more comes from it or can be said to it; what it sent in full is finished all the same."""
        client.ended = True
        client.out.clear()
        self._watch(client)
        client.socket.close()

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        client.ended = True
        client.out.clear()
        if client.socket.fileno() != -1:
            self._watch(client)
            client.socket.close()


def begin_writer(
    environment: lmdb.Environment,
    path: Path | None,
    clients: Iterable[socket.socket],
    listener: socket.socket | None = None,
) -> IndexWriter:
    """A writer with a log of its own; one that writes nothing where that cannot begin.

    :param path: of the index, where commits are to be durable.
    """
    read_only, log = "", None
    try:
        log = None if path is None else IndexLog(path, environment)
    except (lmdb.Error, OSError, StorageError) as error:
        read_only = f"the log of the index could not begin: {error}"
        note(read_only)
    return IndexWriter(environment, clients, read_only, listener, log)


def main(arguments: Sequence[str]) -> None:
    """The process; the module's docstring has its arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    path, map_size, sync, *descriptors = arguments
    clients = [socket.socket(fileno=int(text)) for text in descriptors if text.isdecimal()]
    listeners = [socket.socket(fileno=int(text.partition(":")[2])) for text in descriptors if not text.isdecimal()]
    try:
        environment = open_environment(Path(path), sync=sync == "sync", map_size=int(map_size))
    except StorageError as error:
        for client in clients:
            client.sendall(encode_frame([Answer(NOTICE, Outcome.FAILED, str(error))]))
        raise SystemExit(1) from None
    writer = begin_writer(
        environment, Path(path) if sync == "sync" else None, clients, listeners[0] if listeners else None
    )
    environment.reader_check()  # not before: what an earlier writer held must be held until there is a new base
    quiet_collector()
    try:
        writer.run()
    finally:
        writer.close_log()
        environment.close()
        writer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
