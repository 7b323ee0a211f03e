"""Fill a data directory with many empty objects, through the engine's own commit, while no server runs on it.

    python -m benchmarks.bulk_load DATA 10000000 [--bucket bench] [--prefixes 100]

Object number n of N is ``PP/NNNNNNNNNN``, in order, with as many prefixes PP as asked for, which all hold the same
number of objects. Each is the row that a PUT of no bytes writes, in commits of 10,000 that also count them; an object
that is there already is written again and counted once more, so load into a bucket that is new. It takes 4 to
10 microseconds an object, and 200 bytes of disk.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from aisobj import checksums
from aisobj.model import BodyKind, BucketProps, ObjectRecord
from aisobj.storage import keys, records
from aisobj.storage.embedded import IEmbeddedReactor, lock_data_directory, open_store
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import CommitResult
from aisobj.storage.lmdb_index import LmdbIndex

BATCH = 10_000
#: commits on their way to the writer at a time: it writes one while the next is made
_AHEAD = 2
OWNER = "bench"


def key_of(number: int, count: int, prefixes: int) -> str:
    """The key of object ``number`` of ``count``."""
    return f"{number * prefixes // count:02}/{number:010}"


def _rows(count: int, prefixes: int, checksum: str) -> Iterator[tuple[bytes, bytes]]:
    ids = IdMaker()
    digest = checksums.new_digest(checksum).hexdigest() if checksum != "none" else ""
    for number in range(count):
        version = ids.make()
        etag = checksums.etag(checksum, digest, version)
        record = ObjectRecord(version, 1, 0, ids.time(), etag, BodyKind.EMPTY, b"", checksum, digest)
        yield keys.OBJECT + key_of(number, count, prefixes).encode(), records.encode(record)


async def load(reactor: IEmbeddedReactor, data: Path, count: int, bucket: str, prefixes: int) -> None:
    """Make the bucket and its objects. Raises StorageError where a server has the directory, S3Error
    (BucketAlreadyOwnedByYou) where the bucket is there already."""
    lock = lock_data_directory(data)
    try:
        store = await open_store(data, reactor=reactor, lock=lock)
        try:
            made = await store.buckets.create(bucket, OWNER, BucketProps())
        finally:
            await store.close()
        index = LmdbIndex.open(data / "index", reactor=reactor, keep_open=lock.descriptor)
        try:
            rows = _rows(count, prefixes, made.props.checksum_type)
            waiting: list[Deferred[CommitResult]] = []
            for _ in range(0, count, BATCH):
                batch = dict(islice(rows, BATCH))
                waiting.append(index.commit(made.id, {}, batch, (), {keys.COUNTERS: (len(batch), 0)}))
                if len(waiting) > _AHEAD:
                    await waiting.pop(0)
            for each in waiting:
                await each
        finally:
            await index.close()
    finally:
        lock.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data directory; made if it is missing")
    parser.add_argument("count", type=int, help="of objects")
    parser.add_argument("--bucket", default="bench", help="a new one (default bench)")
    parser.add_argument("--prefixes", type=int, default=100, help="that the keys begin with (default 100)")
    options = parser.parse_args()

    async def run(reactor: object) -> None:
        started = time.monotonic()
        store = cast(IEmbeddedReactor, reactor)
        await load(store, options.data, options.count, options.bucket, options.prefixes)
        seconds = time.monotonic() - started
        print(f"{options.count} objects in {seconds:.1f} s, {seconds / options.count * 1e6:.1f} us each")

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
