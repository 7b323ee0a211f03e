"""Faults under the store: unknown commits, a full disk, a failed sync, rows and blobs that are missing."""

from __future__ import annotations

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NONE, SMALL, Commit, Rig, all_of, drain, etag_of, refused
from twisted.internet.defer import Deferred

from aisobj.errors import BlobMissing, CommitUnknown, CorruptData, StoreFull, StoreReadOnly
from aisobj.model import Attributes, Body, BucketProps, Checksum
from aisobj.storage import keys, records

rig = storekit.rig


# --- faults


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
@pytest.mark.parametrize("happened", [True, False])
async def test_a_put_of_which_nobody_knows_is_answered_right_or_not_at_all(
    rig: Rig, data: bytes, happened: bool
) -> None:
    await rig.bucket()
    await rig.put(b"k", b"old")
    rig.index.unknown = [happened]
    if happened:
        record = await rig.put(b"k", data)
        assert rig.record(b"k") == record
    else:
        with pytest.raises(CommitUnknown):
            await rig.put(b"k", data)
        assert await rig.get(b"k") == b"old"
        rig.crashed = True  # the blob stays: it may be the object's yet
        assert len(rig.blob_ids()) == (data is LARGE)
    assert rig.blobs.removed == []
    assert await rig.get(b"k") == (data if happened else b"old")


@ensureDeferred
async def test_a_commit_that_happens_after_nobody_knew_finds_its_blob(rig: Rig) -> None:
    await rig.bucket()
    rig.index.unknown = [False]
    with pytest.raises(CommitUnknown):
        await rig.put(b"k", LARGE)
    await rig.index.wrapped.commit(*rig.index.commits[-1])
    assert await rig.get(b"k") == LARGE


@ensureDeferred
@pytest.mark.parametrize("happened", [True, False])
async def test_a_delete_of_which_nobody_knows_is_answered_right_or_not_at_all(rig: Rig, happened: bool) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    rig.index.unknown = [happened]
    if happened:
        assert (await rig.delete(b"k")).size == len(LARGE)  # type: ignore[union-attr]
        assert rig.counted() == (0, 0)
    else:
        with pytest.raises(CommitUnknown):
            await rig.delete(b"k")
        assert await rig.get(b"k") == LARGE
    assert rig.blobs.removed == []


@ensureDeferred
async def test_an_overwritten_object_of_an_unknown_commit_is_not_taken_for_success(rig: Rig) -> None:
    """It happened, and before we could look somebody else replaced it: we cannot know, so we say so."""
    await rig.bucket()

    async def then_another() -> None:
        await rig.put(b"k", b"another")

    real = rig.index.wrapped.commit

    async def both(commit: Commit) -> None:
        await real(*commit)
        await then_another()
        raise CommitUnknown("injected")

    rig.index.before = both
    with pytest.raises(CommitUnknown):
        await rig.put(b"k", LARGE)
    assert await rig.get(b"k") == b"another"
    assert rig.blobs.removed == []


@ensureDeferred
async def test_the_blob_of_a_commit_that_failed_is_removed(rig: Rig) -> None:
    await rig.bucket()

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    with refused("SlowDown"):
        await rig.put(b"k", LARGE)
    assert rig.blob_ids() == set()
    assert len(rig.blobs.removed) == 1


@ensureDeferred
async def test_the_blob_of_a_commit_whose_sync_failed_stays_for_the_next_start(rig: Rig) -> None:
    """The disk may have the commit all the same."""
    await rig.bucket()

    def sync_failed(commit: Commit) -> None:
        set_read_only(rig, "a sync failed")
        raise StoreReadOnly("a sync failed")

    rig.index.before = sync_failed
    with refused("ServiceUnavailable"):
        await rig.put(b"k", LARGE)
    assert len(rig.blob_ids()) == 1
    assert rig.blobs.removed == []
    set_read_only(rig, "")
    rig.crashed = True


def set_read_only(rig: Rig, why: str) -> None:
    inner = rig.index.wrapped
    if hasattr(inner, "_writer"):
        inner._writer.read_only = why
    else:
        inner.read_only = why


@ensureDeferred
async def test_a_store_that_is_read_only_refuses_every_write_and_reads_on(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"small", SMALL)
    await rig.put(b"large", LARGE)
    upload = await rig.upload(b"up")
    part = await rig.part(b"up", upload, 1, SMALL)
    small, large = await rig.body(SMALL), await rig.body(LARGE)
    before = rig.blob_ids()
    set_read_only(rig, "a sync failed")
    assert rig.store.read_only == "a sync failed"
    objects, buckets, uploads = rig.store.objects, rig.store.buckets, rig.store.uploads
    for size in (0, len(SMALL), len(LARGE), None):
        with refused("ServiceUnavailable"):
            objects.writer(bucket, (), size)
    with refused("ServiceUnavailable"):
        uploads.writer(upload, (), 5)
    writes = [
        rig.delete(b"small"),
        buckets.create("other", "owner", BucketProps()),
        buckets.update("bck", lambda props: BucketProps(checksum_type="md5")),
        buckets.destroy("bck"),
        objects.put("bck", b"k", small, Attributes(), NONE),
        objects.put("bck", b"k", large, Attributes(), NONE),
        rig.upload(b"k"),
        rig.complete(b"up", upload, [part]),
        uploads.abort(bucket, b"up", upload.id.hex()),
        rig.store.copier.copy(rig.fetch(b"large"), bucket, b"k", Attributes(), NONE),
    ]
    assert [result.code for result in await all_of(writes)] == ["ServiceUnavailable"] * len(writes)
    assert await rig.get(b"small") == SMALL
    assert await rig.get(b"large") == LARGE
    assert rig.counted() == (2, len(SMALL) + len(LARGE))
    assert rig.blob_ids() == before
    set_read_only(rig, "")
    await objects.discard(large)


