"""Put multipart uploads of many or of huge parts into a data directory, while no server runs on it.

    python -m benchmarks.bulk_upload DATA KEY PARTS SIZE [--uploads 1] [--bucket bench]

10,000 parts of the least size are 49 GiB, which few disks have to spare. So one part of SIZE bytes is written, and all
others of an upload are links to it, made by the store's own clone, as CopyObject makes them: rows, blobs and what a
Complete does are those of real parts. Nothing is synced. Prints key and id of each upload: KEY, KEY1, KEY2, ...
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from aisobj.model import Attributes, Bucket
from aisobj.storage.embedded import IEmbeddedReactor, lock_data_directory, open_store
from aisobj.storage.store import ObjectStore

OWNER = "bench"
_BLOCK = os.urandom(1 << 20)
_AT_A_TIME = 64


async def make_upload(store: ObjectStore, bucket: Bucket, key: bytes, parts: int, size: int) -> str:
    """Raises StorageError."""
    upload = await store.uploads.create(bucket, key, OWNER, Attributes(), "", False)
    writer = store.uploads.writer(upload, (), size)
    for start in range(0, size, len(_BLOCK)):
        waiting = writer.write(_BLOCK[: size - start])
        if waiting is not None:
            await waiting
    body = await writer.finish({"bucket": bucket.id, "key": key, "upload": upload.id, "part": 1})
    digest = body.digests.raw(upload.checksum_type)
    await store.uploads.put_part(bucket, key, upload, 1, body, None)

    async def add(number: int) -> None:
        extents = await store.copier.clone_extents(body.extents)
        await store.uploads.put_extents(bucket, key, upload, number, extents, size, digest, None)

    for first in range(2, parts + 1, _AT_A_TIME):
        numbers = range(first, min(first + _AT_A_TIME, parts + 1))
        await gatherResults([Deferred.fromCoroutine(add(number)) for number in numbers])
    return upload.id.hex()


async def load(reactor: IEmbeddedReactor, options: argparse.Namespace) -> None:
    """Raises StorageError where a server has the directory, S3Error (NoSuchBucket)."""
    lock = lock_data_directory(options.data)
    try:
        store = await open_store(options.data, reactor=reactor, lock=lock, sync=False)
        try:
            bucket = store.buckets.get(options.bucket)
            for number in range(options.uploads):
                key = f"{options.key}{number or ''}"
                upload = await make_upload(store, bucket, key.encode(), options.parts, options.size)
                print(key, upload, flush=True)
        finally:
            await store.close()
    finally:
        lock.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data directory of a server that has ended")
    parser.add_argument("key", help="of the object that the first upload becomes, without blanks")
    parser.add_argument("parts", type=int, help="of each upload")
    parser.add_argument("size", type=int, help="of each part, bytes")
    parser.add_argument("--bucket", default="bench", help="one that is there (default bench)")
    parser.add_argument("--uploads", type=int, default=1, help="how many (default 1)")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(load(cast(IEmbeddedReactor, reactor), options)))


if __name__ == "__main__":
    main()
