"""Multipart uploads whose steps meet each other or fail: no part is lost, kept twice or slipped in."""

from __future__ import annotations

from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NEW, NONE, SMALL, Commit, Rig, all_of, match, refused, write

from aisobj.errors import CommitUnknown, S3Error, StoreFull
from aisobj.model import ObjectRecord, Part
from aisobj.protocol.listparams import PartsParams, UploadsParams
from aisobj.storage import completing, keys, records
from aisobj.storage.completing import Chosen

rig = storekit.rig

A, B, C = b"a" * 300, b"b" * 200, b"c" * 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "MIN_PART_SIZE", 100)


def part_numbers(rig: Rig, upload: Any, **params: int) -> list[int]:
    wanted = PartsParams(**{"max_parts": 1000, "part_number_marker": 0} | params)
    page = rig.store.uploads.list_parts(rig.store.buckets.get("bck"), upload, wanted)
    return [part.number for part in page.parts]


# --- parts sent again, left out, slipped in


@ensureDeferred
async def test_a_part_sent_again_replaces_the_old_one(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    await rig.part(b"k", upload, 1, A)
    old = rig.blob_ids()
    part = await rig.part(b"k", upload, 1, B)
    await rig.complete(b"k", upload, [part])
    assert await rig.get(b"k") == B
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert len(rig.blob_ids()) == 1
    assert not rig.blob_ids() & old


@ensureDeferred
async def test_the_same_part_sent_by_many_at_once_is_one_of_theirs(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    rig.index.slow = True
    made = await all_of([rig.part(b"k", upload, 1, bytes([n]) * 200) for n in range(20)])
    assert {type(part) for part in made} == {Part}
    (stored,) = rig.store.uploads.list_parts(
        rig.store.buckets.get("bck"), upload, PartsParams(max_parts=9, part_number_marker=0)
    ).parts
    assert stored in made
    await rig.complete(b"k", upload, [stored])
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert len(rig.blob_ids()) == 1


@ensureDeferred
async def test_parts_of_one_upload_do_not_race_each_other(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    rig.index.slow = True
    parts = await all_of([rig.part(b"k", upload, number, bytes([number]) * 100) for number in range(1, 31)])
    assert len(rig.index.commits) == 30 + 2
    record = await rig.complete(b"k", upload, parts)
    assert await rig.get(b"k") == b"".join(bytes([number]) * 100 for number in range(1, 31))
    assert record.parts == 30


@ensureDeferred
async def test_parts_that_are_left_out_go_to_the_garbage(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, number, bytes([number]) * 100) for number in range(1, 6)]
    await rig.complete(b"k", upload, [parts[1], parts[3]])
    assert await rig.get(b"k") == b"\2" * 100 + b"\4" * 100
    assert len(rig.blob_ids()) == 5
    rig.later(601)
    assert await rig.store.sweeper.sweep() == 3
    assert len(rig.blob_ids()) == 2


@ensureDeferred
async def test_a_part_that_slips_in_while_completing_is_seen(rig: Rig) -> None:
    """It is neither lost from the rows nor kept for ever: the completion reads the parts again."""
    await rig.bucket()
    upload = await rig.upload(b"k")
    one = await rig.part(b"k", upload, 1, A)

    async def new_part(commit: Commit) -> None:
        await rig.part(b"k", upload, 2, B)

    async def same_part(commit: Commit) -> None:
        await rig.part(b"k", upload, 1, C)

    rig.index.before = new_part
    await rig.complete(b"k", upload, [one])
    assert await rig.get(b"k") == A
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert len(rig.blob_ids()) == 1

    upload = await rig.upload(b"k")
    one = await rig.part(b"k", upload, 1, A)
    rig.index.before = same_part
    with refused("InvalidPart"):
        await rig.complete(b"k", upload, [one])


@ensureDeferred
async def test_a_part_that_slips_in_while_aborting_goes_too(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k")
    await rig.part(b"k", upload, 1, A)

    async def new_part(commit: Commit) -> None:
        await rig.part(b"k", upload, 2, B)

    rig.index.before = new_part
    await rig.store.uploads.abort(bucket, b"k", upload.id.hex())
    rig.later(601)
    assert await rig.store.sweeper.sweep() == 2
    assert rig.blob_ids() == set()


# --- the end of an upload


@ensureDeferred
async def test_completing_again_gives_the_same_answer(rig: Rig) -> None:
    await rig.bucket(checksum_type="none")
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, 1, A)]
    record = await rig.complete(b"k", upload, parts, NEW)
    assert await rig.complete(b"k", upload, parts, NEW) == record
    assert rig.record(b"k").counter == 1
    with refused("NoSuchUpload"):
        await rig.part(b"k", upload, 2, A)
    await rig.put(b"k", SMALL)
    with refused("NoSuchUpload"):
        await rig.complete(b"k", upload, parts)


@ensureDeferred
async def test_completions_at_once_make_one_object(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, number, A) for number in (1, 2)]
    rig.index.slow = True
    made = await all_of([rig.complete(b"k", upload, parts) for _ in range(5)])
    assert made == [rig.record(b"k")] * 5
    assert rig.counted() == (1, 600)


