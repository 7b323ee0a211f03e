"""An ObjectStore to test: on either engine, with faults and races to inject, a clock to turn, and fsck at the end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import fsck
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.threadpool import ThreadPool

from aisobj.errors import CommitUnknown, S3Error
from aisobj.model import Attributes, Bucket, BucketProps, Checksum, ListedObject, ObjectRecord, Part, Upload
from aisobj.protocol.conditions import WritePrecondition
from aisobj.protocol.listing import Page, finish
from aisobj.protocol.listparams import ListParams
from aisobj.storage.completing import Chosen, Stated
from aisobj.storage.file_blobs import FileBlobs
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import IBlobWriter
from aisobj.storage.lmdb_index import LmdbIndex
from aisobj.storage.memory_blobs import MemoryBlobs
from aisobj.storage.memory_index import MemoryIndex
from aisobj.storage.objects import Found
from aisobj.storage.store import ObjectStore

ENGINES = ("memory", "embedded")
#: bodies up to this many bytes are in the index
INLINE = 64
SMALL = b"small"
LARGE = bytes(range(256)) * 3
NONE = WritePrecondition.none
NEW = WritePrecondition(if_none_match=True)

#: ``IIndex.commit``'s arguments
Commit = tuple[Any, ...]


def match(etag: str) -> WritePrecondition:
    return WritePrecondition(if_match=etag)


class TappedIndex:
    """An IIndex round another one.

    :ivar before: called with each commit's arguments before it happens; what it returns is awaited. It may raise.
    :ivar slow: every commit waits for the next turn of the reactor: those that are sent together meet.
    :ivar unknown: commits to come that end as CommitUnknown: True for one that happens, False for one that does not.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.before: Callable[[Commit], Awaitable[None] | None] | None = None
        self.unknown: list[bool] = []
        self.slow = False
        self.commits: list[Commit] = []

    def unknown_at(self, position: int, happened: bool) -> None:
        """The commit after ``position`` others ends as CommitUnknown."""

        def arm(commit: Commit) -> None:
            nonlocal position
            if position == 0:
                self.unknown = [happened]
            else:
                self.before = arm
            position -= 1

        self.before = arm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def commit(
        self, partition: bytes, expect: Any, put: Any, delete: Any = (), add: Any = None, found: Any = None
    ) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._commit((partition, expect, put, delete, add or {}, found or {})))

    async def _commit(self, arguments: Commit) -> Any:
        if self.slow:
            await turn()
        before, self.before = self.before, None
        if before is not None:
            waiting = before(arguments)
            if waiting is not None:
                await waiting
        self.commits.append(arguments)
        if not self.unknown:
            return await self.wrapped.commit(*arguments)
        if self.unknown.pop(0):
            await self.wrapped.commit(*arguments)
        raise CommitUnknown("injected")


