"""How the index writer is started, or reached.

It is a process or a thread (``index_writer`` is both). A pair of connected sockets joins it to whoever started it; the
workers of one server connect to the socket that their master listens at for it (:func:`connector`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from aisobj.programs import module_command
from aisobj.storage.index_writer import begin_writer

#: starts a writer; gives a socket connected to it. Raises OSError.
StartWriter = Callable[[], socket.socket]


class ThreadWriter:
    """Runs the writer in a thread, on the server's own environment (LMDB forbids opening it twice in a process).

    :param path: of the index, where commits are to be durable.
    """

    def __init__(self, environment: lmdb.Environment, path: Path | None) -> None:
        self._environment = environment
        self._path = path

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._run, args=(theirs,), name="index writer", daemon=True).start()
        return ours

    def _run(self, client: socket.socket) -> None:
        writer = begin_writer(self._environment, self._path, [client])
        try:
            writer.run()
        finally:
            writer.close()


class ProcessWriter(ProcessProtocol):
    """Runs the writer as a process of its own; what it says on stderr goes to our log.

    :param keep_open: a descriptor that it holds as long as it runs.
    :param listener: descriptor of a listening socket at which it takes further clients.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorProcess,
        path: Path,
        sync: bool,
        map_size: int,
        keep_open: int | None = None,
        listener: int | None = None,
    ) -> None:
        self._reactor = reactor
        self._keep_open = keep_open
        self._listener = listener
        self._arguments = [str(path), str(map_size), "sync" if sync else "nosync"]

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "r+b", buffering=0) as nothing:
            descriptors: dict[int, int | str] = {0: nothing.fileno(), 1: nothing.fileno(), 2: "r", 3: theirs.fileno()}
            sockets = ["3"]
            if self._keep_open is not None:
                descriptors[4] = self._keep_open
            if self._listener is not None:
                descriptors[5] = self._listener
                sockets.append("listen:5")
            program, arguments, env = module_command("aisobj.storage.index_writer", *self._arguments, *sockets)
            self._reactor.spawnProcess(self, program, arguments, env=env, childFDs=descriptors)
        return ours

    def errReceived(self, data: bytes) -> None:
        self._log.error("{text}", text=data.decode(errors="replace").rstrip())

    def processEnded(self, reason: Failure) -> None:
        if not reason.check(ProcessDone):
            self._log.error("the index writer ended: {reason}", reason=reason.getErrorMessage())


def connector(path: Path) -> StartWriter:
    """How a worker gets a writer: by a connection to the Unix socket ``path``, where the master's writer answers."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with directory(path.parent) as descriptor:
                connection.connect(short_path(descriptor, path.name))
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def short_path(descriptor: int, name: str) -> str:
    """A path of few bytes to ``name`` in an open directory: the address of a Unix socket has room for 107."""
    return f"/proc/self/fd/{descriptor}/{name}"
