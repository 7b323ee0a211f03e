"""Blobs in memory, for tests: the promises of ``IBlobs`` without a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from aisobj.errors import BlobMissing, CorruptData, StoreFull, StoreReadOnly
from aisobj.storage.blob_format import BLOCK
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import IBlobReader, IBlobs, IBlobWriter, Owner
from aisobj.storage.unsettled import Unsettled


@implementer(IBlobs)
class MemoryBlobs:
    """Everything happens at once, in the calling thread.

    :ivar footers: what each blob's ``commit`` was given.
    :ivar full: set it to refuse writers for lack of space.
    """

    def __init__(self, ids: IdMaker) -> None:
        self.read_only = ""
        self.full = False
        self.footers: dict[bytes, Owner] = {}
        self._data: dict[bytes, bytes] = {}
        self._unsettled = Unsettled(ids)

    def check_space(self) -> None:
        if self.read_only:
            raise StoreReadOnly(self.read_only)
        if self.full:
            raise StoreFull("no space")

    def writer(self, update: Callable[[bytes | memoryview], object] | None = None) -> MemoryBlobWriter:
        self.check_space()
        return MemoryBlobWriter(self, update)

    def reader(self, blob_id: bytes, offset: int, length: int) -> MemoryBlobReader:
        data = self._data.get(blob_id)
        if data is None:
            raise BlobMissing(blob_id.hex())
        if offset + length > len(data):
            raise CorruptData(f"{blob_id.hex()} ends at {len(data)}, before the range {offset}+{length} does")
        return MemoryBlobReader(memoryview(data)[offset : offset + length], self.footers.get(blob_id, {}))

    def clone(self, blob_id: bytes) -> Deferred[bytes]:
        if blob_id not in self._data:
            return fail(BlobMissing(blob_id.hex()))
        return succeed(self._store(self._data[blob_id], self.footers[blob_id]))

    def settle(self, blob_ids: Sequence[bytes]) -> None:
        self._unsettled.settle(blob_ids)

    def remove(self, blob_ids: Sequence[bytes]) -> Deferred[None]:
        for blob_id in blob_ids:
            self._data.pop(blob_id, None)
            self.footers.pop(blob_id, None)
        self._unsettled.settle(blob_ids)
        return succeed(None)

    def set_aside(self, blob_ids: Sequence[bytes]) -> Deferred[None]:
        return self.remove(blob_ids)

    def settled_before(self) -> bytes:
        return self._unsettled.before()

    def newer_than(self, blob_id: bytes) -> Deferred[list[bytes]]:
        return succeed(sorted(found for found in self._data if found > blob_id))

    def clean(self) -> Deferred[int]:
        return succeed(0)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _store(self, data: bytes, footer: Owner) -> bytes:
        blob_id = self._unsettled.make()
        self._data[blob_id] = data
        self.footers[blob_id] = dict(footer)
        return blob_id


@implementer(IBlobWriter)
class MemoryBlobWriter:
    def __init__(self, blobs: MemoryBlobs, update: Callable[[bytes | memoryview], object] | None) -> None:
        self._blobs = blobs
        self._update = update
        self._data = bytearray()
        self._ended = False

    def write(self, data: bytes | memoryview) -> Deferred[None] | None:
        if self._ended:
            raise RuntimeError("a blob writer is written to after its end")
        if self._update is not None and data:
            self._update(data)
        self._data += data
        return None

    def commit(self, footer: Owner, digests: Callable[[], Owner] = dict) -> Deferred[bytes]:
        if self._ended:
            raise RuntimeError("a blob writer is ended twice")
        self._ended = True
        return succeed(self._blobs._store(bytes(self._data), {**footer, **digests()}))

    def abort(self) -> Deferred[None]:
        self._ended = True
        return succeed(None)


@implementer(IBlobReader)
class MemoryBlobReader:
    def __init__(self, view: memoryview, owner: Owner) -> None:
        self.owner = owner
        self._rest = view
        self._closed = False

    def next_block(self) -> memoryview | Deferred[memoryview | None] | None:
        if self._closed:
            raise RuntimeError("a blob reader is asked for a block after its end")
        block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
        return block or None

    def give_back(self, count: int) -> bool:
        return False  # a block is no copy

    def close(self) -> None:
        self._closed = True
