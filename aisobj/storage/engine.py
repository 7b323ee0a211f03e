"""What the parts of the store share: the two engines, the clock, and one way to commit.

A :class:`Changes` collects what one S3 operation writes; :meth:`Engine.commit` sends it and settles blobs afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from aisobj.errors import CommitUnknown, S3Error, StorageError, StoreBusy, StoreFull, StoreReadOnly
from aisobj.model import Body, BodyKind, Bucket, BucketState, Garbage, ObjectRecord
from aisobj.storage import keys, records
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import CommitResult, Expect, IBlobs, IIndex, ISnapshot
from aisobj.storage.turns import Turns

#: How often a write that lost a race, and is the first in line, tries again before it gives up with 503 SlowDown. The
#: lines are those of one process: whoever is first competes with the first of every other worker.
ATTEMPTS = 256

RETRY_AFTER = {"Retry-After": "1"}

# For every request: a member of an Enum is looked up by a function in Python 3.11.
_INLINE, _EXTENTS = BodyKind.INLINE, BodyKind.EXTENTS
_ACTIVE, _DELETED = BucketState.ACTIVE, BucketState.DELETED
_ABSENT, _OK = Expect.ABSENT, CommitResult.OK

#: Rows that make the index grow, as opposed to states and garbage.
_GROWTH = frozenset((keys.OBJECT, keys.HEADERS, keys.INLINE, keys.BODY, keys.UPLOAD, keys.PART))

T = TypeVar("T")

_log = Logger()


class Changes:
    """One atomic commit in the making, within one bucket's partition, or the root's with those that it founds."""

    __slots__ = ("add", "delete", "expect", "found", "partition", "put")

    def __init__(self, partition: bytes) -> None:
        self.partition = partition
        self.expect: dict[bytes, Expect | bytes] = {}
        self.put: dict[bytes, bytes] = {}
        self.delete: list[bytes] = []
        self.add: dict[bytes, tuple[int, ...]] = {}
        self.found: dict[bytes, dict[bytes, bytes]] = {}

    def expect_row(self, key: bytes, row: bytes | None) -> None:
        """The row must still be what was read."""
        self.expect[key] = _ABSENT if row is None else row

    def only(self, key: bytes) -> Changes:
        """The same commit without what it expects of other rows than ``key``."""
        self.expect = {key: self.expect[key]}
        return self

    @property
    def frees(self) -> bool:
        """Whether it only makes room, or prepares that: deletes rows, or says so in the state of a bucket."""
        return bool(self.delete or keys.BUCKET in self.expect) and not any(key[:1] in _GROWTH for key in self.put)

    def count(self, objects: int, size: int) -> None:
        """Add to the bucket's counters."""
        if objects or size:
            self.add[keys.COUNTERS] = (objects, size)

    def own_blobs(self, owner: bytes, blob_ids: list[bytes]) -> None:
        """The index now says whose these blobs are; a restart leaves them alone."""
        row = records.seal(owner)
        for blob_id in blob_ids:
            self.put[keys.BLOB + blob_id] = row

    def discard_blobs(self, time_ns: int, owner: bytes, blob_ids: list[bytes]) -> None:
        """Nobody owns these blobs any more: unlink them once no reader can hold their extents."""
        if blob_ids:
            self.put[keys.garbage(time_ns, owner)] = records.encode(Garbage(blob_ids))
            self.delete.extend(keys.BLOB + blob_id for blob_id in blob_ids)

    def discard_object(self, now: Callable[[], int], record: ObjectRecord, snapshot: ISnapshot) -> None:
        """Drop what hangs on a record that is replaced or deleted: body, long headers, counters are the caller's.

        :param now: of the engine's ids; asked where there are blobs to discard.
        """
        if record.long_headers:
            self.delete.append(keys.HEADERS + record.version_id)
        if record.body_kind is _INLINE:
            self.delete.append(keys.INLINE + record.body_id)
        elif record.body_kind is _EXTENTS:
            row = snapshot.get(keys.BODY + record.body_id)
            if row is not None:  # else: it is lost, and what it hung on goes all the same
                self.delete.append(keys.BODY + record.body_id)
                self.discard_blobs(now(), record.body_id, blob_ids(records.decode(Body, row)))


def blob_ids(body: Body) -> list[bytes]:
    """The blobs of a body, each once, in order."""
    return list(dict.fromkeys(extent.blob_id for extent in body.extents))


class Ballast:
    """Space held back for the day the disk is full. This one holds none."""

    def give_up(self) -> bool:
        """Make the space free; whether there was any."""
        return False


