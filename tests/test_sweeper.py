"""Behind the clients' backs: garbage after its grace, purges that a crash interrupts, starts after a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NONE, SMALL, Commit, Rig, flipped
from twisted.internet.task import Clock

from aisobj.errors import StorageError, StoreFull
from aisobj.model import Attributes, Bucket, Format
from aisobj.storage import keys, records, sweeper
from aisobj.storage.ids import IdMaker, first_id
from aisobj.storage.store import SWEEP_SECONDS, ObjectStore
from aisobj.storage.unsettled import MARGIN_NS

rig = storekit.rig


async def orphan(rig: Rig, data: bytes = LARGE) -> bytes:
    """A blob that a process wrote before it died."""
    body = await rig.body(data)
    blob_id: bytes = body.extents[0].blob_id
    rig.blobs.settle([blob_id])  # what is unsettled is known to the process that died only
    return blob_id


def checkpoint(rig: Rig) -> bytes:
    row = rig.index.get(keys.ROOT, (keys.CHECKPOINT,))[0]
    return b"" if row is None else bytes(records.unseal(row))


@ensureDeferred
async def test_garbage_is_removed_after_its_grace_and_not_before(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k", LARGE)
    (old,) = rig.blob_ids()
    await rig.put(b"k", LARGE[::-1])
    rig.later(590)
    assert await rig.store.sweeper.sweep() == 0
    assert old in rig.blob_ids()
    assert len(rig.rows(bucket.id, keys.GARBAGE)) == 1
    rig.later(11)
    assert await rig.store.sweeper.sweep() == 1
    assert old not in rig.blob_ids()
    assert rig.rows(bucket.id, keys.GARBAGE) == {}
    assert await rig.get(b"k") == LARGE[::-1]


@ensureDeferred
@pytest.mark.parametrize("jumps", [(3600,), (-3600,), (3600, -3600), (-3600, 3600)])
async def test_garbage_has_its_grace_whatever_the_clock_is_set_to(rig: Rig, jumps: tuple[float, ...]) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    await rig.store.sweeper.sweep()
    for jump in jumps:
        (old,) = rig.blob_ids()
        await rig.put(b"k", LARGE[::-1])
        rig.set_clock(jump)
        for _ in range(9):
            assert await rig.store.sweeper.sweep() == 0
            rig.later(60)
        assert old in rig.blob_ids()
        rig.later(3700)  # a clock that went back makes it later
        assert await rig.store.sweeper.sweep() == 1
    assert await rig.get(b"k") == LARGE[::-1]


@ensureDeferred
async def test_garbage_of_a_worker_whose_ids_lag_has_its_grace_after_the_clock_went_back(rig: Rig) -> None:
    """A worker that made its last id before the others is the one that the clock's going back moves."""
    await rig.bucket()
    await rig.put(b"k", LARGE)
    await rig.store.sweeper.sweep()
    rig.set_clock(-1800)
    rig.store._engine.ids = IdMaker(rig.ids.now)  # it continues from there
    await rig.put(b"k", LARGE[::-1])
    rig.store._engine.ids = rig.ids
    rig.later(590)
    assert await rig.store.sweeper.sweep() == 0
    rig.later(1900)
    assert await rig.store.sweeper.sweep() == 1


@ensureDeferred
async def test_much_garbage_is_removed_in_bounded_commits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "_PAGE", 3)
    await rig.bucket()
    for _ in range(11):
        await rig.put(b"k", LARGE)
    rig.later(601)
    rig.index.commits.clear()
    assert await rig.store.sweeper.sweep() == 10
    assert max(len(commit[3]) for commit in rig.index.commits) == 3
    assert len(rig.blob_ids()) == 1


@ensureDeferred
async def test_a_destroyed_bucket_is_purged_in_bounded_commits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "_PAGE", 4)
    bucket = await rig.bucket()
    for number in range(10):
        await rig.put(b"%d" % number, (SMALL, LARGE)[number % 2])
    await rig.store.buckets.destroy("bck")
    rig.index.commits.clear()
    assert await rig.store.sweeper.sweep() == 5
    assert max(len(commit[3]) for commit in rig.index.commits) == 4
    assert rig.rows(bucket.id) == {}
    assert rig.rows(keys.ROOT, keys.PURGE) == {}
    assert rig.blob_ids() == set()


