"""A blob is durable when its commit says so, and whatever call fails nothing is left: order, faults, free space."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blobrig import BYTES, FOOTER, MIB, Rig, nothing
from faultyfiles import METHODS, once
from pytest_twisted import ensureDeferred
from twisted.python.threadpool import ThreadPool

from aisobj.errors import CorruptData, StorageError, StoreFull, StoreReadOnly
from aisobj.storage.blob_format import BLOCK
from aisobj.storage.blob_writer import BATCH
from aisobj.storage.files import FileSystem


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    threads = ThreadPool(0, 4)
    threads.start()
    yield threads
    threads.stop()


@pytest.fixture
def rig(tmp_path: Path, pool: ThreadPool) -> Rig:
    return Rig(tmp_path / "blobs", pool)


# The order of syncs


async def commit_order(rig: Rig) -> None:
    """Assert the order of docs/format.md on what a PUT called; a missing sync must make this fail."""
    await rig.put(b"warm")  # the directories exist from here on
    rig.fs.calls.clear()
    await rig.put(BYTES)
    calls = rig.fs.calls
    renames = [i for i, (method, _) in enumerate(calls) if method == "rename"]
    assert len(renames) == 1
    source, target = calls[renames[0]][1]
    writes = [i for i, (method, args) in enumerate(calls) if method == "pwritev" and args[0] == source]
    synced = calls.index(("fdatasync", (source,)))
    directory_synced = calls.index(("fsync", (os.path.dirname(target),)))
    assert writes
    assert max(writes) < synced < renames[0] < directory_synced


@ensureDeferred
async def test_a_commit_is_written_synced_renamed_and_its_directory_synced_in_this_order(rig: Rig) -> None:
    await commit_order(rig)


@ensureDeferred
async def test_the_assertion_about_order_notices_a_sync_that_is_left_out(rig: Rig) -> None:
    for method in ("fdatasync", "fsync"):
        rig.fs.skip = frozenset((method,))
        with pytest.raises(ValueError, match="is not in list"):
            await commit_order(rig)


@ensureDeferred
async def test_new_directories_are_durable_before_the_blob_is_named(rig: Rig) -> None:
    rig.fs.calls.clear()
    path = rig.path(await rig.put(b"x"))
    calls, leaf, top = rig.fs.calls, str(path.parent), str(path.parent.parent)
    order = [("mkdir", (top,)), ("mkdir", (leaf,)), ("fsync", (str(rig.root),)), ("fsync", (top,))]
    at = [calls.index(call) for call in order]
    assert at == sorted(at)
    assert at[-1] < rig.fs.methods().index("rename") < calls.index(("fsync", (leaf,)))


@ensureDeferred
async def test_a_directory_that_another_process_made_is_synced_all_the_same(rig: Rig, pool: ThreadPool) -> None:
    first = await rig.put(b"x")
    other = Rig(rig.root, pool)
    other.fs.calls.clear()
    second = await other.put(b"x")
    if rig.path(first).parent == rig.path(second).parent:  # 69 seconds
        assert ("fsync", (str(rig.path(second).parent.parent),)) in other.fs.calls


@ensureDeferred
async def test_without_syncnothing_is_synced(rig: Rig) -> None:
    rig.blobs = rig.open(rig.fs, sync=False)
    rig.fs.calls.clear()
    await rig.put(BYTES)
    assert not {"fsync", "fdatasync"} & set(rig.fs.methods())


@ensureDeferred
async def test_a_removal_is_durable_when_it_is_answered(rig: Rig) -> None:
    blob_id = await rig.put(b"x")
    rig.fs.calls.clear()
    await rig.blobs.remove([blob_id])
    unlinked = rig.fs.calls.index(("unlink", (str(rig.path(blob_id)),)))
    assert unlinked < rig.fs.calls.index(("fsync", (str(rig.path(blob_id).parent),)))


# Failing calls


@ensureDeferred
async def test_whatever_call_of_a_put_fails_it_leaves_no_file_and_no_descriptor(
    tmp_path: Path, pool: ThreadPool
) -> None:
    probe = Rig(tmp_path / "probe", pool)
    probe.fs.calls.clear()
    await probe.put(*[BYTES] * 6)
    planned = probe.fs.methods()
    assert {"open", "pwritev", "start_writeback", "fdatasync", "rename", "fsync", "mkdir", "close"} <= set(planned)
    for method in set(planned):
        for nth in range(1, planned.count(method) + 1):
            rig = Rig(tmp_path / f"{method}{nth}", pool)
            rig.fs.fault = once(method, errno.EIO, nth)
            expected = StoreReadOnly if method in ("fsync", "fdatasync") else StorageError
            with pytest.raises(expected):
                await rig.put(*[BYTES] * 6)
            assert rig.files() == [], (method, nth)
            assert rig.fs.open_files == {}, (method, nth)
            assert (rig.blobs.read_only != "") == (expected is StoreReadOnly)
            assert rig.blobs.free_space() == rig.blobs._directory.free


@ensureDeferred
async def test_no_space_is_store_full_wherever_it_shows(tmp_path: Path, pool: ThreadPool) -> None:
    for method in ("open", "pwritev", "rename", "mkdir"):
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            rig = Rig(tmp_path / f"{method}{number}", pool)
            rig.fs.fault = once(method, number)
            with pytest.raises(StoreFull):
                await rig.put(BYTES)
            assert rig.files() == []
            assert await rig.get(await rig.put(b"later"), 0, 5) == b"later"


@ensureDeferred
async def test_whatever_call_of_a_get_fails_no_descriptor_stays(rig: Rig) -> None:
    blob_id = await rig.put(BYTES)
    for method in ("open", "fstat", "pread", "preadv"):
        rig.fs.fault = lambda called, args, method=method: errno.EIO if called in (method, "preadv_nowait") else None
        with pytest.raises(StorageError) as caught:
            await rig.get(blob_id, 0, len(BYTES))
        assert not isinstance(caught.value, CorruptData)
        rig.fs.fault = lambda called, args: None
        assert rig.fs.open_files == {}, method
    rig.fs.fault = once("close")
    assert await rig.get(blob_id, 0, 1) == BYTES[:1]
    assert rig.fs.open_files == {}


@ensureDeferred
async def test_whatever_call_of_a_clone_failsnothing_new_stays(tmp_path: Path, pool: ThreadPool) -> None:
    for refused in ("", "link", "link copy_file_range"):
        for method in METHODS:
            rig = Rig(tmp_path / f"{refused}-{method}", pool)
            source = await rig.put(BYTES)
            fault = once(method)
            rig.fs.fault = lambda called, args, refused=refused, fault=fault: (
                errno.EXDEV if called in refused.split() else fault(called, args)
            )
            rig.fs.calls.clear()
            try:
                clone = await rig.blobs.clone(source)
            except StorageError:
                assert method in rig.fs.methods()
                assert rig.files() == [rig.path(source)], (refused, method)
            else:
                assert method not in rig.fs.methods() or method in refused, (refused, method)
                rig.fs.fault = lambda called, args: None
                assert await rig.get(clone, 0, len(BYTES)) == BYTES
            assert rig.fs.open_files == {}


@ensureDeferred
async def test_a_clone_by_link_moves_no_byte(rig: Rig) -> None:
    source = await rig.put(BYTES)
    clone = await rig.blobs.clone(source)
    assert rig.path(source).stat().st_ino == rig.path(clone).stat().st_ino
    assert rig.fs.calls.index(("link", (str(rig.path(source)), str(rig.path(clone))))) < len(rig.fs.calls) - 1
    assert [method for method, _ in rig.fs.calls[-3:]] == ["open", "fsync", "close"]


@ensureDeferred
async def test_where_links_are_used_up_a_clone_is_a_synced_copy(rig: Rig) -> None:
    source = await rig.put(BYTES)
    rig.fs.fault = lambda called, args: errno.EMLINK if called == "link" else None
    rig.fs.calls.clear()
    clone = await rig.blobs.clone(source)
    assert rig.path(source).stat().st_ino != rig.path(clone).stat().st_ino
    assert rig.path(source).read_bytes() == rig.path(clone).read_bytes()
    methods = rig.fs.methods()
    assert methods.index("copy_file_range") < methods.index("fdatasync") < methods.index("rename")
    assert methods[-3:] == ["open", "fsync", "close"]


@ensureDeferred
async def test_a_failed_sync_makes_the_store_read_only_and_is_not_retried(rig: Rig) -> None:
    kept = await rig.put(b"kept")
    begun = rig.blobs.writer()
    begun.write(b"begun before")
    rig.fs.fault = once("fdatasync")
    with pytest.raises(StoreReadOnly):
        await rig.put(b"lost")
    syncs = [call for call in rig.fs.calls if call[0] in ("fsync", "fdatasync")]
    assert "injected" in rig.blobs.read_only
    assert rig.told == [rig.blobs.read_only]
    with pytest.raises(StoreReadOnly):
        rig.blobs.writer()
    with pytest.raises(StoreReadOnly):
        await begun.commit(FOOTER)
    with pytest.raises(StoreReadOnly):
        await rig.blobs.clone(kept)
    assert await rig.get(kept, 0, 4) == b"kept"
    await rig.blobs.remove([kept])
    assert rig.files() == []
    assert [call for call in rig.fs.calls if call[0] in ("fsync", "fdatasync")] == syncs
    assert len(rig.told) == 1


@ensureDeferred
async def test_a_short_write_is_gone_on_with(rig: Rig) -> None:
    whole = FileSystem.pwritev

    def short(fd: int, buffers: Any, offset: int) -> int:
        return whole(rig.fs, fd, [memoryview(buffers[0])[:1000]], offset)

    rig.fs.pwritev = short  # type: ignore[method-assign]
    data = BYTES[: BLOCK + 17]
    assert await rig.get(await rig.put(data[:5000], data[5000:]), 0, len(data)) == data


@ensureDeferred
async def test_remove_goes_on_past_a_file_it_cannot_unlink_and_keeps_it_unsettled(rig: Rig) -> None:
    names = [await rig.put(b"x") for _ in range(3)]
    rig.fs.fault = lambda called, args: errno.EIO if called == "unlink" and args[0].endswith(names[0].hex()) else None
    with pytest.raises(StorageError):
        await rig.blobs.remove(names)
    assert rig.files() == [rig.path(names[0])]
    assert rig.blobs.settled_before() < names[0]


# Space


@ensureDeferred
async def test_a_writer_is_refused_while_free_space_is_under_the_reserve(rig: Rig) -> None:
    rig.fs.free = 300 * MIB
    rig.blobs = rig.open(rig.fs, reserve=301 * MIB)
    with pytest.raises(StoreFull):
        rig.blobs.writer()
    rig.blobs = rig.open(rig.fs, reserve=299 * MIB)
    await rig.blobs.writer().abort()


@ensureDeferred
async def test_bytes_in_flight_count_as_used(rig: Rig) -> None:
    rig.fs.free = 2 * MIB
    rig.blobs = rig.open(rig.fs, reserve=2 * MIB - 1000)
    writer = rig.blobs.writer()
    writer.write(bytes(1001))
    with pytest.raises(StoreFull):
        rig.blobs.writer()
    await writer.abort()
    await rig.blobs.writer().abort()


@ensureDeferred
async def test_a_large_upload_is_stopped_at_the_reserve(rig: Rig) -> None:
    rig.blobs = rig.open(rig.fs, reserve=MIB)
    writer = rig.blobs.writer()
    rig.fs.free = MIB + BATCH
    await (writer.write(bytes(BATCH)) or nothing())
    await rig.blobs.close()
    rig.fs.free = MIB
    writer.write(bytes(BATCH))
    await rig.blobs.close()
    with pytest.raises(StoreFull):
        await writer.write(b"more")
    await writer.abort()
    assert rig.files() == []
    assert rig.fs.open_files == {}


@ensureDeferred
async def test_free_space_is_asked_for_again_in_the_pool_when_the_answer_is_old(rig: Rig) -> None:
    rig.blobs._directory.measured -= 3600
    rig.fs.free = 5 * MIB
    await rig.blobs.writer().abort()
    await rig.blobs.close()
    assert 4 * MIB < rig.blobs.free_space() <= 5 * MIB
