"""Durable commits to the index with the writer as a thread and as a process, alone and beside a LIST loop.

Each commit is what a PUT of a small object writes (a record of about 300 bytes, 4 KiB inline, the bucket expected
unchanged, counters); so many are always in flight. The LIST loop renders pages of 1,000 keys in the reactor, one after
another, which is what a writer thread has to share the interpreter with. Prints, for each combination: commits per
second, their latency, CPU per commit in the serving process (with the load, and the pages where there are any) and in
the writer process, and pages per second. Compare rows of one run only::

    python benchmarks/index_commit.py --seconds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from aisobj.model import BodyKind, ObjectRecord
from aisobj.storage import keys, records
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import CommitResult
from aisobj.storage.lmdb_index import LmdbIndex

BUCKET = bytes(range(16))
STATE = b"the bucket's state"


def writer_cpu(path: Path) -> float:
    """Seconds of CPU that the writer process of this index has used; 0 if there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if b"aisobj.storage.index_writer" in arguments and os.fsencode(path) in arguments:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue
    return 0.0


class Load:
    """Keeps commits in flight until told to stop."""

    def __init__(self, index: LmdbIndex, size: int) -> None:
        self._index = index
        self._ids = IdMaker()
        self._body = os.urandom(size)
        self.latencies: list[float] = []
        self.running = True

    async def one_after_another(self) -> None:
        while self.running:
            start = time.perf_counter()
            made = self._ids.make()
            record = ObjectRecord(
                made, 1, len(self._body), time.time_ns(), made.hex(), BodyKind.INLINE, made, "xxhash", made.hex()[:16]
            )
            result = await self._index.commit(
                BUCKET,
                {keys.BUCKET: STATE},
                {
                    keys.OBJECT + os.urandom(4).hex().encode() + b"/some/longer/name.bin": records.encode(record),
                    keys.INLINE + made: records.seal(self._body),
                },
                (),
                {keys.COUNTERS: (1, len(self._body))},
            )
            assert result is CommitResult.OK
            self.latencies.append(time.perf_counter() - start)


class ListLoop:
    """Renders LIST pages as long as it may."""

    def __init__(self, reactor: Any, index: LmdbIndex) -> None:
        self._reactor = reactor
        self._index = index
        self.pages = 0
        self.running = True

    def page(self) -> None:
        if not self.running:
            return
        contents = []
        for key, row in self._index.scan(BUCKET, b"", keys.OBJECT, 1000):
            record = records.decode(ObjectRecord, row)
            contents.append(
                f"<Contents><Key>{escape(key[1:].decode())}</Key><LastModified>{record.mtime}</LastModified>"
                f"<ETag>&quot;{escape(record.etag)}&quot;</ETag><Size>{record.size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        "".join(contents).encode()
        self.pages += 1
        self._reactor.callLater(0, self.page)


async def measure(reactor: Any, writer: Any, listing: bool, options: argparse.Namespace) -> str:
    directory = Path(tempfile.mkdtemp(prefix="index-commit-", dir=options.directory))
    try:
        index = LmdbIndex.open(directory / "index", reactor=reactor, writer=writer, sync=not options.no_sync)
        await index.commit(BUCKET, {}, {keys.BUCKET: STATE})
        load = Load(index, options.size)
        flights = [Deferred.fromCoroutine(load.one_after_another()) for _ in range(options.in_flight)]
        await deferLater(reactor, 1.0, _nothing)  # rows to list, and everything warm
        pages = ListLoop(reactor, index)
        if listing:
            pages.page()
        load.latencies.clear()
        start, ours, theirs = time.perf_counter(), time.process_time(), writer_cpu(directory / "index")
        await deferLater(reactor, options.seconds, _nothing)
        seconds = time.perf_counter() - start
        ours, theirs = time.process_time() - ours, writer_cpu(directory / "index") - theirs
        latencies = sorted(load.latencies)
        load.running = pages.running = False
        for flight in flights:
            await flight
        await index.close()
    finally:
        shutil.rmtree(directory)
    count = len(latencies)

    def at(share: float) -> float:
        return latencies[int(share * (count - 1))] * 1e3 if count else float("nan")

    return (
        f"{writer:8} {'LIST loop' if listing else 'alone':10} {count / seconds:9.0f} {at(0.5):8.1f} {at(0.99):8.1f} "
        f"{at(1):8.1f} {ours / max(count, 1) * 1e6:10.0f} {theirs / max(count, 1) * 1e6:10.0f} "
        f"{pages.pages / seconds:8.0f}"
    )


def _nothing() -> None:
    """For deferLater."""


async def main(reactor: Any, options: argparse.Namespace) -> None:
    print(
        f"{options.in_flight} commits of {options.size} bytes in flight, {options.seconds:g} s each\n"
        f"{'writer':8} {'beside':10} {'commits/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} "
        f"{'server us':>10} {'writer us':>10} {'pages/s':>8}"
    )
    for _ in range(options.rounds):
        for listing in (False, True):
            for writer in options.writers:
                print(await measure(reactor, writer, listing, options), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each row measures")
    parser.add_argument("--in-flight", type=int, default=32, help="commits at a time")
    parser.add_argument("--size", type=int, default=4096, help="bytes of inline body in each")
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole table")
    parser.add_argument("--writers", nargs="+", choices=("thread", "process"), default=["thread", "process"])
    parser.add_argument("--directory", default=".", help="where; must be a real disk for figures that mean anything")
    parser.add_argument("--no-sync", action="store_true", help="without durability: what the code alone costs")
    return parser.parse_args()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, arguments())))