@ensureDeferred
@pytest.mark.parametrize("survived", range(8))
async def test_a_purge_goes_on_where_a_crash_ended_it(rig: Rig, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    monkeypatch.setattr(sweeper, "_PAGE", 4)
    bucket = await rig.bucket()
    for number in range(6):
        await rig.put(b"%d" % number, LARGE)
    await rig.put(b"0", SMALL)
    await rig.store.buckets.destroy("bck")

    def crash_after(left: int) -> Callable[[Commit], None]:
        def before(commit: Commit) -> None:
            if not left:
                raise StorageError("crashed")
            rig.index.before = crash_after(left - 1)

        return before

    rig.index.before = crash_after(survived)
    with contextlib.suppress(StorageError):
        await rig.store.sweeper.sweep()
    rig.index.before = None
    assert rig.fsck() == []
    store = rig.new_store()
    await store.sweeper.recover()
    await store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}
    assert rig.rows(keys.ROOT, keys.PURGE) == {}
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_a_sweep_whose_commit_failed_is_repeated(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k", LARGE)
    await rig.delete(b"k")
    rig.later(601)

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    assert await rig.store.sweeper.sweep() == 0
    assert rig.blob_ids() == set()  # removed already; the row says so again, which is no error
    assert await rig.store.sweeper.sweep() == 1
    assert rig.rows(bucket.id, keys.GARBAGE) == {}


@ensureDeferred
async def test_a_full_disk_costs_a_sweep_its_checkpoint_and_nothing_else(rig: Rig) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    rig.later(601)

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    assert await rig.store.sweeper.sweep() == 0
    assert not checkpoint(rig)
    assert await rig.store.sweeper.sweep() == 0
    assert checkpoint(rig)


@ensureDeferred
async def test_a_bucket_that_cannot_be_swept_keeps_no_other_from_its_turn(rig: Rig) -> None:
    buckets = [await rig.bucket(name) for name in ("aaa", "bbb", "ccc")]
    for bucket in buckets:
        await rig.put(b"k", LARGE, bucket.name)
        await rig.delete(b"k", bucket.name)
    rig.later(601)
    ((row_key, row),) = rig.rows(buckets[0].id, keys.GARBAGE).items()
    await rig.index.commit(buckets[0].id, {}, {row_key: flipped(row)})
    assert await rig.store.sweeper.sweep() == 2
    assert len(rig.blob_ids()) == 1
    assert checkpoint(rig)
    await rig.index.commit(buckets[0].id, {}, {row_key: row})
    assert await rig.store.sweeper.sweep() == 1


@ensureDeferred
async def test_a_stopped_sweeper_ends_after_its_next_commit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "_PAGE", 2)
    bucket = await rig.bucket()
    for number in range(6):
        await rig.put(b"%d" % number, SMALL)
    await rig.store.buckets.destroy("bck")
    rig.index.before = lambda commit: rig.store.sweeper.stop()
    await rig.store.sweeper.sweep()
    assert 0 < len(rig.rows(bucket.id)) < 14
    assert keys.PURGE + bucket.id in rig.rows(keys.ROOT)
    rig.new_store()
    await rig.store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}


# --- starting after a crash


async def everything_owned(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, bytes], bytes]:
    """Objects in all the ways that one may own a blob; what each holds."""
    monkeypatch.setattr("aisobj.storage.completing.MIN_PART_SIZE", 1)
    await rig.bucket()
    await rig.bucket("other")
    held: dict[tuple[str, bytes], bytes] = {}
    await rig.put(b"put", LARGE)
    await rig.put(b"overwritten", SMALL)
    await rig.put(b"overwritten", LARGE)
    held["bck", b"put"] = held["bck", b"overwritten"] = LARGE
    for name in ("bck", "other"):
        bucket: Bucket = rig.store.buckets.get(name)
        await rig.store.copier.copy(rig.fetch(b"put"), bucket, b"copy", Attributes(), NONE)
        held[name, b"copy"] = LARGE
    upload = await rig.upload(b"completed")
    parts = [await rig.part(b"completed", upload, number, bytes([number]) * 90) for number in (1, 2)]
    await rig.complete(b"completed", upload, parts)
    held["bck", b"completed"] = b"\1" * 90 + b"\2" * 90
    await rig.store.copier.copy(rig.fetch(b"completed"), bucket, b"copy of it", Attributes(), NONE)
    held["other", b"copy of it"] = held["bck", b"completed"]
    return held


