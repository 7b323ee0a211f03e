"""``ais-s3 rebuild-index``: an index from its newest backup and what the footers of newer blobs prove.

What a footer proves: that these bytes were stored whole under this key of this bucket, with these headers; or that they
were put as this part of this upload. It does not prove that nothing came after. So:

- of several blobs for one key, and of the backup's record, the newest wins;
- small objects, copies, completed uploads, deletes and buckets since the backup have left no footer: they are reported
  as unrecoverable where a blob shows them, and nothing is made up for them;
- a record of the backup whose blob is gone (replaced or deleted since, or lost) goes, and is reported;
- a blob that the new index does not own is moved to the quarantine, where no start of a server removes it.

Lost with each object that is added: ``x-amz-checksum-*``, AIStore's version counter, and for buckets with checksum type
none the ETag. Last-Modified is when the blob was begun.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
from xxhash import xxh32_intdigest

from aisobj import checksums
from aisobj.errors import StorageError
from aisobj.model import (
    Body,
    BodyKind,
    Bucket,
    BucketName,
    BucketState,
    Extent,
    Garbage,
    Headers,
    ObjectRecord,
    Part,
    Upload,
)
from aisobj.storage import keys, records
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.blob_format import Footer
from aisobj.storage.ids import id_time
from aisobj.storage.index_backup import copy_backup, time_of_backup
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.lmdb_env import open_environment, row_prefix
from aisobj.storage.objects import SHORT_HEADERS
from aisobj.storage.orphans import give_back
from aisobj.tools.rebuilt import FromFooter, Rebuilt, utc
from aisobj.tools.restored import finish, put_in_place

_PAGE = 512


def rebuild(data: Path, backup: Path) -> Rebuilt:
    """Rebuild the index of a locked data directory. The old one, if any, is kept under another name.

    :param backup: one that has been checked (``check_backup``).
    :raises StorageError: or OSError, lmdb.Error: the index is as it was, or as ``put_in_place`` says.
    """
    fresh = copy_backup(data, backup)
    give_back(str(data / "blobs"))
    with contextlib.closing(open_environment(fresh, sync=False)) as environment:
        report = Rebuilt(str(backup), *time_of_backup(backup, IndexReader(environment)))
        work = _Rebuild(environment, BlobFiles(data / "blobs"), report)
        unowned = work.run()
        finish(environment, work.blobs)
    report.replaced = put_in_place(data, fresh, work.blobs, unowned)
    return report


class _Rebuild:
    def __init__(self, environment: lmdb.Environment, blobs: BlobFiles, report: Rebuilt) -> None:
        self.blobs = blobs
        self.report = report
        self._environment = environment
        self._reader = IndexReader(environment)
        self._buckets: dict[bytes, Bucket] = {}
        self._garbage: set[bytes] = set()
        self._losers: list[bytes] = []  # blobs whose key, or part, has something newer

    def run(self) -> dict[bytes, str]:
        """Change the index. The blobs that it does not own in the end, and why."""
        self._read_buckets()
        for bucket in self._buckets.values():
            self._drop_lost(bucket)
        unowned: dict[bytes, str] = {}
        for blob_id in self.blobs.walk():
            if blob_id not in self._garbage and not self._is_owned(blob_id):
                why = self._adopt(blob_id)
                if why:
                    unowned[blob_id] = why
                    self.report.unrecoverable.append(f"blob {blob_id.hex()}: {why}")
        for loser in self._losers:
            unowned[loser] = "a newer blob, or the backup, has its key"
        for bucket in self._buckets.values():
            self._count(bucket)
        return unowned

    # reading ----------------------------------------------------------------------------------------------------

    def _rows(self, partition: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        after = b""
        while page := self._reader.scan(partition, after, prefix, _PAGE):
            yield from page
            after = page[-1][0]

    def _read_buckets(self) -> None:
        for _, row in self._rows(keys.ROOT, keys.BUCKET_NAME):
            bucket_id = records.decode(BucketName, row).id
            found = self._reader.get(bucket_id, [keys.BUCKET])[0]
            if found is not None:
                bucket = records.decode(Bucket, found)
                if bucket.state is not BucketState.DELETED:
                    self._buckets[bucket_id] = bucket
        for partition in self._reader.partitions():
            purged = partition not in self._buckets
            for _, row in self._rows(partition, keys.GARBAGE):
                self._garbage.update(records.decode(Garbage, row).blob_ids)
            if purged and partition != keys.ROOT:
                self._garbage.update(key[1:] for key, _ in self._rows(partition, keys.BLOB))

    def _is_owned(self, blob_id: bytes) -> bool:
        return any(self._reader.get(bucket_id, [keys.BLOB + blob_id])[0] is not None for bucket_id in self._buckets)

    def _is_there(self, blob_id: bytes) -> bool:
        return os.path.exists(self.blobs.path(blob_id)) or self.blobs.quarantine.holds(blob_id)

    # changing ---------------------------------------------------------------------------------------------------

    def _write(self, partition: bytes, put: dict[bytes, bytes], delete: list[bytes]) -> None:
        prefix = row_prefix(partition)
        with self._environment.begin(write=True) as transaction:
            for key in delete:
                transaction.delete(prefix + key)
            for key, row in put.items():
                transaction.put(prefix + key, row)

    def _drop_lost(self, bucket: Bucket) -> None:
        """Records whose blobs are gone: nothing can be served for them."""
        for key, row in self._rows(bucket.id, keys.OBJECT):
            record = records.decode_object(key[1:], row)
            if record.body_kind is BodyKind.EXTENTS:
                blob_ids = self._blobs_of(bucket, record)
                if not all(map(self._is_there, blob_ids)):
                    self._write(bucket.id, {}, [key, *self._rows_of(record), *(keys.BLOB + b for b in blob_ids)])
                    self.report.dropped.append(f"{bucket.name}/{_text(key[1:])}: its blob is gone")
        for key, row in self._rows(bucket.id, keys.PART):
            if len(key) > 17:
                part = records.decode(Part, row)
                if not all(self._is_there(extent.blob_id) for extent in part.extents):
                    owned = [keys.BLOB + extent.blob_id for extent in part.extents]
                    self._write(bucket.id, {}, [key, *owned])
                    self.report.dropped.append(f"{bucket.name}: part {part.number} of upload {key[1:17].hex()}")

    def _blobs_of(self, bucket: Bucket, record: ObjectRecord) -> list[bytes]:
        row = self._reader.get(bucket.id, [keys.BODY + record.body_id])[0]
        return [] if row is None else [extent.blob_id for extent in records.decode(Body, row).extents]

    def _rows_of(self, record: ObjectRecord) -> list[bytes]:
        found = []
        if record.long_headers:
            found.append(keys.HEADERS + record.version_id)
        if record.body_kind is BodyKind.INLINE:
            found.append(keys.INLINE + record.body_id)
        elif record.body_kind is BodyKind.EXTENTS:
            found.append(keys.BODY + record.body_id)
        return found

    def _adopt(self, blob_id: bytes) -> str:
        """Give a blob to what its footer names. Why that cannot be, or ""."""
        try:
            footer = self.blobs.footer(blob_id)
        except StorageError as error:
            return str(error)
        owner = footer.owner
        bucket = self._buckets.get(owner.get("bucket", b""))
        if bucket is None:
            return f"its bucket {owner.get('bucket', b'').hex()} is not in the backup"
        key = owner.get("key", b"")
        if footer.id != blob_id:
            return f"a copy, made after the backup, of what was {bucket.name}/{_text(key)}"
        if "upload" in owner:
            return self._adopt_part(bucket, blob_id, footer)
        self._adopt_object(bucket, key, blob_id, footer)
        return ""

    def _adopt_object(self, bucket: Bucket, key: bytes, blob_id: bytes, footer: Footer) -> None:
        row = self._reader.get(bucket.id, [keys.OBJECT + key])[0]
        current = None if row is None else records.decode_object(key, row)
        if current is not None and current.mtime > id_time(blob_id):
            self._losers.append(blob_id)
            return
        record = _record(key, current, blob_id, footer)
        headers = dict(footer.owner.get("metadata", {}))
        put = {
            keys.OBJECT + key: records.encode(record),
            keys.BODY + blob_id: records.encode(Body([Extent(blob_id, 0, footer.size)])),
            keys.BLOB + blob_id: records.seal(blob_id),
        }
        if record.long_headers:
            put[keys.HEADERS + record.version_id] = records.encode(Headers(headers))
        delete: list[bytes] = []
        if current is not None:
            delete = self._rows_of(current)
            if current.body_kind is BodyKind.EXTENTS:
                replaced = self._blobs_of(bucket, current)
                delete += [keys.BLOB + old for old in replaced]
                self._losers += replaced
        self._write(bucket.id, put, delete)
        self.report.add(FromFooter(bucket.name, _text(key), footer.size, _stored(blob_id), current is not None))

    def _adopt_part(self, bucket: Bucket, blob_id: bytes, footer: Footer) -> str:
        upload_id, number, key = footer.owner["upload"], footer.owner["part"], footer.owner.get("key", b"")
        row = self._reader.get(bucket.id, [keys.upload(key, upload_id)])[0]
        if row is None:
            return f"part {number} of upload {upload_id.hex()} of {bucket.name}/{_text(key)}, which the backup has not"
        upload = records.decode(Upload, row)
        part_key = keys.part(upload_id, number)
        old_row, counted = self._reader.get(bucket.id, [part_key, keys.PART + upload_id])
        delete = []
        if old_row is not None:
            old = records.decode(Part, old_row)
            if old.mtime > id_time(blob_id):
                self._losers.append(blob_id)
                return ""
            delete = [keys.BLOB + extent.blob_id for extent in old.extents]
            self._losers += [extent.blob_id for extent in old.extents]
        digest = bytes.fromhex(footer.owner.get("checksum", ""))
        etag = checksums.etag(upload.checksum_type, digest.hex(), blob_id)
        extents = [Extent(blob_id, 0, footer.size)]
        part = Part(number, footer.size, id_time(blob_id), etag, digest, extents)
        put = {
            part_key: records.encode(part),
            keys.BLOB + blob_id: records.seal(upload_id),
            keys.PART + upload_id: keys.add_counters(counted, (1,)),
        }
        self._write(bucket.id, put, delete)
        had = old_row is not None
        where = (upload_id.hex(), number)
        self.report.add(FromFooter(bucket.name, _text(key), footer.size, _stored(blob_id), had, *where))
        return ""

    def _count(self, bucket: Bucket) -> None:
        objects = size = 0
        for _, row in self._rows(bucket.id, keys.OBJECT):
            objects += 1
            size += records.decode(ObjectRecord, row).size
        self.report.objects += objects
        self._write(bucket.id, {keys.COUNTERS: keys.encode_counters((objects, size))}, [])


def _record(key: bytes, current: ObjectRecord | None, blob_id: bytes, footer: Footer) -> ObjectRecord:
    owner = footer.owner
    headers = dict(owner.get("metadata", {}))
    long_headers = sum(len(name) + len(value) for name, value in headers.items()) > SHORT_HEADERS
    kind, value = owner.get("checksum-type", "none"), owner.get("checksum", "")
    # The blob's own id serves for version and body: it is unique, and it has the time.
    return ObjectRecord(
        version_id=blob_id,
        counter=1 if current is None else current.counter + 1,
        size=footer.size,
        mtime=id_time(blob_id) if current is None else max(id_time(blob_id), current.mtime),
        etag=checksums.etag(kind, value, blob_id),
        body_kind=BodyKind.EXTENTS,
        body_id=blob_id,
        checksum_type=kind,
        checksum_value=value,
        content_type=owner.get("content-type", ""),
        long_headers=long_headers,
        headers={} if long_headers else headers,
        key_digest=xxh32_intdigest(key),
    )


def _stored(blob_id: bytes) -> str:
    return utc(id_time(blob_id) / 1e9)


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
