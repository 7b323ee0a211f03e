"""Buckets: names, properties, and a death that loses no acknowledged object."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, SMALL, Commit, Rig, all_of, refused
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from aisobj.errors import CommitUnknown, S3Error
from aisobj.model import Bucket, BucketName, BucketProps, BucketState, ObjectRecord, VersioningStatus
from aisobj.storage import keys, records
from aisobj.storage.objects import Seen
from aisobj.storage.store import ObjectStore

rig = storekit.rig


class Hurry:
    """A clock on which whatever is waited for comes at once."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def callLater(self, seconds: float, call: Any, *args: Any) -> Any:
        self.waited.append(seconds)
        return reactor.callLater(0, call, *args)  # type: ignore[attr-defined]


def state_of(rig: Rig, bucket: Bucket) -> BucketState | None:
    row = rig.index.get(bucket.id, (keys.BUCKET,))[0]
    return None if row is None else records.decode(Bucket, row).state


async def set_state(rig: Rig, bucket: Bucket, state: BucketState) -> None:
    """As a process that died left it."""
    row = records.encode(msgspec.structs.replace(bucket, state=state))
    await rig.index.wrapped.commit(bucket.id, {}, {keys.BUCKET: row})


@ensureDeferred
async def test_a_bucket_is_made_once(rig: Rig) -> None:
    made = await rig.bucket(checksum_type="md5")
    assert (made.name, made.owner, made.state) == ("bck", "owner", BucketState.ACTIVE)
    assert rig.store.buckets.get("bck") == made
    with refused("BucketAlreadyOwnedByYou"):
        await rig.bucket()
    assert rig.counted() == (0, 0)


@ensureDeferred
async def test_a_writer_sees_what_another_process_has_done_to_a_bucket_that_it_knows(rig: Rig) -> None:
    ours = rig.store
    await rig.bucket(checksum_type="md5")
    await rig.put(b"k")
    assert (await looked_at(ours)).current is not None
    theirs = rig.new_store()
    await theirs.buckets.update("bck", lambda props: msgspec.structs.replace(props, checksum_type="xxhash"))
    assert (await looked_at(ours)).bucket.props.checksum_type == "xxhash"
    await theirs.buckets.destroy("bck")
    with refused("NoSuchBucket"):
        await looked_at(ours)
    made = await theirs.buckets.create("bck", "another", BucketProps())
    seen = await looked_at(ours)
    assert (seen.bucket, seen.current) == (made, None)


async def looked_at(store: ObjectStore) -> Seen:
    seen = await store.objects.look("bck", b"k")
    seen.snapshot.close()
    return seen


@ensureDeferred
async def test_of_concurrent_creations_one_succeeds_and_nothing_is_left_of_the_others(rig: Rig) -> None:
    rig.index.slow = True
    results = await all_of([rig.bucket() for _ in range(10)])
    assert [type(result) for result in results].count(Bucket) == 1
    assert {result.code for result in results if isinstance(result, S3Error)} == {"BucketAlreadyOwnedByYou"}


@ensureDeferred
async def test_buckets_are_listed_by_name(rig: Rig) -> None:
    names = ["b2", "a1", "b1", "c", "b10"]
    for name in names:
        await rig.bucket(name)
    buckets = rig.store.buckets
    assert [bucket.name for bucket in buckets.list()] == sorted(names)
    assert [bucket.name for bucket in buckets.list(prefix="b")] == ["b1", "b10", "b2"]
    assert [bucket.name for bucket in buckets.list(prefix="b", after="b1")] == ["b10", "b2"]
    assert [bucket.name for bucket in buckets.list(after="b1", limit=2)] == ["b10", "b2"]


@ensureDeferred
async def test_concurrent_changes_of_properties_are_all_kept(rig: Rig) -> None:
    await rig.bucket()
    rig.index.slow = True
    wanted: list[dict[str, Any]] = [
        {"checksum_type": "md5"},
        {"validate_warm_get": True},
        {"versioning_status": VersioningStatus.ENABLED},
        {"enable_read_range": True},
    ]
    running = [
        rig.store.buckets.update("bck", lambda props, one=one: msgspec.structs.replace(props, **one)) for one in wanted
    ]
    results = await all_of([*running, rig.put(b"k")])
    assert not [result for result in results if isinstance(result, Exception)]
    props = rig.store.buckets.get("bck").props
    assert all(getattr(props, name) == value for one in wanted for name, value in one.items())
    commits = len(rig.index.commits)
    before, after = await rig.store.buckets.update("bck", lambda props: props)
    assert before == after == props
    assert len(rig.index.commits) == commits