@ensureDeferred
async def test_a_start_removes_blobs_without_an_owner_and_never_an_owned_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await everything_owned(rig, monkeypatch)
    upload = await rig.upload(b"in progress")
    part = await rig.part(b"in progress", upload, 1, LARGE)
    await rig.bucket("gone")
    await rig.put(b"k", LARGE, "gone")
    await rig.store.buckets.destroy("gone")
    owned = rig.blob_ids()
    left = {await orphan(rig) for _ in range(3)}
    assert rig.blob_ids() == owned | left
    store = rig.new_store()
    assert await store.sweeper.recover() == 3
    assert rig.blob_ids() == owned
    for (name, key), data in held.items():
        assert await rig.get(key, name) == data
    await rig.complete(b"in progress", upload, [part])
    assert await rig.get(b"in progress") == LARGE
    await store.sweeper.sweep()


@ensureDeferred
async def test_a_start_looks_only_at_blobs_since_the_checkpoint(rig: Rig) -> None:
    """And the checkpoint never passes a blob that is on its way."""
    await rig.bucket()
    await rig.put(b"k", LARGE)
    body = await rig.body(LARGE)  # unsettled: under way while the checkpoint is written
    rig.later(3600)
    await rig.store.sweeper.sweep()
    first = checkpoint(rig)
    assert first < body.extents[0].blob_id
    await rig.store.objects.put("bck", b"late", body, Attributes(), NONE)
    await rig.store.sweeper.sweep()
    assert checkpoint(rig) > body.extents[0].blob_id > first
    left = await orphan(rig)
    looked: list[bytes] = []
    newer_than = rig.blobs.wrapped.newer_than
    rig.blobs.newer_than = lambda blob_id: looked.append(blob_id) or newer_than(blob_id)  # type: ignore[attr-defined]
    assert await rig.new_store().sweeper.recover() == 1
    assert looked == [checkpoint(rig)]
    assert left not in rig.blob_ids()
    assert await rig.get(b"k") == await rig.get(b"late") == LARGE


