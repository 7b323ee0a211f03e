"""The end of a server under load. ``SIGTERM`` while requests are in flight fails none of them, and whoever comes later
is refused or told that the connection closes. And where the listening socket is somebody else's, as under systemd, a
restart refuses nobody: who connects in between waits.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from reliability.program import Program
from reliability.server import BUCKET, START_SECONDS, Forker, Hang, Server, check_log, environment, serving
from reliability.wire import MIB, Wire

_SIZE = 3 * MIB
_LARGE = f"/s3/{BUCKET}/large"

# The end


class _InFlight:
    """One request whose middle is now. ``finish`` it."""

    def __init__(self, server: Server, number: int, content: bytes) -> None:
        self._wire = Wire(server.port, seconds=60)
        self._content = content
        self.key = f"/s3/{BUCKET}/key-{number}"
        self.uploads = number % 2 == 0
        if self.uploads:
            self._wire.begin("PUT", self.key, len(content), Expect="100-continue")
            status, _ = self._wire.head()  # so the server has it
            assert status == 100, status
            self._wire.socket.sendall(content[: len(content) // 2])
        else:
            self._wire.begin("GET", _LARGE)
            self._head = self._wire.head()

    def finish(self, told: bool) -> str:
        """What went wrong, or "".

        :param told: every process knows of the end by now, so that it must say that the connection closes.
        """
        try:
            if self.uploads:
                self._wire.socket.sendall(self._content[len(self._content) // 2 :])
                status, headers, _ = self._wire.answer()
                if status != 200 or (told and headers.get("connection") != "close"):
                    return f"an upload was answered {status} {headers}"
            else:
                body = bytearray()
                self._wire.body(int(self._head[1]["content-length"]), body.extend)
                if body != self._content:
                    return f"a download gave {len(body)} bytes"
        except OSError as error:
            return f"{'an upload' if self.uploads else 'a download'} failed: {error!r}"
        finally:
            self._wire.close()
        return ""


def run(
    forker: Forker, home: Path, *, requests: int, workers: int, rounds: int, options: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, object]]:
    """Uploads and downloads, half and half. The broken promises, and what was measured."""
    content = os.urandom(_SIZE)
    faults: list[str] = []
    outcomes: Counter[str] = Counter()
    endings = []
    server = Server(forker, home / "server", *options, workers=workers)
    with serving(server):
        for _ in range(rounds):
            server.start()
            if server.ask("HEAD", f"/s3/{BUCKET}")[0] == 404:
                server.make_bucket()
                server.ask("PUT", _LARGE, content)
            idle = [Wire(server.port, seconds=60) for _ in range(8)]
            for wire in idle:
                wire.ask("GET", "/-/health")
            flight = [_InFlight(server, number, content) for number in range(requests)]
            began = time.monotonic()
            signal.pidfd_send_signal(server.descriptor, signal.SIGTERM)
            refused = False  # all have let go of the port: from then on each knows
            for request in flight:
                outcome = _knock(server)
                outcomes[outcome] += 1
                refused |= outcome == "refused"
                if fault := request.finish(refused):
                    faults.append(fault)
            server.wait()
            for wire in idle:
                wire.close()
            endings.append(time.monotonic() - began)
            server.start()
            for request in flight:
                if request.uploads and server.ask("GET", request.key) != (200, content):
                    faults.append("what was put at the end is not there")
            server.stop()
    faults += outcomes.keys() - {"refused", "told", "answered"}
    faults += check_log(server.log())
    return faults[:20], {
        "in flight": requests * rounds,
        "workers": workers,
        "new ones": dict(outcomes),
        "slowest end, s": round(max(endings), 2),
    }


def _knock(server: Server) -> str:
    """What becomes of somebody new. ("answered": before the server knew of its end.)"""
    try:
        wire = Wire(server.port, seconds=60)
    except ConnectionRefusedError:
        return "refused"
    with wire:
        try:
            wire.begin("GET", "/-/health")
            status, headers, _ = wire.answer()
        except OSError:
            return "refused"  # it was in the queue of a port that closed
    if status in (200, 503) and headers.get("connection") == "close":
        return "told"
    return "answered" if status == 200 else f"a new request was answered {status} {headers}"


# Socket activation


def _kept_port() -> int:
    """One that the kernel lends to no client: who connects to a port while nobody listens there may be given the very
    same one, and talks to itself. :raises Hang:"""
    lent = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lent - 1, 1024, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Hang("no port is free")


class Activated:
    """``twistd`` with a listening socket of ours, as systemd would start it: LISTEN_FDS, LISTEN_PID.

    :param inherits: False: a port of its own, as the negative control.
    """

    def __init__(self, home: Path, workers: int, inherits: bool = True) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._log = home / "server.log"
        self._listener = socket.create_server(("127.0.0.1", 0 if inherits else _kept_port()), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        listen = "systemd:domain=INET:index=0" if inherits else f"tcp:{self.port}:interface=127.0.0.1"
        self._inherits = inherits
        if not inherits:
            self._listener.close()
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._command = [twistd, "-n", "--pidfile=", "ais-s3", "--data", str(home / "data"), "--access-log", "off"]
        self._command += ["--workers", str(workers), "--no-sync", "--listen", listen]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; who connects from now on is answered. :raises Hang:"""
        begun = self._log.stat().st_size if self._log.exists() else 0
        command = self._command
        descriptors: tuple[int, ...] = ()
        if self._inherits:
            # LISTEN_PID is the process itself: the shell's, which becomes twistd.
            script = 'exec 3<&"$1"; shift; LISTEN_FDS=1 LISTEN_FDNAMES=ais-s3.socket LISTEN_PID=$$ exec "$@"'
            command = ["/bin/bash", "-c", script, "-", str(self._listener.fileno()), *command]
            descriptors = (self._listener.fileno(),)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._home, env=environment(), pass_fds=descriptors, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while "listening on" not in self.log()[begun:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Hang(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._listener.close()


class _Visitors:
    """Clients that connect, ask once and leave, again and again."""

    def __init__(self, port: int, clients: int, seed: int) -> None:
        self.answered = 0
        self.faults: list[str] = []
        self.slowest = 0.0
        self._port = port
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(seed + n,)) for n in range(clients)]

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in self._threads:
                thread.join()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._end.is_set():
            began = time.monotonic()
            fault = ""
            try:
                with Wire(self._port, seconds=60) as wire:
                    key = f"/s3/{BUCKET}/{chance.randrange(100)}"
                    body = b"x" * 1000 if chance.random() < 0.5 else None
                    status, _ = wire.ask("PUT" if body else "GET", key, body)
                    if status not in (200, 404):
                        fault = f"a request was answered {status}"
            except OSError as error:
                fault = f"a connection failed: {error!r}"
            with self._lock:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if fault:
                    self.faults.append(fault)
                else:
                    self.answered += 1
            self._end.wait(0.005)