class Findings:
    """What has been found corrupt. This one remembers nothing."""

    def note_row(self, partition: bytes, key: bytes, why: str) -> None:
        """A row of the index does not match its checksum. Does not wait."""

    def count(self) -> int:
        """How many rows and blobs are known to be corrupt."""
        return 0


#: Buckets that are remembered as they were when they were last looked at.
_KNOWN_BUCKETS = 1024


class Engine:
    """Index, blobs and ids, as the store's parts use them.

    :param inline_limit: bodies of at most this many bytes live in the index (measured: ``docs/performance.md``).
    """

    def __init__(
        self,
        index: IIndex,
        blobs: IBlobs,
        ids: IdMaker,
        clock: IReactorTime,
        inline_limit: int,
        ballast: Ballast,
        findings: Findings,
    ) -> None:
        self.index = index
        self.blobs = blobs
        self.ids = ids
        self.clock = clock
        self.turns = Turns(clock)
        self.inline_limit = inline_limit
        self.findings = findings
        self._ballast = ballast
        self._lines: dict[Hashable, DeferredLock] = {}
        self._known_buckets: dict[str, tuple[int, Bucket]] = {}  # name -> as of a version of the index

    @property
    def read_only(self) -> str:
        """Why nothing can be written any more, or ''. A sync that failed anywhere stops all writing."""
        reason: str = self.index.read_only or self.blobs.read_only
        return reason

    def check_space(self) -> None:
        """Call before anything is stored. Raises S3Error: SlowDown (no space), ServiceUnavailable (read-only)."""
        if self.index.read_only:
            raise S3Error("ServiceUnavailable")
        try:
            self.blobs.check_space()
        except StoreFull as error:
            raise slow_down(error) from error
        except StoreReadOnly as error:
            raise S3Error("ServiceUnavailable") from error

    async def drop(self, blob_ids: list[bytes]) -> None:
        """Remove blobs that no row owns. Raises nothing: what stays is found by the next start.

        Where nothing more is written they stay: nobody knows then whether the disk has the commit that failed.
        """
        if not blob_ids or self.read_only:
            return
        try:
            await self.blobs.remove(blob_ids)
        except StorageError as error:
            _log.warn("{count} blobs stay without an owner: {error}", count=len(blob_ids), error=error)

    async def sleep(self, seconds: float) -> None:
        await deferLater(self.clock, seconds)

    def bucket_id(self, name: str) -> bytes:
        """The id a name stands for. Raises NoSuchBucket."""
        row = self.index.get(keys.ROOT, (keys.bucket_name(name),))[0]
        if row is None:
            raise no_such_bucket(name)
        return records.decode_bucket_name(row).id

    def open_bucket(self, name: str) -> tuple[ISnapshot, Bucket]:
        """A snapshot of the partition of the bucket that a name stands for, which the caller closes, and that bucket.
        Raises NoSuchBucket, CorruptData.

        While nothing is committed both of its rows are what they were, and are not read again.
        """
        known = self._known_buckets.get(name)
        snapshot: ISnapshot = self.index.snapshot(keys.ROOT if known is None else known[1].id)
        try:
            if known is not None:
                if known[0] == snapshot.version:
                    return snapshot, known[1]
                snapshot.turn_to(keys.ROOT)
            return snapshot, self._find_bucket(snapshot, name)[0]
        except BaseException:
            snapshot.close()
            raise

    def look_at_bucket(self, name: str) -> tuple[ISnapshot, Bucket, bytes]:
        """As :meth:`open_bucket`, and the row that a commit expects. Raises as that does.

        A bucket that is ACTIVE has its name, so where the last one that had it still is, the name is not looked up.
        """
        known = self._known_buckets.get(name)
        snapshot: ISnapshot = self.index.snapshot(keys.ROOT if known is None else known[1].id)
        try:
            if known is not None:
                row = snapshot.get(keys.BUCKET)
                if row is not None:
                    bucket = records.decode_bucket(row)
                    if bucket.state is _ACTIVE:
                        return snapshot, bucket, row
                snapshot.turn_to(keys.ROOT)
            return snapshot, *self._find_bucket(snapshot, name)
        except BaseException:
            snapshot.close()
            raise

    def _find_bucket(self, snapshot: ISnapshot, name: str) -> tuple[Bucket, bytes]:
        """Turn from the root to the partition of the bucket that a name stands for: it, and its row. It is remembered.
        Raises NoSuchBucket, CorruptData."""
        name_row = snapshot.get(keys.bucket_name(name))
        if name_row is None:
            raise no_such_bucket(name)
        snapshot.turn_to(records.decode_bucket_name(name_row).id)
        row = snapshot.get(keys.BUCKET)
        bucket = self.live_bucket(row, name)
        if len(self._known_buckets) >= _KNOWN_BUCKETS:
            self._known_buckets.clear()
        self._known_buckets[name] = snapshot.version, bucket
        return bucket, row or b""

    def live_bucket(self, row: bytes | None, name: str) -> Bucket:
        """The bucket in an ``A`` row. Raises NoSuchBucket where it is deleted."""
        if row is not None:
            bucket = records.decode_bucket(row)
            if bucket.state is not _DELETED:
                return bucket
        raise no_such_bucket(name)

    async def commit(self, changes: Changes) -> bool:
        """True: durable. False: an expectation did not hold and nothing was written.

        :raises S3Error: SlowDown (no space), ServiceUnavailable (read-only).
        :raises CommitUnknown: nobody knows.
        """
        if self.read_only:
            raise S3Error("ServiceUnavailable")
        try:
            try:
                result = await self._send(changes)
            except StoreFull:
                # Deleting needs pages too: LMDB never overwrites what a reader may see.
                if not (changes.frees and self._ballast.give_up()):
                    raise
                result = await self._send(changes)
        except StoreFull as error:
            raise slow_down(error) from error
        except StoreReadOnly as error:
            raise S3Error("ServiceUnavailable") from error
        return result is _OK

    def _send(self, changes: Changes) -> Deferred[CommitResult]:
        committed: Deferred[CommitResult] = self.index.commit(
            changes.partition, changes.expect, changes.put, changes.delete, changes.add, changes.found
        )
        return committed

    async def catch_up(self, partition: bytes) -> None:
        """Wait until every commit that had been sent before is there or never will be: also those of a worker that has
        died since, whose clients were told nothing and may ask here what became of them. Raises nothing.
        """
        if self.read_only:
            return  # nothing more is written
        try:
            await self._send(Changes(partition))
        except StorageError as error:  # the writer has died, and those commits with it
            _log.info("nothing more is written by the index writer before: {error}", error=error)

    async def retry(self, contended: Hashable, attempt: Callable[[], Awaitable[T | None]]) -> T:
        """Run ``attempt`` until it does not lose a race (returns other than None).

        The commits that wait for one sync are all but one in vain if they write one key. So whoever has lost waits in
        line (of this process), by ``contended``, instead of racing the other losers again.
        """
        outcome = await attempt()
        if outcome is not None:
            return outcome
        line = self._lines.setdefault(contended, DeferredLock())
        await line.acquire()
        try:
            for _ in range(ATTEMPTS):
                outcome = await attempt()
                if outcome is not None:
                    return outcome
        finally:
            line.release()
            if not line.locked:  # nobody waits
                self._lines.pop(contended, None)
        raise S3Error("SlowDown", "Too many writers contend for this key.", headers=RETRY_AFTER)

    async def commit_or_find(self, changes: Changes, key: bytes) -> bool:
        """:meth:`commit`; where nobody knows how it ended, look whether row ``key`` is what this commit makes it.

        :raises CommitUnknown: it is not; the client has to ask again.
        """
        try:
            return await self.commit(changes)
        except CommitUnknown:
            if self._is_made(changes, key):
                return True
            raise

    def commit_soon(self, changes: Changes, key: bytes, then: Callable[[bool], T | Deferred[T]]) -> Deferred[T]:
        """What ``then`` makes of :meth:`commit_or_find`; no coroutine runs unless something fails."""
        return self._send(changes).addCallbacks(
            _committed, self._commit_failed, callbackArgs=(then,), errbackArgs=(changes, key, then)
        )

    def _commit_failed(
        self, failure: Failure, changes: Changes, key: bytes, then: Callable[[bool], T | Deferred[T]]
    ) -> T | Deferred[T] | Failure:
        if failure.check(CommitUnknown) is None:  # it has not happened; this makes room, or says what is wrong
            return Deferred.fromCoroutine(self.commit(changes)).addCallback(then)
        return then(True) if self._is_made(changes, key) else failure

    def _is_made(self, changes: Changes, key: bytes) -> bool:
        return bool(self.index.get(changes.partition, (key,))[0] == changes.put.get(key))


def _committed(result: CommitResult, then: Callable[[bool], T]) -> T:
    return then(result is _OK)


def no_such_bucket(name: str) -> S3Error:
    return S3Error("NoSuchBucket", BucketName=name)


def slow_down(error: StoreFull | StoreBusy) -> S3Error:
    """No space (the object that was there stays, deletes still work), or no time."""
    text = "There is not enough free space to store this." if isinstance(error, StoreFull) else "The disk is busy."
    return S3Error("SlowDown", text, headers=RETRY_AFTER)
