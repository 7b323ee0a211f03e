"""Power cuts under a mixed load, of a server whose data directory is on an ext4 or an xfs of its own.

At a random moment the file system is shut down by ioctl: what was not synced is lost, as when the power goes. Then it
is mounted again, which replays its journal, looked at by its own checker, and the server that starts on it must have
everything that was acknowledged, and nothing that was deleted. Some of the cuts come while it starts (it applies the
index's log, and takes away what nobody owns), or when it has just begun to serve; then another start must have it all.

What the disk itself keeps in a cache is not lost here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from reliability.crash import CLIENTS, Crasher, make_clients
from reliability.filesystems import KINDS, LoopFileSystem, missing
from reliability.load import HANG_SECONDS, MIXED, Trouble
from reliability.program import Program, Verdict
from reliability.server import Forker, NotStarted, Server, check_data, serving, small_log

_IMAGE = 2 << 30
#: A new file system after so many power cuts: what was replaced stays on disk for ten minutes.
_CUTS = 20
#: How probable it is that a cut comes in a start, and not under load.
_IN_START = 0.25


def run(
    forker: Forker,
    home: Path,
    kind: str,
    *options: str,
    cuts: int,
    seed: int,
    workers: int = 2,
    sync: bool = True,
    clients: int = CLIENTS,
    operations: Mapping[str, int] = MIXED,
    in_start: float = _IN_START,
) -> Verdict:
    """:param kind: of file system. :param clients: how many. :param operations: theirs, as ``load.MIXED``.
    :param in_start: how probable it is that a cut comes in a start."""
    chance = random.Random(seed)
    faults: list[str] = []
    done = acknowledged = starts_cut = unready = 0
    starts: list[float] = []
    began = time.monotonic()
    while done < cuts and not faults:
        with LoopFileSystem(home / kind, kind, _IMAGE) as disk:
            data = disk.path / "data"
            server = Server(
                forker, home / "server", *small_log(workers), *options, data=data, sync=sync, workers=workers
            )
            crasher = Crasher(server, make_clients(chance.randrange(1 << 32), operations, clients), seed)
            with serving(server):
                server.start().make_bucket()
                server.stop()
                try:
                    for _ in range(min(_CUTS, cuts - done)):
                        if chance.random() < in_start:
                            crasher.cut_start(partial(_power_off, server, disk))
                        else:
                            _cut(server, crasher, disk, chance)
                        done += 1
                        faults += disk.recover()
                        if faults := [*crasher.faults, *faults]:
                            break
                    else:
                        crasher.start()
                        server.stop()
                        faults += [*crasher.faults, *check_data(data)]
                except NotStarted as error:  # what was lost may be what a start needs
                    faults.append(f"nothing that was promised can be had: {error}")
            acknowledged += crasher.acknowledged
            starts_cut += crasher.starts_cut
            unready += crasher.unready
            starts += crasher.starts
    return faults, {
        "file system": kind,
        "power cuts": done,
        "of these in a start": starts_cut,
        "before ready": unready,
        "workers": workers,
        "acknowledged": acknowledged,
        "seconds a cut": round((time.monotonic() - began) / max(done, 1), 3),
        "ready, slowest": round(max(starts, default=0.0), 3),
    }


def _power_off(server: Server, disk: LoopFileSystem) -> None:
    disk.cut_power()
    server.kill_all()


def _cut(server: Server, crasher: Crasher, disk: LoopFileSystem, chance: random.Random) -> None:
    """Start the server, see what it has, and cut the power while it works."""
    crasher.start()
    trouble = Trouble()
    clients = crasher.clients
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(client.work, trouble) for client in clients]
        try:
            crasher.await_acknowledged(chance.randrange(1, 30))
            if len(clients) > 1:
                time.sleep(0.01 * chance.random())
            trouble.all.set()
            disk.cut_power()
        finally:
            trouble.all.set()
            server.kill_all()
        for each in working:
            each.result(HANG_SECONDS)


def main() -> None:
    program = Program("reliability.powercut", __doc__)
    program.add_argument("--cuts", type=int, default=100, help="of each kind of file system")
    program.add_argument("--kind", choices=KINDS, action="append", help="repeatable; default: all of them")
    program.add_argument("--workers", type=int, default=2)
    program.add_argument("--no-sync", action="store_true", help="of a server that does not sync: it must be found out")
    with program.running() as (options, home), Forker() as forker:
        for kind in options.kind or KINDS:
            if why := missing(kind):
                raise SystemExit(f"no {kind} here: {why}")
            sync, cuts, workers = not options.no_sync, options.cuts, options.workers
            verdict = run(forker, home, kind, cuts=cuts, seed=options.seed, workers=workers, sync=sync)
            program.report(verdict, kind)


if __name__ == "__main__":
    main()
