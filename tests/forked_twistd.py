"""Servers in processes forked from one that has imported everything already: a start takes a third of the time.

Run as a program this module imports, then takes command lines of twistd from its standard input (a socket), and forks
for each of them; what runs in the fork is twistd itself. :class:`ForkedServer` is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from server import START_SECONDS, ServerProcess, environment

#: An argument that is not twistd's: changes are acknowledged 50 ms before anything is done about them.
ACKNOWLEDGE_EARLY = "--acknowledge-early"


class Forker:
    """Starts the program; ``close`` it at the end."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(START_SECONDS)
        self._process = subprocess.Popen([sys.executable, __file__], stdin=theirs, env=environment())
        theirs.close()

    def fork(self, command: list[str], cwd: Path, log: IO[bytes]) -> Forked:
        message = json.dumps([command, str(cwd)]).encode()
        socket.send_fds(self._socket, [b"%8d" % len(message)], [log.fileno()])
        self._socket.sendall(message)
        return Forked(int(self._socket.recv(8)))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(START_SECONDS)


class Forked:
    """What :class:`ServerProcess` needs of a ``Popen``. Its parent is the forker, so nobody here knows its status."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return 0 if select.select([self._descriptor], [], [], 0)[0] else None

    def wait(self, timeout: float = START_SECONDS) -> int:
        if not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("twistd", timeout)
        os.close(self._descriptor)
        return 0

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._descriptor, number)


class ForkedServer(ServerProcess):
    """A server that starts by a fork.

    :param arguments: as for :class:`ServerProcess`.
    """

    def __init__(self, forker: Forker, home: Path, *options: str, **arguments: Any) -> None:
        super().__init__(home, *options, **arguments)
        self._forker = forker

    def _spawn(self, log: IO[bytes]) -> Any:
        return self._forker.fork(self.command, self.home, log)


def _serve() -> None:
    from twisted.internet import epollreactor  # noqa: PLC0415, F401
    from twisted.scripts import twistd  # noqa: PLC0415

    import aisobj.tap  # noqa: PLC0415, F401

    assert "twisted.internet.reactor" not in sys.modules, "a reactor does not survive a fork"
    gc.freeze()  # a collection in a child would copy all pages
    connection = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, 8, 1)
        if not head:
            return
        command, cwd = json.loads(connection.recv(int(head), socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            for number in (1, 2):
                os.dup2(descriptors[0], number)
            os.close(descriptors[0])
            connection.close()
            os.chdir(cwd)
            if ACKNOWLEDGE_EARLY in command:
                command.remove(ACKNOWLEDGE_EARLY)
                _acknowledge_early()
            sys.argv = command
            twistd.run()
            os._exit(0)
        os.close(descriptors[0])
        connection.sendall(b"%8d" % child)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _acknowledge_early() -> None:
    """A server that lies, so that a test can be seen to find it out."""
    from twisted.internet import reactor  # noqa: PLC0415
    from twisted.internet.defer import Deferred, succeed  # noqa: PLC0415

    from aisobj.storage import keys  # noqa: PLC0415
    from aisobj.storage.index_client import WriterClient  # noqa: PLC0415
    from aisobj.storage.interfaces import CommitResult  # noqa: PLC0415

    honest = WriterClient.commit

    def commit(self: WriterClient, commit: Any) -> Deferred[CommitResult]:
        if commit.partition == keys.ROOT:
            return honest(self, commit)
        reactor.callLater(0.05, lambda: honest(self, commit).addErrback(lambda _: None))  # type: ignore[attr-defined]
        return succeed(CommitResult.OK)

    WriterClient.commit = commit  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve()
