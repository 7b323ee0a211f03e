"""Hundreds of thousands of small and larger requests, of which a tenth break off in the middle of a body: open files
and memory stay as they were.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.program import Program
from reliability.server import BUCKET, Forker, Server, check_data, check_log, serving
from reliability.wire import Wire, open_files, resident

CLIENTS = 8
SHARE = 0.1  #: of requests that break off
#: Memory may grow by so much, bytes, from a quarter of the requests to the end: what malloc and the index's cache of
#: readers are still filling then, not so much a request.
GROWTH = 12_000_000

_SMALL, _LARGE = 4096, 300_000
_RESET = struct.pack("ii", 1, 0)


class _Client:
    """Sends requests, one after the other, for objects of its own."""

    def __init__(self, server: Server, number: int, seed: int, leak: bool) -> None:
        self.sent = 0
        self.broken_off = 0
        self.faults: list[str] = []
        self._server = server
        self._number = number
        self._random = random.Random(seed + number)
        self._wire: Wire | None = None
        self._leaked: list[Wire] | None = [] if leak else None

    def work(self, count: int) -> None:
        for _ in range(count):
            self._one()
            self.sent += 1
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def close(self) -> None:
        for wire in self._leaked or ():
            wire.close()

    def _one(self) -> None:
        random = self._random
        large = random.random() < 0.1
        size = _LARGE if large else _SMALL
        key = f"/s3/{BUCKET}/{self._number}-{random.randrange(16)}{'-large' if large else ''}"
        wire = self._wire = self._wire or Wire(self._server.port, seconds=60)
        try:
            if random.random() < SHARE:
                self._break_off(wire, key, size)
            elif random.random() < 0.3:
                self._expect(wire.ask("PUT", key, bytes(size))[0], 200)
            else:
                self._expect(wire.ask("GET", key)[0], 200, 404)
        except OSError as error:
            self.faults.append(f"a request failed: {error!r}")
            self._wire = None

    def _expect(self, status: int, *statuses: int) -> None:
        if status not in statuses:
            self.faults.append(f"a request was answered {status}")

    def _break_off(self, wire: Wire, key: str, size: int) -> None:
        """In the middle of what is sent or received, by FIN or by RST."""
        self.broken_off += 1
        if self._random.random() < 0.5:
            wire.begin("PUT", key, size)
            wire.socket.sendall(bytes(self._random.randrange(size)))
        else:
            wire.begin("GET", key)
            wire.socket.recv(self._random.randrange(1, 2000))
        self._wire = None
        if self._leaked is not None:
            self._leaked.append(wire)
            return
        if self._random.random() < 0.5:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        wire.close()


def run(
    forker: Forker,
    home: Path,
    *,
    requests: int,
    workers: int,
    seed: int,
    leak: bool = False,
    growth: int = GROWTH,
    patience: float = 15.0,
) -> tuple[list[str], dict[str, object]]:
    """The broken promises, and what was measured.

    :param leak: the clients keep what they break off open, as a server would look that forgot to close.
    :param patience: in which the last connections must be gone, seconds.
    """
    server = Server(forker, home / "server", workers=workers, sync=False)
    clients = [_Client(server, number, seed, leak) for number in range(CLIENTS)]
    with serving(server):
        server.start().make_bucket()
        files_before = _files(server)
        began = time.monotonic()
        memory = []
        for _ in range(4):
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda client: client.work(requests // 4 // CLIENTS), clients))
            memory.append(_memory(server))
        seconds = time.monotonic() - began
        files = _await_files(server, files_before, patience)
        for client in clients:
            client.close()
        status, _ = server.ask("GET", "/-/health")
        server.stop()
    faults = [fault for client in clients for fault in client.faults][:20]
    if files > files_before:
        faults.append(f"{files} files are open, {files_before} were before")
    if memory[-1] - memory[0] > growth:
        faults.append(f"memory grew from {memory[0] / 1e6:.1f} to {memory[-1] / 1e6:.1f} MB")
    if status != 200:
        faults.append(f"health is {status}")
    if tracebacks := check_log(server.log()):
        faults += [*tracebacks, server.log()[-5000:]]
    faults += check_data(server.data)
    return faults, {
        "requests": sum(client.sent for client in clients),
        "broken off": sum(client.broken_off for client in clients),
        "workers": workers,
        "open files, before and after": [files_before, files],
        "MB after each quarter": [round(each / 1e6, 1) for each in memory],
        "requests/s": round(requests / seconds),
    }


def _files(server: Server) -> int:
    return sum(map(open_files, server.pids()))


def _memory(server: Server) -> int:
    """Of all its processes, when they have come to rest."""
    time.sleep(1)
    return sum(map(resident, server.pids()))


def _await_files(server: Server, before: int, patience: float) -> int:
    """A connection is closed a little after its client has gone."""
    deadline = time.monotonic() + patience
    while (now := _files(server)) > before and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


def main() -> None:
    program = Program("reliability.aborts", __doc__)
    program.add_argument("--requests", type=int, default=200_000)
    program.add_argument("--workers", type=int, default=2)
    with program.running() as (options, home), Forker() as forker:
        program.report(run(forker, home, requests=options.requests, workers=options.workers, seed=options.seed))


if __name__ == "__main__":
    main()
