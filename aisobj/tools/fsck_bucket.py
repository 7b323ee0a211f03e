"""``fsck`` of one bucket: its rows against each other, and against the blobs that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from aisobj import checksums
from aisobj.errors import BlobMissing, StorageError
from aisobj.model import (
    Body,
    BodyKind,
    Bucket,
    BucketState,
    Counters,
    Extent,
    Garbage,
    Headers,
    ObjectRecord,
    Part,
    Upload,
)
from aisobj.storage import keys, records
from aisobj.storage.blob_format import Footer
from aisobj.storage.bodies import is_of_another
from aisobj.storage.interfaces import ISnapshot

if TYPE_CHECKING:
    from aisobj.tools.fsck import Fsck

_KINDS = (keys.BUCKET, keys.COUNTERS, keys.OBJECT, keys.UPLOAD, keys.PART, keys.INLINE, keys.BODY, keys.HEADERS)
_KNOWN = frozenset((*_KINDS, keys.BLOB, keys.GARBAGE))

#: Uploads of one page; each comes with all its parts, up to 10,000.
_UPLOADS = 4

#: Bytes that are to be read: extents, how long they are together, checksum type, its hex value ("": none), a name.
Wanted = tuple[list[Extent], int, str, str, str]


class BucketCheck:
    """One pass over one bucket.

    :ivar counted: what is there.
    :ivar left_by_crash: what the next start of a server puts right.
    """

    def __init__(self, fsck: Fsck, name: str, partition: bytes) -> None:
        self._fsck = fsck
        self._name = name
        self._partition = partition
        self._faults: list[str] = []
        self._referred: dict[bytes, set[bytes]] = {keys.INLINE: set(), keys.BODY: set(), keys.HEADERS: set()}
        self._uploads: set[bytes] = set()
        self.counted = Counters()
        self.left_by_crash: list[str] = []

    def run(self) -> list[str]:
        """The faults."""
        row = self._fsck.get(self._partition, keys.BUCKET)
        bucket = self._decode(Bucket, row, "A")
        if bucket is None:
            return self._faults
        if (bucket.name, bucket.id) != (self._name, self._partition):
            self._fault(f"leads to the bucket {bucket.name} {bucket.id.hex()}")
        self._check_objects()
        if bucket.state is BucketState.DELETED and self.counted.objects:
            self.left_by_crash.append(f"{self._name} is deleted and still has its name")
        self._check_uploads()
        self._check_parts()
        self._check_owner_rows()
        self._check_garbage()
        for kind, referred in self._referred.items():
            self._check_leftovers(kind, referred)
        self._check_unknown()
        return self._faults

    def _fault(self, text: str) -> None:
        self._faults.append(f"{self._name}: {text}")

    def _decode(self, kind: type[Any], row: bytes | None, what: str) -> Any:
        return self._fsck.decode(kind, row, what, self._fault)

    def _decode_object(self, key: bytes, row: bytes) -> ObjectRecord | None:
        try:
            return records.decode_object(key, row)
        except StorageError as error:
            self._fault(f"O {key!r}: {error}")
            return None

    def _unseal(self, row: bytes | None, what: str) -> bytes | None:
        try:
            return bytes(records.unseal(row or b""))
        except StorageError as error:
            self._fault(f"{what}: {error}" if row else f"{what} is missing")
            return None

    # objects ----------------------------------------------------------------------------------------------------

    def _check_objects(self) -> None:
        before = self._fsck.get(self._partition, keys.COUNTERS)
        after, objects, size, pages = before, 0, 0, 0
        for snapshot, page in self._fsck.pages(self._partition, keys.OBJECT):
            wanted: list[Wanted] = []
            for key, row in page:
                objects += 1
                record = self._decode_object(key[1:], row)
                if record is not None:
                    size += record.size
                    self._check_object(snapshot, key[1:], record, wanted)
            after = snapshot.get(keys.COUNTERS)
            pages += 1
            snapshot.close()
            self._check_bytes(wanted)
        self.counted = Counters(objects, size)
        if before == after or pages == 1:  # a single page comes with the counters of the same moment
            self._check_counters(after)

    def _check_counters(self, row: bytes | None) -> None:
        try:
            said = keys.decode_counters(row)
        except StorageError as error:
            self._fault(f"C: {error}")
            return
        if said != self.counted:
            self._fault(f"counts {said} and holds {self.counted}")

    def _check_object(self, snapshot: ISnapshot, key: bytes, record: ObjectRecord, wanted: list[Wanted]) -> None:
        if record.long_headers:
            self._referred[keys.HEADERS].add(record.version_id)
            self._decode(Headers, snapshot.get(keys.HEADERS + record.version_id), f"X of {key!r}")
        if record.body_kind is BodyKind.INLINE:
            self._referred[keys.INLINE].add(record.body_id)
            data = self._unseal(snapshot.get(keys.INLINE + record.body_id), f"D of {key!r}")
            if data is not None:
                self._check_inline(key, record, data)
        elif record.body_kind is BodyKind.EXTENTS:
            self._referred[keys.BODY].add(record.body_id)
            body = self._decode(Body, snapshot.get(keys.BODY + record.body_id), f"M of {key!r}")
            if body is None:
                return
            self._check_owned(snapshot, body.extents, record.body_id)
            if sum(extent.length for extent in body.extents) != record.size or len(body.parts) != record.parts:
                self._fault(f"{key!r} has another size, or other parts, than its body")
            if body.parts and sum(part.size for part in body.parts) != record.size:
                self._fault(f"the parts of {key!r} are not as long as it is")
            wanted.append((body.extents, record.size, record.checksum_type, record.checksum_value, repr(key)))
        elif record.size:
            self._fault(f"{key!r} has a size and no body")

    def _check_inline(self, key: bytes, record: ObjectRecord, data: bytes) -> None:
        if len(data) != record.size:
            self._fault(f"{key!r} has {len(data)} bytes, not {record.size}")
        if record.checksum_value and _hex(record.checksum_type, [data]) != record.checksum_value:
            self._fault(f"{key!r} does not match its {record.checksum_type}")

    def _check_owned(self, snapshot: ISnapshot, extents: Iterable[Extent], owner: bytes) -> None:
        for extent in extents:
            row = snapshot.get(keys.BLOB + extent.blob_id)
            if row is None:
                self._fault(f"{extent.blob_id.hex()} is referred to and has no B row")
                continue
            said = self._unseal(row, f"B {extent.blob_id.hex()}")
            if said is not None and said != owner:
                self._fault(f"{extent.blob_id.hex()} belongs to {owner.hex()}, and its B row names {said.hex()}")

    # bytes ------------------------------------------------------------------------------------------------------

    def _check_bytes(self, wanted: list[Wanted]) -> None:
        """Of extents: no snapshot is open while the disk is read."""
        for extents, size, kind, value, what in wanted:
            footers = [self._check_extent(extent) for extent in extents]
            sound = [footer for footer in footers if footer is not None]
            if len(footers) == 1 and sound and is_of_another(sound[0].owner, kind, value):
                self._fault(f"{extents[0].blob_id.hex()} is another blob than that of {what}")
            if self._fsck.deep and len(sound) == len(footers):
                self._check_deep(extents, size, kind, value, what)

    def _check_extent(self, extent: Extent) -> Footer | None:
        """The footer of its blob, where that can be read and the blob is long enough."""
        name = extent.blob_id.hex()
        try:
            footer = self._fsck.blobs.footer(extent.blob_id)
            if footer.size >= extent.offset + extent.length:
                return footer
            self._fault(f"blob {name} ends before an extent of it")
        except BlobMissing:
            self._fault(f"{name} is lost")
        except StorageError as error:
            self._fault(f"blob {name}: {error}")
        return None

    def _check_deep(self, extents: list[Extent], size: int, kind: str, value: str, what: str) -> None:
        digest = checksums.new_digest(kind)
        length = 0
        for extent in extents:
            at = 0
            try:
                for block in self._fsck.blobs.read(extent.blob_id):
                    mine = block[max(0, extent.offset - at) : max(0, extent.offset + extent.length - at)]
                    digest.update(mine)
                    length += len(mine)
                    at += len(block)
            except StorageError as error:
                self._fault(f"blob {extent.blob_id.hex()}: {error}")
                return
        if length != size:
            self._fault(f"{what} has {length} bytes, not {size}")
        elif value and digest.hexdigest() != value:
            self._fault(f"{what} does not match its {kind}")

    # uploads ----------------------------------------------------------------------------------------------------

    def _check_uploads(self) -> None:
        for snapshot, page in self._fsck.pages(self._partition, keys.UPLOAD, _UPLOADS):
            wanted: list[Wanted] = []
            for key, row in page:
                upload = self._decode(Upload, row, f"U {key!r}")
                if upload is None:
                    continue
                self._uploads.add(upload.id)
                if key[-17:] != b"\0" + upload.id:
                    self._fault(f"upload {upload.id.hex()} is under {key!r}")
                for part_key, part_row in snapshot.scan(b"", keys.PART + upload.id, 10_001):
                    self._check_part(snapshot, upload, part_key, part_row, wanted)
            snapshot.close()
            self._check_bytes(wanted)

    def _check_part(self, snapshot: ISnapshot, upload: Upload, key: bytes, row: bytes, wanted: list[Wanted]) -> None:
        if len(key) == 17:
            self._unseal(row, f"P of {upload.id.hex()}")
            return
        if snapshot.get(key[:17]) is None:
            self._fault(f"the parts of upload {upload.id.hex()} are not counted")
        part = self._decode(Part, row, f"P {key.hex()}")
        if part is None:
            return
        if keys.part_number(key) != part.number:
            self._fault(f"part {part.number} is under {key.hex()}")
        self._check_owned(snapshot, part.extents, upload.id)
        what = f"part {part.number} of {upload.id.hex()}"
        wanted.append((part.extents, part.size, upload.checksum_type, part.digest.hex(), what))

    def _check_parts(self) -> None:
        for _, page in self._fsck.pages(self._partition, keys.PART):
            for key, _ in page:
                if key[1:17] not in self._uploads:
                    self._fault(f"part {key[1:].hex()} is of no upload")

    # the other way round ----------------------------------------------------------------------------------------

    def _check_owner_rows(self) -> None:
        for snapshot, page in self._fsck.pages(self._partition, keys.BLOB):
            owned: dict[bytes, set[bytes]] = {}
            for key, row in page:
                owner = self._unseal(row, f"B {key[1:].hex()}")
                if owner is None:
                    continue
                if owner not in owned:
                    owned[owner] = _blobs_of(snapshot, owner)
                if key[1:] not in owned[owner]:
                    said = f"{key[1:].hex()} is said to be owned by {owner.hex()}"
                    self._fault(f"{said}, where nothing refers to it")

    def _check_garbage(self) -> None:
        for snapshot, page in self._fsck.pages(self._partition, keys.GARBAGE):
            for _, row in page:
                record = self._decode(Garbage, row, "G")
                for blob_id in [] if record is None else record.blob_ids:
                    if snapshot.get(keys.BLOB + blob_id) is not None:
                        self._fault(f"blob {blob_id.hex()} is owned and garbage")

    def _check_leftovers(self, kind: bytes, referred: set[bytes]) -> None:
        for _, page in self._fsck.pages(self._partition, kind):
            for key, _ in page:
                if key[1:] not in referred:
                    self._fault(f"row {kind!r} {key[1:].hex()} without an owner")

    def _check_unknown(self) -> None:
        for number in range(256):
            kind = bytes([number])
            snapshot = self._fsck.rows.snapshot(self._partition)
            try:
                if kind not in _KNOWN:
                    for key, _ in snapshot.scan(b"", kind, 5):
                        self._fault(f"row {key[:40]!r} of no known kind")
                elif kind in (keys.BUCKET, keys.COUNTERS):
                    for key, _ in snapshot.scan(kind, kind, 5):
                        self._fault(f"row {key[:40]!r} of no known kind")
            finally:
                snapshot.close()


def _blobs_of(snapshot: ISnapshot, owner: bytes) -> set[bytes]:
    """The blobs that a body refers to, or the parts of an upload."""
    found: set[bytes] = set()
    decoders: list[tuple[Iterable[bytes], Callable[[bytes], Any]]] = [
        ([row for row in [snapshot.get(keys.BODY + owner)] if row], partial(records.decode, Body)),
        (
            [row for key, row in snapshot.scan(b"", keys.PART + owner, 10_001) if len(key) > 17],
            partial(records.decode, Part),
        ),
    ]
    for rows, decode in decoders:
        for row in rows:
            with suppress(StorageError):  # it has been named already
                found.update(extent.blob_id for extent in decode(row).extents)
    return found


def _hex(kind: str, pieces: Iterable[bytes]) -> str:
    digest = checksums.new_digest(kind)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
