"""Buckets: names, properties, life and death."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aisobj.errors import CommitUnknown, S3Error
from aisobj.model import ANONYMOUS, Bucket, BucketName, BucketProps, BucketState, Counters
from aisobj.storage import keys, records
from aisobj.storage.engine import Changes, Engine

_PAGE = 1000


class Buckets:
    """Every operation on buckets. Reads answer at once; writes are durable when their coroutine returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        snapshot, bucket = self._engine.open_bucket(name)
        snapshot.close()
        return bucket

    def list(self, prefix: str = "", after: str = "", limit: int = 1 << 31) -> list[Bucket]:
        """Buckets in order of their names."""
        index = self._engine.index
        found: list[Bucket] = []
        start, wanted = keys.bucket_name(after), keys.bucket_name(prefix)
        while len(found) < limit:
            page = index.scan(keys.ROOT, start, wanted, min(_PAGE, limit - len(found)))
            if not page:
                break
            start = page[-1][0]
            for _, row in page:
                bucket_row = index.get(records.decode(BucketName, row).id, (keys.BUCKET,))[0]
                if bucket_row is not None:
                    bucket = records.decode(Bucket, bucket_row)
                    if bucket.state is not BucketState.DELETED:
                        found.append(bucket)
        return found

    def counters(self, bucket: Bucket) -> Counters:
        """How much it holds."""
        return keys.decode_counters(self._engine.index.get(bucket.id, (keys.COUNTERS,))[0])

    def totals(self) -> Counters:
        """How much the whole store holds."""
        objects = size = 0
        for bucket in self.list():
            counters = self.counters(bucket)
            objects += counters.objects
            size += counters.bytes
        return Counters(objects, size)

    async def create(self, name: str, owner: str, props: BucketProps) -> Bucket:
        """A new, empty bucket. Raises BucketAlreadyOwnedByYou, or BucketAlreadyExists for another user's.

        What an open server made is everybody's.
        """
        engine = self._engine
        engine.check_space()
        name_key = keys.bucket_name(name)

        async def attempt() -> Bucket | None:
            old = engine.index.get(keys.ROOT, (name_key,))[0]
            if old is not None:
                await self._finish_destroying(name, old)
                old = engine.index.get(keys.ROOT, (name_key,))[0]
                if old is not None:
                    mine = records.decode(BucketName, old).owner in (owner, ANONYMOUS.name)
                    raise S3Error("BucketAlreadyOwnedByYou" if mine else "BucketAlreadyExists", BucketName=name)
            bucket_id = engine.ids.make()
            created = engine.ids.time()
            bucket = Bucket(name, bucket_id, created, owner, BucketState.ACTIVE, props)
            naming = Changes(keys.ROOT)
            naming.found[bucket_id] = {keys.BUCKET: records.encode(bucket)}
            naming.expect_row(name_key, None)
            row = records.encode(BucketName(bucket_id, created, owner))
            naming.put[name_key] = row
            named = await engine.commit_or_find(naming, name_key)
            return bucket if named else None

        return await engine.retry(name, attempt)

    async def update(self, name: str, change: Callable[[BucketProps], BucketProps]) -> tuple[BucketProps, BucketProps]:
        """Set properties; (before, after). ``change`` may be called again if another writer was quicker."""

        async def attempt() -> tuple[BucketProps, BucketProps] | None:
            bucket, row = self._load(name)
            after = change(bucket.props)
            if after == bucket.props:
                return bucket.props, after
            changed = await self._replace(bucket, row, props=after)
            return (bucket.props, after) if changed is not None else None

        return await self._engine.retry(name, attempt)

    async def delete(self, name: str) -> None:
        """S3's DeleteBucket. Raises NoSuchBucket, BucketNotEmpty.

        The bucket takes no writes while it is looked through; uploads in progress do not keep it (as in AWS).
        """
        engine = self._engine

        async def attempt() -> bool | None:
            bucket, row = self._load(name)
            if bucket.state is BucketState.ACTIVE:
                if not self._is_empty(bucket):
                    raise S3Error("BucketNotEmpty", BucketName=name)
                closing = await self._replace(bucket, row, state=BucketState.CLOSING)
                if closing is None:
                    return None
                row = closing
            if not self._is_empty(bucket):
                if await self._replace(bucket, row, state=BucketState.ACTIVE) is None:
                    return None
                raise S3Error("BucketNotEmpty", BucketName=name)
            return await self._mark_deleted(bucket, row)

        await engine.retry(name, attempt)

    async def destroy(self, name: str) -> None:
        """AIStore's destroy-bck: gone at once, whatever it holds. The sweeper purges rows and blobs afterwards."""

        async def attempt() -> bool | None:
            return await self._mark_deleted(*self._load(name))

        await self._engine.retry(name, attempt)

    async def reopen(self, name: str) -> None:
        """A writer found the bucket CLOSING for long: whoever was deleting it is gone. Back to ACTIVE."""
        bucket, row = self._load(name)
        if bucket.state is BucketState.CLOSING:
            await self._replace(bucket, row, state=BucketState.ACTIVE)

    def _load(self, name: str) -> tuple[Bucket, bytes]:
        """The bucket and the very bytes of its row, which a change of it expects."""
        engine = self._engine
        row = engine.index.get(engine.bucket_id(name), (keys.BUCKET,))[0]
        bucket = engine.live_bucket(row, name)
        return bucket, row or b""

    def _is_empty(self, bucket: Bucket) -> bool:
        index = self._engine.index
        return not index.scan(bucket.id, b"", keys.OBJECT, 1) and not index.scan(bucket.id, b"", keys.OLD_VERSION, 1)

    async def _replace(
        self, bucket: Bucket, row: bytes, *, props: BucketProps | None = None, state: BucketState | None = None
    ) -> bytes | None:
        """The bucket's new row, or None where another writer was quicker."""
        changed = msgspec.structs.replace(
            bucket, props=bucket.props if props is None else props, state=bucket.state if state is None else state
        )
        changes = Changes(bucket.id)
        changes.expect[keys.BUCKET] = row
        new_row = records.encode(changed)
        changes.put[keys.BUCKET] = new_row
        done = await self._engine.commit_or_find(changes, keys.BUCKET)
        return new_row if done else None

    async def _mark_deleted(self, bucket: Bucket, row: bytes) -> bool | None:
        if await self._replace(bucket, row, state=BucketState.DELETED) is None:
            return None
        name_row = self._engine.index.get(keys.ROOT, (keys.bucket_name(bucket.name),))[0]
        # Whoever saw the state before us may have taken the name away, and given it to another bucket.
        if name_row is not None and records.decode(BucketName, name_row).id == bucket.id:
            await unname(self._engine, keys.bucket_name(bucket.name), name_row)
        return True

    async def _finish_destroying(self, name: str, row: bytes) -> None:
        """A crash came between marking a bucket deleted and taking its name away: do the second half."""
        try:
            self.get(name)
        except S3Error:
            await unname(self._engine, keys.bucket_name(name), row)


async def unname(engine: Engine, name_key: bytes, row: bytes) -> None:
    """Take the name from a bucket that is DELETED, unless another was quicker; the sweeper has it from now on."""
    changes = Changes(keys.ROOT)
    changes.expect_row(name_key, row)
    changes.delete.append(name_key)
    changes.put[keys.PURGE + records.decode(BucketName, row).id] = b""
    try:
        await engine.commit(changes)
    except CommitUnknown:
        if engine.index.get(keys.ROOT, (name_key,))[0] == row:
            raise
