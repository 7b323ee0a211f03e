"""Whether a store's index and blobs agree: every row that should be there is, none is left over, all is counted right.

``check(store, data)`` is for a store that is open and at rest (no operation under way); ``check_directory(path)`` for
the data directory of a server that is not running. Both return what is wrong, a line each; [] is a sound store.
``python fsck.py DATA [--crashed]`` does the second and prints it.

A crash may leave what the next start removes: blobs without an owner, temporary files, the row of a bucket that got no
name, a deleted bucket that still has its name. After a kill, ask with ``crashed=True``, which takes them as no fault.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aisobj import checksums
from aisobj.errors import StorageError
from aisobj.model import (
    Body,
    BodyKind,
    Bucket,
    BucketName,
    BucketState,
    Counters,
    Extent,
    Format,
    Garbage,
    Headers,
    ObjectRecord,
    Part,
    Upload,
)
from aisobj.storage import keys, records
from aisobj.storage.blob_format import TRAILER, blob_path, decode_footer, footer_length, verify
from aisobj.storage.lmdb_env import MAP_SIZE, open_environment
from aisobj.storage.lmdb_index import LmdbIndex
from aisobj.storage.memory_blobs import MemoryBlobs
from aisobj.storage.memory_index import MemoryIndex
from aisobj.storage.store import ObjectStore

Rows = dict[bytes, bytes]
#: blob id -> its bytes, or None where nobody wants to look into it
ReadBlob = Callable[[bytes], bytes]


def check(store: ObjectStore, data: Path | None, *, crashed: bool = False, deep: bool = True) -> list[str]:
    """The faults of an open store at rest.

    :param data: the directory that holds ``blobs/`` where blobs are files, else None.
    :param deep: also read every byte and compare it with the object's checksum.
    """
    index, blobs = unwrapped(store._engine.index), unwrapped(store._engine.blobs)
    if isinstance(index, MemoryIndex):
        partitions = {name: dict(rows.by_key) for name, rows in index._partitions.items()}
    else:
        assert isinstance(index, LmdbIndex)
        partitions = _partitions(index._environment)
    if isinstance(blobs, MemoryBlobs):
        found = Fsck(partitions, set(blobs._data), blobs._data.__getitem__ if deep else None)
    else:
        assert data is not None
        found = _on_files(partitions, data, deep)
    return found.run(crashed)


def check_directory(path: Path, *, crashed: bool = False, deep: bool = True) -> list[str]:
    """The faults of the data directory of a server that is not running."""
    if not (path / "index" / "data.mdb").exists():
        raise StorageError(f"{path} holds no index")
    environment = open_environment(path / "index", sync=False, map_size=MAP_SIZE)
    try:
        found = _on_files(_partitions(environment), path, deep)
    finally:
        environment.close()
    if keys.FORMAT not in found.root:
        found.fault("the root has no format row")
    return found.run(crashed)


def unwrapped(engine: Any) -> Any:
    """The engine inside whatever a test has put round it (``wrapped``)."""
    while hasattr(engine, "wrapped"):
        engine = engine.wrapped
    return engine


def _partitions(environment: Any) -> dict[bytes, Rows]:
    found: dict[bytes, Rows] = {}
    with environment.begin() as transaction:
        for key, value in transaction.cursor():
            cut = 1 + key[0]
            found.setdefault(key[1:cut], {})[key[cut:]] = value
    return found


def _on_files(partitions: dict[bytes, Rows], data: Path, deep: bool) -> Fsck:
    root = data / "blobs"
    names = {path.name for path in root.glob("?????/??/*")}
    found = Fsck(partitions, {bytes.fromhex(name) for name in names}, _reader(root) if deep else None)
    found.temporary = [path.name for path in (root / "tmp").iterdir()]
    return found


def _reader(root: Path) -> ReadBlob:
    def read(blob_id: bytes) -> bytes:
        raw = Path(blob_path(str(root), blob_id)).read_bytes()
        trailer = raw[-TRAILER:]
        length = footer_length(trailer, len(raw))
        footer = decode_footer(raw[len(raw) - TRAILER - length : len(raw) - TRAILER], trailer, len(raw))
        verify(memoryview(raw)[: footer.size], 0, footer)
        return raw[: footer.size]

    return read


class Fsck:
    """One look at one state."""

    def __init__(self, partitions: dict[bytes, Rows], files: set[bytes], read: ReadBlob | None) -> None:
        self.root = partitions.pop(keys.ROOT, {})
        self.temporary: list[str] = []
        self._partitions = partitions
        self._files = files
        self._read = read
        self._faults: list[str] = []
        self._left_by_crash: list[str] = []
        self._owned: dict[bytes, bytes] = {}  # blob id -> partition
        self._garbage: set[bytes] = set()

    def fault(self, text: str) -> None:
        self._faults.append(text)

    def run(self, crashed: bool) -> list[str]:
        names = self._check_root()
        for partition, rows in self._partitions.items():
            if not rows:
                continue
            if partition in names:
                self._check_bucket(partition, rows, names[partition])
            elif keys.PURGE + partition in self.root:
                self._collect_purged(rows)
            elif set(rows) == {keys.BUCKET}:
                self._left_by_crash.append(f"bucket {partition.hex()} has no name")
            else:
                self.fault(f"partition {partition.hex()} belongs to no bucket: {sorted(rows)[:5]}")
        for blob_id in self._owned.keys() & self._garbage:
            self.fault(f"blob {blob_id.hex()} is owned and garbage")
        for blob_id in self._files - self._owned.keys() - self._garbage:
            self._left_by_crash.append(f"blob {blob_id.hex()} has no owner")
        self._left_by_crash += [f"{name} is temporary" for name in self.temporary]
        return self._faults if crashed else self._faults + self._left_by_crash

    def _check_root(self) -> dict[bytes, str]:
        names: dict[bytes, str] = {}
        for key, row in self.root.items():
            kind = key[:1]
            if kind == keys.BUCKET_NAME:
                self._check_name(key[1:].decode(), row, names)
            elif key == keys.FORMAT:
                self._decode(Format, row, "F")
            elif key == keys.CHECKPOINT:
                if len(self._unseal(row, "k")) != 16:
                    self.fault("the checkpoint is no blob id")
            elif kind != keys.PURGE or row or len(key) != 17:
                self.fault(f"an unknown root row {key!r}: {row!r}")
        return names

    def _check_name(self, name: str, row: bytes, names: dict[bytes, str]) -> None:
        record = self._decode(BucketName, row, f"b{name}")
        if record is None:
            return
        if record.id in names:
            self.fault(f"{name} and {names[record.id]} are one bucket")
        names[record.id] = name
        if not self._partitions.get(record.id):
            self.fault(f"bucket {name} has no rows")
        if keys.PURGE + record.id in self.root:
            self.fault(f"bucket {name} is being purged")

    def _collect_purged(self, rows: Rows) -> None:
        for key, row in rows.items():
            if key[:1] == keys.BLOB:
                self._garbage.add(key[1:])
            elif key[:1] == keys.GARBAGE:
                self._garbage.update(self._garbage_of(row))

    def _check_bucket(self, partition: bytes, rows: Rows, name: str) -> None:
        kinds: dict[bytes, Rows] = {}
        for key, row in rows.items():
            kinds.setdefault(key[:1], {})[key[1:]] = row
        bucket = self._decode(Bucket, kinds.pop(keys.BUCKET, {}).get(b"", b""), f"A of {name}")
        if bucket is None:
            return
        if (bucket.name, bucket.id) != (name, partition):
            self.fault(f"{name} leads to the bucket {bucket.name} {bucket.id.hex()}")
        one = _BucketCheck(self, name, kinds)
        counters = one.objects(kinds.pop(keys.OBJECT, {}))
        one.uploads(kinds.pop(keys.UPLOAD, {}))
        self._check_counters(name, counters, kinds.pop(keys.COUNTERS, {}).get(b""))
        if bucket.state is BucketState.DELETED and counters.objects:
            self._left_by_crash.append(f"{name} is deleted and still has its name")
        self._check_owners(name, partition, kinds.pop(keys.BLOB, {}), one.blobs)
        for row in kinds.pop(keys.GARBAGE, {}).values():
            self._garbage.update(self._garbage_of(row))
        for kind, left in kinds.items():
            if left:
                self.fault(f"{name}: rows {kind!r} without an owner: {[key.hex() for key in left][:5]}")

    def _check_counters(self, name: str, counters: Counters, row: bytes | None) -> None:
        try:
            counted = keys.decode_counters(row)
        except StorageError as error:
            self.fault(f"C of {name}: {error}")
        else:
            if counted != counters:
                self.fault(f"{name} counts {counted} and holds {counters}")

    def _check_owners(self, name: str, partition: bytes, rows: Rows, referred: dict[bytes, bytes]) -> None:
        for blob_id, row in rows.items():
            owner = self._unseal(row, f"B {blob_id.hex()}")
            if referred.pop(blob_id, None) != owner:
                self.fault(f"{name}: {blob_id.hex()} is said to be owned by {owner.hex()}, where nothing refers to it")
            if self._owned.setdefault(blob_id, partition) != partition:
                self.fault(f"{name}: {blob_id.hex()} has two owners")
            if blob_id not in self._files:
                self.fault(f"{name}: {blob_id.hex()} is lost")
        for blob_id in referred:
            self.fault(f"{name}: {blob_id.hex()} is referred to and has no B row")

    def _garbage_of(self, row: bytes) -> list[bytes]:
        record = self._decode(Garbage, row, "G")
        return [] if record is None else record.blob_ids

    def bytes_of(self, extents: Iterable[Extent]) -> bytes | None:
        """What extents hold; None where that was not asked for, or a fault is noted."""
        if self._read is None:
            return None
        data = b""
        for extent in extents:
            try:
                blob = self._read(extent.blob_id)
            except (StorageError, OSError, KeyError) as error:
                self.fault(f"blob {extent.blob_id.hex()}: {error!r}")
                return None
            if len(blob) < extent.offset + extent.length:
                self.fault(f"blob {extent.blob_id.hex()} ends before an extent of it")
            data += blob[extent.offset : extent.offset + extent.length]
        return data

    def _decode(self, kind: type[Any], row: bytes, what: str) -> Any:
        try:
            return records.decode(kind, row)
        except StorageError as error:
            self.fault(f"{what}: {error}")
            return None

    def _unseal(self, row: bytes, what: str) -> bytes:
        try:
            return bytes(records.unseal(row))
        except StorageError as error:
            self.fault(f"{what}: {error}")
            return b""


class _BucketCheck:
    """The rows of one bucket. Takes those out of ``kinds`` that something refers to.

    :ivar blobs: what is referred to: blob id -> owner.
    """

    def __init__(self, fsck: Fsck, name: str, kinds: dict[bytes, Rows]) -> None:
        self._fsck = fsck
        self._name = name
        self._kinds = kinds
        self.blobs: dict[bytes, bytes] = {}

    def _fault(self, text: str) -> None:
        self._fsck.fault(f"{self._name}: {text}")

    def _take(self, kind: bytes, key: bytes) -> bytes:
        """A row that is referred to; b"" and a fault where it is missing."""
        row = self._kinds.get(kind, {}).pop(key, b"")
        if not row:
            self._fault(f"row {kind!r} {key.hex()} is missing")
        return row

    def objects(self, rows: Mapping[bytes, bytes]) -> Counters:
        size = 0
        for key, row in rows.items():
            record = self._fsck._decode(ObjectRecord, row, f"{self._name} O {key!r}")
            if record is not None:
                size += record.size
                self._object(key, record)
        return Counters(len(rows), size)

    def _object(self, key: bytes, record: ObjectRecord) -> None:
        if record.long_headers:
            self._fsck._decode(Headers, self._take(keys.HEADERS, record.version_id), f"X of {key!r}")
        data: bytes | None = b""
        if record.body_kind is BodyKind.INLINE:
            data = self._fsck._unseal(self._take(keys.INLINE, record.body_id), f"D of {key!r}")
        elif record.body_kind is BodyKind.EXTENTS:
            body = self._fsck._decode(Body, self._take(keys.BODY, record.body_id), f"M of {key!r}")
            if body is None:
                return
            self._refer(body.extents, record.body_id)
            if sum(extent.length for extent in body.extents) != record.size or len(body.parts) != record.parts:
                self._fault(f"{key!r} has another size, or other parts, than its body")
            if body.parts and sum(part.size for part in body.parts) != record.size:
                self._fault(f"the parts of {key!r} are not as long as it is")
            data = self._fsck.bytes_of(body.extents)
        if data is not None:
            self._compare(key, record, data)

    def _compare(self, key: bytes, record: ObjectRecord, data: bytes) -> None:
        if len(data) != record.size:
            self._fault(f"{key!r} has {len(data)} bytes, not {record.size}")
        if record.checksum_value and _hex(record.checksum_type, data) != record.checksum_value:
            self._fault(f"{key!r} does not match its {record.checksum_type}")

    def uploads(self, rows: Mapping[bytes, bytes]) -> None:
        parts = self._kinds.pop(keys.PART, {})
        for row_key, row in rows.items():
            upload = self._fsck._decode(Upload, row, f"{self._name} U {row_key!r}")
            if upload is None:
                continue
            if row_key[-17:] != b"\0" + upload.id:
                self._fault(f"upload {upload.id.hex()} is under {row_key!r}")
            mine = [key for key in parts if key[:16] == upload.id]
            if mine and upload.id not in mine:
                self._fault(f"the parts of upload {upload.id.hex()} are not counted")
            for key in mine:
                self._part(upload, key, parts.pop(key))
        for key in parts:
            self._fault(f"part {key.hex()} is of no upload")

    def _part(self, upload: Upload, key: bytes, row: bytes) -> None:
        if len(key) == 16:
            self._fsck._unseal(row, f"P of {upload.id.hex()}")
            return
        part = self._fsck._decode(Part, row, f"P {key.hex()}")
        if part is None:
            return
        if keys.part_number(keys.PART + key) != part.number:
            self._fault(f"part {part.number} is under {key.hex()}")
        self._refer(part.extents, upload.id)
        data = self._fsck.bytes_of(part.extents)
        if data is not None and (len(data) != part.size or _hex(upload.checksum_type, data) != part.digest.hex()):
            self._fault(f"part {part.number} of {upload.id.hex()} is not what was put")

    def _refer(self, extents: Iterable[Extent], owner: bytes) -> None:
        for extent in extents:
            if self.blobs.setdefault(extent.blob_id, owner) != owner:
                self._fault(f"{extent.blob_id.hex()} has two owners")


def _hex(checksum_type: str, data: bytes) -> str:
    digest = checksums.new_digest(checksum_type)
    digest.update(data)
    return digest.hexdigest()


def main() -> None:
    faults = check_directory(Path(sys.argv[1]), crashed="--crashed" in sys.argv[2:])
    print("\n".join(faults) or "sound")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
