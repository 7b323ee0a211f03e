"""What only files can get wrong: torn and corrupt files, reading with and without the page cache, directories."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blobrig import BYTES, FOOTER, Rig
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.threadpool import ThreadPool
from xxhash import xxh3_64_digest

from aisobj.errors import BlobMissing, CorruptData, FormatError, StorageError
from aisobj.storage import blob_reader
from aisobj.storage.blob_directory import BlobDirectory
from aisobj.storage.blob_format import BLOCK, TRAILER, decode_footer, encode_footer, footer_length
from aisobj.storage.blob_reader import READ, open_blob
from aisobj.storage.blob_writer import BATCH, CROWDED, BlobFile
from aisobj.storage.files import FileSystem
from aisobj.storage.ids import IdMaker, first_id, id_time
from aisobj.storage.unsettled import MARGIN_NS, Unsettled


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    threads = ThreadPool(0, 4)
    threads.start()
    yield threads
    threads.stop()


@pytest.fixture
def rig(tmp_path: Path, pool: ThreadPool) -> Rig:
    return Rig(tmp_path / "blobs", pool)


# The file


@ensureDeferred
async def test_a_blob_lies_under_the_time_in_its_id_and_its_footer_says_whose_it_is(rig: Rig) -> None:
    blob_id = await rig.put(BYTES[: BLOCK + 1])
    data = rig.path(blob_id).read_bytes()
    assert data[: BLOCK + 1] == BYTES[: BLOCK + 1]
    length = footer_length(data[-TRAILER:], len(data))
    plain = msgspec.msgpack.decode(data[BLOCK + 1 : -TRAILER])
    sums = xxh3_64_digest(BYTES[:BLOCK]) + xxh3_64_digest(BYTES[BLOCK : BLOCK + 1])
    assert plain == {"v": 1, "block": BLOCK, "size": BLOCK + 1, "sums": sums, "id": blob_id, "owner": FOOTER}
    assert len(data) == BLOCK + 1 + length + TRAILER
    assert data[-16:-10] == b"AISBLB"
    assert rig.path(blob_id).stat().st_mode & 0o077 == 0


@ensureDeferred
async def test_a_blob_with_a_footer_longer_than_the_first_read_opens(rig: Rig) -> None:
    writer = rig.blobs.writer()
    writer.write(b"data")
    blob_id = await writer.commit({**FOOTER, "metadata": b"m" * 20_000})
    assert await rig.get(blob_id, 0, 4) == b"data"


@ensureDeferred
async def test_no_flipped_byte_is_ever_read_as_data(rig: Rig) -> None:
    blob_id = await rig.put(BYTES[: BLOCK + 300])
    path = rig.path(blob_id)
    good = path.read_bytes()
    sampled = {
        0,
        1,
        BLOCK - 1,
        BLOCK,
        BLOCK + 299,
        *range(BLOCK + 300, len(good), 3),
        *range(len(good) - 32, len(good)),
    }
    for at in sampled:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with pytest.raises(CorruptData):
            await rig.get(blob_id, 0, BLOCK + 300)
        await rig.blobs.close()  # it is in quarantine
        assert rig.blobs.count() == 1 and not path.exists()
    assert rig.blobs.corrupt == len(sampled)
    path.write_bytes(good)
    assert await rig.get(blob_id, 0, BLOCK + 300) == BYTES[: BLOCK + 300]


@ensureDeferred
async def test_a_corrupt_block_spoils_only_ranges_that_touch_it(rig: Rig) -> None:
    blob_id = await rig.put(BYTES[: 3 * BLOCK])
    with rig.path(blob_id).open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(bytes([BYTES[BLOCK + 5] ^ 1]))
    assert await rig.get(blob_id, 0, BLOCK) == BYTES[:BLOCK]
    assert await rig.get(blob_id, 2 * BLOCK, BLOCK) == BYTES[2 * BLOCK : 3 * BLOCK]
    for offset, length in ((BLOCK - 1, 2), (BLOCK + 100, 1), (2 * BLOCK - 1, 1)):
        with pytest.raises(CorruptData, match=str(rig.path(blob_id))):
            await rig.get(blob_id, offset, length)


@ensureDeferred
async def test_a_blob_found_corrupt_is_quarantined_whole_and_one_that_reads_well_again_is_not(rig: Rig) -> None:
    blob_id = await rig.put(BYTES[: 3 * BLOCK])
    path = rig.path(blob_id)
    good = path.read_bytes()
    rig.blobs._found_corrupt(str(path), CorruptData("it was only the memory"))
    await rig.blobs.close()
    assert await rig.get(blob_id, 0, 10) == BYTES[:10]
    path.write_bytes(good[:BLOCK] + b"?" + good[BLOCK + 1 :])
    with pytest.raises(CorruptData):
        await rig.get(blob_id, BLOCK, 1)
    await rig.blobs.close()
    with pytest.raises(CorruptData, match="quarantine"):
        await rig.get(blob_id, 0, 10)
    (note,) = path.parents[2].glob("quarantine/blob-*.json")
    assert json.loads(note.read_text())["blob"] == blob_id.hex()
    assert not path.exists() and rig.blobs.count() == 1


@ensureDeferred
async def test_a_file_cut_or_grown_at_any_length_is_corrupt(rig: Rig) -> None:
    blob_id = await rig.put(BYTES[:1000])
    good = rig.path(blob_id).read_bytes()
    for length in [0, 1, 31, 32, 33, 500, 999, 1000, *range(1001, len(good), 7), len(good) - 1]:
        rig.path(blob_id).write_bytes(good[:length])
        with pytest.raises(CorruptData):
            await rig.get(blob_id, 0, 1)
    rig.path(blob_id).write_bytes(b"0" + good)
    with pytest.raises(CorruptData):
        await rig.get(blob_id, 0, 1)


@ensureDeferred
async def test_a_file_cut_after_it_was_opened_is_corrupt(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    reader: Any = await rig.blobs.reader(blob_id, 0, len(BYTES))
    os.truncate(rig.path(blob_id), READ + 10)
    assert bytes(reader.next_block()) == BYTES[:READ]
    with pytest.raises(CorruptData):
        await reader.next_block()
    reader.close()


@pytest.mark.parametrize(("offset", "back"), [(0, 1), (0, READ), (100, 1000), (BLOCK + 1, READ - BLOCK - 2)])
@ensureDeferred
async def test_what_is_given_back_is_read_and_verified_again(rig: Rig, offset: int, back: int) -> None:
    blob_id = await rig.put(BYTES)
    reader: Any = await rig.blobs.reader(blob_id, offset, len(BYTES) - offset)
    begun = bytes(reader.next_block())
    assert reader.give_back(back)
    assert not reader.give_back(1)  # it has given back its memory
    rest = b""
    while (block := reader.next_block()) is not None:
        rest += bytes(await block if isinstance(block, Deferred) else block)
    assert begun[:-back] + rest == BYTES[offset:]
    reader.close()

    reader = await rig.blobs.reader(blob_id, 0, len(BYTES))
    reader.next_block()
    reader.give_back(10)
    with rig.path(blob_id).open("r+b") as file:
        file.seek(READ - 5)
        file.write(b"\0\0\0" if BYTES[READ - 5 : READ - 2] != b"\0\0\0" else b"\1\1\1")
    with pytest.raises(CorruptData):
        reader.next_block()
    reader.close()


@ensureDeferred
async def test_a_newer_format_is_refused_by_name_and_not_called_corrupt(rig: Rig) -> None:
    blob_id = await rig.put(b"data")
    sealed = bytearray(rig.path(blob_id).read_bytes())[:-8]
    sealed[-1] = 2
    rig.path(blob_id).write_bytes(sealed + xxh3_64_digest(bytes(sealed[-24:])))
    with pytest.raises(FormatError, match="format 2"):
        await rig.get(blob_id, 0, 4)
    assert rig.blobs.corrupt == 0


def test_a_footer_that_contradicts_itself_is_corrupt() -> None:
    for block, size, sums in ((BLOCK, 1, b""), (0, 0, b""), (BLOCK, 1, bytes(16)), (2 << 20, 1, bytes(8))):
        data = encode_footer(block, size, sums, bytes(16), FOOTER)
        with pytest.raises(CorruptData):
            decode_footer(data[:-TRAILER], data[-TRAILER:], size + len(data))


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(BYTES)), max_size=12), jobs=st.integers(1, 4))
def test_no_split_into_chunks_or_jobs_changes_the_file(
    cuts: list[int], jobs: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = BlobDirectory(str(tmp_path_factory.mktemp("d") / "blobs"), sync=False, reserve=0, fs=FileSystem())
    edges = [0, *sorted(cuts), len(BYTES)]
    chunks = [BYTES[a:b] for a, b in itertools.pairwise(edges)]
    seen = bytearray()
    file = BlobFile(directory, seen.extend)
    for i in range(0, len(chunks), jobs):
        file.append(chunks[i : i + jobs])
    blob_id = IdMaker().make()
    file.finish([], FOOTER, dict, blob_id)
    blob = open_blob(directory, blob_id)
    got = bytearray(blob.footer.size)
    blob.read(memoryview(got), 0)
    blob.close()
    assert got == seen == BYTES


# Reading


@ensureDeferred
async def test_what_is_not_cached_comes_from_the_pool_and_is_verified(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    rig.fs.fault = lambda called, args: errno.EAGAIN if called == "preadv_nowait" else None
    reader: Any = await rig.blobs.reader(blob_id, 10, len(BYTES) - 10)
    block = reader.next_block()
    assert isinstance(block, Deferred)
    assert bytes(await block) == BYTES[10:READ]
    reader.close()
    assert await rig.get(blob_id, 0, len(BYTES)) == BYTES


@ensureDeferred
async def test_blocks_that_are_cached_only_in_part_are_read_to_their_end(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    for have in (1, BLOCK - 1, BLOCK, BLOCK + 1):

        def partly(fd: int, buffer: memoryview, offset: int, have: int = have) -> int:
            return FileSystem.preadv(rig.fs, fd, buffer[:have], offset)

        rig.blobs._cache._read = partly
        assert await rig.get(blob_id, 0, len(BYTES)) == BYTES, have


@ensureDeferred
async def test_where_the_file_system_knows_no_nowait_it_is_asked_once(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    rig.fs.fault = lambda called, args: errno.EOPNOTSUPP if called == "preadv_nowait" else None
    assert await rig.get(blob_id, 0, len(BYTES)) == BYTES
    assert await rig.get(blob_id, 0, len(BYTES)) == BYTES
    assert rig.fs.methods().count("preadv_nowait") == 1


@ensureDeferred
async def test_what_is_cached_is_opened_and_read_without_a_turn_of_the_pool(rig: Rig) -> None:
    for size in (0, 1, len(BYTES)):
        blob_id = await rig.put(BYTES[:size])
        before = len(rig.fs.calls)
        assert await rig.get(blob_id, 0, size) == BYTES[:size]
        calls = rig.fs.methods()[before:]
        assert "open_cached" in calls
        assert not {"open", "pread", "preadv"} & set(calls), calls


@ensureDeferred
async def test_where_the_system_knows_no_cached_open_it_is_asked_once(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    for number in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        rig.blobs = rig.open(rig.fs)
        before = rig.fs.methods().count("open_cached")
        rig.fs.fault = lambda called, args, number=number: number if called == "open_cached" else None
        for _ in range(3):
            assert await rig.get(blob_id, 0, len(BYTES)) == BYTES
        assert rig.fs.methods().count("open_cached") == before + 1


@ensureDeferred
async def test_a_footer_longer_than_the_first_read_of_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_reader, "_TAIL", 40)
    blob_id = await rig.put(BYTES)
    assert await rig.get(blob_id, 5, len(BYTES) - 5) == BYTES[5:]
    assert "open" not in rig.fs.methods()[-8:]


@ensureDeferred
async def test_closing_while_the_disk_is_waited_for_closes_the_file_once_afterwards(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    rig.fs.fault = lambda called, args: errno.EAGAIN if called == "preadv_nowait" else None
    reader: Any = await rig.blobs.reader(blob_id, 0, len(BYTES))
    waiting = reader.next_block()
    reader.close()
    assert list(rig.fs.open_files.values()) == [str(rig.path(blob_id))]
    assert await waiting is None
    reader.close()
    assert rig.fs.open_files == {}


@ensureDeferred
async def test_an_opening_that_is_cancelled_closes_its_file(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    rig.fs.fault = lambda called, args: errno.EAGAIN if called == "open_cached" else None
    opening = rig.blobs.reader(blob_id, 0, 1)
    opening.cancel()
    with pytest.raises(CancelledError):
        await opening
    await rig.blobs.close()
    assert rig.fs.open_files == {}


@ensureDeferred
async def test_a_removed_file_gives_its_space_back_in_the_pool(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    reader: Any = await rig.blobs.reader(blob_id, 0, 1)
    await rig.blobs.remove([blob_id])
    reader.close()
    assert rig.fs.open_files != {}  # not in this thread
    await rig.blobs.close()
    assert rig.fs.open_files == {}


@ensureDeferred
async def test_buffers_are_used_again_and_few_are_kept(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    readers: list[Any] = await gatherResults([rig.blobs.reader(blob_id, 0, 1) for _ in range(40)])
    for reader in readers:
        reader.close()
    assert len(rig.blobs._buffers._spare) == 32


@ensureDeferred
async def test_many_writers_hold_less_each(rig: Rig) -> None:
    writers, chunk, waiting = [rig.blobs.writer() for _ in range(64)], bytes(64 * 1024), []
    for writer in writers:
        while (full := writer.write(chunk)) is None:
            pass
        waiting.append(full)
    assert rig.blobs._directory.in_flight <= CROWDED + 2 * BATCH + len(writers) * BATCH // 2
    await gatherResults(waiting)
    for writer in writers:
        await writer.abort()
    assert rig.blobs._directory.in_flight == 0


@ensureDeferred
async def test_a_writer_holds_two_batches_at_most_before_it_says_wait(rig: Rig) -> None:
    writer = rig.blobs.writer()
    chunk, held = bytes(64 * 1024), 0
    while (waiting := writer.write(chunk)) is None:
        held += len(chunk)
    assert held <= 2 * BATCH
    with pytest.raises(RuntimeError):
        writer.write(chunk)
    await waiting
    await writer.abort()


# Directories


@ensureDeferred
async def test_clean_removes_what_a_crash_left_andnothing_else(rig: Rig) -> None:
    kept = await rig.put(b"kept")
    for name in ("a", "b"):
        (rig.root / "tmp" / name).write_bytes(b"torn")
    assert await rig.blobs.clean() == 2
    assert rig.files() == [rig.path(kept)]


@ensureDeferred
async def test_newer_than_looks_into_no_older_directory(rig: Rig) -> None:
    hour = 3600 * 10**9
    old = Rig(rig.root, rig.pool)
    old.blobs = old.open(old.fs, ids=IdMaker(lambda: 1_700_000_000 * 10**9))
    first = await old.put(b"old")
    await old.put(b"old too")
    new = await rig.put(b"new")
    (rig.root / "lost+found").mkdir()
    (rig.path(new).parent / "notes.txt").write_text("not ours")
    rig.fs.calls.clear()
    assert await rig.blobs.newer_than(first_id(id_time(new) - hour)) == [new]
    listed = [args[0] for method, args in rig.fs.calls if method == "listdir"]
    assert not any(path.startswith(str(rig.path(first).parent.parent)) for path in listed)
    assert len(await rig.blobs.newer_than(first)) == 2


@ensureDeferred
async def test_an_old_directory_goes_with_its_last_blob_and_comes_back_when_needed(rig: Rig) -> None:
    clock = [1_700_000_000 * 10**9]
    rig.blobs = rig.open(rig.fs, ids=IdMaker(lambda: clock[0]))
    first, second = await rig.put(b"1"), await rig.put(b"2")
    leaf = rig.path(first).parent
    await rig.blobs.remove([first])
    assert leaf.is_dir()
    await rig.blobs.remove([second])
    assert not leaf.parent.exists()
    third = await rig.put(b"3")  # the directory is remembered, but gone
    assert rig.path(third).parent == leaf
    assert await rig.get(third, 0, 1) == b"3"


@ensureDeferred
async def test_the_current_directory_stays_when_it_is_empty(rig: Rig) -> None:
    blob_id = await rig.put(b"x")
    await rig.blobs.remove([blob_id])
    assert rig.path(blob_id).parent.is_dir()


@ensureDeferred
async def test_a_blob_that_vanished_is_missing(rig: Rig) -> None:
    with pytest.raises(BlobMissing):
        await rig.get(IdMaker().make(), 0, 1)


def test_a_directory_that_cannot_be_made_is_refused_at_start(tmp_path: Path, pool: ThreadPool) -> None:
    with pytest.raises(StorageError):
        Rig(tmp_path / "missing" / "blobs", pool)


@ensureDeferred
async def test_no_disk_call_but_a_cached_read_runs_in_the_reactor_thread(rig: Rig) -> None:
    allowed, seen = {"open_cached", "preadv_nowait", "close", "fstat"}, set()
    here = threading.get_ident()

    def fault(called: str, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == here:
            seen.add(called)

    rig.fs.fault = fault
    blob_id = await rig.put(BYTES)
    assert await rig.get(blob_id, 0, len(BYTES)) == BYTES
    clone = await rig.blobs.clone(blob_id)
    await rig.blobs.remove([blob_id, clone])
    await rig.blobs.newer_than(bytes(16))
    await rig.blobs.clean()
    assert seen <= allowed


def test_a_checkpoint_never_passes_an_unsettled_blob_however_old() -> None:
    clock = [1_700_000_000 * 10**9]
    unsettled = Unsettled(IdMaker(lambda: clock[0]))
    first, second = unsettled.make(), unsettled.make()
    for open_id, after in ((first, second), (second, None)):
        clock[0] += 3600 * 10**9
        # newer_than(checkpoint) is what a restart looks at: it must hold the blob itself, so the id must be smaller.
        assert first_id(id_time(open_id) - 1) < unsettled.before() < open_id
        unsettled.settle([open_id])
        assert after is None or unsettled.before() < after
    assert id_time(unsettled.before()) <= clock[0] - MARGIN_NS + 10
