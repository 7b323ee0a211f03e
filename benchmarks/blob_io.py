"""What blob files cost, without HTTP: MB/s and CPU of durable writes and verified reads.

    python -m benchmarks.blob_io [--directory DIR] [--size MIB] [--rounds N]

Prints the median of N rounds (default 7) for one blob of 64 MiB, written in chunks of 64 KiB as they come from a
socket, and for one of 128 KiB:

- ``write``: the writer from first chunk to durable commit (with final sync), and the same with an md5 on the way;
- ``plain write``: pwritev of 1 MiB blocks and one fdatasync, the yardstick of the disk at that moment;
- ``read cached``: all blocks, verified, from the page cache, thrown away; ``read to socket``: sent to another process;
- ``read cold``: after the page cache was told to forget the file;
- ``open``: reader() and close() of a small blob: the turn through the pool that every GET of a blob pays.

CPU is this process's, all threads, in milliseconds per operation. A leftover of a broken run is ``DIR/blob_io.*``.
Figures of two runs compare only when they alternate on one quiet machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from aisobj.storage.disk_pool import DiskPool
from aisobj.storage.file_blobs import FileBlobs
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import IBlobReader

MIB = 1 << 20
CHUNK = 64 * 1024
SMALL = 128 * 1024


class Sink:
    """A process that reads a socket and throws it away."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            buffer = bytearray(MIB)
            while other.recv_into(buffer):
                pass
            os._exit(0)
        other.close()

    def close(self) -> None:
        self.socket.close()
        os.waitpid(self.pid, 0)


async def write(blobs: FileBlobs, chunks: list[bytes], update: Callable[[bytes | memoryview], object] | None) -> bytes:
    writer = blobs.writer(update)
    for chunk in chunks:
        waiting = writer.write(chunk)
        if waiting is not None:
            await waiting
    return await writer.commit({"bucket": b"b", "key": b"k"})


async def read(blobs: FileBlobs, blob_id: bytes, size: int, send: Callable[[memoryview], object] | None) -> None:
    reader: IBlobReader = await blobs.reader(blob_id, 0, size)
    while True:
        block = reader.next_block()
        if isinstance(block, Deferred):
            block = await block
        if block is None:
            break
        if send is not None:
            send(block)
    reader.close()


def plain_write(path: Path, size: int) -> None:
    block = bytes(MIB)
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for offset in range(0, size, MIB):
        os.pwritev(fd, [block], offset)
    os.fdatasync(fd)
    os.close(fd)
    path.unlink()


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


async def measure(
    name: str,
    size: int,
    rounds: int,
    operation: Callable[[], Awaitable[object]],
    repeat: int = 1,
    after: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Run and print. ``after`` is not measured; it follows every round."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeat):
            await operation()
        walls.append((time.perf_counter() - wall) / repeat)
        cpus.append((time.process_time() - cpu) / repeat)
        if after is not None:
            await after()
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{name:32} {size / 1e6 / wall:8.0f} MB/s {wall * 1e3:9.3f} ms wall {cpu * 1e3:9.3f} ms CPU")


async def run(directory: Path, size: int, rounds: int) -> None:
    pool = DiskPool()
    pool.start()
    reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
    blobs = FileBlobs(
        directory / "blobs",
        reactor=reactor,  # type: ignore[arg-type]
        pool=pool,
        ids=IdMaker(),
        sync=True,
    )
    chunks = [os.urandom(CHUNK) for _ in range(16)] * (size // MIB)
    small = chunks[: SMALL // CHUNK]

    written: list[bytes] = []

    async def put(parts: list[bytes], update: Callable[[bytes | memoryview], object] | None = None) -> None:
        written.append(await write(blobs, parts, update))

    async def remove() -> None:  # at once, as the yardstick does: fresh page cache costs more than used
        await blobs.remove(written)
        written.clear()

    async def yardstick() -> None:
        plain_write(directory / "plain", size)

    await measure("plain write", size, rounds, yardstick)
    await measure("write", size, rounds, lambda: put(chunks), after=remove)
    await measure("write with md5", size, rounds, lambda: put(chunks, hashlib.md5().update), after=remove)
    await measure("plain write", size, rounds, yardstick)
    await measure("write small", SMALL, rounds, lambda: put(small), 20, remove)

    blob_id, small_id = await write(blobs, chunks, None), await write(blobs, small, None)
    await measure("read cached", size, rounds, lambda: read(blobs, blob_id, size, None))
    sink = Sink()
    await measure("read to socket", size, rounds, lambda: read(blobs, blob_id, size, sink.socket.sendall))
    sink.close()

    async def cold() -> None:
        name = blob_id.hex()
        forget(directory / "blobs" / name[:5] / name[5:7] / name)
        await read(blobs, blob_id, size, None)

    await measure("read cold", size, rounds, cold)
    await measure("read small", SMALL, rounds, lambda: read(blobs, small_id, SMALL, None), 200)
    await measure("open", 0, rounds, lambda: read(blobs, small_id, 0, None), 200)
    await blobs.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to measure (default: here)")
    parser.add_argument("--size", type=int, default=64, metavar="MIB", help="of the large blob (default 64)")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="blob_io.", dir=options.directory))
    try:
        react(lambda _: Deferred.fromCoroutine(run(directory, options.size * MIB, options.rounds)))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
