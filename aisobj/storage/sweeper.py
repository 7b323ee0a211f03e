"""What is done behind the clients' backs: replaced blobs are unlinked, destroyed buckets purged, checkpoints written.

And once, at start: blobs that a crash left without an owner go. Nothing here is needed for correct answers; a sweep
that fails is logged and tried again at the next turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from aisobj.model import BucketName, Garbage
from aisobj.storage import keys, records
from aisobj.storage.engine import Changes, Engine

#: How long a replaced blob stays for readers that hold its extents, seconds.
GRACE = 600.0
#: Rows that one commit of the sweeper touches at most.
_PAGE = 256
_OLDEST = bytes(16)


class Sweeper:
    """Bounded, restartable background work over one store. One process runs it."""

    def __init__(self, engine: Engine, grace: float = GRACE) -> None:
        self._engine = engine
        self._grace = grace

    async def sweep(self) -> int:
        """One turn over all buckets. The number of blobs unlinked."""
        removed = 0
        for bucket_id in self._buckets(keys.BUCKET_NAME):
            removed += await self._collect(bucket_id)
        for bucket_id in self._buckets(keys.PURGE):
            removed += await self._purge(bucket_id)
        await self._checkpoint()
        return removed

    async def recover(self) -> int:
        """At start, before anything is served: remove what a crash left. The number of files removed.

        Only blobs newer than the checkpoint are looked at, so this does not grow with the store.
        """
        engine = self._engine
        removed = await engine.blobs.clean()
        checkpoint = engine.index.get(keys.ROOT, (keys.CHECKPOINT,))[0] or _OLDEST
        orphans = set(await engine.blobs.newer_than(checkpoint))
        if orphans:
            for bucket_id in (*self._buckets(keys.BUCKET_NAME), *self._buckets(keys.PURGE)):
                for row_key, _ in self._rows(bucket_id, keys.BLOB, keys.BLOB + checkpoint):
                    orphans.discard(row_key[1:])
            await engine.blobs.remove(sorted(orphans))
        return removed + len(orphans)

    def _buckets(self, kind: bytes) -> Iterator[bytes]:
        for row_key, row in self._rows(keys.ROOT, kind):
            yield row_key[1:] if kind == keys.PURGE else records.decode(BucketName, row).id

    def _rows(self, partition: bytes, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in pages: each page is a snapshot of its own."""
        while True:
            page = self._engine.index.scan(partition, after, prefix, _PAGE)
            if not page:
                return
            yield from page
            after = page[-1][0]

    async def _collect(self, bucket_id: bytes) -> int:
        engine, removed = self._engine, 0
        before = engine.ids.time() - int(self._grace * 1e9)
        while True:
            page = engine.index.scan(bucket_id, b"", keys.GARBAGE, _PAGE)
            due = [(key, row) for key, row in page if keys.garbage_time(key) < before]
            if not due:
                return removed
            blob_ids = [blob_id for _, row in due for blob_id in records.decode(Garbage, row).blob_ids]
            await engine.blobs.remove(blob_ids)
            changes = Changes(bucket_id)
            changes.delete.extend(key for key, _ in due)
            await engine.commit(changes)
            removed += len(blob_ids)

    async def _purge(self, bucket_id: bytes) -> int:
        """Blobs first, then rows: a crash in between finds the rows again, and removing twice is no error."""
        engine, removed = self._engine, 0
        while True:
            page = engine.index.scan(bucket_id, b"", b"", _PAGE)
            if not page:
                break
            blob_ids = [key[1:] for key, _ in page if key[:1] == keys.BLOB]
            for key, row in page:
                if key[:1] == keys.GARBAGE:
                    blob_ids.extend(records.decode(Garbage, row).blob_ids)
            await engine.blobs.remove(blob_ids)
            changes = Changes(bucket_id)
            changes.delete.extend(key for key, _ in page)
            await engine.commit(changes)
            removed += len(blob_ids)
        done = Changes(keys.ROOT)
        done.delete.append(keys.PURGE + bucket_id)
        await engine.commit(done)
        return removed

    async def _checkpoint(self) -> None:
        engine = self._engine
        settled = engine.blobs.settled_before()
        row = engine.index.get(keys.ROOT, (keys.CHECKPOINT,))[0]
        if row is None or settled > row:
            changes = Changes(keys.ROOT)
            changes.put[keys.CHECKPOINT] = settled
            await engine.commit(changes)
