"""``ais-s3 fsck``: whether a store's index and its blobs agree, both ways. It changes nothing.

Every row decodes and belongs to something; every extent's blob is there, long enough, with a readable footer; every
blob file has an owner; counters say what is there; ``B`` rows and bodies name each other.

It goes page by page, each page a snapshot of its own, so it can run beside a server. What looks wrong there may only be
changing: a bucket with faults is looked through again, and only what is wrong each time, in the same words, is a fault.
Blobs that are newer than the checkpoint are between two steps of their writer and are left out.

In memory it keeps an id (about 100 bytes) for each body in the index of the bucket that it is at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from aisobj.errors import BlobMissing, StorageError
from aisobj.model import BucketName, Format, Garbage
from aisobj.storage import keys, records
from aisobj.storage.blob_format import Footer
from aisobj.storage.interfaces import ISnapshot
from aisobj.tools.fsck_bucket import BucketCheck

#: Rows of one page.
PAGE = 256
#: How often a bucket with faults is looked through before they are believed, while a server runs.
PASSES = 3
#: Seconds between two looks.
PAUSE = 1.0
#: With so few buckets a blob is looked up in all of them, which finds it if it has two owners.
_FEW = 64


class Rows(Protocol):
    """The index, as ``IndexReader`` has it."""

    def partitions(self) -> Iterator[bytes]: ...

    def snapshot(self, partition: bytes) -> ISnapshot: ...


class Blobs(Protocol):
    """The blobs, as ``BlobFiles`` has them."""

    def walk(self) -> Iterator[bytes]: ...

    def temporary(self) -> list[str]: ...

    def footer(self, blob_id: bytes) -> Footer: ...

    def read(self, blob_id: bytes) -> Iterator[memoryview]: ...


@dataclass
class Report:
    """What was found.

    :ivar faults: a line each. :ivar left_by_crash: what the next start of a server takes away, a line each.
    """

    faults: list[str] = field(default_factory=list)
    left_by_crash: list[str] = field(default_factory=list)
    buckets: int = 0
    objects: int = 0
    bytes: int = 0
    blobs: int = 0


class Fsck:
    """One look at one store.

    :param online: a server may be writing.
    :param deep: also read every byte, and compare it with the checksums of blocks, objects and parts.
    :param sleep: between two looks at a bucket; seconds.
    """

    def __init__(
        self, rows: Rows, blobs: Blobs, *, online: bool, deep: bool, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.rows = rows
        self.blobs = blobs
        self.deep = deep
        self.report = Report()
        self._online = online
        self._sleep = sleep
        self._names: dict[bytes, str] = {}
        self._garbage: set[bytes] = set()
        self._partitions: list[bytes] = []

    def run(self) -> Report:
        checkpoint = self._checkpoint()
        self._check_root()
        for partition in self.rows.partitions():
            if partition != keys.ROOT:
                self._partitions.append(partition)
                self._check_partition(partition)
        for bucket_id, name in self._names.items():
            if bucket_id not in self._partitions and not self._changed(bucket_id, name):
                self.fault(f"bucket {name} has no rows")
        self._check_files(checkpoint)
        if not self._online:
            self.report.left_by_crash += [f"{name} is temporary" for name in self.blobs.temporary()]
        self.report.buckets = len(self._names)
        return self.report

    def fault(self, text: str) -> None:
        if text not in self.report.faults:
            self.report.faults.append(text)

    def get(self, partition: bytes, key: bytes) -> bytes | None:
        snapshot = self.rows.snapshot(partition)
        try:
            row: bytes | None = snapshot.get(key)
            return row
        finally:
            snapshot.close()

    def pages(
        self, partition: bytes, prefix: bytes, limit: int = PAGE
    ) -> Iterator[tuple[ISnapshot, list[tuple[bytes, bytes]]]]:
        """Pages of rows, each with the snapshot that it is from and that is closed when the next one is asked for."""
        after = b""
        while True:
            snapshot = self.rows.snapshot(partition)
            try:
                page = list(snapshot.scan(after, prefix, limit))
                if not page:
                    return
                yield snapshot, page
            finally:
                snapshot.close()
            after = page[-1][0]

    def decode(self, kind: type[Any], row: bytes | None, what: str, fault: Callable[[str], None]) -> Any:
        try:
            return records.decode(kind, row or b"")
        except StorageError as error:
            fault(f"{what}: {error}" if row else f"{what} is missing")
            return None

    # the root ---------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> bytes:
        row = self.get(keys.ROOT, keys.CHECKPOINT)
        try:
            return bytes(16) if row is None else bytes(records.unseal(row))
        except StorageError:
            return bytes(16)  # named below

    def _check_root(self) -> None:
        for _, page in self.pages(keys.ROOT, b""):
            for key, row in page:
                kind = key[:1]
                if kind == keys.BUCKET_NAME:
                    self._check_name(key[1:].decode(errors="replace"), row)
                elif key == keys.FORMAT:
                    self.decode(Format, row, "F", self.fault)
                elif key == keys.CHECKPOINT:
                    self._check_checkpoint(row)
                elif kind != keys.PURGE or row or len(key) != 17:
                    self.fault(f"an unknown root row {key!r}: {row[:40]!r}")

    def _check_checkpoint(self, row: bytes) -> None:
        try:
            if len(records.unseal(row)) != 16:
                self.fault("the checkpoint is no blob id")
        except StorageError as error:
            self.fault(f"k: {error}")

    def _check_name(self, name: str, row: bytes) -> None:
        record = self.decode(BucketName, row, f"b{name}", self.fault)
        if record is None:
            return
        if record.id in self._names:
            self.fault(f"{name} and {self._names[record.id]} are one bucket")
        self._names[record.id] = name
        if self.get(keys.ROOT, keys.PURGE + record.id) is not None and not self._changed(record.id, name):
            self.fault(f"bucket {name} is being purged")

    def _changed(self, bucket_id: bytes, name: str) -> bool:
        """Whether the name stands for another bucket by now, or for none."""
        if not self._online:
            return False
        row = self.get(keys.ROOT, keys.bucket_name(name))
        return row is None or records.decode(BucketName, row).id != bucket_id

    def _is_named(self, partition: bytes) -> bool:
        """Also if it has got its name only now."""
        if partition in self._names:
            return True
        if self._online:
            for _, page in self.pages(keys.ROOT, keys.BUCKET_NAME):
                for key, row in page:
                    record = self.decode(BucketName, row, "b", lambda text: None)
                    if record is not None and record.id == partition:
                        self._names[partition] = key[1:].decode()
        return partition in self._names

    # partitions -------------------------------------------------------------------------------------------------

    def _check_partition(self, partition: bytes) -> None:
        if self.get(keys.ROOT, keys.PURGE + partition) is not None and partition not in self._names:
            self._collect_garbage(partition, purged=True)
        elif self._is_named(partition):
            self._check_bucket(partition, self._names[partition])
        else:
            found = [key for _, page in self.pages(partition, b"") for key, _ in page][:5]
            if found == [keys.BUCKET]:  # until 2026-11 a bucket was made by two commits, this row's first
                self.report.left_by_crash.append(f"bucket {partition.hex()} has no name")
            elif found and not (self._online and self.get(keys.ROOT, keys.PURGE + partition) is not None):
                self.fault(f"partition {partition.hex()} belongs to no bucket: {found}")

    def _check_bucket(self, partition: bytes, name: str) -> None:
        one = BucketCheck(self, name, partition)
        found = one.run()
        for _ in range(PASSES - 1 if self._online else 0):
            if not found:
                break
            self._sleep(PAUSE)
            one = BucketCheck(self, name, partition)
            again = set(one.run())
            found = [text for text in found if text in again]
        if found and self._changed(partition, name):
            return
        for text in found:
            self.fault(text)
        self.report.left_by_crash += one.left_by_crash
        self.report.objects += one.counted.objects
        self.report.bytes += one.counted.bytes
        self._collect_garbage(partition)

    def _collect_garbage(self, partition: bytes, purged: bool = False) -> None:
        for _, page in self.pages(partition, keys.GARBAGE):
            for _, row in page:
                record = self.decode(Garbage, row, "G", self.fault)
                self._garbage.update([] if record is None else record.blob_ids)
        for _, page in self.pages(partition, keys.BLOB) if purged else ():
            self._garbage.update(key[1:] for key, _ in page)

    # files ------------------------------------------------------------------------------------------------------

    def _check_files(self, checkpoint: bytes) -> None:
        last: bytes | None = None
        for blob_id in self.blobs.walk():
            self.report.blobs += 1
            owners = self._owners(blob_id, last)
            if len(owners) > 1:
                self.fault(f"{blob_id.hex()} has two owners")
            elif owners:
                last = owners[0]
            elif blob_id not in self._garbage and not (self._online and blob_id >= checkpoint):
                self._check_orphan(blob_id)

    def _owners(self, blob_id: bytes, last: bytes | None) -> list[bytes]:
        """The partitions that have a row for a blob; the first one only, where there are many partitions."""
        many = len(self._partitions) > _FEW
        order = self._partitions if last is None or not many else [last, *self._partitions]
        found = []
        for partition in order:
            if self.get(partition, keys.BLOB + blob_id) is not None:
                found.append(partition)
                if many:
                    break
        return found

    def _check_orphan(self, blob_id: bytes) -> None:
        if self._online:
            for partition in self.rows.partitions():  # it may have become garbage, or belong to a new bucket
                if partition != keys.ROOT:
                    self._collect_garbage(partition, self.get(keys.ROOT, keys.PURGE + partition) is not None)
            try:
                self.blobs.footer(blob_id)
            except BlobMissing:
                return
            except StorageError:
                pass
            if blob_id in self._garbage:
                return
        self.report.left_by_crash.append(f"blob {blob_id.hex()} has no owner")
