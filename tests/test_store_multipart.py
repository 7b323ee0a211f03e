"""Multipart uploads in the store: AWS's rules, and no part lost, kept twice or slipped in."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NEW, NONE, SMALL, Commit, Rig, all_of, match, refused, write

from aisobj import checksums
from aisobj.checksums import CHECKSUM_TYPES, new_digest
from aisobj.errors import CommitUnknown, S3Error, StoreFull
from aisobj.model import Checksum, ObjectRecord, Part
from aisobj.protocol.listparams import PartsParams, UploadsParams
from aisobj.storage import keys, multipart, records
from aisobj.storage.multipart import Chosen

rig = storekit.rig

LIMITS = (multipart.MIN_PART_SIZE, multipart.MAX_OBJECT_SIZE)
A, B, C = b"a" * 300, b"b" * 200, b"c" * 5


def test_the_limits_are_amazons() -> None:
    assert LIMITS == (5 * 1024**2, 5 * 1024**4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", 100)


def part_numbers(rig: Rig, upload: Any, **params: int) -> list[int]:
    wanted = PartsParams(**{"max_parts": 1000, "part_number_marker": 0} | params)
    page = rig.store.uploads.list_parts(rig.store.buckets.get("bck"), upload, wanted)
    return [part.number for part in page.parts]


@ensureDeferred
@pytest.mark.parametrize("kind", CHECKSUM_TYPES)
async def test_the_etag_is_the_checksum_of_the_parts_checksums(rig: Rig, kind: str) -> None:
    await rig.bucket(checksum_type=kind)
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, number, data) for number, data in ((1, A), (2, B), (7, C))]
    record = await rig.complete(b"k", upload, parts)
    if kind == "none":
        assert record.etag == f"{record.version_id.hex()}-0"
        assert all(part.etag.endswith("-0") for part in parts)
        assert len({part.etag for part in parts}) == 3
    else:
        whole = new_digest(kind)
        for part, data in zip(parts, (A, B, C), strict=True):
            one = new_digest(kind)
            one.update(data)
            assert part.etag == one.hexdigest()
            whole.update(one.digest())
        assert record.etag == f"{whole.hexdigest()}-3"
    assert (record.size, record.parts, record.checksum_value, record.counter) == (505, 3, "", 1)
    assert await rig.get(b"k") == A + B + C
    found = rig.fetch(b"k")
    assert await rig.read(found, 290, 215) == (A + B + C)[290:]
    assert rig.counted() == (1, 505)


@ensureDeferred
async def test_md5_parts_make_amazons_etag(rig: Rig) -> None:
    await rig.bucket(checksum_type="md5")
    upload = await rig.upload(b"k")
    record = await rig.complete(b"k", upload, [await rig.part(b"k", upload, 1, A)])
    assert record.etag == hashlib.md5(hashlib.md5(A).digest()).hexdigest() + "-1"


@ensureDeferred
async def test_the_checksum_type_is_the_one_the_upload_began_with(rig: Rig) -> None:
    await rig.bucket(checksum_type="md5")
    upload = await rig.upload(b"k")
    first = await rig.part(b"k", upload, 1, A)
    await rig.store.buckets.update("bck", lambda props: type(props)(checksum_type="sha256"))
    second = await rig.part(b"k", upload, 2, B)
    record = await rig.complete(b"k", upload, [first, second])
    assert second.etag == hashlib.md5(B).hexdigest()
    assert record.checksum_type == "md5"
    assert len(record.etag) == 32 + 2


@ensureDeferred
async def test_warm_get_compares_each_part(rig: Rig) -> None:
    await rig.bucket(validate_warm_get=True)
    upload = await rig.upload(b"k")
    await rig.complete(b"k", upload, [await rig.part(b"k", upload, n, data) for n, data in ((1, A), (2, B), (3, b""))])
    assert await rig.get(b"k") == A + B


@ensureDeferred
async def test_metadata_of_the_upload_becomes_the_objects(rig: Rig) -> None:
    await rig.bucket()
    headers = {"x-amz-meta-long": "x" * 1000}
    upload = await rig.upload(b"k", **headers)
    await rig.complete(b"k", upload, [await rig.part(b"k", upload, 1, A)])
    found = rig.fetch(b"k")
    assert (found.record.content_type, found.record.headers) == ("text/plain", headers)


@ensureDeferred
async def test_complete_moves_no_data(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, number, A) for number in (1, 2, 3)]
    before = rig.blob_ids()
    await rig.complete(b"k", upload, parts)
    assert (rig.blobs.written, rig.blobs.cloned, rig.blob_ids()) == (3, 0, before)


# --- rules


@ensureDeferred
async def test_parts_are_named_in_ascending_order(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    one, two = [await rig.part(b"k", upload, number, A) for number in (1, 2)]
    for order in ([two, one], [one, one], [one, two, two]):
        with refused("InvalidPartOrder"):
            await rig.complete(b"k", upload, order)
    await rig.complete(b"k", upload, [one, two])


@ensureDeferred
async def test_parts_but_the_last_have_a_least_size(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    short = await rig.part(b"k", upload, 1, bytes(99))
    enough = await rig.part(b"k", upload, 2, bytes(100))
    with refused("EntityTooSmall") as caught:
        await rig.complete(b"k", upload, [short, enough])
    assert caught.value.detail["PartNumber"] == "1"
    assert caught.value.detail["ProposedSize"] == "99"
    last = await rig.part(b"k", upload, 3, b"")
    assert (await rig.complete(b"k", upload, [enough, last])).size == 100


@ensureDeferred
async def test_a_part_is_named_by_its_etag(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    old = await rig.part(b"k", upload, 1, A)
    await rig.part(b"k", upload, 1, B)
    for chosen in ([old], [Part(2, 0, 0, "etag", b"", [])]):
        with refused("InvalidPart"):
            await rig.complete(b"k", upload, chosen)
    assert part_numbers(rig, upload) == [1]


@ensureDeferred
async def test_a_named_checksum_of_a_part_must_be_the_stored_one(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k", algorithm="CRC32")
    part = await rig.part(b"k", upload, 1, A)
    assert part.checksum == Checksum("CRC32", zlib.crc32(A).to_bytes(4))
    for wrong in (Checksum("CRC32", bytes(4)), Checksum("CRC32C", part.checksum.value)):
        with refused("InvalidPart"):
            await rig.store.uploads.complete(bucket, b"k", upload.id.hex(), [Chosen(1, part.etag, wrong)], NONE)
    await rig.store.uploads.complete(bucket, b"k", upload.id.hex(), [Chosen(1, part.etag, part.checksum)], NONE)


@ensureDeferred
async def test_the_declared_size_must_be_that_of_the_parts(rig: Rig) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, 1, A)]
    with refused("InvalidRequest"):
        await rig.complete(b"k", upload, parts, size=len(A) + 1)
    assert (await rig.complete(b"k", upload, parts, size=len(A))).size == len(A)


@ensureDeferred
async def test_an_object_has_at_most_5_tib(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.bucket()
    monkeypatch.setattr(multipart, "MAX_OBJECT_SIZE", 599)
    upload = await rig.upload(b"k")
    with refused("EntityTooLarge"):
        await rig.complete(b"k", upload, [await rig.part(b"k", upload, number, A) for number in (1, 2)])


@ensureDeferred
async def test_an_upload_is_known_by_its_id_under_its_key(rig: Rig) -> None:
    bucket = await rig.bucket()
    upload = await rig.upload(b"k")
    part = await rig.part(b"k", upload, 1, A)
    uploads = rig.store.uploads
    for key, name in ((b"other", upload.id.hex()), (b"k", "00" * 16), (b"k", "x"), (b"k", upload.id.hex().upper())):
        chosen = [Chosen(1, part.etag)]
        with refused("NoSuchUpload"):
            uploads.get(bucket, key, name)
        with refused("NoSuchUpload"):
            await uploads.abort(bucket, key, name)
        with refused("NoSuchUpload"):
            await uploads.complete(bucket, key, name, chosen, NONE)
    with refused("NoSuchUpload"):
        await rig.part(b"other", upload, 1, A)
    assert uploads.get(bucket, b"k", upload.id.hex()) == upload


# --- checksums of the whole


@ensureDeferred
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
async def test_a_composite_checksum_is_that_of_the_parts_checksums(rig: Rig, algorithm: str) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k", algorithm=algorithm)
    parts = [await rig.part(b"k", upload, number, data) for number, data in ((1, A), (2, B))]
    whole = new_digest(algorithm)
    for data in (A, B):
        one = new_digest(algorithm)
        one.update(data)
        whole.update(one.digest())
    with refused("BadDigest"):
        await rig.complete(b"k", upload, parts, checksum=Checksum(algorithm, bytes(len(whole.digest()))))
    given = Checksum(algorithm, whole.digest())
    assert (await rig.complete(b"k", upload, parts, checksum=given)).checksum == Checksum(algorithm, given.value, 2)


@ensureDeferred
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
async def test_a_full_object_checksum_is_that_of_the_bytes(rig: Rig, algorithm: str) -> None:
    await rig.bucket()
    upload = await rig.upload(b"k", algorithm=algorithm, full_object=True)
    parts = [await rig.part(b"k", upload, number, data) for number, data in ((1, A), (2, B), (9, C))]
    whole = new_digest(algorithm)
    whole.update(A + B + C)
    with refused("BadDigest"):
        await rig.complete(b"k", upload, parts, checksum=Checksum("SHA256", bytes(32)))
    record = await rig.complete(b"k", upload, parts)
    assert record.checksum == Checksum(algorithm, whole.digest())
    assert checksums.encode(record.checksum).count("-") == 0


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
    assert len(rig.index.commits) == 30 + 3
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
