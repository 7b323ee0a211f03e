"""Copies in the store: no byte moves unless something has to be computed, and a copy is an object of its own."""

from __future__ import annotations

import zlib

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NEW, NONE, SMALL, Commit, Rig, drain, etag_of, match, refused

from aisobj.errors import BlobMissing, CommitUnknown, StoreFull
from aisobj.model import Attributes, Bucket, Checksum, Extent, ObjectRecord
from aisobj.protocol.conditions import WritePrecondition
from aisobj.storage import completing
from aisobj.storage.bodies import cut
from aisobj.storage.objects import Found

rig = storekit.rig

HEADERS = {"x-amz-meta-a": "b" * 400}
A, B = b"a" * 300, b"b" * 200


async def copy(
    rig: Rig,
    source: Found,
    key: bytes = b"copy",
    target: str = "bck",
    precondition: WritePrecondition = NONE,
    algorithm: str = "",
) -> ObjectRecord:
    attributes = Attributes(source.record.content_type, source.record.headers)
    bucket = rig.store.buckets.get(target)
    return (await rig.store.copier.copy(source, bucket, key, attributes, precondition, algorithm))[1]


async def multipart_object(rig: Rig, monkeypatch: pytest.MonkeyPatch, key: bytes = b"k") -> ObjectRecord:
    monkeypatch.setattr(completing, "MIN_PART_SIZE", 1)
    upload = await rig.upload(key, algorithm="CRC32")
    parts = [await rig.part(key, upload, number, data) for number, data in ((1, A), (2, B))]
    return await rig.complete(key, upload, parts)


@ensureDeferred
@pytest.mark.parametrize("target", ["bck", "other"])
@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "inline", "blob"])
async def test_a_copy_moves_no_data_and_is_independent_of_its_source(rig: Rig, data: bytes, target: str) -> None:
    await rig.bucket()
    await rig.bucket("other")
    source = await rig.put(b"k", data, headers=HEADERS, checksum="SHA256")
    written = rig.blobs.written
    record = await copy(rig, rig.fetch(b"k"), target=target)
    assert (rig.blobs.written, rig.blobs.cloned) == (written, int(data is LARGE))
    assert (record.etag, record.checksum, record.size) == (source.etag, source.checksum, source.size)
    assert (record.counter, record.version_id > source.version_id) == (1, True)
    assert rig.fetch(b"copy", target).record.headers == HEADERS
    await rig.delete(b"k")
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert await rig.get(b"copy", target) == data
    assert rig.counted(target) == (1, len(data))


@ensureDeferred
async def test_a_copy_of_a_multipart_object_keeps_its_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.bucket()
    source = await multipart_object(rig, monkeypatch)
    written = rig.blobs.written
    record = await copy(rig, rig.fetch(b"k"))
    assert (rig.blobs.written, rig.blobs.cloned) == (written, 2)
    assert (record.etag, record.parts, record.checksum) == (source.etag, 2, source.checksum)
    assert rig.fetch(b"copy").body.parts == rig.fetch(b"k").body.parts  # type: ignore[union-attr]
    await rig.delete(b"k")
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert await rig.get(b"copy") == A + B


@ensureDeferred
@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "inline", "blob"])
async def test_a_copy_has_the_checksum_type_of_its_bucket(rig: Rig, data: bytes) -> None:
    await rig.bucket()
    await rig.bucket("md5", checksum_type="md5")
    await rig.bucket("none", checksum_type="none")
    source = await rig.put(b"k", data, checksum="CRC32")
    record = await copy(rig, rig.fetch(b"k"), target="md5")
    assert (record.checksum_type, record.etag) == ("md5", etag_of("md5", data))
    assert record.checksum == source.checksum  # computed again
    assert await rig.get(b"copy", "md5") == data
    unsummed = await copy(rig, rig.fetch(b"k"), target="none")
    assert unsummed.etag == f"{unsummed.version_id.hex()}-0"
    again = await copy(rig, rig.fetch(b"copy", "none"), b"again", "none")
    assert again.etag == f"{again.version_id.hex()}-0" != unsummed.etag