@ensureDeferred
async def test_a_full_store_slows_writers_down_and_deletes(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"small", SMALL)
    await rig.put(b"large", LARGE)
    upload = await rig.upload(b"up")
    await rig.part(b"up", upload, 1, SMALL)
    set_full(rig, True)
    for size in (0, len(SMALL), len(LARGE), None):
        with refused("SlowDown") as caught:
            rig.store.objects.writer(bucket, (), size)
    assert caught.value.headers == {"Retry-After": "1"}
    writes = [
        rig.upload(b"k"),
        rig.store.copier.copy(rig.fetch(b"large"), bucket, b"k", Attributes(), NONE),
        rig.bucket("other"),
    ]
    assert [result.code for result in await all_of(writes)] == ["SlowDown"] * len(writes)
    await rig.store.uploads.abort(bucket, b"up", upload.id.hex())
    await rig.delete(b"small")
    await rig.delete(b"large")
    await rig.store.buckets.delete("bck")
    rig.later(1000)
    assert await rig.store.sweeper.sweep() == 2
    set_full(rig, False)


def set_full(rig: Rig, full: bool) -> None:
    inner = rig.blobs.wrapped
    if rig.data is None:
        inner.full = full
    else:
        inner._directory.reserve = 1 << 60 if full else 0


@ensureDeferred
async def test_deletes_take_the_ballast_where_even_they_need_room(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"a", LARGE)
    await rig.put(b"b", SMALL)
    given: list[int] = []
    ballast = rig.store._engine._ballast
    ballast.give_up = lambda: not given and given.append(1) is None  # type: ignore[method-assign]

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    with refused("SlowDown"):
        await rig.put(b"c", SMALL)
    rig.index.before = full
    with refused("SlowDown"):
        await rig.upload(b"c")
    assert given == []
    rig.index.before = full
    await rig.delete(b"a")
    assert given == [1]
    rig.index.before = full
    with refused("SlowDown"):  # it is given up once
        await rig.delete(b"b")
    given.clear()
    rig.index.before = full
    await rig.store.buckets.destroy("bck")
    assert given == [1]
    await rig.store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}


# --- readers


@ensureDeferred
async def test_a_reader_that_holds_extents_still_reads_after_the_object_is_replaced(rig: Rig) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    found = rig.fetch(b"k")
    source = await rig.store.objects.open(found, 0, len(LARGE))
    await rig.put(b"k", SMALL)
    await rig.store.sweeper.sweep()
    assert await drain(source) == LARGE
    assert await rig.read(found, 0, len(LARGE)) == LARGE  # opened only now
    rig.later(601)
    await rig.store.sweeper.sweep()
    with pytest.raises(BlobMissing):
        await rig.store.objects.open(found, 0, len(LARGE))
    assert await rig.get(b"k") == SMALL


@ensureDeferred
async def test_a_body_whose_extents_end_early_is_corrupt(rig: Rig) -> None:
    bucket = await rig.bucket()
    record = await rig.put(b"k", LARGE)
    found = rig.fetch(b"k")
    with pytest.raises(CorruptData):
        await rig.store.objects.open(found, 0, len(LARGE) + 1)
    row = rig.index.get(bucket.id, (keys.BODY + record.body_id,))[0]
    await rig.index.commit(bucket.id, {}, {keys.BODY + record.body_id: records.encode(Body([]))})
    with pytest.raises(CorruptData):
        await rig.get(b"k")
    await rig.index.commit(bucket.id, {}, {keys.BODY + record.body_id: row})


@ensureDeferred
async def test_closing_a_source_ends_it(rig: Rig) -> None:
    await rig.bucket(checksum_type="md5", validate_warm_get=True)
    await rig.put(b"k", LARGE)
    source = await rig.store.objects.open(rig.fetch(b"k"), 0, len(LARGE))
    waiting = source.next_block()
    source.close()
    if isinstance(waiting, Deferred):
        assert await waiting is None
    source.close()


@ensureDeferred
async def test_a_client_checksum_is_stored(rig: Rig) -> None:
    await rig.bucket()
    for data in (SMALL, LARGE):
        await rig.put(b"k", data, checksum="SHA256")
        assert rig.record(b"k").checksum == Checksum("SHA256", bytes.fromhex(etag_of("sha256", data)))


@ensureDeferred
async def test_a_missing_row_of_an_object_is_corrupt_and_the_object_can_be_deleted(rig: Rig) -> None:
    bucket = await rig.bucket()
    long = {"x-amz-meta-a": "x" * 500}
    record = await rig.put(b"k", SMALL, headers=long)
    for row_key in (keys.INLINE + record.body_id, keys.HEADERS + record.version_id):
        row = rig.index.get(bucket.id, (row_key,))[0]
        await rig.index.commit(bucket.id, {}, {}, [row_key])
        with pytest.raises(CorruptData):
            rig.fetch(b"k")
        await rig.index.commit(bucket.id, {}, {row_key: row})
    await rig.index.commit(bucket.id, {}, {}, [keys.INLINE + record.body_id])
    assert await rig.delete(b"k") is not None
