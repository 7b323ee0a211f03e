"""What a disk with a cache may hold after a power cut: every state of it is looked at.

A server works on a file system on a disk that logs its writes and flushes (``reliability.blockdevice``); it is killed
and started again now and then, so that recoveries are among what is looked at. A state is all
writes before the last flush up to some moment, and of those after it some, in parts of 4 KiB. Each is mounted, which
replays the journal, looked at by the file system's own checker, and served: what had been acknowledged by that moment
is there, and what was under way has happened or has not.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import http.client
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reliability import filesystems
from reliability.blockdevice import NAME, UNIT, entry_ends, read_log
from reliability.filesystems import KINDS, FileSystemError, LoopFileSystem
from reliability.load import Torn, Version, make_content, version_of
from reliability.program import Program, Verdict
from reliability.server import BUCKET, Forker, Hang, Server, environment, serving, small_log

_SIZE = 450 << 20
_LIFE = 20  #: changes before a server is killed
_KEYS = [f"key{number}" for number in range(5)]


def missing(kind: str = "ext4") -> str:
    """Why there can be no such disk here, or ""."""
    if importlib.util.find_spec("fuse") is None:
        return "fusepy is not installed (pip install fusepy)"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if ctypes.util.find_library("fuse") is None:
        return "libfuse2 is not installed"
    return filesystems.missing(kind)


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of the one client. ``began`` and ``ended`` are lengths of the log."""

    key: str
    version: Version
    began: int
    ended: int


@contextlib.contextmanager
def disk(home: Path) -> Iterator[tuple[Path, Path]]:
    """The image, and its log."""
    directory, log = home / "fuse", home / "log"
    directory.mkdir(parents=True)
    command = [sys.executable, "-m", "reliability.blockdevice", str(directory), str(log), str(_SIZE)]
    env = environment() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=env) as process:
        try:
            deadline = time.monotonic() + 20
            while not os.path.ismount(directory):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Hang("the disk does not begin")
                time.sleep(0.01)
            yield directory / NAME, log
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def record(forker: Forker, home: Path, kind: str, *, changes: int, seed: int, sync: bool = True) -> list[Change]:
    """Work on such a disk; the first change has ``began`` where the disk was new. Leaves ``home / "log"``."""
    chance = random.Random(seed)
    done: list[Change] = []
    with disk(home) as (image, log):
        mounted = LoopFileSystem(home / "recording", kind, _SIZE, image=image)
        with mounted:
            server = Server(forker, home / "server", *small_log(2), data=mounted.path / "data", sync=sync, workers=2)
            with serving(server):
                server.start().make_bucket()
                for number in range(changes):
                    if number % _LIFE == _LIFE - 1:
                        server.kill_all()
                        server.start()
                    key, kind_of = chance.choice(_KEYS), chance.random()
                    began = log.stat().st_size
                    version: Version = None
                    if kind_of < 0.2:
                        server.ask("DELETE", f"/s3/{BUCKET}/{key}")
                    else:
                        version = f"version{number}"
                        size = chance.randrange(3000) if kind_of < 0.6 else chance.randrange(64 << 10, 300_000)
                        status, _ = server.ask("PUT", f"/s3/{BUCKET}/{key}", make_content(version, size))
                        assert status == 200, status
                    done.append(Change(key, version, began, log.stat().st_size))
    return done


def build(log: Path, end: int, image: Path, chance: random.Random) -> None:
    """The state at one length of the log: of what was not flushed, parts are lost."""
    with image.open("wb") as disk:
        disk.truncate(_SIZE)
        waiting: list[tuple[int, bytes]] = []
        lost = chance.choice((0.0, 0.3, 0.7, 1.0))
        for entry in [*read_log(log, end)]:
            if entry is not None:
                waiting.append(entry)
                continue
            for offset, data in waiting:
                os.pwrite(disk.fileno(), data, offset)
            waiting = []
        for offset, data in waiting:
            for start in range(0, len(data), UNIT):
                if chance.random() >= lost:
                    os.pwrite(disk.fileno(), data[start : start + UNIT], offset + start)


def look(forker: Forker, home: Path, kind: str, changes: list[Change], end: int, *options: str) -> list[str]:
    """What is wrong with the state in ``home``, which is that of one length of the log."""
    mounted = LoopFileSystem(home / "state", kind, _SIZE)
    faults: list[str] = []
    try:
        mounted.mount()
        faults += mounted.recover()
        server = Server(forker, home / "server", *options, data=mounted.path / "data", workers=2)
        with serving(server):
            server.start()
            for key in _KEYS:
                may: set[Version] = {None}
                for change in changes:  # the power goes as late as the log is that long
                    if change.key == key and change.began <= end:
                        may = {change.version} if change.ended <= end else {*may, change.version}
                found = _stored(server, key)
                if found not in may:
                    faults.append(f"{key} is {found}, not {may}")
    except (FileSystemError, Hang) as error:
        faults.append(str(error))
    finally:
        mounted.close()
    return [f"{kind}, at {end} of the log: {fault}" for fault in faults]


def _stored(server: Server, key: str) -> str | None:
    try:
        status, body = server.ask("GET", f"/s3/{BUCKET}/{key}")
        if status == 404:
            return None
        return version_of(body) if status == 200 else f"status {status}"
    except (Torn, OSError, http.client.HTTPException) as error:
        return repr(error)


def run(
    forker: Forker, home: Path, kind: str, *options: str, states: int, seed: int, changes: int = 60, sync: bool = True
) -> Verdict:
    """:param options: of the servers that look at the states.
    :param states: how many, chosen by ``seed`` from those since the bucket was there."""
    began = time.monotonic()
    chance = random.Random(seed)
    done = record(forker, home / "disk", kind, changes=changes, seed=seed, sync=sync)
    log = home / "disk" / "log"
    ends = [end for end in entry_ends(log) if done[0].began <= end <= done[-1].ended]
    entries = [entry and entry[0] for entry in read_log(log, ends[-1])]
    faults: list[str] = []
    for end in sorted(chance.choices(ends, k=states)):
        state = home / "state"
        state.mkdir(exist_ok=True)
        build(log, end, state / "image", chance)
        faults += look(forker, home, kind, done, end, *options)
    return faults, {
        "file system": kind,
        "writes": len(entries) - entries.count(None),
        "flushes": entries.count(None),
        "changes": changes,
        "states": states,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    program = Program("reliability.blockstates", __doc__)
    program.add_argument("--states", type=int, default=1000, help="of each kind of file system")
    program.add_argument("--kind", choices=KINDS, action="append", help="repeatable; default: all of them")
    program.add_argument("--no-sync", action="store_true", help="of a server that does not sync: it must be found out")
    with program.running() as (options, home), Forker() as forker:
        for kind in options.kind or KINDS:
            if why := missing(kind):
                raise SystemExit(f"no such disk here: {why}")
            where = Path(tempfile.mkdtemp(dir=home))
            sync = not options.no_sync
            program.report(run(forker, where, kind, states=options.states, seed=options.seed, sync=sync), kind)


if __name__ == "__main__":
    main()
