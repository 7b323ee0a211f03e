"""Histories of eight clients that read and write the same few keys through two workers, while processes are killed and
the clock is set: whether each is linearizable.

Every history has a bucket of its own, and ends with a look at all keys. An operation whose answer was lost may have
happened; one that was answered with a 5xx may have too, but not later.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

from reliability.clock import Clock
from reliability.contention import Client, Stage
from reliability.load import HANG_SECONDS
from reliability.program import Program
from reliability.server import Forker, Hang, Server, check_data, check_log, kill_processes, serving

CLIENTS, WORKERS = 8, 2
OPERATIONS = 40  #: of each client in each history
#: What is done to the server. Of 16 histories in a row each has other ones of these.
TROUBLES = ("set_clock", "kill_server", "kill_writer", "kill_worker")
SECONDS_OFF = 3600.0  #: the clock, at most


class Historian:
    """Makes histories on one server, whose clock it sets, and checks them."""

    def __init__(self, server: Server, clock: Clock, seed: int) -> None:
        self._server = server
        self._clock = clock
        self._random = random.Random(seed)
        self._histories = 0
        self._ready: list[float] = []
        self._to_come: list[list[str]] = []
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.unanswered = 0
        self.operations = 0
        self.checking = 0.0

    def start(self) -> None:
        self._server.start()
        self._ready.append(time.monotonic())

    def make(self) -> None:
        """One history, and what is wrong with it."""
        self._histories += 1
        bucket = f"history-{self._histories}"
        status, body = self._server.ask("PUT", f"/s3/{bucket}")
        assert status == 200, body
        stage = Stage(bucket, self._address())
        clients = [Client(number, stage, self._random.getrandbits(32)) for number in range(CLIENTS)]
        troubles = self._next_troubles()
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(client.work, OPERATIONS) for client in clients]
            for name in troubles:
                self._await(stage, self._random.randrange(CLIENTS * OPERATIONS // len(TROUBLES)))
                self.troubles[name] += getattr(self, f"_{name}")(stage)
            for each in working:
                each.result(4 * HANG_SECONDS)
            list(pool.map(Client.look, clients))
        began = time.monotonic()
        faults = stage.faults + stage.history.faults(self._ready)
        self.checking += time.monotonic() - began
        self.faults += [f"history {self._histories} with {troubles}: {fault}" for fault in faults]
        for client in clients:
            self.done += client.done
        self.operations += len(stage.history.records)
        self.unanswered += sum(not record.answered for record in stage.history.records)

    def _next_troubles(self) -> list[str]:
        if not self._to_come:
            self._to_come = [[*some] for n in range(len(TROUBLES) + 1) for some in combinations(TROUBLES, n)]
            self._random.shuffle(self._to_come)
        troubles = self._to_come.pop()
        self._random.shuffle(troubles)
        return troubles

    def _address(self) -> tuple[int, int]:
        return len(self._ready) - 1, self._server.port

    @staticmethod
    def _await(stage: Stage, more: int) -> None:
        """:raises Hang:"""
        enough = min(stage.acknowledged + more, CLIENTS * OPERATIONS * 9 // 10)
        deadline = time.monotonic() + HANG_SECONDS
        while stage.acknowledged < enough and not stage.faults:
            if time.monotonic() > deadline:
                raise Hang(f"{stage.acknowledged} operations, and no more")
            time.sleep(0.001)

    # What is done to the server; how often

    def _set_clock(self, stage: Stage) -> int:
        self._clock.set(self._random.uniform(-SECONDS_OFF, SECONDS_OFF))
        return 1

    def _kill_server(self, stage: Stage) -> int:
        stage.cuts.set()
        stage.errors.set()
        self._server.kill()
        self.start()
        stage.address = self._address()
        return 1

    def _kill_writer(self, stage: Stage) -> int:
        stage.errors.set()
        return kill_processes(self._server.writer_pids())

    def _kill_worker(self, stage: Stage) -> int:
        stage.cuts.set()
        pids = self._server.workers_pids()  # none while they are between a death and a start
        return kill_processes([self._random.choice(pids)]) if pids else 0


def run(
    home: Path, *, histories: int, seed: int, seconds: float = math.inf, sabotage: str | None = None
) -> tuple[list[str], dict[str, object]]:
    """What cannot be, and what was measured. It ends with the first history that cannot be.

    :param seconds: no history begins later than this.
    :param sabotage: one of ``reliability.sabotage``.
    """
    began = time.monotonic()
    clock = Clock(home / "clock")
    with Forker(clock.environment) as forker:
        options = ["--checksum", "md5", *([sabotage] if sabotage else [])]
        server = Server(forker, home / "server", *options, workers=WORKERS)
        historian = Historian(server, clock, seed)
        with serving(server):
            historian.start()
            made = 0
            while made < histories and not historian.faults and time.monotonic() - began < seconds:
                historian.make()
                made += 1
            if not historian.faults:  # a start removes what the death of a worker has left
                server.stop()
                server.start().stop()
    faults = [*historian.faults, *check_data(server.data, crashed=bool(historian.faults))]
    faults += check_log(server.log())
    return faults, {
        "histories": made,
        "records": historian.operations,
        "unanswered": historian.unanswered,
        "operations": dict(historian.done),
        "troubles": dict(historian.troubles),
        "seconds a history": round((time.monotonic() - began) / max(made, 1), 3),
        "of that, checking": round(historian.checking / max(made, 1), 3),
    }


def main() -> None:
    program = Program("reliability.histories", __doc__)
    program.add_argument("--histories", type=int, default=30)
    with program.running() as (options, home):
        program.report(run(home, histories=options.histories, seed=options.seed))


if __name__ == "__main__":
    main()