@ensureDeferred
async def test_a_multipart_object_that_is_read_for_its_copy_becomes_one_part(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.bucket()
    await rig.bucket("md5", checksum_type="md5")
    await multipart_object(rig, monkeypatch)
    record = await copy(rig, rig.fetch(b"k"), target="md5")
    assert (record.etag, record.parts) == (etag_of("md5", A + B), 0)
    assert record.checksum == Checksum("CRC32", zlib.crc32(A + B).to_bytes(4))
    assert await rig.get(b"copy", "md5") == A + B


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_a_checksum_that_is_asked_for_is_computed(rig: Rig, data: bytes) -> None:
    await rig.bucket()
    await rig.put(b"k", data)
    record = await copy(rig, rig.fetch(b"k"), algorithm="CRC32")
    assert record.checksum == Checksum("CRC32", zlib.crc32(data).to_bytes(4))
    assert rig.blobs.cloned == 0
    again = await copy(rig, rig.fetch(b"copy"), b"again", algorithm="CRC32")  # known by now
    assert again.checksum == record.checksum
    assert rig.blobs.cloned == (data is LARGE)


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_an_object_copied_onto_itself_is_a_new_version(rig: Rig, data: bytes) -> None:
    await rig.bucket()
    await rig.put(b"k", data)
    record = await copy(rig, rig.fetch(b"k"), b"k")
    assert record.counter == 2
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert await rig.get(b"k") == data
    assert len(rig.blob_ids()) == (data is LARGE)


@ensureDeferred
async def test_a_copy_obeys_its_precondition_and_leaves_nothing_when_refused(rig: Rig) -> None:
    await rig.bucket()
    await rig.bucket("md5", checksum_type="md5")
    old = await rig.put(b"k", LARGE)
    await rig.put(b"copy", SMALL)
    await rig.put(b"copy", SMALL, "md5")
    before = rig.blob_ids()
    for target in ("bck", "md5"):
        for condition in (NEW, match(old.etag)):
            with refused("PreconditionFailed"):
                await copy(rig, rig.fetch(b"k"), target=target, precondition=condition)
    assert rig.blob_ids() == before


@ensureDeferred
@pytest.mark.parametrize("target", ["bck", "md5"])
async def test_a_source_that_was_replaced_long_ago_is_missing_and_nothing_is_left(
    rig: Rig, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.bucket()
    await rig.bucket("md5", checksum_type="md5")
    await multipart_object(rig, monkeypatch)
    found = rig.fetch(b"k")
    assert found.body is not None
    await rig.delete(b"k")
    await rig.blobs.wrapped.remove([found.body.extents[1].blob_id])
    with pytest.raises(BlobMissing):
        await copy(rig, found, target=target)
    with refused("NoSuchKey"):
        rig.fetch(b"copy", target)
    rig.later(601)
    await rig.store.sweeper.sweep()
    assert rig.blob_ids() == set()


@ensureDeferred
async def test_a_source_that_is_replaced_while_it_is_copied_is_copied_as_it_was(rig: Rig) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)

    async def replace(commit: Commit) -> None:
        await rig.put(b"k", SMALL)

    rig.index.before = replace
    await copy(rig, rig.fetch(b"k"))
    assert await rig.get(b"copy") == LARGE
    assert await rig.get(b"k") == SMALL


@ensureDeferred
@pytest.mark.parametrize("happened", [True, False])
async def test_a_copy_of_which_nobody_knows_keeps_its_blobs(rig: Rig, happened: bool) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)
    rig.index.unknown = [happened]
    if happened:
        await copy(rig, rig.fetch(b"k"))
        assert await rig.get(b"copy") == LARGE
    else:
        rig.crashed = True
        with pytest.raises(CommitUnknown):
            await copy(rig, rig.fetch(b"k"))
    assert rig.blobs.removed == []
    assert len(rig.blob_ids()) == 2


@ensureDeferred
async def test_the_clones_of_a_copy_that_failed_are_removed(rig: Rig) -> None:
    await rig.bucket()
    await rig.put(b"k", LARGE)

    def full(commit: Commit) -> None:
        raise StoreFull("injected")

    rig.index.before = full
    with refused("SlowDown"):
        await copy(rig, rig.fetch(b"k"))
    assert len(rig.blob_ids()) == 1