class TappedBlobs:
    """An IBlobs round another one, which counts.

    :ivar removed: the ids that were removed, in order.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped
        self.written = 0
        self.cloned = 0
        self.removed: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def writer(self, update: Any = None) -> IBlobWriter:
        self.written += 1
        writer: IBlobWriter = self.wrapped.writer(update)
        return writer

    def clone(self, blob_id: bytes) -> Deferred[bytes]:
        self.cloned += 1
        done: Deferred[bytes] = self.wrapped.clone(blob_id)
        return done

    def remove(self, blob_ids: Sequence[bytes]) -> Deferred[None]:
        self.removed += blob_ids
        done: Deferred[None] = self.wrapped.remove(blob_ids)
        return done


class Rig:
    """One store and what it stands on.

    :ivar skew: nanoseconds to add to the clock that ids are made from.
    :ivar crashed: leave to fsck what a crash may leave.
    """

    def __init__(self, index: Any, blobs: Any, ids: IdMaker, data: Path | None) -> None:
        self.index = TappedIndex(index)
        self.blobs = TappedBlobs(blobs)
        self.ids = ids
        self.data = data
        self.skew = 0
        self.passed = 0.0
        self.crashed = False
        self.store = self.new_store()

    def new_store(self) -> ObjectStore:
        """Another store over the same engines, as after a restart."""
        self.store = ObjectStore(self.index, self.blobs, reactor, self.ids, inline_limit=INLINE)
        self.store.sweeper.seconds = lambda: time.monotonic() + self.passed
        return self.store

    def fsck(self) -> list[str]:
        return fsck.check(self.store, self.data, crashed=self.crashed)

    def blob_ids(self) -> set[bytes]:
        """What there is of blobs."""
        if self.data is None:
            return set(self.blobs.wrapped._data)
        return {bytes.fromhex(path.name) for path in (self.data / "blobs").glob("?????/??/*")}

    def later(self, seconds: float) -> None:
        """So much time passes."""
        self.passed += seconds
        self.set_clock(seconds)

    def set_clock(self, seconds: float) -> None:
        """The clock is set by so much, and no time passes."""
        self.skew += int(seconds * 1e9)

    def rows(self, partition: bytes, kind: bytes = b"") -> dict[bytes, bytes]:
        """All rows of a partition, by key."""
        return dict(self.index.scan(partition, b"", kind, 1 << 20))

    async def bucket(self, name: str = "bck", **props: Any) -> Bucket:
        return await self.store.buckets.create(name, "owner", BucketProps(**props))

    async def body(self, data: bytes, name: str = "bck", digests: Iterable[str] = (), pieces: int = 1) -> Any:
        writer = self.store.objects.writer(self.store.buckets.get(name), digests, len(data))
        await write(writer, data, pieces)
        return await writer.finish({"bucket": b"", "key": b""})

    async def put(
        self,
        key: bytes,
        data: bytes = SMALL,
        name: str = "bck",
        precondition: WritePrecondition = NONE,
        seen: bytes = b"",
        headers: Mapping[str, str] | None = None,
        checksum: str = "",
    ) -> ObjectRecord:
        body = await self.body(data, name, [checksum] if checksum else [])
        given = Checksum(checksum, body.digests.raw(checksum)) if checksum else None
        attributes = Attributes("text/plain", dict(headers or {}), given)
        return (await self.store.objects.put(name, key, body, attributes, precondition, seen))[1]

    def fetch(self, key: bytes, name: str = "bck") -> Found:
        return self.store.objects.fetch(name, key)

    def record(self, key: bytes, name: str = "bck") -> ObjectRecord:
        return self.fetch(key, name).record

    async def get(self, key: bytes, name: str = "bck") -> bytes:
        found = self.fetch(key, name)
        return await self.read(found, 0, found.record.size)

    async def read(self, found: Found, offset: int, length: int) -> bytes:
        if found.inline is not None:
            return bytes(found.inline[offset : offset + length])
        return await drain(await self.store.objects.open(found, offset, length))

    async def delete(self, key: bytes, name: str = "bck") -> ObjectRecord | None:
        return await self.store.objects.delete(name, key, lambda record: None)

    def list(self, name: str = "bck", **params: Any) -> Page[ListedObject]:
        wanted = {"prefix": b"", "delimiter": b"", "max_keys": 1000, "url_encoded": False, "after": b""} | params
        return finish(self.store.objects.list(name, ListParams(2, **wanted)))

    def counted(self, name: str = "bck") -> tuple[int, int]:
        counters = self.store.buckets.counters(self.store.buckets.get(name))
        return counters.objects, counters.bytes

    # multipart

    async def upload(
        self, key: bytes, name: str = "bck", algorithm: str = "", full_object: bool = False, **headers: str
    ) -> Upload:
        bucket = self.store.buckets.get(name)
        attributes = Attributes("text/plain", headers)
        return await self.store.uploads.create(bucket, key, "owner", attributes, algorithm, full_object)

    async def part(
        self, key: bytes, upload: Upload, number: int, data: bytes, name: str = "bck", bucket: Bucket | None = None
    ) -> Part:
        writer = self.store.uploads.writer(upload, (), len(data))
        await write(writer, data)
        body = await writer.finish({})
        bucket = bucket or self.store.buckets.get(name)
        return await self.store.uploads.put_part(bucket, key, upload, number, body, None)

    async def complete(
        self, key: bytes, upload: Upload, parts: Iterable[Part], precondition: WritePrecondition = NONE, **more: Any
    ) -> ObjectRecord:
        chosen = [Chosen(part.number, part.etag, part.checksum) for part in parts]
        bucket: Bucket = more.pop("bucket", None) or self.store.buckets.get(more.pop("name", "bck"))
        done = await self.store.uploads.complete(bucket, key, upload.id.hex(), chosen, precondition, Stated(**more))
        return done[1]


async def write(writer: Any, data: bytes, pieces: int = 1) -> None:
    step = -(-len(data) // pieces) or 1
    for start in range(0, len(data), step):
        waiting = writer.write(data[start : start + step])
        if waiting is not None:
            await waiting


async def drain(source: Any) -> bytes:
    """All that a source has; closes it."""
    data = b""
    try:
        while True:
            block = source.next_block()
            if isinstance(block, Deferred):
                block = await block
            if block is None:
                return data
            data += block
    finally:
        source.close()


@asynccontextmanager
async def open_rig(engine: str, path: Path) -> AsyncIterator[Rig]:
    """A rig; at the end its store is looked through by fsck and closed."""
    rig: Rig | None = None
    ids = IdMaker(lambda: time.time_ns() + (rig.skew if rig is not None else 0))
    pool = ThreadPool(0, 4)
    if engine == "memory":
        rig = Rig(MemoryIndex(), MemoryBlobs(ids), ids, None)
    else:
        pool.start()
        path.mkdir(exist_ok=True)
        index = LmdbIndex.open(path / "index", reactor=reactor, sync=False, writer="thread")
        blobs = FileBlobs(path / "blobs", reactor=reactor, pool=pool, ids=ids, sync=False, reserve=0)
        rig = Rig(index, blobs, ids, path)
    try:
        yield rig
        await rig.blobs.close()  # what runs in the background ends
        assert rig.fsck() == []
    finally:
        await rig.store.close()
        if pool.started:
            pool.stop()


@pytest_twisted.async_yield_fixture(params=ENGINES)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """A test module takes it as ``rig = storekit.rig``."""
    async with open_rig(request.param, tmp_path / "data") as opened:
        yield opened


@contextmanager
def refused(code: str) -> Any:
    """It raises S3Error with this code."""
    with pytest.raises(S3Error) as caught:
        yield caught
    assert caught.value.code == code


def etag_of(kind: Literal["md5", "sha256", "sha512"], data: bytes) -> str:
    return hashlib.new(kind, data).hexdigest()


def turn() -> Deferred[None]:
    """A turn of the reactor."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


async def all_of(running: list[Any]) -> list[Any]:
    """What each coroutine returns, or the exception it raises; they run at the same time."""
    results = await DeferredList([Deferred.fromCoroutine(one) for one in running], consumeErrors=True)
    return [value if success else value.value for success, value in results]


def flipped(row: bytes) -> bytes:
    """A row that the disk has not kept."""
    return row[:-1] + bytes([row[-1] ^ 1])