@ensureDeferred
async def test_a_bucket_that_holds_objects_is_not_deleted(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k")
    with refused("BucketNotEmpty"):
        await rig.store.buckets.delete("bck")
    assert state_of(rig, bucket) is BucketState.ACTIVE
    await rig.delete(b"k")
    await rig.store.buckets.delete("bck")
    for operation in (rig.store.buckets.delete("bck"), rig.store.buckets.destroy("bck"), rig.put(b"k")):
        with refused("NoSuchBucket"):
            await operation
    assert rig.store.buckets.list() == []


@ensureDeferred
async def test_uploads_in_progress_do_not_keep_a_bucket(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k")
    part = await rig.part(b"k", upload, 1, LARGE)
    await rig.store.buckets.delete("bck")
    again = await rig.bucket()
    assert again.id != bucket.id
    for operation in (
        rig.part(b"k", upload, 2, LARGE),
        rig.part(b"k", upload, 2, LARGE, bucket=bucket),
        rig.complete(b"k", upload, [part], bucket=bucket),
        rig.complete(b"k", upload, [part], bucket=again),
    ):
        with refused("NoSuchUpload"):
            await operation
    await rig.store.sweeper.sweep()
    assert rig.blob_ids() == set()


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_a_delete_that_races_puts_loses_none_that_was_acknowledged(rig: Rig, data: bytes) -> None:
    for _ in range(5):
        bucket = await rig.bucket()
        rig.index.slow = True
        puts = [rig.put(b"k%d" % n, data) for n in range(3)]
        *stored, deleted = await all_of([*puts, rig.store.buckets.delete("bck")])
        rig.index.slow = False
        acknowledged = [one for one in stored if isinstance(one, ObjectRecord)]
        refusals = {one.code for one in stored if isinstance(one, S3Error)}
        if deleted is None:
            assert acknowledged == []
            assert refusals == {"NoSuchBucket"}
            assert rig.rows(bucket.id, keys.OBJECT) == {}
        else:
            assert deleted.code == "BucketNotEmpty"
            assert refusals == set()
            assert rig.counted()[0] == len(acknowledged) == 3
            for key, _ in rig.list().items:
                await rig.delete(key)
            await rig.store.buckets.delete("bck")
        rig.later(700)
        await rig.store.sweeper.sweep()
        assert rig.blob_ids() == set()


@ensureDeferred
async def test_an_object_that_came_before_the_bucket_closed_keeps_it(rig: Rig) -> None:
    bucket = await rig.bucket()

    async def put(commit: Commit) -> None:
        await rig.put(b"k", LARGE)

    rig.index.before = put  # between looking and closing
    with refused("BucketNotEmpty"):
        await rig.store.buckets.delete("bck")
    assert await rig.get(b"k") == LARGE
    assert state_of(rig, bucket) is BucketState.ACTIVE


@ensureDeferred
async def test_a_put_that_was_decided_before_the_bucket_died_finds_it_dead(rig: Rig) -> None:
    for data in (SMALL, LARGE):
        await rig.bucket()

        async def delete(commit: Commit) -> None:
            await rig.store.buckets.delete("bck")

        rig.index.before = delete
        with refused("NoSuchBucket"):
            await rig.put(b"k", data)
        assert rig.blob_ids() == set()


@ensureDeferred
async def test_a_put_of_a_bucket_that_is_made_anew_meanwhile_goes_into_the_new_one(rig: Rig) -> None:
    await rig.bucket()

    async def replace(commit: Commit) -> None:
        await rig.store.buckets.delete("bck")
        await rig.bucket()

    rig.index.before = replace
    await rig.put(b"k", LARGE)
    assert await rig.get(b"k") == LARGE
    await rig.store.sweeper.sweep()
    assert await rig.get(b"k") == LARGE


@ensureDeferred
async def test_a_writer_waits_for_a_delete_that_is_looking(rig: Rig) -> None:
    bucket = await rig.bucket()
    await set_state(rig, bucket, BucketState.CLOSING)
    rig.store._engine.clock = clock = Clock()
    put = Deferred.fromCoroutine(rig.put(b"k"))
    clock.advance(0.01)
    assert not put.called
    await set_state(rig, bucket, BucketState.ACTIVE)
    clock.advance(0.05)
    await put
    assert rig.counted() == (1, len(SMALL))


@ensureDeferred
async def test_a_bucket_that_a_crash_left_closing_is_reopened_by_a_writer(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"old", SMALL)
    await set_state(rig, bucket, BucketState.CLOSING)
    assert await rig.get(b"old") == SMALL
    rig.store._engine.clock = clock = Hurry()  # type: ignore[assignment]
    await rig.put(b"k", LARGE)
    assert 0.5 <= sum(clock.waited) <= 2
    assert state_of(rig, bucket) is BucketState.ACTIVE
    assert await rig.get(b"k") == LARGE


@ensureDeferred
async def test_a_bucket_that_a_crash_left_closing_can_be_deleted(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k")
    await set_state(rig, bucket, BucketState.CLOSING)
    with refused("BucketNotEmpty"):
        await rig.store.buckets.delete("bck")
    assert state_of(rig, bucket) is BucketState.ACTIVE
    await rig.delete(b"k")
    await set_state(rig, bucket, BucketState.CLOSING)
    await rig.store.buckets.delete("bck")
    assert rig.store.buckets.list() == []


@ensureDeferred
async def test_a_property_changed_while_a_delete_looks_does_not_leave_the_bucket_closing(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k")
    await set_state(rig, bucket, BucketState.CLOSING)

    async def change(commit: Commit) -> None:
        await rig.store.buckets.update("bck", lambda props: BucketProps(checksum_type="md5"))

    rig.index.before = change
    with refused("BucketNotEmpty"):
        await rig.store.buckets.delete("bck")
    assert state_of(rig, bucket) is BucketState.ACTIVE
    assert rig.store.buckets.get("bck").props.checksum_type == "md5"


@ensureDeferred
async def test_a_bucket_that_a_crash_left_deleted_with_its_name_is_gone_and_its_name_free(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k", LARGE)
    await set_state(rig, bucket, BucketState.DELETED)
    for operation in (rig.get(b"k"), rig.put(b"k"), rig.delete(b"k"), rig.store.buckets.delete("bck")):
        with refused("NoSuchBucket"):
            await operation
    assert rig.store.buckets.list() == []
    made = await rig.bucket()
    assert made.id != bucket.id
    assert rig.list().items == []
    await rig.store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_a_bucket_that_a_crash_left_deleted_is_swept_though_nobody_wants_its_name(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k", LARGE)
    await set_state(rig, bucket, BucketState.DELETED)
    await rig.store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}
    assert rig.rows(keys.ROOT, keys.BUCKET_NAME) == {}
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_a_deleter_does_not_take_the_name_from_a_bucket_made_since(rig: Rig) -> None:
    """Another process saw the state DELETED first, took the name away, and made a new bucket."""
    old = await rig.bucket()
    real = rig.index.wrapped.commit

    async def others_are_quick(commit: Commit) -> None:  # at the commit that marks it DELETED
        await real(*commit)
        await rig.bucket()
        rig.index.unknown = [False]  # so that ours, done already, is looked up

    rig.index.before = others_are_quick
    await rig.store.buckets.destroy("bck")
    new = rig.store.buckets.get("bck")
    assert new.id != old.id


@ensureDeferred
@pytest.mark.parametrize("happened", [True, False])
async def test_a_creation_of_which_nobody_knows(rig: Rig, happened: bool) -> None:
    """It is one commit, so there is either a bucket or nothing (the rig's fsck at the end finds half of one)."""
    rig.index.unknown_at(0, happened)
    try:
        made = await rig.bucket()
    except CommitUnknown:
        assert not happened and not rig.store.buckets.list()
        await rig.bucket()
    else:
        assert happened and rig.store.buckets.get("bck") == made
    assert rig.index.before is None
    await rig.put(b"k")


@ensureDeferred
@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_deletion_of_which_nobody_knows_is_answered_right_or_not_at_all(
    rig: Rig, position: int, happened: bool
) -> None:
    """Closing, marking deleted and taking the name away: each may end so."""
    await rig.bucket()
    rig.index.unknown_at(position, happened)
    try:
        await rig.store.buckets.delete("bck")
    except CommitUnknown:
        assert not happened
        await rig.store.sweeper.sweep()
        if rig.store.buckets.list():
            await rig.store.buckets.delete("bck")
    assert rig.index.before is None
    with refused("NoSuchBucket"):
        rig.store.buckets.get("bck")
    await rig.bucket()


@ensureDeferred
async def test_destroying_takes_everything_at_once_and_the_name_is_free(rig: Rig) -> None:
    bucket = await rig.bucket()
    for number in range(5):
        await rig.put(b"%d" % number, (SMALL, LARGE)[number % 2], headers={"x-amz-meta-a": "x" * 300})
    upload = await rig.upload(b"up")
    await rig.part(b"up", upload, 1, LARGE)
    await rig.put(b"1", SMALL)  # and some garbage
    await rig.store.buckets.destroy("bck")
    with refused("NoSuchBucket"):
        rig.fetch(b"0")
    assert rig.store.buckets.totals().objects == 0
    again = await rig.bucket()
    await rig.put(b"0", LARGE)
    await rig.store.sweeper.sweep()
    assert rig.rows(bucket.id) == {}
    assert await rig.get(b"0") == LARGE
    assert len(rig.blob_ids()) == 1
    assert rig.counted() == (1, len(LARGE))
    assert set(rig.rows(keys.ROOT)) == {b"bbck", keys.CHECKPOINT}
    assert records.decode(BucketName, rig.rows(keys.ROOT)[b"bbck"]).id == again.id
