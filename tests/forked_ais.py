"""Runs the ``ais`` command in processes of its own, forked from one that has imported everything already.

A command spends nine tenths of its time importing Twisted. Run as a program this module imports first; then it takes
commands from its standard input (a socket), and forks for each of them. :class:`Forker` is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

HANG_SECONDS = 60.0


class Forker:
    """Starts the program; ``close`` it at the end."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(HANG_SECONDS)
        self._process = subprocess.Popen([sys.executable, __file__], stdin=theirs, env=dict(env))
        theirs.close()

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """Exit status, standard output and standard error."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            message = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(self._socket, [b"%8d" % len(message)], [given.fileno(), out.fileno(), err.fileno()])
            self._socket.sendall(message)
            status = int(self._socket.recv(8))
            out.seek(0)
            err.seek(0)
            return status, out.read(), err.read()

    def close(self) -> None:
        self._socket.close()
        self._process.wait(HANG_SECONDS)


def _end(main: click.Command, arguments: list[str]) -> None:
    """Taking the interpreter down in order takes longer than most commands."""
    status: int | str | None = 1
    try:
        main(arguments, prog_name="ais")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


def _serve() -> None:
    from twisted.internet import epollreactor, task  # noqa: PLC0415, F401

    import aisobj.client  # noqa: PLC0415, F401  so that a fork has it
    from aisobj.cli.main import main  # noqa: PLC0415

    assert "twisted.internet.reactor" not in sys.modules, "a reactor does not survive a fork"
    gc.freeze()  # a collection in a child would copy all pages
    connection = socket.socket(fileno=os.dup(0))
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        if not head:
            return
        message = json.loads(connection.recv(int(head), socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            connection.close()
            os.chdir(message["cwd"])
            os.environ.clear()
            os.environ.update(message["env"])
            time.tzset()
            _end(main, message["arguments"])
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.sendall(b"%8d" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _serve()
