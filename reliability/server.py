"""Servers that are started, killed and started again, many times a minute: each a fork of one process that has
imported everything (``reliability.forking``).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import aisobj
from benchmarks.processes import descendants
from reliability import forking, sabotage

START_SECONDS = 60.0  #: a hang
BUCKET = "bucket"

_CODE = Path(aisobj.__file__).parent.parent
_PROGRAM = Path(forking.__file__)
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


class Hang(Exception):
    """Something takes far longer than it can."""


class NotStarted(Hang):
    """A server was started and does not serve."""


def environment() -> dict[str, str]:
    """Ours, without what may stand in a developer's; our code, and that of the server under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIS_", "AWS_"))}
    for name in ("NOTIFY_SOCKET", "STATE_DIRECTORY", "http_proxy", "HTTP_PROXY"):
        kept.pop(name, None)
    kept["PYTHONPATH"] = os.pathsep.join((str(_CODE), str(_PROGRAM.parent.parent)))
    return kept


def small_log(workers: int) -> tuple[str, ...]:
    """The option that makes an index do a checkpoint every few commits, where a server knows it."""
    return (sabotage.SMALL_LOG,) if workers > 1 else ()


class Forker:
    """Starts the program; ``close`` it at the end, or use it as a context.

    :param more: variables of its environment, and of all servers'.
    """

    def __init__(self, more: Mapping[str, str] = {}) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(START_SECONDS)
        command = [sys.executable, "-m", "reliability.forking"]
        self._process = subprocess.Popen(command, stdin=theirs.fileno(), env=environment() | dict(more))
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, command: list[str], cwd: Path, log: IO[bytes]) -> int:
        """The pid of a new server."""
        message = json.dumps([command, str(cwd)]).encode()
        socket.send_fds(self._socket, [b"%8d" % len(message)], [log.fileno()])
        self._socket.sendall(message)
        return int(self._socket.recv(8))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(START_SECONDS)

    def __enter__(self) -> Forker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server:
    """``start`` it, ``stop`` or ``kill`` it, any number of times on the same data.

    :param home: a directory of its own: working directory, log, and the data, if they have no other place.
    :param options: further ones of twistd's, or one of ``reliability.sabotage``.
    :ivar port: where it listens. :ivar ready_seconds: what its last start took.
    """

    def __init__(
        self, forker: Forker, home: Path, *options: str, data: Path | None = None, sync: bool = True, workers: int = 1
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = data or home / "data"
        self.workers = workers
        self.port = 0
        self.ready_seconds = 0.0
        self._forker = forker
        self._log = home / "server.log"
        self._pid = 0
        self._descriptor = -1
        self._begun = 0
        self._command = ["twistd", "-n", "--pidfile=", "ais-s3", "--data", str(self.data), "--access-log", "off"]
        self._command += ["--workers", str(workers), "--listen", "tcp:0:interface=127.0.0.1", *options]
        if not sync:
            self._command.append("--no-sync")

    @property
    def pid(self) -> int:
        """Of the process that twistd is."""
        return self._pid

    @property
    def descriptor(self) -> int:
        """Of the process that twistd is, for signals (a pidfd)."""
        return self._descriptor

    def launch(self) -> None:
        """Start it without waiting."""
        assert self._descriptor < 0, "it runs already"
        self._begun = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._pid = self._forker.fork(self._command, self.home, log)
        self._descriptor = os.pidfd_open(self._pid)

    def start(self) -> Server:
        """Start it and wait until it listens. :raises NotStarted: it does not, or has ended; with its log."""
        began = time.monotonic()
        self.launch()
        while not self.ready():
            if _gone(self._descriptor, 0) or time.monotonic() - began > START_SECONDS:
                self.kill()
                raise NotStarted(f"the server did not start:\n{self.log()}")
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - began
        return self

    def ready(self) -> bool:
        """Whether it has said, since it was launched, that it listens; then it has a port."""
        with self._log.open(errors="replace") as log:
            log.seek(self._begun)  # a soak's is long, and this is asked every few milliseconds
            found = _LISTENING.findall(log.read())
        if found:
            self.port = int(found[-1])
        return bool(found)

    def stop(self) -> None:
        """SIGTERM, and wait. :raises Hang:"""
        signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)
        self.wait()

    def wait(self) -> None:
        """Until it has ended by itself. :raises Hang:"""
        if not _gone(self._descriptor, START_SECONDS):
            self.kill()
            raise Hang(f"the server did not end:\n{self.log()}")
        self._ended()

    def kill(self) -> None:
        """SIGKILL of the one process that twistd is. Its others end by themselves."""
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            _gone(self._descriptor, START_SECONDS)
            self._ended()

    def kill_all(self) -> None:
        """SIGKILL of all its processes, and wait until they are gone, as when the machine stops."""
        if self._descriptor >= 0:
            kill_processes(pids := self.pids())
            self.kill()
            await_end(pids)

    def alive(self) -> bool:
        return self._descriptor >= 0 and not _gone(self._descriptor, 0)

    def _ended(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def log(self) -> str:
        """Its standard output and error, of all its starts."""
        return self._log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """Of the server and of all its descendants."""
        return descendants(self._pid)

    def pids_of(self, module: str) -> list[int]:
        """Of its processes that run a module (a key of ``forking.NAMES``); oldest first."""
        found = []
        for pid in self.pids()[1:]:
            with contextlib.suppress(OSError):
                process = Path(f"/proc/{pid}")
                forked = (process / "comm").read_text().strip() == forking.NAMES[module]
                if forked or module in (process / "cmdline").read_text().split("\0"):
                    found.append(pid)
        return sorted(found)

    def workers_pids(self) -> list[int]:
        return self.pids_of("aisobj.worker")

    def serving_pids(self) -> list[int]:
        """Those that answer requests."""
        return self.workers_pids() if self.workers > 1 else [self._pid]

    def writer_pids(self) -> list[int]:
        """None while a dead one has no successor yet."""
        return self.pids_of("aisobj.storage.index_writer")

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own. Raises OSError, http.client.HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def make_bucket(self) -> None:
        status, body = self.ask("PUT", f"/s3/{BUCKET}")
        assert status == 200, body


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Leave no process behind."""
    try:
        yield server
    finally:
        server.kill_all()


def kill_processes(pids: Iterable[int]) -> int:
    """SIGKILL; how many there were still."""
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def await_end(pids: Iterable[int]) -> None:
    """:raises Hang: a process that has been killed does not end."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if not _gone(descriptor, START_SECONDS):
                    raise Hang(f"process {pid} does not end")
            finally:
                os.close(descriptor)


def _gone(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def check_log(log: str) -> list[str]:
    """The fault of a server's log that has a traceback."""
    return ["a traceback in the server's log"] if "Traceback" in log else []


def check_data(data: Path, *, crashed: bool = False) -> list[str]:
    """The faults of the data directory of a server that does not run, found by the project's own checker."""
    command = [sys.executable, "-m", "aisobj.tools", "--data", str(data), "fsck", "--deep", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode not in (0, 1):  # it could not look
        return [f"fsck ended with status {done.returncode}", *done.stderr.splitlines()]
    report = json.loads(done.stdout)
    faults: list[str] = report["faults"] + ([] if crashed else report["left_by_crash"])
    return faults
