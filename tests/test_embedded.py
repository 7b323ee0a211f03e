"""The data directory: who may use it, what it may hold, what is there again after a restart."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fsck
import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, SMALL, Rig, refused, write
from twisted.internet import reactor

from aisobj.errors import FormatError, StorageError, StoreFull
from aisobj.model import Format
from aisobj.storage import embedded, keys, records
from aisobj.storage.disk_pool import NICENESS
from aisobj.storage.embedded import FileBallast, lock_data_directory, open_store
from aisobj.storage.lmdb_env import MAP_SIZE, open_environment, row_prefix
from aisobj.storage.store import INLINE_LIMIT


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Rig]:
    """A store as the server opens it: with a writer process, started; closed at the end."""
    directory = lock_data_directory(path)
    try:
        arguments: dict[str, Any] = {"reactor": reactor, "sync": False, "reserve": 0, "lock": directory} | options
        store = await open_store(path, **arguments)
        engine = store._engine
        rig = Rig(engine.index, engine.blobs, engine.ids, path)
        rig.store = store
        try:
            await store.start()
            yield rig
        finally:
            await store.close()
    finally:
        directory.release()


def write_format(path: Path, row: bytes) -> None:
    environment = open_environment(path / "index", sync=False, map_size=MAP_SIZE)
    with environment.begin(write=True) as transaction:
        transaction.put(row_prefix(keys.ROOT) + keys.FORMAT, row)
    environment.close()


@ensureDeferred
async def test_the_threads_of_the_disk_yield_to_the_reactor(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        own = os.nice(0)
        assert await rig.blobs._jobs.run(os.nice, 0) == min(19, own + NICENESS)
        assert os.nice(0) == own


# --- the lock


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    directory = lock_data_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "lock").stat().st_mode) == 0o600
    directory.release()
    directory.release()  # idempotent


def test_a_second_lock_is_refused_until_the_first_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_SECONDS", 0.05)
    first = lock_data_directory(tmp_path)
    with pytest.raises(StorageError, match="another server is using the data directory"):
        lock_data_directory(tmp_path)
    first.release()
    lock_data_directory(tmp_path).release()


def lock_elsewhere(path: Path, then: str) -> subprocess.CompletedProcess[str]:
    """Lock in another process."""
    code = f"""if True:
        import os, sys, pathlib, aisobj.storage.embedded as embedded
        embedded._LOCK_SECONDS = 0
        embedded.lock_data_directory(pathlib.Path(sys.argv[1]))
        {then}"""
    environment = {**os.environ, "PYTHONPATH": str(Path(embedded.__file__).parents[2])}
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_another_process_is_refused_too(tmp_path: Path) -> None:
    directory = lock_data_directory(tmp_path)
    found = lock_elsewhere(tmp_path, "")
    assert "StorageError: another server is using" in found.stderr
    directory.release()


def test_the_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    assert lock_elsewhere(tmp_path, "os._exit(9)").returncode == 9
    lock_data_directory(tmp_path).release()


def test_a_path_that_is_no_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot be used") as caught:
            lock_data_directory(path)
        assert "\n" not in str(caught.value)


def test_a_directory_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(StorageError, match="not writable"):
        lock_data_directory(tmp_path)
    monkeypatch.undo()
    lock_data_directory(tmp_path).release()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(embedded.fcntl, "flock", flock)
    with pytest.raises(StorageError, match="cannot be locked: No locks available"):
        lock_data_directory(tmp_path)


# --- the format


@ensureDeferred
async def test_a_new_directory_gets_a_format_row_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        row = rig.index.get(keys.ROOT, (keys.FORMAT,))[0]
    found = records.decode(Format, row)
    assert (found.version, found.min_reader, found.flags, len(found.instance)) == (2, 2, [], 16)
    async with opened(tmp_path) as rig:
        assert rig.index.get(keys.ROOT, (keys.FORMAT,))[0] == row


@ensureDeferred
async def test_a_directory_of_format_1_becomes_one_of_format_2_which_the_release_before_refuses(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    write_format(tmp_path, records.encode(Format(1, 1, [], b"i" * 16)))
    async with opened(tmp_path) as rig:
        row = rig.index.get(keys.ROOT, (keys.FORMAT,))[0]
    assert records.decode(Format, row) == Format(2, 2, [], b"i" * 16)


@ensureDeferred
@pytest.mark.parametrize(
    ("row", "error", "text"),
    [
        (records.encode(Format(7, 3, [], bytes(16))), FormatError, "format 7; this release reads 2"),
        (records.encode(Format(1, 1, ["ec", "tiers"], bytes(16))), FormatError, "does not know: ec, tiers"),
        (b"\x02" + records.seal(b"")[1:], StorageError, "checksum"),
    ],
    ids=["format", "flags", "corrupt"],
)
async def test_a_directory_of_a_later_release_is_refused(
    tmp_path: Path, row: bytes, error: type[Exception], text: str
) -> None:
    (tmp_path / "index").mkdir()
    write_format(tmp_path, row)
    with pytest.raises(error, match=text):
        async with opened(tmp_path):
            pass
    assert not (tmp_path / "ballast").exists()
    # Nothing holds it any more, and nothing was changed.
    write_format(tmp_path, records.encode(Format(2, 1, [], bytes(16))))
    async with opened(tmp_path):  # a later one that this one may still read
        pass


@ensureDeferred
async def test_blobs_that_cannot_be_opened_leave_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "blobs").touch()
    with pytest.raises(StorageError):
        async with opened(tmp_path):
            pass
    (tmp_path / "blobs").unlink()
    async with opened(tmp_path):
        pass


# --- restarts


@ensureDeferred
@pytest.mark.parametrize("sync", [False, True])
async def test_everything_is_there_again_after_a_restart(tmp_path: Path, sync: bool) -> None:
    large = bytes(INLINE_LIMIT + 1)
    async with opened(tmp_path, sync=sync) as rig:
        await rig.bucket("bck", checksum_type="md5")
        before = [await rig.put(b"small", SMALL, headers={"x-amz-meta-a": "b" * 300}), await rig.put(b"large", large)]
        upload = await rig.upload(b"up")
        part = await rig.part(b"up", upload, 1, large)
        await rig.put(b"gone", large)
        await rig.delete(b"gone")
        last = rig.ids.make()
    assert fsck.check_directory(tmp_path) == []
    async with opened(tmp_path, sync=sync) as rig:
        found = [rig.fetch(b"small").record, rig.fetch(b"large").record]
        assert [one.version_id for one in found] == [one.version_id for one in before]
        assert (await rig.get(b"small"), await rig.get(b"large")) == (SMALL, large)
        with refused("NoSuchKey"):
            rig.fetch(b"gone")
        await rig.complete(b"up", upload, [part])
        assert rig.counted() == (3, len(SMALL) + 2 * len(large))
        assert (await rig.put(b"small", b"")).version_id > last
    assert fsck.check_directory(tmp_path) == []


@ensureDeferred
async def test_a_start_removes_what_a_crash_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        bucket = await rig.bucket()
        await rig.put(b"k", bytes(100_000))
        writer = rig.store.objects.writer(bucket, (), None)
        await write(writer, bytes(100_000))
        await writer.finish({})  # a blob without an owner
        (tmp_path / "blobs" / "tmp" / ("a" * 32)).write_bytes(b"half")
    assert len(fsck.check_directory(tmp_path)) == 2
    async with opened(tmp_path) as rig:
        assert await rig.get(b"k") == bytes(100_000)
    assert fsck.check_directory(tmp_path) == []


@ensureDeferred
async def test_two_stores_in_one_process_have_nothing_in_common(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as one, opened(tmp_path / "b") as two:
        await one.bucket()
        with refused("NoSuchBucket"):
            two.store.buckets.get("bck")


# --- space


@ensureDeferred
async def test_under_the_reserve_small_and_large_puts_are_refused_and_deletes_are_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", LARGE)
    assert (tmp_path / "ballast").stat().st_size == embedded._BALLAST
    async with opened(tmp_path, reserve=1 << 60) as rig:
        for size in (0, 1, 1 << 20, None):
            with refused("SlowDown"):
                rig.store.objects.writer(rig.store.buckets.get("bck"), (), size)
        assert await rig.get(b"k") == LARGE
        await rig.delete(b"k")
        await rig.store.buckets.delete("bck")


@ensureDeferred
async def test_no_ballast_is_taken_where_space_is_short(tmp_path: Path) -> None:
    async with opened(tmp_path, reserve=1 << 60):
        assert not (tmp_path / "ballast").exists()


@ensureDeferred
async def test_a_delete_that_finds_no_room_gives_the_ballast_up_and_a_start_takes_it_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", LARGE)
        engine = rig.store._engine
        engine.index = rig.index

        def full(commit: storekit.Commit) -> None:
            raise StoreFull("injected")

        rig.index.before = full
        await rig.delete(b"k")
        assert not (tmp_path / "ballast").exists()
        await rig.put(b"k", LARGE)
        rig.index.before = full
        with refused("SlowDown"):
            await rig.delete(b"k")
    async with opened(tmp_path):
        assert (tmp_path / "ballast").stat().st_blocks * 512 >= embedded._BALLAST


def test_a_ballast_that_another_worker_gave_up_makes_room_for_all_of_them(tmp_path: Path) -> None:
    workers = [FileBallast(tmp_path / "ballast") for _ in range(3)]
    for ballast in workers[:2]:
        ballast.fill()
    assert [ballast.give_up() for ballast in workers] == [True, True, False], "the third had none"
    assert workers[1].give_up() is False, "and it is gone"


def test_a_ballast_that_cannot_be_promised_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fallocate(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    ballast = FileBallast(tmp_path / "ballast")
    ballast.fill()
    assert not (tmp_path / "ballast").exists()
    assert ballast.give_up() is False


def test_a_ballast_is_given_up_once(tmp_path: Path) -> None:
    ballast = FileBallast(tmp_path / "ballast")
    ballast.fill()
    ballast.fill()
    assert (ballast.give_up(), ballast.give_up()) == (True, False)


def test_a_ballast_that_cannot_be_made_is_one_line_for_the_operator(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be made: No such file or directory"):
        FileBallast(tmp_path / "absent" / "ballast").fill()