@ensureDeferred
async def test_a_completion_replaces_what_was_there_under_its_precondition(rig: Rig) -> None:
    await rig.bucket()
    old = await rig.put(b"k", LARGE)
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, 1, A)]
    for condition in (NEW, match("other")):
        with refused("PreconditionFailed"):
            await rig.complete(b"k", upload, parts, condition)
    record = await rig.complete(b"k", upload, parts, match(old.etag))
    assert record.counter == 2
    assert rig.counted() == (1, len(A))
    rig.later(601)
    assert await rig.store.sweeper.sweep() == 1
    assert await rig.get(b"k") == A


@ensureDeferred
async def test_an_aborted_upload_is_gone(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k")
    part = await rig.part(b"k", upload, 1, A)
    await rig.store.uploads.abort(bucket, b"k", upload.id.hex())
    for operation in (
        rig.store.uploads.abort(bucket, b"k", upload.id.hex()),
        rig.complete(b"k", upload, [part]),
        rig.part(b"k", upload, 2, A),
    ):
        with refused("NoSuchUpload"):
            await operation
    assert rig.rows(bucket.id, keys.PART) == {}
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_of_abort_and_complete_at_once_one_happens(rig: Rig) -> None:
    bucket = await rig.bucket()
    outcomes = set()
    for order in (1, -1):
        key = b"k%d" % order
        upload = await rig.upload(key)
        parts = [await rig.part(key, upload, 1, A)]
        rig.index.slow = True
        running = [rig.complete(key, upload, parts), rig.store.uploads.abort(bucket, key, upload.id.hex())][::order]
        completed, aborted = (await all_of(running))[::order]
        rig.index.slow = False
        if isinstance(completed, ObjectRecord):
            assert isinstance(aborted, S3Error)
            assert aborted.code == "NoSuchUpload"
            assert await rig.get(key) == A
            outcomes.add("completed")
        else:
            assert (completed.code, aborted) == ("NoSuchUpload", None)
            with refused("NoSuchKey"):
                rig.fetch(key)
            outcomes.add("aborted")
    assert outcomes == {"completed", "aborted"}


@ensureDeferred
async def test_of_a_part_and_an_abort_at_once_nothing_is_left(rig: Rig) -> None:
    bucket = await rig.bucket()
    for order in (1, -1):
        upload = await rig.upload(b"k")
        rig.index.slow = True
        await all_of([rig.part(b"k", upload, 1, A), rig.store.uploads.abort(bucket, b"k", upload.id.hex())][::order])
        rig.index.slow = False
        assert rig.rows(bucket.id, keys.PART) == {}
        assert rig.rows(bucket.id, keys.BLOB) == {}
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert rig.blob_ids() == set()


# --- faults


@ensureDeferred
@pytest.mark.parametrize("happened", [True, False])
async def test_steps_of_which_nobody_knows_are_answered_right_or_not_at_all(rig: Rig, happened: bool) -> None:
    bucket = await rig.bucket()
    rig.crashed = True

    async def step(begin: Any) -> Any:
        rig.index.unknown = [happened]
        try:
            done = await begin()
        except CommitUnknown:
            assert not happened
            return await begin()
        assert happened
        return done

    upload = await step(lambda: rig.upload(b"k"))
    part = await step(lambda: rig.part(b"k", upload, 1, A))
    assert part_numbers(rig, upload) == [1]
    record = await step(lambda: rig.complete(b"k", upload, [part]))
    assert rig.record(b"k") == record
    upload = await rig.upload(b"k")
    await rig.part(b"k", upload, 1, A)
    await step(lambda: rig.store.uploads.abort(bucket, b"k", upload.id.hex()))
    assert await rig.get(b"k") == A
    assert rig.blobs.removed == []


@ensureDeferred
async def test_the_blob_of_a_part_that_failed_is_removed(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    with refused("SlowDown"):
        await rig.part(b"k", upload, 1, A)
    assert rig.blob_ids() == set()
    assert part_numbers(rig, upload) == []


@ensureDeferred
async def test_a_completion_that_failed_can_be_tried_again(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, 1, A)]

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    with refused("SlowDown"):
        await rig.complete(b"k", upload, parts)
    assert rig.blobs.removed == []
    await rig.complete(b"k", upload, parts)
    assert await rig.get(b"k") == A


# --- listings


@ensureDeferred
async def test_parts_and_uploads_are_listed_in_pages(rig: Rig) -> None:
    bucket = await rig.bucket()
    uploads = {key: await rig.upload(key) for key in (b"b/1", b"a", b"b/2")}
    second = await rig.upload(b"a")
    for number in (10_000, 3, 1, 256, 2):
        await rig.part(b"a", second, number, SMALL)
    assert part_numbers(rig, second) == [1, 2, 3, 256, 10_000]
    assert part_numbers(rig, second, max_parts=2, part_number_marker=2) == [3, 256]
    assert part_numbers(rig, uploads[b"a"]) == []

    def listed(**params: Any) -> list[tuple[bytes, bytes]]:
        wanted = UploadsParams(**{"prefix": b"", "delimiter": b"", "max_uploads": 9, "url_encoded": False} | params)
        return [(key, upload.id) for key, upload in rig.store.uploads.list(bucket, wanted).items]

    in_order = [(b"a", uploads[b"a"].id), (b"a", second.id), *((key, uploads[key].id) for key in (b"b/1", b"b/2"))]
    assert listed() == in_order
    assert listed(prefix=b"b/") == in_order[2:]
    assert listed(key_marker=b"a", upload_id_marker=uploads[b"a"].id) == in_order[1:]
    assert listed(delimiter=b"/") == in_order[:2]


@ensureDeferred
async def test_ten_thousand_parts_complete_in_one_commit(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k")
    writer = rig.store.uploads.writer(upload, (), 100)
    await write(writer, bytes(100))
    body = await writer.finish({})
    part = await rig.store.uploads.put_part(bucket, b"k", upload, 1, body, None)
    rows = {}
    for number in range(2, 10_001):
        again = Part(number, 100, part.mtime, part.etag, part.digest, part.extents, None)
        rows[keys.part(upload.id, number)] = records.encode(again)
    await rig.index.commit(bucket.id, {}, rows)
    chosen = [Chosen(number, part.etag) for number in range(1, 10_001)]
    commits = len(rig.index.commits)
    _, record = await rig.store.uploads.complete(bucket, b"k", upload.id.hex(), chosen, NONE)
    assert len(rig.index.commits) == commits + 1
    assert (record.size, record.parts) == (1_000_000, 10_000)
    assert rig.rows(bucket.id, keys.PART) == {}
