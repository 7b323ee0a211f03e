"""Objects: fetch, put, delete, copy, list. Conditions are decided where they are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec
from twisted.internet.defer import Deferred
from xxhash import xxh32_intdigest

from aisobj import checksums
from aisobj.errors import BlobMissing, CommitUnknown, CorruptData, S3Error, StorageError
from aisobj.model import (
    Attributes,
    Body,
    BodyKind,
    Bucket,
    BucketState,
    Headers,
    ListedObject,
    ObjectRecord,
    PartInfo,
)
from aisobj.protocol.conditions import WritePrecondition
from aisobj.protocol.listing import Page, Slices, list_all_objects, list_objects
from aisobj.protocol.listparams import ListParams
from aisobj.storage import keys, records
from aisobj.storage.bodies import (
    BodyWriter,
    ExtentSource,
    NewBody,
    VerifyingSource,
    WrittenBody,
    is_of_another,
    new_body,
    whole_body,
)
from aisobj.storage.buckets import Buckets
from aisobj.storage.corrupt_rows import note_corrupt_rows
from aisobj.storage.engine import Changes, Engine, blob_ids
from aisobj.storage.ids import id_time
from aisobj.storage.interfaces import ISnapshot

# A member of an Enum is looked up by a function in Python 3.11.
_INLINE, _EXTENTS, _ACTIVE = BodyKind.INLINE, BodyKind.EXTENTS, BucketState.ACTIVE

_NO_ATTRIBUTES = Attributes()
_decode_listed = partial(records.decode_all, ListedObject)

#: User metadata and headers up to this many bytes stay in the object's record, longer ones in a row of their own.
SHORT_HEADERS = 160
#: Rows of a page that are decoded in one go: some 0.2 ms.
_DECODED = 500


class Found(msgspec.Struct, frozen=True, gc=False):
    """An object as one snapshot of the index shows it."""

    bucket: Bucket
    key: bytes
    record: ObjectRecord  #: with all its headers
    inline: memoryview | None  #: the whole body, where it is in the index (or empty)
    body: Body | None  #: where it is, otherwise


class Seen(msgspec.Struct, frozen=True, gc=False):
    """The state that a write was decided on: what the commit expects to find still."""

    bucket: Bucket
    changes: Changes
    current: ObjectRecord | None
    snapshot: ISnapshot


#: Decides on the record that is there now, or None; raises S3Error to refuse.
Check = Callable[[ObjectRecord | None], None]


def any_current(current: ObjectRecord | None) -> None:
    """A :data:`Check` that refuses nothing."""


def _fetch(snapshot: ISnapshot, bucket: Bucket, key: bytes, with_body: bool) -> Found:
    """The current version. Raises NoSuchKey, CorruptData."""
    row = snapshot.get(keys.OBJECT + key)
    if row is None:
        raise no_such_key(key)
    record = records.decode_object(key, row)
    if record.long_headers:
        headers = records.decode(Headers, _present(snapshot.get(keys.HEADERS + record.version_id)))
        record = msgspec.structs.replace(record, headers=headers.headers)
    if not with_body:
        return Found(bucket, key, record, None, None)
    if record.body_kind is _INLINE:
        data = records.unseal(_present(snapshot.get(keys.INLINE + record.body_id)))
        return Found(bucket, key, record, data, None)
    if record.body_kind is _EXTENTS:
        body = records.decode(Body, _present(snapshot.get(keys.BODY + record.body_id)))
        return Found(bucket, key, record, None, body)
    return Found(bucket, key, record, memoryview(b""), None)


class Objects:
    """Every operation on objects. S3Error is for the client; a StorageError, as CorruptData, makes a 500."""

    def __init__(self, engine: Engine, buckets: Buckets) -> None:
        self._engine = engine
        self._buckets = buckets

    # reading ----------------------------------------------------------------------------------------------------

    def fetch(self, name: str, key: bytes, with_body: bool = True) -> Found:
        """The current version. Raises NoSuchBucket, NoSuchKey, CorruptData. Does not wait."""
        engine = self._engine
        try:
            snapshot, bucket = engine.open_bucket(name)
            try:
                return _fetch(snapshot, bucket, key, with_body)
            finally:
                snapshot.close()
        except CorruptData:
            note_corrupt_rows(engine, name, key)
            raise

    def headers(self, bucket: Bucket, record: ObjectRecord) -> dict[str, str]:
        """Stored headers and user metadata, wherever they are.

        Raises BlobMissing where a record that does not come from :meth:`fetch` has been replaced: fetch it.
        """
        if record.headers or not record.long_headers:
            return record.headers
        row = self._engine.index.get(bucket.id, (keys.HEADERS + record.version_id,))[0]
        if row is None:
            raise BlobMissing(f"the headers of version {record.version_id.hex()}")
        return records.decode(Headers, row).headers

    async def open(self, found: Found, offset: int, length: int) -> ExtentSource | VerifyingSource:
        """A range of a body that is in extents; the caller closes it. Raises BlobMissing: fetch again."""
        assert found.body is not None
        record, extents = found.record, found.body.extents
        source = ExtentSource(self._engine, extents, offset, length)
        owner = await source.open()
        if len(extents) == 1 and is_of_another(owner, record.checksum_type, record.checksum_value):
            source.close()
            raise CorruptData(f"{extents[0].blob_id.hex()} is another blob")
        if found.bucket.props.validate_warm_get and length == found.record.size:
            expected = _expected_digests(found.record, found.body)
            if expected:
                return VerifyingSource(source, found.record.checksum_type, expected)
        return source

    def check_inline(self, found: Found) -> None:
        """What ``validate_warm_get`` asks for, for a body in the index. Raises CorruptData."""
        if found.bucket.props.validate_warm_get and found.inline is not None and found.record.checksum_value:
            digest = checksums.new_digest(found.record.checksum_type)
            digest.update(found.inline)
            if digest.hexdigest() != found.record.checksum_value:
                raise CorruptData(f"the {found.record.checksum_type} of a whole object does not match")

    def list(self, name: str, params: ListParams) -> Slices[Page[ListedObject]]:
        """A page of a listing, from one snapshot. Raises NoSuchBucket."""
        engine = self._engine
        snapshot, _ = engine.open_bucket(name)
        scan = partial(snapshot.scan, lead=keys.OBJECT)
        try:
            if not params.delimiter:
                return (yield from list_all_objects(partial(scan, take=_decode_listed), scan, params))
            page = yield from list_objects(scan, params)
        finally:
            snapshot.close()
        items: list[tuple[bytes, ListedObject]] = []
        # Not as they are scanned: the first key of a group is not listed.
        for start in range(0, len(page.items), _DECODED):
            if start:
                yield
            items += records.decode_all(ListedObject, page.items[start : start + _DECODED])
        return Page(items, page.common_prefixes, page.truncated, page.last)

    # writing ----------------------------------------------------------------------------------------------------

    @property
    def inline_limit(self) -> int:
        """Bodies of at most this many bytes live in the index."""
        return self._engine.inline_limit

    def writer(self, bucket: Bucket, digests: Iterable[str], size: int | None) -> BodyWriter:
        """Begin to store a body; the caller ends it, and gives the result to ``put`` or ``discard``."""
        return BodyWriter(self._engine, bucket.props.checksum_type, digests, size)

    async def discard(self, body: WrittenBody) -> None:
        """Drop a body that will belong to nobody."""
        await self._engine.drop([extent.blob_id for extent in body.extents])

    async def put(
        self,
        name: str,
        key: bytes,
        body: WrittenBody,
        attributes: Attributes,
        precondition: WritePrecondition,
        seen: bytes = b"",
    ) -> tuple[Bucket, ObjectRecord]:
        """Make a written body the object. The body is consumed, whether this succeeds or raises.

        :param seen: the version that ``precondition`` held for when the request began; with If-Match, another one that
            it holds for too is a conflict (ConditionalRequestConflict), as somebody wrote in between.
        """
        new = new_body(body)

        def check(current: ObjectRecord | None) -> None:
            precondition.check(current)
            if seen and precondition.if_match is not None and current is not None and current.version_id != seen:
                raise S3Error("ConditionalRequestConflict")

        try:
            return await self.replace(name, key, attributes, check, new)
        except CommitUnknown:
            raise  # the body may be the object's by now
        except (S3Error, StorageError):
            await self.discard(body)
            raise

    def put_inline(
        self, name: str, key: bytes, body: WrittenBody, attributes: Attributes
    ) -> Deferred[tuple[Bucket, ObjectRecord]]:
        """:meth:`put` without conditions of an inline body. Raises NoSuchBucket."""
        seen = self.see(name, key)
        if seen is None:
            return Deferred.fromCoroutine(self.put(name, key, body, attributes, WritePrecondition.none))
        try:
            return self._put_seen(seen, name, key, new_body(body), attributes)
        finally:
            seen.snapshot.close()

    def put_whole(self, name: str, key: bytes, data: bytes) -> Deferred[tuple[Bucket, ObjectRecord]] | None:
        """:meth:`put` without conditions and attributes of at most ``inline_limit`` bytes. None: it has to wait before
        it can begin. Raises NoSuchBucket, and S3Error where nothing can be stored now.
        """
        seen = self.see(name, key)
        if seen is None:
            return None
        try:
            self._engine.check_space()
            return self._put_seen(seen, name, key, whole_body(seen.bucket.props.checksum_type, data), _NO_ATTRIBUTES)
        finally:
            seen.snapshot.close()

    def _put_seen(
        self, seen: Seen, name: str, key: bytes, new: NewBody, attributes: Attributes
    ) -> Deferred[tuple[Bucket, ObjectRecord]]:
        def done(ok: bool) -> tuple[Bucket, ObjectRecord] | Deferred[tuple[Bucket, ObjectRecord]]:
            if ok:
                return seen.bucket, record
            return Deferred.fromCoroutine(self.replace(name, key, attributes, any_current, new))

        record = self._replace_seen(seen, key, new, attributes)
        return self._engine.commit_soon(seen.changes, keys.OBJECT + key, done)

    async def replace(
        self, name: str, key: bytes, attributes: Attributes, check: Check, new: NewBody
    ) -> tuple[Bucket, ObjectRecord]:
        """Write a record over whatever is there, if ``check`` of that lets it (raises S3Error where not)."""
        return await self._engine.retry((name, key), lambda: self.replace_once(name, key, attributes, check, new))

    async def replace_once(
        self,
        name: str,
        key: bytes,
        attributes: Attributes,
        check: Check,
        new: NewBody,
        also: Callable[[Changes], None] = lambda changes: None,
    ) -> tuple[Bucket, ObjectRecord] | None:
        """One attempt of :meth:`replace`: None where another writer was quicker.

        ``also`` adds to the same commit (an upload's rows). On return the new body's blobs are settled.
        """
        engine = self._engine
        seen = await self.look(name, key)
        try:
            check(seen.current)
            record = self._replace_seen(seen, key, new, attributes)
        finally:
            seen.snapshot.close()
        changes = seen.changes
        also(changes)
        if not await engine.commit_or_find(changes, keys.OBJECT + key):
            return None
        if new.body is not None:
            engine.blobs.settle(blob_ids(new.body))
        return seen.bucket, record

    def delete_at_once(self, name: str, key: bytes) -> Deferred[object] | None:
        """:meth:`delete` without conditions; None: that has to wait before it can begin. Raises NoSuchBucket."""

        def done(ok: bool) -> object:
            return None if ok else Deferred.fromCoroutine(self.delete(name, key, any_current))

        seen = self.see(name, key)
        if seen is None:
            return None
        try:
            if seen.current is None:
                return None
            self._delete_seen(seen, key, seen.current)
        finally:
            seen.snapshot.close()
        return self._engine.commit_soon(seen.changes, keys.OBJECT + key, done)

    async def delete(self, name: str, key: bytes, check: Check) -> ObjectRecord | None:
        """Remove the object if ``check`` of it lets it; what was removed, or None where there was none.

        That there is none is told only once nothing is on its way to the index that would be there afterwards.
        """
        engine = self._engine
        caught_up = False

        async def attempt() -> tuple[ObjectRecord | None] | None:
            nonlocal caught_up
            seen = await self.look(name, key)
            if seen.current is None and not caught_up:
                seen.snapshot.close()
                await engine.catch_up(seen.bucket.id)
                caught_up = True
                seen = await self.look(name, key)
            try:
                check(seen.current)
                if seen.current is None:
                    return (None,)
                self._delete_seen(seen, key, seen.current)
            finally:
                seen.snapshot.close()
            done = await engine.commit_or_find(seen.changes, keys.OBJECT + key)
            return (seen.current,) if done else None

        return (await engine.retry((name, key), attempt))[0]

    # parts of the above -----------------------------------------------------------------------------------------

    async def look(self, name: str, key: bytes) -> Seen:
        """What is there now, and the expectations that it still is. The caller closes the snapshot before it waits."""
        for wait in (0.01, 0.05, 0.2, 0.5, 0.0, 0.01):
            seen = self.see(name, key)
            if seen is not None:
                return seen
            if wait:  # DeleteBucket is looking the bucket through: it decides within milliseconds
                await self._engine.sleep(wait)
            else:  # or it died in between
                await self._buckets.reopen(name)
        raise S3Error("SlowDown", "The bucket is being deleted.")

    def see(self, name: str, key: bytes) -> Seen | None:
        """:meth:`look`, but None where it would have to wait: the bucket is perhaps being deleted."""
        snapshot, bucket, bucket_row = self._engine.look_at_bucket(name)
        try:
            row = snapshot.get(keys.OBJECT + key)
            current = None if row is None else records.decode_object(key, row)
        except BaseException:
            snapshot.close()
            raise
        if bucket.state is not _ACTIVE:
            snapshot.close()
            return None
        changes = Changes(bucket.id)
        changes.expect_row(keys.BUCKET, bucket_row)
        changes.expect_row(keys.OBJECT + key, row)
        return Seen(bucket, changes, current, snapshot)

    def _replace_seen(self, seen: Seen, key: bytes, new: NewBody, attributes: Attributes) -> ObjectRecord:
        """The record that replaces what was seen; what that changes is added."""
        current, changes = seen.current, seen.changes
        record = self._record(key, current, new, attributes)
        if current is None:
            changes.count(1, record.size)
        else:
            changes.discard_object(self._engine.ids.time, current, seen.snapshot)
            changes.count(0, record.size - current.size)
        self._put_rows(changes, key, record, new, attributes)
        return record

    def _delete_seen(self, seen: Seen, key: bytes, current: ObjectRecord) -> None:
        changes = seen.changes
        changes.discard_object(self._engine.ids.time, current, seen.snapshot)
        changes.delete.append(keys.OBJECT + key)
        changes.count(-1, -current.size)

    def _record(self, key: bytes, current: ObjectRecord | None, new: NewBody, attributes: Attributes) -> ObjectRecord:
        engine = self._engine
        version = engine.ids.make(after=0 if current is None else id_time(current.version_id))
        if new.body is not None:
            kind, body_id = _EXTENTS, new.owner or engine.ids.make()
        else:
            kind, body_id = (_INLINE, engine.ids.make()) if new.inline else (BodyKind.EMPTY, b"")
        made = id_time(version)
        headers = attributes.headers
        long_headers = bool(headers) and sum(len(k) + len(v) for k, v in headers.items()) > SHORT_HEADERS
        return ObjectRecord(
            version_id=version,
            counter=1 if current is None else current.counter + 1,
            size=new.size,
            mtime=made if current is None else max(made, current.mtime),
            etag=new.etag(version),
            body_kind=kind,
            body_id=body_id,
            checksum_type=new.checksum_type,
            checksum_value=new.checksum_value,
            checksum=attributes.checksum,
            content_type=attributes.content_type,
            parts=new.parts,
            long_headers=long_headers,
            headers={} if long_headers else headers,
            key_digest=xxh32_intdigest(key),
        )

    def _put_rows(
        self, changes: Changes, key: bytes, record: ObjectRecord, new: NewBody, attributes: Attributes
    ) -> None:
        changes.put[keys.OBJECT + key] = records.encode(record)
        if record.long_headers:
            changes.put[keys.HEADERS + record.version_id] = records.encode(Headers(attributes.headers))
        if record.body_kind is _INLINE:
            assert new.inline is not None
            changes.put[keys.INLINE + record.body_id] = records.seal(new.inline)
        elif new.body is not None:
            changes.put[keys.BODY + record.body_id] = records.encode(new.body)
            if not new.owner:  # an upload's blobs keep their owner: its id becomes the body's
                changes.own_blobs(record.body_id, blob_ids(new.body))


def no_such_key(key: bytes) -> S3Error:
    return S3Error("NoSuchKey", Key=key.decode(errors="replace"))


def _present(row: bytes | None) -> bytes:
    if row is None:
        raise CorruptData("a row of an object is missing")
    return row


def _expected_digests(record: ObjectRecord, body: Body) -> list[tuple[int, bytes]]:
    if record.checksum_value:
        return [(record.size, bytes.fromhex(record.checksum_value))]
    parts: list[PartInfo] = body.parts
    return [(part.size, part.digest) for part in parts if part.digest]