def run_restarts(
    home: Path, *, restarts: int, workers: int, seed: int, clients: int = 16, inherits: bool = True
) -> tuple[list[str], dict[str, object]]:
    """Restart a server under load, again and again. The broken promises, and what was measured."""
    server = Activated(home / "server", workers, inherits)
    try:
        server.start()
        with Wire(server.port) as wire:
            wire.ask("PUT", f"/s3/{BUCKET}")
        visitors = _Visitors(server.port, clients, seed)
        downs = []
        with visitors.coming():
            for _ in range(restarts):
                time.sleep(0.3)
                began = time.monotonic()
                server.stop()
                server.start()
                downs.append(time.monotonic() - began)
            time.sleep(0.3)
        server.stop()
    finally:
        server.close()
    faults = visitors.faults[:20]
    faults += check_log(server.log())
    return faults, {
        "restarts": restarts,
        "workers": workers,
        "answered": visitors.answered,
        "failed": len(visitors.faults),
        "slowest, s": round(visitors.slowest, 2),
        "slowest restart, s": round(max(downs), 2),
    }


def main() -> None:
    program = Program("reliability.drain", __doc__)
    program.add_argument("--requests", type=int, default=100, help="in flight")
    program.add_argument("--rounds", type=int, default=10)
    program.add_argument("--restarts", type=int, default=20)
    program.add_argument("--workers", type=int, default=2)
    with program.running() as (options, home), Forker() as forker:
        workers = options.workers
        drained = run(forker, home / "drain", requests=options.requests, workers=workers, rounds=options.rounds)
        program.report(drained, "SIGTERM")
        restarted = run_restarts(home / "restarts", restarts=options.restarts, workers=workers, seed=options.seed)
        program.report(restarted, "socket activation")


if __name__ == "__main__":
    main()