@ensureDeferred
async def test_a_copy_whose_source_fails_in_its_midst_leaves_no_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part is long enough to have been written when the second is found to be missing."""
    monkeypatch.setattr(completing, "MIN_PART_SIZE", 1)
    await rig.bucket()
    target = await rig.bucket("md5", checksum_type="md5")
    upload = await rig.upload(b"k")
    parts = [await rig.part(b"k", upload, number, data) for number, data in ((1, bytes(1 << 20)), (2, B))]
    await rig.complete(b"k", upload, parts)
    found = rig.fetch(b"k")
    await rig.blobs.wrapped.remove([parts[1].extents[0].blob_id])
    with pytest.raises(BlobMissing):
        await copy(rig, found, target=target.name)
    await rig.blobs.close()
    if rig.data is not None:
        assert list((rig.data / "blobs" / "tmp").iterdir()) == []
    await rig.delete(b"k")


# --- UploadPartCopy


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["inline", "blob"])
async def test_a_part_is_copied_from_a_range(rig: Rig, data: bytes) -> None:
    await rig.bucket(checksum_type="md5")
    await rig.bucket("other")
    await rig.put(b"k", data, "other")
    bucket: Bucket = rig.store.buckets.get("bck")
    upload = await rig.upload(b"copy", algorithm="CRC32")
    found = rig.fetch(b"k", "other")
    size = len(data)
    for offset, length in ((0, size), (1, size - 2), (size - 1, 1)):
        part = await rig.store.copier.copy_part(found, offset, length, bucket, b"copy", upload, 1)
        wanted = data[offset : offset + length]
        assert (part.size, part.etag) == (length, etag_of("md5", wanted))
        assert part.checksum == Checksum("CRC32", zlib.crc32(wanted).to_bytes(4))
    await rig.complete(b"copy", upload, [part])
    assert await rig.get(b"copy") == data[-1:]


@ensureDeferred
async def test_a_part_is_copied_across_the_parts_of_its_source(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = await rig.bucket()
    await multipart_object(rig, monkeypatch)
    upload = await rig.upload(b"copy")
    part = await rig.store.copier.copy_part(rig.fetch(b"k"), 290, 20, bucket, b"copy", upload, 5)
    await rig.complete(b"copy", upload, [part])
    assert await rig.get(b"copy") == b"a" * 10 + b"b" * 10


@ensureDeferred
async def test_a_part_of_a_missing_source_or_upload_leaves_nothing(rig: Rig) -> None:
    bucket = await rig.bucket()
    await rig.put(b"k", LARGE)
    found = rig.fetch(b"k")
    assert found.body is not None
    upload = await rig.upload(b"copy")
    await rig.store.uploads.abort(bucket, b"copy", upload.id.hex())
    with refused("NoSuchUpload"):
        await rig.store.copier.copy_part(found, 0, 100, bucket, b"copy", upload, 1)
    assert len(rig.blob_ids()) == 1
    upload = await rig.upload(b"copy")
    await rig.delete(b"k")
    rig.later(601)
    await rig.store.sweeper.sweep()
    with pytest.raises(BlobMissing):
        await rig.store.copier.copy_part(found, 0, 100, bucket, b"copy", upload, 1)
    assert rig.blob_ids() == set()


# --- extents


def test_a_range_is_cut_out_of_extents() -> None:
    extents = [Extent(b"a", 0, 10), Extent(b"b", 5, 0), Extent(b"c", 100, 5), Extent(b"d", 0, 1)]
    flat = [(e.blob_id, e.offset + n) for e in extents for n in range(e.length)]
    for offset in range(17):
        for length in range(17 - offset):
            found = [(e.blob_id, e.offset + n) for e in cut(extents, offset, length) for n in range(e.length)]
            assert found == flat[offset : offset + length]
            assert all(e.length for e in cut(extents, offset, length))


@ensureDeferred
async def test_a_read_goes_across_extents(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.bucket()
    await multipart_object(rig, monkeypatch)
    found = rig.fetch(b"k")
    for offset, length in ((0, 500), (299, 2), (300, 1), (299, 1), (0, 300), (499, 1), (500, 0)):
        assert await drain(await rig.store.objects.open(found, offset, length)) == (A + B)[offset : offset + length]
