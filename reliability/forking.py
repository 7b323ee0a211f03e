"""The program that servers are forked from: it has imported everything, so that a start costs a tenth.

It takes command lines of twistd from its standard input (a socket), and forks for each of them; what runs in the fork
is twistd itself. What a master starts (workers, the index writer) are forks too, in which the module's ``main`` runs.
Descriptors, pipes, signals and deaths are those of processes that were executed.

:class:`reliability.server.Forker` is the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from reliability.clock import follow
from reliability.sabotage import SABOTAGES

_PR_SET_NAME = 15
#: The modules that the server runs as processes of its own -> the names of these processes.
NAMES = {"aisobj.worker": "ais-worker", "aisobj.storage.index_writer": "ais-writer"}


def main() -> None:
    """The program."""
    follow()
    from twisted.internet import epollreactor, process  # noqa: F401, PLC0415
    from twisted.scripts import twistd  # noqa: PLC0415

    import aisobj.tap  # noqa: PLC0415
    import aisobj.working  # noqa: F401, PLC0415

    for module in NAMES:
        importlib.import_module(module)
    assert "twisted.internet.reactor" not in sys.modules, "a reactor does not survive a fork"
    spawning: Any = process.Process
    spawning._trySpawnInsteadOfFork = lambda *_: False
    spawning._execChild = _become
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
            for argument, sabotage in SABOTAGES.items():
                if argument in command:
                    command.remove(argument)
                    sabotage()
            sys.argv = command
            _end(twistd.run)
        os.close(descriptors[0])
        connection.sendall(b"%8d" % child)


def _end(run: Callable[[], object]) -> NoReturn:
    """Run it as if it were all of the process."""
    status = 0
    try:
        run()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else bool(end.code)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _become(
    self: object, path: str, uid: None, gid: None, executable: str, args: Sequence[str], environment: dict[str, str]
) -> NoReturn:
    """Instead of executing ``python -P -m MODULE ARGUMENT ...`` in a child of the server: be that."""
    import prometheus_client.values  # noqa: PLC0415
    import twisted.internet  # noqa: PLC0415
    from twisted.logger import LimitedHistoryLogObserver, globalLogBeginner, globalLogPublisher  # noqa: PLC0415

    _, _, _, module, *arguments = args
    if _serves_itself():  # it has the index open, which no fork may have twice
        os.execvpe(executable, list(args), environment)
    os.environ.clear()
    os.environ.update(environment)
    # What the parent had begun: its reactor, and its log.
    del sys.modules["twisted.internet.reactor"], twisted.internet.reactor
    logs: Any = globalLogPublisher
    logs._observers = []
    logs = globalLogBeginner
    logs._temporaryObserver = LimitedHistoryLogObserver()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    prometheus_client.values.ValueClass = prometheus_client.values.get_value_class()  # type: ignore[no-untyped-call]  # by the environment
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAMES[module].encode())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python does when it begins
    gc.enable()
    run: Any = sys.modules[module].main
    _end(lambda: run(arguments) if arguments else run())


def _serves_itself() -> bool:
    return sys.argv[sys.argv.index("--workers") + 1] == "1"


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
