"""Kill -9 in a loop under a mixed load: nothing acknowledged is lost, nothing torn is served, nothing deleted comes
back, and what was not acknowledged has happened or has not.

A killed process is no power cut: what it wrote is in the page cache. That a sync reached the disk is for ``powercut``.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.load import HANG_SECONDS, MIXED, Client, Trouble
from reliability.program import Program
from reliability.server import BUCKET, Forker, Hang, Server, check_data, check_log, kill_processes, serving, small_log

CLIENTS = 4


def make_clients(seed: int, operations: Mapping[str, int] = MIXED, count: int = CLIENTS) -> list[Client]:
    return [Client(f"client{number}", BUCKET, seed + number, operations) for number in range(count)]


class Crasher:
    """Runs clients against a server and kills it. ``crash`` is one cycle.

    :param in_start: how probable it is that a cycle begins with a start that is not finished.
    :ivar starts: what those that were took, seconds. :ivar starts_cut: those that were not let alone.
    :ivar unready: those of them that were not over.
    """

    def __init__(self, server: Server, clients: Sequence[Client], seed: int, in_start: float = 0.1) -> None:
        self._server = server
        self.clients = clients
        self._random = random.Random(seed)
        self._in_start = in_start
        self.writers_killed = 0
        self.workers_killed = 0
        self.starts: list[float] = []
        self.starts_cut = self.unready = 0

    @property
    def acknowledged(self) -> int:
        return sum(client.acknowledged for client in self.clients)

    @property
    def faults(self) -> list[str]:
        return [fault for client in self.clients for fault in client.faults]

    def crash(self) -> None:
        chance, server = self._random.random, self._server
        if chance() < self._in_start:
            self.cut_start(server.kill if chance() < 0.5 else server.kill_all)
        self.start()
        trouble = Trouble()
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(client.work, trouble) for client in self.clients]
            try:
                self.await_acknowledged(self._random.randrange(30))
                if chance() < 0.2:
                    trouble.writer.set()
                    self._kill_writer()
                    self.await_acknowledged(10)  # the service goes on
                if server.workers > 1 and chance() < 0.3:
                    trouble.worker.set()
                    self._kill_worker()
                    self.await_acknowledged(10)
                if chance() < 0.3:
                    trouble.all.set()
                    self._kill_writer()
            finally:
                trouble.all.set()
                server.kill()
            for each in working:
                each.result(HANG_SECONDS)

    def start(self) -> None:
        """Start the server; everybody looks at what is theirs."""
        self._server.start()
        self.starts.append(self._server.ready_seconds)
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda client: client.verify(self._server.port), self.clients))

    def cut_start(self, end: Callable[[], object]) -> None:
        """Begin a start. Before the server is ready, or just after, call ``end``, which takes it away."""
        self._server.launch()
        time.sleep(1.3 * self._random.random() * self._server.ready_seconds)
        self.starts_cut += 1
        self.unready += not self._server.ready()
        end()

    def await_acknowledged(self, more: int) -> None:
        """:raises Hang:"""
        enough, deadline = self.acknowledged + more, time.monotonic() + HANG_SECONDS
        while self.acknowledged < enough and not self.faults:
            if time.monotonic() > deadline:
                raise Hang(self._server.log())
            time.sleep(0.001)

    def _kill_writer(self) -> None:
        self.writers_killed += kill_processes(self._server.writer_pids())

    def _kill_worker(self) -> None:
        pids = self._server.workers_pids()
        if pids:  # they may all be between a death and a start
            self.workers_killed += kill_processes([self._random.choice(pids)])


def run(
    forker: Forker, home: Path, *, cycles: int, workers: int, seed: int, seconds: float = math.inf
) -> tuple[list[str], dict[str, object]]:
    """The broken promises, and what was measured. :param seconds: no cycle begins later than this."""
    server = Server(forker, home / "server", *small_log(workers), workers=workers)
    crasher = Crasher(server, make_clients(seed), seed)
    with serving(server):
        server.start().make_bucket()
        server.kill()
        began = time.monotonic()
        cycle = 0
        while cycle < cycles and not crasher.faults and time.monotonic() - began < seconds:
            crasher.crash()
            cycle += 1
        taken = time.monotonic() - began
        if not crasher.faults:
            crasher.start()
            server.stop()
    faults = [*crasher.faults, *check_data(server.data, crashed=bool(crasher.faults))]
    faults += check_log(server.log())
    starts = sorted(crasher.starts)
    return faults, {
        "cycles": cycle,
        "workers": workers,
        "acknowledged": crasher.acknowledged,
        "writers killed": crasher.writers_killed,
        "workers killed": crasher.workers_killed,
        "starts killed": crasher.starts_cut,
        "of these before ready": crasher.unready,
        "seconds a cycle": round(taken / max(cycle, 1), 3),
        "ready, median": round(starts[len(starts) // 2], 3),
        "ready, slowest": round(starts[-1], 3),
    }


def main() -> None:
    program = Program("reliability.crash", __doc__)
    program.add_argument("--cycles", type=int, default=300)
    program.add_argument("--workers", type=int, default=2)
    program.add_argument("--seconds", type=float, default=math.inf, help="no cycle begins later than this")
    with program.running() as (options, home), Forker() as forker:
        cycles, workers, seconds = options.cycles, options.workers, options.seconds
        program.report(run(forker, home, cycles=cycles, workers=workers, seed=options.seed, seconds=seconds))


if __name__ == "__main__":
    main()