@ensureDeferred
async def test_whatever_is_stored_lets_the_checkpoint_go_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that nobody settles would hold it back until the next start."""
    held = await everything_owned(rig, monkeypatch)
    upload = await rig.upload(b"in progress")
    await rig.part(b"in progress", upload, 1, LARGE)
    body = await rig.body(LARGE)
    await rig.store.objects.discard(body)
    rig.later(3600)
    await rig.store.sweeper.sweep()
    assert checkpoint(rig) > max(rig.blob_ids())
    assert held


@ensureDeferred
async def test_a_blob_that_is_under_way_for_long_is_found_after_a_crash(rig: Rig) -> None:
    await rig.bucket()
    body = await rig.body(LARGE)
    for _ in range(3):
        rig.later(3600)
        await rig.store.sweeper.sweep()
    rig.blobs.settle([body.extents[0].blob_id])  # the process died; its successor knows of nothing unsettled
    assert await rig.new_store().sweeper.recover() == 1
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_the_checkpoint_goes_back_with_the_clock_at_a_start(rig: Rig) -> None:
    """Else the blobs that are made from now on would lie behind it, where no later start looks."""
    bucket = await rig.bucket()
    rig.later(10_000)
    await rig.store.sweeper.sweep()
    high = checkpoint(rig)
    rig.skew = 0
    rig.ids._last = 0  # a new process
    store = rig.new_store()
    await store.sweeper.recover()
    assert checkpoint(rig) < high
    left = await orphan(rig)
    assert first_id(int.from_bytes(left[:8], "big") - 2 * MARGIN_NS) < checkpoint(rig) < left
    assert await rig.new_store().sweeper.recover() == 1
    assert rig.store.buckets.get("bck") == bucket


@ensureDeferred
async def test_where_a_bucket_cannot_be_read_no_blob_is_taken_for_an_orphan(rig: Rig) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    row_key = keys.bucket_name("bck")
    row = rig.index.get(keys.ROOT, (row_key,))[0]
    await rig.index.commit(keys.ROOT, {}, {row_key: flipped(row)})
    assert await rig.new_store().sweeper.recover() == 0
    await rig.index.commit(keys.ROOT, {}, {row_key: row})
    assert await rig.get(b"k") == LARGE


@pytest.mark.parametrize("lost", [False, True])
@ensureDeferred
async def test_where_the_checkpoint_cannot_be_read_no_blob_is_taken_for_an_orphan(rig: Rig, lost: bool) -> None:
    await rig.bucket()
    left = await orphan(rig)
    rig.later(3600)
    await rig.store.sweeper.sweep()
    row = rig.index.get(keys.ROOT, (keys.CHECKPOINT,))[0]
    if lost:
        format_row = records.encode(Format(1, 1, [], bytes(16)))  # memory's has none, and is new without a checkpoint
        await rig.index.commit(keys.ROOT, {}, {keys.FORMAT: format_row}, [keys.CHECKPOINT])
    else:
        await rig.index.commit(keys.ROOT, {}, {keys.CHECKPOINT: flipped(row)})
    assert await rig.new_store().sweeper.recover() == 0
    assert left in rig.blob_ids()
    await rig.store.sweeper.sweep()
    assert checkpoint(rig)
    await rig.blobs.remove([left])


@ensureDeferred
async def test_a_store_that_is_read_only_starts_and_removes_nothing(rig: Rig) -> None:
    await rig.bucket()
    blob_id = await orphan(rig)
    inner: Any = getattr(rig.index.wrapped, "_writer", rig.index.wrapped)
    inner.read_only = "a sync failed"
    assert await rig.new_store().sweeper.recover() == 0
    assert rig.blob_ids() == {blob_id}
    inner.read_only = ""
    assert await rig.new_store().sweeper.recover() == 1


# --- the store's own turns


@ensureDeferred
async def test_a_started_store_sweeps_every_minute_and_outlives_a_failed_sweep(rig: Rig) -> None:
    clock = Clock()
    rig.store._loop.clock = clock
    await rig.store.start()
    swept: list[float] = []

    async def sweep() -> int:
        swept.append(clock.seconds())
        if len(swept) == 1:
            raise StorageError("injected")
        return 0

    rig.store.sweeper.sweep = sweep  # type: ignore[method-assign]
    clock.pump([SWEEP_SECONDS] * 3)
    assert swept == [SWEEP_SECONDS, 2 * SWEEP_SECONDS, 3 * SWEEP_SECONDS]


@ensureDeferred
async def test_closing_waits_for_the_sweep_that_is_running(tmp_path: Any) -> None:
    async with storekit.open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        for number in range(5):
            await rig.put(b"%d" % number, LARGE)
        await rig.store.buckets.destroy("bck")
        clock = Clock()
        rig.index.slow = True
        closed: list[str] = []
        store = ObjectStore(rig.index, rig.blobs, clock, rig.ids, closed=lambda: closed.append("closed"))
        await store.start()
        clock.advance(SWEEP_SECONDS)
        commits = len(rig.index.commits)
        await store.close()
        assert len(rig.index.commits) == commits + 1  # the one that was under way
        assert closed == ["closed"]


@ensureDeferred
async def test_the_checkpoint_passes_nothing_that_another_process_has_not_settled(rig: Rig) -> None:
    await rig.bucket()
    limit = first_id(rig.ids.time())
    rig.store.sweeper.others = limit
    rig.later(3600)
    await rig.store.sweeper.sweep()
    assert checkpoint(rig) == limit
    rig.store.sweeper.others = first_id(rig.ids.time() + 3600 * 10**9)
    await rig.store.sweeper.sweep()
    assert limit < checkpoint(rig) < rig.store.sweeper.others, "and nothing that is not settled here"


@ensureDeferred
async def test_who_joins_a_store_in_use_removes_nothing_and_makes_no_blob_behind_the_checkpoint(rig: Rig) -> None:
    await rig.bucket()
    left = await orphan(rig)  # or on its way into the index, by another process
    rig.later(10_000)
    rig.store.sweeper.others = None
    await rig.store.sweeper.sweep()
    rig.skew = 0  # the clock has gone back
    rig.ids._last = 0  # a new process
    store = rig.new_store()
    await store.start(alone=False, sweep=False)
    assert left in rig.blob_ids()
    assert checkpoint(rig) <= store.settled_before()
    assert (await rig.body(LARGE)).extents[0].blob_id > checkpoint(rig)
    await rig.blobs.remove(sorted(rig.blob_ids()))
