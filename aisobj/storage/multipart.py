"""Multipart uploads: parts are bodies of their own, and completing an upload is one index transaction.

Every change of an upload's parts adds to its parts counter (row ``P<upload id>`` without a part number), and Complete
and Abort expect the counter that they read: no part slips in between reading the parts and consuming them.

What a Complete may say, and what it makes of the parts, is in ``completing``.

Rules: AWS "CompleteMultipartUpload", "UploadPart".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aisobj import checksums
from aisobj.errors import CommitUnknown, S3Error, StorageError
from aisobj.model import (
    Attributes,
    Body,
    Bucket,
    Checksum,
    Extent,
    ObjectRecord,
    Part,
    Upload,
)
from aisobj.protocol.conditions import WritePrecondition
from aisobj.protocol.listing import PartsPage, Slices, UploadsPage, list_parts, list_uploads
from aisobj.protocol.listparams import PartsParams, UploadsParams
from aisobj.storage import keys, records
from aisobj.storage.bodies import BodyWriter, WrittenBody
from aisobj.storage.completing import Chosen, Stated, assemble, taken_apart
from aisobj.storage.engine import Changes, Engine, blob_ids
from aisobj.storage.interfaces import Expect
from aisobj.storage.objects import Objects

#: Parts read in one go: some 0.5 ms.
_PAGE = 300


_NOTHING = Stated()


class _Read(NamedTuple):
    """An upload as one snapshot shows it."""

    upload: Upload
    row: bytes
    counter: bytes | None  #: the row that changes with every part
    parts: dict[int, Part]


class Uploads:
    """Every operation on multipart uploads. What it raises to clients is S3Error."""

    def __init__(self, engine: Engine, objects: Objects) -> None:
        self._engine = engine
        self._objects = objects

    async def create(
        self, bucket: Bucket, key: bytes, owner: str, attributes: Attributes, algorithm: str, full_object: bool
    ) -> Upload:
        """CreateMultipartUpload."""
        engine = self._engine
        engine.check_space()

        async def attempt() -> Upload | None:
            seen = await self._objects.look(bucket.name, key)
            seen.snapshot.close()
            upload = Upload(
                id=engine.ids.make(),
                initiated=engine.ids.time(),
                owner=owner,
                checksum_type=seen.bucket.props.checksum_type,
                content_type=attributes.content_type,
                headers=attributes.headers,
                checksum_algorithm=algorithm,
                checksum_full_object=full_object,
            )
            row_key = keys.upload(key, upload.id)
            changes = _active(seen.changes)
            changes.put[row_key] = records.encode(upload)
            done = await engine.commit_or_find(changes, row_key)
            return upload if done else None

        return await engine.retry(bucket.name, attempt)

    def get(self, bucket: Bucket, key: bytes, upload_id: str) -> Upload:
        """Raises NoSuchUpload."""
        row = self._engine.index.get(bucket.id, (keys.upload(key, _parse_id(upload_id)),))[0]
        if row is None:
            raise no_such_upload(upload_id)
        return records.decode(Upload, row)

    def writer(self, upload: Upload, digests: Iterable[str], size: int | None) -> BodyWriter:
        """Begin to store a part; the caller ends it and gives the result to ``put_part``."""
        if upload.checksum_algorithm:
            digests = (*digests, upload.checksum_algorithm)
        return BodyWriter(self._engine, upload.checksum_type, digests, size, inline=False)

    async def put_part(
        self, bucket: Bucket, key: bytes, upload: Upload, number: int, body: WrittenBody, checksum: Checksum | None
    ) -> Part:
        """UploadPart: the body becomes part ``number``, in place of what was there. The body is consumed."""
        if checksum is None and upload.checksum_algorithm:
            checksum = Checksum(upload.checksum_algorithm, body.digests.raw(upload.checksum_algorithm))
        digest = body.digests.raw(upload.checksum_type)
        return await self.put_extents(bucket, key, upload, number, body.extents, body.size, digest, checksum)

    async def put_extents(
        self,
        bucket: Bucket,
        key: bytes,
        upload: Upload,
        number: int,
        extents: list[Extent],
        size: int,
        digest: bytes,
        checksum: Checksum | None,
    ) -> Part:
        """As :meth:`put_part`, for bytes that are in blobs already. The blobs are consumed."""
        engine = self._engine
        version = engine.ids.make()
        etag = checksums.etag(upload.checksum_type, digest.hex(), version)
        part = Part(number, size, engine.ids.time(), etag, digest, extents, checksum)
        row_key, row = keys.part(upload.id, number), records.encode(part)

        async def attempt() -> Part | None:
            seen = await self._objects.look(bucket.name, key)
            seen.snapshot.close()
            changes = _active(seen.changes)
            # By the name's own bucket: that may be another one by now.
            upload_row, old_row = engine.index.get(seen.bucket.id, (keys.upload(key, upload.id), row_key))
            if upload_row is None:
                raise no_such_upload(upload.id.hex())
            changes.expect[keys.upload(key, upload.id)] = Expect.PRESENT
            changes.expect_row(row_key, old_row)
            changes.put[row_key] = row
            changes.add[_parts_counter(upload.id)] = (1,)
            if old_row is not None:
                old = records.decode(Part, old_row)
                changes.discard_blobs(engine.ids.time(), version, blob_ids(Body(old.extents)))
            changes.own_blobs(upload.id, blob_ids(Body(extents)))
            return part if await engine.commit_or_find(changes, row_key) else None

        try:
            await engine.retry(upload.id, attempt)
        except CommitUnknown:
            raise  # the body may be the part's by now
        except (S3Error, StorageError):
            await engine.drop(blob_ids(Body(extents)))
            raise
        engine.blobs.settle(blob_ids(Body(extents)))
        return part

    async def complete(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: str,
        chosen: Sequence[Chosen],
        precondition: WritePrecondition,
        stated: Stated = _NOTHING,
    ) -> tuple[Bucket, ObjectRecord]:
        """CompleteMultipartUpload. Moves no data, and the same may be asked again after it was done (the answer got
        lost).

        :param chosen: at least one.
        :raises S3Error: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, EntityTooLarge, BadDigest,
            InvalidRequest, and what ``precondition`` raises.
        """
        if any(b.number <= a.number for a, b in itertools.pairwise(chosen)):
            raise S3Error("InvalidPartOrder")
        numbers = {part.number for part in chosen}
        engine = self._engine

        async def attempt() -> tuple[Bucket, ObjectRecord] | None:
            if engine.bucket_id(bucket.name) != bucket.id:  # made anew meanwhile
                raise no_such_upload(upload_id)
            read = await engine.turns.run(self._read(bucket, key, upload_id), at_once=True)
            if read is None:
                return await self._completed_before(bucket, key, upload_id, chosen, precondition, stated)
            upload, long = read.upload, len(read.parts) > _PAGE
            new, whole = await engine.turns.run(assemble(upload, read.parts, chosen, stated), at_once=True)
            if long:
                await engine.turns.take()
            gone = _upload_rows(key, upload, read.parts)
            left = _blobs_of(part for number, part in read.parts.items() if number not in numbers)
            if long:
                await engine.turns.take()

            def consume(changes: Changes) -> None:
                changes.expect_row(keys.upload(key, upload.id), read.row)
                changes.expect_row(_parts_counter(upload.id), read.counter)
                changes.delete += gone
                changes.discard_blobs(engine.ids.time(), upload.id, left)

            attributes = Attributes(upload.content_type, upload.headers, whole)
            return await self._objects.replace_once(bucket.name, key, attributes, precondition.check, new, consume)

        return await engine.retry((bucket.name, key), attempt)

    async def abort(self, bucket: Bucket, key: bytes, upload_id: str) -> None:
        """AbortMultipartUpload. Raises NoSuchUpload."""
        engine = self._engine
        row_key = keys.upload(key, _parse_id(upload_id))

        async def attempt() -> bool | None:
            read = await engine.turns.run(self._read(bucket, key, upload_id), at_once=True)
            if read is None:
                raise no_such_upload(upload_id)
            changes = Changes(bucket.id)
            changes.expect_row(row_key, read.row)
            changes.expect_row(_parts_counter(read.upload.id), read.counter)
            changes.delete += _upload_rows(key, read.upload, read.parts)
            changes.discard_blobs(engine.ids.time(), read.upload.id, _blobs_of(read.parts.values()))
            return True if await engine.commit_or_find(changes, row_key) else None

        await engine.retry((bucket.name, key), attempt)

    def list(self, bucket: Bucket, params: UploadsParams) -> UploadsPage:
        """ListMultipartUploads, from one snapshot."""
        snapshot = self._engine.index.snapshot(bucket.id)

        def scan(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, Upload]]:
            return records.decode_all(Upload, snapshot.scan(after, prefix, limit, keys.UPLOAD))

        try:
            return list_uploads(scan, params)
        finally:
            snapshot.close()

    def list_parts(self, bucket: Bucket, upload: Upload, params: PartsParams) -> PartsPage:
        """ListParts, from one snapshot."""
        snapshot = self._engine.index.snapshot(bucket.id)

        def scan(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, Part]]:
            return records.decode_all(Part, snapshot.scan(after, prefix, limit, _parts_counter(upload.id)))

        try:
            return list_parts(scan, params)
        finally:
            snapshot.close()

    def _read(self, bucket: Bucket, key: bytes, upload_id: str) -> Slices[_Read | None]:
        """An upload and all its parts, from one snapshot; None: it is not there."""
        snapshot = self._engine.index.snapshot(bucket.id)
        try:
            row = snapshot.get(keys.upload(key, _parse_id(upload_id)))
            if row is None:
                return None
            upload = records.decode(Upload, row)
            lead = _parts_counter(upload.id)
            parts: dict[int, Part] = {}
            after = b""
            while rows := snapshot.scan(after, b"", _PAGE, lead):
                after = rows[-1][0]
                parts.update((part.number, part) for _, part in records.decode_all(Part, rows))
                if len(rows) == _PAGE:
                    yield
            return _Read(upload, row, snapshot.get(lead), parts)
        finally:
            snapshot.close()

    async def _completed_before(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: str,
        chosen: Sequence[Chosen],
        precondition: WritePrecondition,
        stated: Stated,
    ) -> tuple[Bucket, ObjectRecord]:
        """The object that this upload became, while it is still the current one and is what is asked for.

        :raises S3Error: NoSuchUpload, and what the first Complete would have raised for this request.
        """
        body_id = _parse_id(upload_id)
        row, body_row = self._engine.index.get(bucket.id, (keys.OBJECT + key, keys.BODY + body_id))
        record = None if row is None else records.decode_object(key, row)
        if record is None or body_row is None or record.body_id != body_id:
            raise no_such_upload(upload_id)
        upload, parts = taken_apart(record, records.decode(Body, body_row), chosen)
        await self._engine.turns.run(assemble(upload, parts, chosen, stated), at_once=True)
        if len(chosen) != len(parts):
            raise S3Error("InvalidPart", "The upload was completed with other parts.")
        # What was replaced is gone, and with it the ETag that If-Match may have named rightly.
        replaced = record.counter > 1
        if (precondition.if_none_match and replaced) or (precondition.if_match is not None and not replaced):
            raise S3Error("PreconditionFailed")
        return bucket, record


def no_such_upload(upload_id: str) -> S3Error:
    return S3Error("NoSuchUpload", UploadId=upload_id)


def _parse_id(text: str) -> bytes:
    try:
        identifier = bytes.fromhex(text)
    except ValueError:
        identifier = b""
    if len(identifier) != 16 or identifier.hex() != text:
        raise no_such_upload(text)
    return identifier


def _parts_counter(upload_id: bytes) -> bytes:
    return keys.PART + upload_id


def _active(changes: Changes) -> Changes:
    """Only the bucket's state matters here, not the object that is now under the key."""
    return changes.only(keys.BUCKET)


def _blobs_of(parts: Iterable[Part]) -> list[bytes]:
    return [extent.blob_id for part in parts for extent in part.extents]


def _upload_rows(key: bytes, upload: Upload, stored: dict[int, Part]) -> list[bytes]:
    """The keys of all rows that go with an upload, but those of its blobs."""
    return [
        keys.upload(key, upload.id),
        _parts_counter(upload.id),
        *(keys.part(upload.id, number) for number in stored),
    ]
