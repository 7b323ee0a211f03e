"""What ``IBlobs`` promises, held by every engine."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from aisobj.errors import BlobMissing, CorruptData
from aisobj.storage.blob_format import BLOCK
from aisobj.storage.blob_reader import READ
from aisobj.storage.blob_writer import BATCH
from aisobj.storage.file_blobs import FileBlobs
from aisobj.storage.ids import IdMaker, first_id
from aisobj.storage.interfaces import IBlobReader, IBlobs, IBlobWriter
from aisobj.storage.memory_blobs import MemoryBlobs

BYTES = random.Random(6).randbytes(3 * READ)
FOOTER = {"bucket": b"b" * 16, "key": b"k", "upload": b"", "part": 0, "etag": "e", "metadata": b""}
SIZES = sorted({0, 1, *(edge + d for edge in (BLOCK, 2 * BLOCK, READ, READ + BLOCK, BATCH) for d in (-1, 0, 1))})


@contextmanager
def file_blobs(root: Path) -> Iterator[FileBlobs]:
    pool = ThreadPool(0, 4)
    pool.start()
    try:
        yield FileBlobs(root / "blobs", reactor=reactor, pool=pool, ids=IdMaker(), sync=True, reserve=0)
    finally:
        pool.stop()


@contextmanager
def memory_blobs(root: Path) -> Iterator[MemoryBlobs]:
    yield MemoryBlobs(IdMaker())


@pytest.fixture(params=[file_blobs, memory_blobs])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IBlobs]:
    make: Callable[[Path], AbstractContextManager[IBlobs]] = request.param
    with make(tmp_path) as engine:
        yield engine


async def put(blobs: IBlobs, *chunks: bytes | memoryview, **options: object) -> bytes:
    writer = blobs.writer(**options)
    for chunk in chunks:
        waiting = writer.write(chunk)
        if waiting is not None:
            await waiting
    return await writer.commit(FOOTER)


async def open_reader(blobs: IBlobs, blob_id: bytes, offset: int, length: int) -> IBlobReader:
    reader = blobs.reader(blob_id, offset, length)
    return await reader if isinstance(reader, Deferred) else reader


async def drain(reader: IBlobReader) -> bytes:
    data = b""
    while True:
        block = reader.next_block()
        if isinstance(block, Deferred):
            block = await block
        if block is None:
            return data
        assert len(block) > 0
        data += block


async def get(blobs: IBlobs, blob_id: bytes, offset: int, length: int) -> bytes:
    reader = await open_reader(blobs, blob_id, offset, length)
    try:
        return await drain(reader)
    finally:
        reader.close()


@ensureDeferred
async def test_the_engine_provides_what_the_interfaces_say(blobs: IBlobs) -> None:
    assert verifyObject(IBlobs, blobs)
    writer = blobs.writer()
    assert verifyObject(IBlobWriter, writer)
    await writer.abort()
    reader = await open_reader(blobs, await put(blobs, b"x"), 0, 1)
    assert verifyObject(IBlobReader, reader)
    reader.close()
    assert blobs.read_only == ""


@ensureDeferred
async def test_what_was_written_is_read_at_every_edge_of_a_block(blobs: IBlobs) -> None:
    for size in SIZES:
        blob_id = await put(blobs, BYTES[:size])
        assert len(blob_id) == 16
        assert await get(blobs, blob_id, 0, size) == BYTES[:size], size


@ensureDeferred
async def test_any_split_into_chunks_gives_the_same_blob(blobs: IBlobs) -> None:
    for step in (1000, BLOCK - 1, BLOCK + 1, BATCH, 2 * BATCH + 5):
        chunks = [memoryview(BYTES)[at : at + step] for at in range(0, len(BYTES), step)]
        assert await get(blobs, await put(blobs, b"", *chunks, b""), 0, len(BYTES)) == BYTES, step


@ensureDeferred
async def test_many_tiny_chunks_are_kept_in_order(blobs: IBlobs) -> None:
    assert await get(blobs, await put(blobs, *(BYTES[i : i + 1] for i in range(3000))), 0, 3000) == BYTES[:3000]


@ensureDeferred
async def test_a_range_is_exactly_its_bytes(blobs: IBlobs) -> None:
    size = 2 * READ + 100
    blob_id = await put(blobs, BYTES[:size])
    edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, READ, READ + 1, size - 1, size]
    for start in edges:
        for end in edges:
            if start <= end:
                assert await get(blobs, blob_id, start, end - start) == BYTES[start:end], (start, end)


@ensureDeferred
async def test_a_range_beyond_the_end_is_corruption_not_a_short_answer(blobs: IBlobs) -> None:
    blob_id = await put(blobs, b"12345")
    for offset, length in ((0, 6), (5, 1), (6, 0)):
        with pytest.raises(CorruptData):
            await open_reader(blobs, blob_id, offset, length)


@ensureDeferred
async def test_next_block_goes_on_saying_that_the_range_has_ended(blobs: IBlobs) -> None:
    reader = await open_reader(blobs, await put(blobs, b"x"), 0, 1)
    assert await drain(reader) == b"x"
    assert reader.next_block() is None
    reader.close()
    reader.close()


@ensureDeferred
async def test_update_sees_every_byte_in_order_before_commit_fires(blobs: IBlobs) -> None:
    seen = bytearray()
    await put(blobs, BYTES[:700], memoryview(BYTES)[700:BLOCK], BYTES[BLOCK : 3 * BATCH], update=seen.extend)
    assert seen == BYTES[: 3 * BATCH]


@ensureDeferred
async def test_an_update_that_raises_fails_the_write_and_leaves_nothing(blobs: IBlobs) -> None:
    def update(data: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await put(blobs, b"x", update=update)
    assert await blobs.newer_than(bytes(16)) == []


@ensureDeferred
async def test_waiting_for_every_deferred_of_write_lets_a_large_blob_through(blobs: IBlobs) -> None:
    blob_id = await put(blobs, *[BYTES] * 8)
    assert await get(blobs, blob_id, 7 * len(BYTES), len(BYTES)) == BYTES


@ensureDeferred
async def test_a_clone_is_a_blob_of_its_own(blobs: IBlobs) -> None:
    source = await put(blobs, BYTES[:1000])
    clone = await blobs.clone(source)
    assert clone > source
    await blobs.remove([source])
    assert await get(blobs, clone, 0, 1000) == BYTES[:1000]
    second = await blobs.clone(clone)
    await blobs.remove([clone])
    assert await get(blobs, second, 10, 10) == BYTES[10:20]
    with pytest.raises(BlobMissing):
        await blobs.clone(source)
    assert await blobs.newer_than(bytes(16)) == [second]


@ensureDeferred
async def test_removing_is_idempotent_and_takes_only_what_it_was_given(blobs: IBlobs) -> None:
    first, second = await put(blobs, b"1"), await put(blobs, b"2")
    await blobs.remove([first])
    await blobs.remove([first, first_id(1)])
    with pytest.raises(BlobMissing):
        await open_reader(blobs, first, 0, 1)
    assert await get(blobs, second, 0, 1) == b"2"


@ensureDeferred
async def test_a_reader_outlives_the_removal_of_its_blob(blobs: IBlobs) -> None:
    blob_id = await put(blobs, BYTES)
    reader = await open_reader(blobs, blob_id, 0, len(BYTES))
    await blobs.remove([blob_id])
    assert await drain(reader) == BYTES
    reader.close()
    await blobs.close()


@ensureDeferred
async def test_an_aborted_blob_leaves_nothing(blobs: IBlobs) -> None:
    before = blobs.settled_before()
    for size in (0, 10, 3 * BATCH):
        writer = blobs.writer()
        writer.write(BYTES[:size])
        await writer.abort()
    assert await blobs.newer_than(before) == []
    assert await blobs.clean() == 0


@ensureDeferred
async def test_a_writer_has_one_end(blobs: IBlobs) -> None:
    writer = blobs.writer()
    await writer.commit(FOOTER)
    with pytest.raises(RuntimeError):
        writer.write(b"x")
    with pytest.raises(RuntimeError):
        writer.commit(FOOTER)


@ensureDeferred
async def test_newer_than_names_every_later_blob_in_order(blobs: IBlobs) -> None:
    names = [await put(blobs, b"%d" % i) for i in range(5)]
    assert names == sorted(names)
    assert await blobs.newer_than(bytes(16)) == names
    assert await blobs.newer_than(names[1]) == names[2:]
    assert await blobs.newer_than(names[4]) == []


@ensureDeferred
async def test_settled_before_never_passes_an_unsettled_blob(blobs: IBlobs) -> None:
    names = [await put(blobs, b"x") for _ in range(2)] + [await blobs.clone(await put(blobs, b"y"))]
    for settle in (lambda b: blobs.settle([b]), lambda b: blobs.remove([b])):
        assert blobs.settled_before() < names[0]
        settle(names[0])
    # What a restart would look at still holds every blob that nobody has settled.
    assert set(names[1:]) <= set(await blobs.newer_than(blobs.settled_before()))


@ensureDeferred
async def test_settled_before_moves_on_once_all_is_settled(blobs: IBlobs) -> None:
    first = blobs.settled_before()
    blobs.settle([await put(blobs, b"x")])
    assert blobs.settled_before() > first


@ensureDeferred
async def test_a_cancelled_commit_leaves_nothing_unowned(blobs: IBlobs) -> None:
    writer = blobs.writer()
    writer.write(b"x")
    committing = writer.commit(FOOTER)
    lost = not committing.called
    committing.addErrback(lambda failure: None)
    committing.cancel()
    await blobs.close()
    if lost:
        assert await blobs.newer_than(bytes(16)) == []
