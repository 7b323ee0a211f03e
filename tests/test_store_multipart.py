"""Multipart uploads in the store: AWS's rules for ETags, order, sizes and checksums."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import NONE, Rig, refused

from aisobj import checksums
from aisobj.checksums import CHECKSUM_TYPES, new_digest
from aisobj.model import Checksum, Part
from aisobj.protocol.listparams import PartsParams
from aisobj.storage import completing
from aisobj.storage.completing import Chosen

rig = storekit.rig

LIMITS = (completing.MIN_PART_SIZE, completing.MAX_OBJECT_SIZE)
A, B, C = b"a" * 300, b"b" * 200, b"c" * 5


def test_the_limits_are_amazons() -> None:
    assert LIMITS == (5 * 1024**2, 5 * 1024**4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "MIN_PART_SIZE", 100)


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
    monkeypatch.setattr(completing, "MAX_OBJECT_SIZE", 599)
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
        await rig.complete(b"k", upload, parts, checksum=Checksum(algorithm, bytes(len(whole.digest()))))
    with refused("InvalidRequest"):
        await rig.complete(b"k", upload, parts, checksum=Checksum("SHA256", bytes(32)))
    record = await rig.complete(b"k", upload, parts)
    assert record.checksum == Checksum(algorithm, whole.digest())
    assert checksums.encode(record.checksum).count("-") == 0
