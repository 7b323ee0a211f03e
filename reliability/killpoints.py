"""A SIGKILL before every system call of the write path of the core operations.

strace kills the server, or its index writer, as it is about to make a certain call. Then everything is killed and
started again: the operation has happened or has not, and has if it was acknowledged.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reliability.operations import OPERATIONS, SMALL, Session, State
from reliability.program import Program, Verdict
from reliability.server import BUCKET, Forker, Server, check_data, check_log, serving
from reliability.tracing import WRITES, attached, missing, processes, read_trace


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The ``nth`` call of ``name`` in one thread of one process while the operation runs.

    :ivar on_data: what it names is in the data directory.
    """

    operation: str
    process: str  #: ``server`` or ``writer``
    name: str
    nth: int
    on_data: bool

    def __str__(self) -> str:
        return f"{self.operation}, {self.process}, {self.name} {self.nth}"


Case = TypeVar("Case")


class Rig:
    """One server, on which operations are done over and over.

    :param settle: seconds to wait after what comes before an operation.
    """

    def __init__(self, forker: Forker, home: Path, *options: str, settle: float = 0.0) -> None:
        self.server = Server(forker, home / "server", *options)
        self._settle = settle
        self.trace = home / "trace"
        self.session = Session(self.server)

    def points(self, operation: str) -> list[Point]:
        """All of an operation, and in how many threads each occurs is forgotten. The server runs."""
        one = OPERATIONS[operation]
        one.prepare(self.session)
        names = processes(self.server)
        with attached(names, self.trace, "-e", "trace=" + ",".join(f"?{name}" for name in WRITES)):
            status = one.act(self.session)
        assert 200 <= status < 300, (operation, status)
        of_writer = {int(path.name) for path in Path(f"/proc/{names[1]}/task").iterdir()}
        counts: Counter[tuple[int, str]] = Counter()
        found: dict[tuple[str, str, int], bool] = {}
        for event in read_trace(self.trace):
            counts[event.thread, event.name] += 1
            place = ("writer" if event.thread in of_writer else "server", event.name, counts[event.thread, event.name])
            found[place] = found.get(place, False) or str(self.server.data) in event.text
        return [Point(operation, *place, on_data) for place, on_data in sorted(found.items())]

    def start(self) -> None:
        """Start it, and wait for the index writer, which may still begin when the server listens."""
        self.server.start()
        self.session.do("PUT", f"/s3/{BUCKET}/first", SMALL)

    def restart(self) -> None:
        self.server.stop()
        self.start()

    def pid_of(self, process: str) -> int:
        return processes(self.server)[process == "writer"]

    def after(self, operation: str) -> State:
        """What the operation brings about where nothing is wrong."""
        one = OPERATIONS[operation]
        one.prepare(self.session)
        watched = one.watch(self.session)
        assert 200 <= one.act(self.session) < 300
        return self.session.look(watched)

    def provoke(self, point: Point, injection: str) -> tuple[int, State, list[str]]:
        """Do the operation with one call tampered with: its status, the state before, and what to look at."""
        one = OPERATIONS[point.operation]
        one.prepare(self.session)
        time.sleep(self._settle)
        watched = one.watch(self.session)
        before = self.session.look(watched)
        options = ("-e", f"trace={point.name}", "-e", f"inject={point.name}:{injection}:when={point.nth}")
        with attached([self.pid_of(point.process)], self.trace, *options):
            return one.act(self.session), before, watched

    def injected(self) -> bool:
        """Whether the last :meth:`provoke` has come to its call: threads and known directories differ now and then."""
        return "(INJECTED)" in self.trace.read_text(errors="replace")


def judge(
    point: Point, status: int, before: State, after: State, found: State, *, refused: bool = False
) -> Iterator[str]:
    """What is wrong with what is found.

    :param refused: an operation that was not acknowledged must not have happened.
    """
    for target, state in found.items():
        if 200 <= status < 300:
            if state != after[target]:
                yield f"{point}: acknowledged ({status}), and {target} is {state}"
        elif state != before[target] and (refused or state != after[target]):
            yield f"{point}: not acknowledged ({status}), and {target} is {state}"


def choose(cases: Sequence[Case], sample: int, chance: random.Random) -> list[Case]:
    """``sample`` of them, 0: all, in order."""
    return sorted(cases if not sample or sample >= len(cases) else chance.sample(cases, sample))  # type: ignore[type-var]


def survey(forker: Forker, home: Path, operations: Iterable[str]) -> tuple[list[Point], dict[str, State]]:
    """The points of operations, and what each brings about; of a server that is left alone."""
    rig = Rig(forker, home)
    with serving(rig.server):
        rig.server.start().make_bucket()
        points = []
        for operation in operations:  # each by a server that knows no directory yet, as those that are tampered with
            rig.restart()
            points += rig.points(operation)
        after = {operation: rig.after(operation) for operation in operations}
        rig.server.stop()
    return points, after


def run(
    forker: Forker,
    home: Path,
    *options: str,
    sample: int,
    seed: int,
    operations: Collection[str] = OPERATIONS,
    settle: float = 0.0,
) -> Verdict:
    """:param sample: how many points, chosen by ``seed``; 0: all of them."""
    faults: list[str] = []
    killed: Counter[str] = Counter()
    began = time.monotonic()
    points, after = survey(forker, home, operations)
    rig = Rig(forker, home, *options, settle=settle)
    with serving(rig.server):
        rig.start()
        chosen = choose(points, sample, random.Random(seed))
        for point in chosen:
            victim = rig.pid_of(point.process)
            status, before, watched = rig.provoke(point, "signal=SIGKILL")
            killed[point.process] += victim not in rig.server.pids() or not rig.server.alive()
            rig.server.kill_all()
            rig.start()
            faults += judge(point, status, before, after[point.operation], rig.session.look(watched))
        rig.server.stop()
    faults += check_data(rig.server.data)
    faults += check_log(rig.server.log())
    return faults, {
        "operations": len(operations),
        "points": len(points),
        "tried": len(chosen),
        "server killed": killed["server"],
        "writer killed": killed["writer"],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    program = Program("reliability.killpoints", __doc__)
    program.add_argument("--sample", type=int, default=0, help="how many points; default: all of them")
    if why := missing():
        raise SystemExit(f"cannot trace: {why}")
    with program.running() as (options, home), Forker() as forker:
        program.report(run(forker, home, sample=options.sample, seed=options.seed))


if __name__ == "__main__":
    main()
