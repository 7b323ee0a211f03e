"""What is done behind the clients' backs: replaced blobs are unlinked, destroyed buckets purged, checkpoints written.

And once, at start: blobs that a crash left without an owner are set aside. Nothing here is needed for correct answers:
what fails in one bucket is logged, keeps no other bucket from its turn, and is tried again at the next.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator

from twisted.logger import Logger

from aisobj.errors import CorruptData, S3Error, StorageError
from aisobj.model import Bucket, BucketName, BucketState, Garbage
from aisobj.storage import keys, records
from aisobj.storage.buckets import unname
from aisobj.storage.engine import Changes, Engine
from aisobj.storage.ids import id_time
from aisobj.storage.unsettled import MARGIN_NS

#: How long a replaced blob stays for readers that hold its extents, seconds.
GRACE = 600.0
#: What the clock must have been set forward by, seconds, to be noticed.
_JUMP = 1.0
#: Rows that one commit of the sweeper touches at most.
_PAGE = 256
#: Buckets looked at in one go: some 0.5 ms where nothing is due.
_BUCKETS = 16
_OLDEST = bytes(16)

_log = Logger()


class Sweeper:
    """Bounded, restartable background work over one store. One process runs it.

    :ivar others: where further processes write blobs: an id that is smaller than those of all their unsettled blobs
        and of their blobs to come; no checkpoint passes it. None: there are no others.
    :ivar seconds: a clock that only counts.
    """

    def __init__(self, engine: Engine, grace: float = GRACE) -> None:
        self.others: bytes | None = None
        self.seconds: Callable[[], float] = time.monotonic
        self._engine = engine
        self._grace = grace
        self._due_before = 0  # what was discarded before this is due
        self._clocks: tuple[float, int] | None = None  # at the last sweep
        self._waiting_until = 0.0
        self._stopped = False

    def stop(self) -> None:
        """A turn that is running ends after its next commit. The next process goes on where it was."""
        self._stopped = True

    async def sweep(self) -> int:
        """One turn over all buckets. The number of blobs unlinked."""
        removed = 0
        self._look_at_the_clocks()
        for number, (row_key, row) in enumerate(self._rows(keys.ROOT, keys.BUCKET_NAME), 1):
            removed += await self._guarded(self._collect, row_key, row)
            if number % _BUCKETS == 0:
                await self._engine.turns.take()
        for row_key, row in self._rows(keys.ROOT, keys.PURGE):
            removed += await self._guarded(self._purge, row_key, row)
        if not self._stopped:
            try:
                await self._checkpoint()
            except (S3Error, StorageError) as error:  # the disk is full, or takes no more writes
                _log.error("writing the checkpoint: {error}", error=error)
        return removed

    def _look_at_the_clocks(self) -> None:
        """Nobody discards anything earlier than the machine's clock says, so what is older by it than the grace is due,
        unless the clock was set forward meanwhile: then nothing is, for one grace.
        """
        counted, now = self.seconds(), self._engine.ids.now()
        if self._clocks is not None:
            jump = (now - self._clocks[1]) / 1e9 - (counted - self._clocks[0])
            if jump > _JUMP:
                self._waiting_until = counted + self._grace
        self._clocks = counted, now
        self._due_before = 0 if counted < self._waiting_until else now - int(self._grace * 1e9)

    async def recover(self) -> int:
        """At start, before anything is served: take away what a crash left. The number of files.

        Only blobs newer than the checkpoint are looked at, so this does not grow with the store. Those that wait in a
        garbage row are removed: no reader is left that could hold them. One that no row names was being stored, but a
        damaged index says the same of what it has lost: it is set aside, where the tools find it again.
        """
        engine = self._engine
        removed = await engine.blobs.clean()
        if engine.read_only:
            return removed
        checkpoint = self._read_checkpoint()
        if checkpoint is None:
            _log.warn("the index has no checkpoint; blobs without an owner stay: see ais-s3 fsck")
            return removed
        orphans = set(await engine.blobs.newer_than(checkpoint))
        try:
            garbage = self._find_owned(orphans, checkpoint) if orphans else set()
        except CorruptData as error:
            _log.critical("blobs without an owner stay, as a bucket cannot be read: {error}", error=error)
            orphans, garbage = set(), set()
        await engine.blobs.remove(sorted(garbage))
        try:
            await engine.blobs.set_aside(sorted(orphans))
        except StorageError as error:
            _log.error("blobs without an owner stay: {error}", error=error)
        settled = engine.blobs.settled_before()
        if settled < checkpoint:  # the clock went back: blobs to come would hide behind it
            await self._write_checkpoint(settled)
        return removed + len(garbage) + len(orphans)

    def _find_owned(self, blob_ids: set[bytes], after: bytes) -> set[bytes]:
        """Take away from ``blob_ids``, which are greater than ``after``, those that the index names. Those of them that
        wait in a garbage row. Raises CorruptData where that is not known of a bucket."""
        buckets = [records.decode(BucketName, row).id for _, row in self._rows(keys.ROOT, keys.BUCKET_NAME)]
        buckets += [row_key[1:] for row_key, _ in self._rows(keys.ROOT, keys.PURGE)]
        for bucket_id in buckets:
            for row_key, _ in self._rows(bucket_id, keys.BLOB, keys.BLOB + after):
                blob_ids.discard(row_key[1:])
        garbage: set[bytes] = set()
        for bucket_id in buckets if blob_ids else ():
            for _, row in self._rows(bucket_id, keys.GARBAGE):
                garbage |= blob_ids.intersection(records.decode(Garbage, row).blob_ids)
        blob_ids -= garbage
        return garbage

    def join(self) -> None:
        """At start, in a store that other processes are using: a later blob must not hide behind their checkpoint."""
        self._engine.ids.time(after=id_time(self._read_checkpoint() or _OLDEST) + MARGIN_NS)

    async def _guarded(self, work: Callable[[bytes, bytes], Awaitable[int]], row_key: bytes, row: bytes) -> int:
        if self._stopped:
            return 0
        try:
            return await work(row_key, row)
        except (S3Error, StorageError) as error:
            _log.error("sweeping {row}: {error}", row=row_key, error=error)
            return 0

    def _rows(self, partition: bytes, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in pages: each page is a snapshot of its own."""
        while True:
            page = self._engine.index.scan(partition, after, prefix, _PAGE)
            if not page:
                return
            yield from page
            after = page[-1][0]

    async def _collect(self, row_key: bytes, name_row: bytes) -> int:
        engine, removed = self._engine, 0
        bucket_id = records.decode(BucketName, name_row).id
        row = engine.index.get(bucket_id, (keys.BUCKET,))[0]
        if row is not None and records.decode(Bucket, row).state is BucketState.DELETED:
            await unname(engine, row_key, name_row)  # a crash came before that
            return 0
        while True:
            page = engine.index.scan(bucket_id, b"", keys.GARBAGE, _PAGE)
            due = [(key, row) for key, row in page if keys.garbage_time(key) < self._due_before]
            if not due or self._stopped:
                return removed
            blob_ids = [blob_id for _, row in due for blob_id in records.decode(Garbage, row).blob_ids]
            await engine.blobs.remove(blob_ids)
            changes = Changes(bucket_id)
            changes.delete.extend(key for key, _ in due)
            await engine.commit(changes)
            removed += len(blob_ids)

    async def _purge(self, row_key: bytes, _: bytes) -> int:
        """Blobs first, then rows: a crash in between finds the rows again, and removing twice is no error."""
        engine, removed = self._engine, 0
        bucket_id = row_key[1:]
        while True:
            if self._stopped:
                return removed
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
        done.delete.append(row_key)
        await engine.commit(done)
        return removed

    async def _checkpoint(self) -> None:
        settled = self._engine.blobs.settled_before()
        if self.others is not None:
            settled = min(settled, self.others)
        known = self._read_checkpoint()
        if known is None or settled > known:
            await self._write_checkpoint(settled)

    def _read_checkpoint(self) -> bytes | None:
        """None: its row is damaged, or lost: a store that has a format has had one from the beginning (or an earlier
        release made it, and it has not been swept yet)."""
        begun, row = self._engine.index.get(keys.ROOT, (keys.FORMAT, keys.CHECKPOINT))
        if row is None:
            return _OLDEST if begun is None else None
        try:
            return bytes(records.unseal(row))
        except CorruptData as error:
            _log.error("the checkpoint: {error}", error=error)
            return None

    async def _write_checkpoint(self, blob_id: bytes) -> None:
        changes = Changes(keys.ROOT)
        changes.put[keys.CHECKPOINT] = records.seal(blob_id)
        await self._engine.commit(changes)
