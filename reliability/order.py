"""In which order a PUT works, as the kernel sees it.

A large one: sync of the file, its rename, sync of its directory, then as a small one, whose body is in the index:
record in the log, sync of the log, pages of the index (which show it), answer. Each has ended before the next begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reliability.program import Program, Verdict
from reliability.server import BUCKET, Forker, Server, serving
from reliability.tracing import WRITES, Event, attached, missing, processes, read_trace

LARGE = 1 << 20
SMALL = 1000
_SYNCS = ("fdatasync", "fsync")
_RENAMES = ("rename", "renameat", "renameat2")
_ANSWERS = ("sendto", "sendmsg", "write", "writev")
_INDEX_WRITES = ("pwrite64", "pwritev", "writev")
_BLOB = r"/blobs/[0-9a-f]{5}/[0-9a-f]{2}"
_INDEX = r"/index/data\.mdb>"
_LOG = r"/index/log\.[01]>"
_OK = r'"HTTP/1\.1 200'

#: What is done, the system calls that do it, and what is in their arguments.
Step = tuple[str, tuple[str, ...], str]
_FILE_STEPS: tuple[Step, ...] = (
    ("sync of the file", _SYNCS, r"/blobs/tmp/"),
    ("rename", _RENAMES, rf'/blobs/tmp/[0-9a-f]+".*{_BLOB}/[0-9a-f]{{32}}"'),
    ("sync of the directory", _SYNCS, rf"{_BLOB}>"),
)
_INDEX_STEPS: tuple[Step, ...] = (
    ("record in the log", _INDEX_WRITES, _LOG),
    ("sync of the log", _SYNCS, _LOG),
    ("pages of the index", _INDEX_WRITES, _INDEX),
    ("answer", _ANSWERS, _OK),
)


class Order:
    """What of one PUT is to happen when."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.faults: list[str] = []
        self._events = events

    def check(self, large: bool) -> list[str]:
        """What is out of order."""
        self._follow(*(_FILE_STEPS if large else ()), *_INDEX_STEPS)
        return self.faults

    def _find(self, names: tuple[str, ...], pattern: str) -> list[Event]:
        form = re.compile(pattern)
        return [event for event in self._events if event.name in names and form.search(event.text)]

    def _follow(self, *steps: Step) -> None:
        """Each step succeeds, and is over before the next begins."""
        before, ended = "the request", -1
        for what, names, pattern in steps:
            found = self._find(names, pattern)
            if not found:
                self.faults.append(f"{what}: there is none")
            elif min(event.began for event in found) <= ended:
                self.faults.append(f"{what} before the end of: {before}")
            if any(re.search(r"= -1 ", event.text) for event in found):
                self.faults.append(f"{what}: it fails")
            if found:
                before, ended = what, max(event.ended for event in found)


def run(forker: Forker, home: Path, *options: str, sync: bool = True) -> Verdict:
    server = Server(forker, home / "server", *options, sync=sync)
    faults: list[str] = []
    seen = 0
    with serving(server):
        server.start().make_bucket()
        for size in (LARGE, SMALL):
            server.ask("PUT", f"/s3/{BUCKET}/key", b"x" * size)  # makes directories, threads
            for how in ("a new key", "an overwrite"):
                trace = home / "trace"
                key = "key" if how == "an overwrite" else f"new{size}"
                with attached(processes(server), trace, "-e", "trace=" + ",".join(f"?{name}" for name in WRITES)):
                    status, body = server.ask("PUT", f"/s3/{BUCKET}/{key}", b"y" * size)
                assert status == 200, body
                events = read_trace(trace)
                seen += len(events)
                order = Order(events)
                faults += [f"{size} bytes, {how}: {fault}" for fault in order.check(size == LARGE)]
    return faults, {"PUTs": 4, "system calls": seen}


def main() -> None:
    program = Program("reliability.order", __doc__)
    program.add_argument("--no-sync", action="store_true", help="of a server that does not sync: it must be found out")
    why = missing()
    if why:
        raise SystemExit(f"cannot trace: {why}")
    with program.running() as (options, home), Forker() as forker:
        program.report(run(forker, home, sync=not options.no_sync))


if __name__ == "__main__":
    main()
