"""CopyObject and UploadPartCopy: the same bytes under another name, cloned where nothing has to be computed."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from aisobj import checksums
from aisobj.errors import CommitUnknown, S3Error, StorageError
from aisobj.model import Attributes, Body, Bucket, Checksum, Extent, ObjectRecord, Part, Upload
from aisobj.protocol.conditions import WritePrecondition
from aisobj.storage.bodies import BodyWriter, NewBody, WrittenBody
from aisobj.storage.engine import Engine, blob_ids
from aisobj.storage.interfaces import Owner
from aisobj.storage.multipart import Uploads
from aisobj.storage.objects import Found, Objects


class Copier:
    """Copies of objects. A source that is replaced meanwhile shows as BlobMissing: the caller fetches it again."""

    def __init__(self, engine: Engine, objects: Objects, uploads: Uploads) -> None:
        self._engine = engine
        self._objects = objects
        self._uploads = uploads

    async def copy(
        self,
        source: Found,
        target: Bucket,
        key: bytes,
        attributes: Attributes,
        precondition: WritePrecondition,
        algorithm: str = "",
    ) -> tuple[Bucket, ObjectRecord]:
        """CopyObject. ``algorithm``: AWS's name of a checksum that the copy must have (``x-amz-checksum-algorithm``).

        No byte moves while the source already has the target's checksum type and the checksum; otherwise the data is
        read once to compute them.
        """
        had = source.record.checksum
        if source.record.checksum_type == target.props.checksum_type and (
            not algorithm or (had is not None and had.algorithm == algorithm)
        ):
            attributes = Attributes(attributes.content_type, attributes.headers, had)
            return await self._clone(source, target, key, attributes, precondition)
        algorithm = algorithm or (had.algorithm if had is not None else "")
        writer = self._objects.writer(target, [algorithm] if algorithm else [], source.record.size)
        body = await self.read_into(source, 0, source.record.size, writer, {"bucket": target.id, "key": key})
        checksum = Checksum(algorithm, body.digests.raw(algorithm)) if algorithm else None
        attributes = Attributes(attributes.content_type, attributes.headers, checksum)
        return await self._objects.put(target.name, key, body, attributes, precondition)

    async def copy_part(
        self, source: Found, offset: int, length: int, target: Bucket, key: bytes, upload: Upload, number: int
    ) -> Part:
        """UploadPartCopy. The data is read once: the part's digests are those of just that range."""
        footer: Owner = {
            "bucket": target.id,
            "key": key,
            "upload": upload.id,
            "part": number,
        }
        writer = self._uploads.writer(upload, (), length)
        body = await self.read_into(source, offset, length, writer, footer)
        return await self._uploads.put_part(target, key, upload, number, body, None)

    async def read_into(
        self, source: Found, offset: int, length: int, writer: BodyWriter, footer: Owner
    ) -> WrittenBody:
        """Read a range of an object through a writer, which is ended whatever happens."""
        try:
            if source.inline is not None:
                await _write(writer, bytes(source.inline[offset : offset + length]))
            else:
                blocks = await self._objects.open(source, offset, length)
                try:
                    while True:
                        found = blocks.next_block()
                        block = await found if isinstance(found, Deferred) else found
                        if block is None:
                            break
                        await _write(writer, bytes(block))
                finally:
                    blocks.close()
            return await writer.finish(footer)
        except BaseException:
            await writer.abort()
            raise

    async def clone_extents(self, extents: Sequence[Extent]) -> list[Extent]:
        """The same extents of blobs of one's own (unsettled)."""
        body = Body(list(extents))
        names: dict[bytes, bytes] = {}
        try:
            for blob_id in blob_ids(body):
                names[blob_id] = await self._engine.blobs.clone(blob_id)
        except BaseException:
            await self._engine.drop(list(names.values()))
            raise
        return [Extent(names[extent.blob_id], extent.offset, extent.length) for extent in extents]

    async def _clone(
        self, source: Found, target: Bucket, key: bytes, attributes: Attributes, precondition: WritePrecondition
    ) -> tuple[Bucket, ObjectRecord]:
        self._engine.check_space()
        record = source.record
        body = None
        if source.body is not None:
            body = Body(await self.clone_extents(source.body.extents), source.body.parts)

        def etag(version: bytes) -> str:
            return checksums.etag("none", "", version) if record.checksum_type == "none" else record.etag

        new = NewBody(
            size=record.size,
            etag=etag,
            checksum_type=record.checksum_type,
            checksum_value=record.checksum_value,
            inline=None if source.inline is None else bytes(source.inline),
            body=body,
            parts=record.parts,
        )
        try:
            return await self._objects.replace(target.name, key, attributes, precondition.check, new)
        except CommitUnknown:
            raise  # the body may be the object's by now
        except (S3Error, StorageError):
            if body is not None:
                await self._engine.drop(blob_ids(body))
            raise


async def _write(writer: BodyWriter, data: bytes) -> None:
    wait = writer.write(data)
    if wait is not None:
        await wait
