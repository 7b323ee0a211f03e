"""Failing system calls of a running server, and a disk that is full.

strace makes one call of an operation fail, as a disk, a quota or a limit would. The answer is a clean 5xx (503 SlowDown
where there is no room), and what was there before is intact, or the operation has succeeded all the same. After a
failed sync nothing more is written, reads go on, and ``/-/ready`` says why. Nothing is left without an owner.

The full disk is a small file system that something else fills up: reads, LIST and DELETE go on, a PUT gets 503
SlowDown, and succeeds again when there is room.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Collection
from http.client import HTTPException
from pathlib import Path

from reliability import filesystems, tracing
from reliability.filesystems import LoopFileSystem
from reliability.killpoints import Point, Rig, choose, judge, survey
from reliability.operations import KEY, LARGE, OPERATIONS, OTHER, SMALL, Session, State
from reliability.program import Program, Verdict
from reliability.server import BUCKET, Forker, Server, check_data, check_log, serving

_OPENS = ("openat", "mkdir", "mkdirat")
_WRITES = ("pwrite64", "pwritev", "pwritev2", "write", "writev", "copy_file_range")
_NAMES = ("rename", "renameat", "renameat2", "link", "linkat")
_SYNCS = ("fdatasync", "fsync")
#: error -> which calls may have it
ERRORS = {
    "EIO": (*_OPENS, *_WRITES, *_NAMES, *_SYNCS, "unlink", "close", "sync_file_range", "statfs", "fstatfs"),
    "ENOSPC": (*_OPENS, *_WRITES, *_NAMES),
    "EDQUOT": (*_OPENS, *_WRITES, *_NAMES),
    "EMFILE": ("openat",),
}
_ROOM = ("ENOSPC", "EDQUOT")
_DISK = 700 << 20
_MANY = 400


def run(
    forker: Forker, home: Path, *options: str, sample: int, seed: int, only: Collection[str] = (), process: str = ""
) -> Verdict:
    """One fault at a time.

    :param sample: about how many, chosen by ``seed``, as many of each error; 0: all of them.
    :param only: these system calls.
    :param process: of this process only, ``server`` or ``writer``.
    """
    faults: list[str] = []
    answers: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    began = time.monotonic()
    points, after = survey(forker, home, OPERATIONS)
    cases = [
        (point, error)
        for error, names in ERRORS.items()
        for point in points
        if point.on_data and point.name in names and (not only or point.name in only) and process in ("", point.process)
    ]
    chosen = _choose(cases, sample, random.Random(seed))
    rig = Rig(forker, home, *options)
    with serving(rig.server):
        rig.server.start()
        for point, error in chosen:
            try:
                status, found = _inject(rig, point, error, after[point.operation])
            except (OSError, HTTPException) as failure:
                status, found = 0, [repr(failure)]
            answers[f"{error} {status}"] += 1
            reached[error] += rig.injected()
            faults += [f"{error}: {fault}" for fault in found]
        rig.server.stop()
    faults += check_data(rig.server.data)
    faults += check_log(rig.server.log())
    return faults, {
        "possible": len(cases),
        "tried": len(chosen),
        "injected": dict(sorted(reached.items())),
        "answers": dict(sorted(answers.items())),
        "seconds": round(time.monotonic() - began, 1),
    }


def _choose(cases: list[tuple[Point, str]], sample: int, chance: random.Random) -> list[tuple[Point, str]]:
    by_error = [found for error in ERRORS if (found := [case for case in cases if case[1] == error])]
    each = max(sample // len(by_error), 1) if sample else 0
    return [case for found in by_error for case in choose(found, each, chance)]


def _inject(rig: Rig, point: Point, error: str, after: State) -> tuple[int, list[str]]:
    """The status, and what is wrong."""
    server, session = rig.server, rig.session
    rig.restart()
    status, before, watched = rig.provoke(point, f"error={error}")
    why = read_only(server)
    # A writer that could not sync does not know whether it has happened.
    faults = list(judge(point, status, before, after, session.look(watched), refused=point.process == "server"))
    if not 200 <= status < 300:
        room = error in _ROOM and point.name not in _SYNCS
        allowed = (503,) if room or why else (500,)
        if status not in allowed:
            faults.append(f"{point}: the status is {status}, read-only: {why!r}")
    if point.name in _SYNCS and not why and rig.injected():
        faults.append(f"{point}: the server goes on writing")
    probe = session.dare("PUT", f"/s3/{BUCKET}/probe", SMALL), session.dare("PUT", f"/s3/{BUCKET}/probe", LARGE)
    if probe != ((503, 503) if why else (200, 200)):
        faults.append(f"{point}: later PUTs get {probe}, read-only: {why!r}")
    if why:
        rig.restart()
        faults += judge(point, status, before, after, session.look(watched))
    return status, faults


def read_only(server: Server) -> str:
    """Why the server writes nothing more, as ``/-/ready`` has it."""
    status, body = server.ask("GET", "/-/ready")
    assert status == 200, body
    why: str = json.loads(body)["read_only"]
    return why


# A full disk


def fill(forker: Forker, home: Path) -> Verdict:
    """A file system of 700 MiB, which something else fills up to the last byte."""
    faults: list[str] = []
    with LoopFileSystem(home / "disk", "ext4", _DISK) as disk:
        server = Server(forker, home / "server", data=disk.path / "data", workers=2)
        with serving(server):
            server.start().make_bucket()
            session = Session(server)
            for number in range(20):
                session.do("PUT", f"/s3/{BUCKET}/small{number}", SMALL)
                session.do("PUT", f"/s3/{BUCKET}/large{number}", LARGE)
            for number in range(_MANY):
                session.do("PUT", f"/s3/{BUCKET}/many{number}", SMALL)
            hog = disk.path / "hog"
            _fill_up(hog)
            left = os.statvfs(disk.path).f_bavail
            began = time.monotonic()
            faults += _full(session)
            seconds = time.monotonic() - began
            hog.unlink()
            for target, body in ((KEY, SMALL), (OTHER, LARGE)):
                if (status := _put_in_time(session, target, body)) != 200:
                    faults.append(f"there is room again, and a PUT of {len(body)} bytes gets {status}")
            server.stop()
            faults += check_data(server.data)
            faults += check_log(server.log())
    return faults, {"full disk": "ext4", "blocks left": left, "seconds": round(seconds, 2)}


def _fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"\1" * size):
                    pass
        os.fsync(file.fileno())


def _put_in_time(session: Session, target: str, body: bytes) -> int:
    """As a client does that is told to slow down: what a worker knows of free space is a second old at most, and it
    looks again when it is asked."""
    for _ in range(50):
        if (status := session.dare("PUT", target, body)) != 503:
            return status
        time.sleep(0.1)
    return 503


def _full(session: Session) -> list[str]:
    """What is wrong on a full disk."""
    faults = []
    server = session.server
    for body in (SMALL, LARGE):
        status, answer = server.ask("PUT", KEY, body)
        if status != 503 or b"<Code>SlowDown<" not in answer:
            faults.append(f"a PUT of {len(body)} bytes gets {status}: {answer!r}")
    for number in range(20):
        for kind, body in (("small", SMALL), ("large", LARGE)):
            target = f"/s3/{BUCKET}/{kind}{number}"
            status, found = server.ask("GET", target)
            if (status, found) != (200, body):
                faults.append(f"GET {target}: {status}")
            if (status := session.dare("DELETE", target)) != 204:
                faults.append(f"DELETE {target}: {status}")
    faults += _delete_many(session)
    status, listed = server.ask("GET", f"/s3/{BUCKET}?list-type=2")
    if status != 200 or b"<Key>" in listed:
        faults.append(f"LIST after all DELETEs: {status} {listed!r}")
    if why := read_only(server):
        faults.append(f"it is read-only: {why}")
    return faults


def _delete_many(session: Session) -> list[str]:
    """DeleteObjects looks at many keys at a time, each in a snapshot: a page of LMDB's table of readers for each 64."""
    keys = "".join(f"<Object><Key>many{number}</Key></Object>" for number in range(_MANY))
    document = f"<Delete>{keys}</Delete>".encode()
    digest = {"Content-MD5": base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()}
    status, answer = session.server.ask("POST", f"/s3/{BUCKET}?delete", document, **digest)
    if status != 200 or answer.count(b"<Deleted>") != _MANY:
        return [f"DeleteObjects of {_MANY}: {status} {answer!r}"]
    return []


def main() -> None:
    program = Program("reliability.faults", __doc__)
    program.add_argument("--sample", type=int, default=0, help="how many faults; default: all of them")
    program.add_argument("--only", action="append", default=[], metavar="SYSCALL", help="repeatable")
    with program.running() as (options, home), Forker() as forker:
        if why := tracing.missing():
            raise SystemExit(f"cannot trace: {why}")
        program.report(run(forker, home, sample=options.sample, seed=options.seed, only=options.only), "each fault")
        if why := filesystems.missing("ext4"):
            raise SystemExit(f"no ext4 here: {why}")
        program.report(fill(forker, home / "full"), "a full disk")


if __name__ == "__main__":
    main()
