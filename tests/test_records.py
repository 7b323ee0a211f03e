"""Rows: what an earlier or a later release wrote is read or refused, and a flipped bit never becomes a value."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import storekit
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from storekit import LARGE, SMALL, Rig, flipped
from xxhash import xxh3_64_digest

from aisobj import model
from aisobj.errors import CorruptData, FormatError, S3Error, StorageError
from aisobj.model import (
    Body,
    Bucket,
    BucketName,
    BucketProps,
    BucketState,
    Checksum,
    Extent,
    Format,
    Garbage,
    Headers,
    ObjectRecord,
    Part,
    PartInfo,
    Upload,
    VersioningStatus,
)
from aisobj.protocol.listparams import PartsParams, UploadsParams
from aisobj.storage import keys, records

rig = storekit.rig

ID = bytes(range(16))
EXTENTS = [Extent(ID, 0, 10), Extent(ID[::-1], 5, 1 << 40)]
RECORDS = [
    Format(1, 1, ["flag"], ID),
    BucketName(ID, 1, "owner"),
    Bucket("bck", ID, 1, "owner", BucketState.CLOSING, BucketProps(versioning_status=VersioningStatus.ENABLED)),
    ObjectRecord(ID, 1, 2, 3, "etag", model.BodyKind.INLINE, ID, "md5", "ab", Checksum("CRC32", b"1234"), "t/x", 2),
    ObjectRecord(ID, 1, 2, 3, "etag", model.BodyKind.EMPTY, b"", headers={"x-amz-meta-ä": "ö"}),
    Headers({"a": "b"}),
    Body(EXTENTS, [PartInfo(1, 2, b"d", Checksum("SHA1", b"x" * 20))]),
    Upload(ID, 1, "owner", "md5", "t/x", {"a": "b"}, "CRC32", True),
    Part(1, 2, 3, "etag", b"d", EXTENTS, Checksum("SHA1", b"x" * 20)),
    Garbage([ID, ID]),
]
NAMES = [type(record).__name__ for record in RECORDS]


def sealed(fields: list[Any], version: bytes = b"\x01") -> bytes:
    """A row as a release with other fields would write it."""
    data = version + msgspec.msgpack.encode(fields)
    return data + xxh3_64_digest(data)


def fields_of(record: msgspec.Struct) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    return fields


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_a_record_comes_back(record: Any) -> None:
    assert records.decode(type(record), records.encode(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_no_flipped_bit_or_lost_byte_becomes_a_record(record: Any) -> None:
    row = records.encode(record)
    for position, bit in itertools.product(range(len(row)), range(8)):
        broken = bytearray(row)
        broken[position] ^= 1 << bit
        with pytest.raises(CorruptData):
            records.decode(type(record), bytes(broken))
    for length in range(len(row)):
        with pytest.raises(CorruptData):
            records.decode(type(record), row[:length])
        with pytest.raises(CorruptData):
            records.decode(type(record), row[length + 1 :])


@given(st.binary(max_size=100), st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_becomes_plain_bytes(data: bytes, position: int, bit: int) -> None:
    row = records.seal(data)
    assert bytes(records.unseal(row)) == data
    broken = bytearray(row)
    broken[position % len(row)] ^= 1 << bit
    with pytest.raises(CorruptData):
        records.unseal(bytes(broken))


@pytest.mark.parametrize("kind", sorted({type(record) for record in RECORDS}, key=lambda kind: kind.__name__))
def test_a_record_of_an_earlier_release_gets_the_defaults_of_fields_added_since(kind: type[Any]) -> None:
    record = next(one for one in RECORDS if type(one) is kind)
    required = [field for field in msgspec.structs.fields(kind) if field.required]
    row = sealed(fields_of(record)[: len(required)])
    found = records.decode(kind, row)
    for field in msgspec.structs.fields(kind):
        if field.required:
            assert getattr(found, field.name) == getattr(record, field.name)
        elif field.default_factory is not msgspec.NODEFAULT:
            assert getattr(found, field.name) == field.default_factory()
        else:
            assert getattr(found, field.name) == field.default
    with pytest.raises(CorruptData):
        records.decode(kind, sealed(fields_of(record)[: len(required) - 1]))


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_fields_that_a_later_release_appended_are_passed_over(record: Any) -> None:
    row = sealed([*fields_of(record), "new", {"more": [1]}, None])
    assert records.decode(type(record), row) == record


def test_appended_fields_of_a_record_within_a_record_are_passed_over_too() -> None:
    bucket = RECORDS[2]
    fields = fields_of(bucket)
    fields[5] = [*fields[5], "new"]
    assert records.decode(Bucket, sealed(fields)) == bucket


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_a_row_of_another_form_is_refused_by_name(record: Any) -> None:
    with pytest.raises(FormatError, match="format 2"):
        records.decode(type(record), sealed(fields_of(record), version=b"\x02"))


def test_a_record_of_another_kind_is_corrupt() -> None:
    with pytest.raises(CorruptData, match="not a Garbage"):
        records.decode(Garbage, records.encode(RECORDS[2]))
    with pytest.raises(CorruptData):
        records.decode(ObjectRecord, sealed([ID, 1, 2, 3, "etag", 9, ID]))  # no such body kind


@pytest.mark.parametrize("row", [b"", b"\x01", bytes(8), bytes(9)])
def test_what_is_too_short_for_a_row_is_corrupt(row: bytes) -> None:
    with pytest.raises(CorruptData):
        records.unseal(row)


# --- counters


def test_counters_add_up() -> None:
    row = None
    for amounts in ((1, 100), (1, -50), (-3, 1 << 60)):
        row = keys.add_counters(row, amounts)
    assert keys.decode_counters(row) == model.Counters(-1, 50 + (1 << 60))
    assert keys.decode_counters(None) == model.Counters(0, 0)


def test_corrupt_counters_are_neither_read_nor_added_to() -> None:
    row = keys.encode_counters((1, 2))
    for position in range(len(row)):
        broken = row[:position] + bytes([row[position] ^ 4]) + row[position + 1 :]
        with pytest.raises(CorruptData):
            keys.decode_counters(broken)
        with pytest.raises(ValueError, match="checksum"):
            keys.add_counters(broken, (1, 1))
    with pytest.raises(ValueError, match="argument"):
        keys.add_counters(row, (1,))


def test_keys_are_taken_apart_as_they_were_put_together() -> None:
    upload_id = b"\0" * 15 + b"\1"
    assert keys.split_upload(keys.upload(b"a/b", upload_id)) == (b"a/b", upload_id)
    assert keys.part_number(keys.part(upload_id, 10_000)) == 10_000
    assert keys.garbage_time(keys.garbage(1 << 62, ID)) == 1 << 62
    assert keys.part(ID, 255) < keys.part(ID, 256) < keys.part(ID, 10_000)
    assert keys.garbage(255, ID) < keys.garbage(256, bytes(16))


# --- in a store


async def fill(rig: Rig) -> Bucket:
    bucket = await rig.bucket()
    long = {"x-amz-meta-a": "x" * 300}
    await rig.put(b"small", SMALL, headers=long)
    await rig.put(b"large", LARGE)
    await rig.put(b"large", LARGE)
    upload = await rig.upload(b"up")
    await rig.part(b"up", upload, 1, LARGE)
    return bucket


async def everything(rig: Rig, bucket: Bucket) -> list[Any]:
    """All that can be read of a store, each as the value or the error of its read."""
    store = rig.store
    uploads = UploadsParams(prefix=b"", delimiter=b"", max_uploads=10, url_encoded=False)
    parts = PartsParams(max_parts=10, part_number_marker=0)

    async def body(key: bytes) -> bytes:
        return await rig.get(key)

    answers: list[Any] = []
    reads: list[Any] = [
        lambda: store.buckets.get("bck"),
        lambda: [one.name for one in store.buckets.list()],
        lambda: store.buckets.counters(bucket),
        lambda: rig.list().items,
        lambda: rig.record(b"small"),
        lambda: rig.record(b"large"),
        lambda: store.uploads.list(bucket, uploads).items,
        lambda: [store.uploads.list_parts(bucket, one, parts) for _, one in store.uploads.list(bucket, uploads).items],
    ]
    for read in reads:
        try:
            answers.append(read())
        except (S3Error, StorageError) as error:
            answers.append(type(error))
    for key in (b"small", b"large"):
        try:
            answers.append(await body(key))
        except (S3Error, StorageError) as error:
            answers.append(type(error))
    return answers


@ensureDeferred
async def test_a_corrupt_row_makes_an_error_and_never_another_answer(rig: Rig) -> None:
    bucket = await fill(rig)
    right = await everything(rig, bucket)
    assert not [answer for answer in right if isinstance(answer, type)]
    kinds = set()
    for partition in (keys.ROOT, bucket.id):
        for row_key, row in rig.rows(partition).items():
            kinds.add(row_key[:1])
            errors = 0
            # Every byte of every kind of row, in memory; three of each on disk, where a commit costs more.
            positions = range(len(row)) if rig.data is None else (0, len(row) // 2, len(row) - 1)
            for position in positions:
                broken = row[:position] + bytes([row[position] ^ 0x10]) + row[position + 1 :]
                await rig.index.commit(partition, {}, {row_key: broken})
                for answer, wanted in zip(await everything(rig, bucket), right, strict=True):
                    assert answer == wanted or answer is CorruptData, (row_key, position)
                    errors += answer != wanted
            await rig.index.commit(partition, {}, {row_key: row})
            unread = row_key[:1] in (keys.GARBAGE, keys.BLOB) or row_key == keys.PART + row_key[1:17]
            assert bool(errors) is not unread, row_key
    assert kinds == set(b"bACODMXUPBG"[i : i + 1] for i in range(11))


@ensureDeferred
async def test_a_bucket_whose_counters_are_corrupt_takes_no_write_that_would_hide_it(rig: Rig) -> None:
    bucket = await fill(rig)
    row = rig.index.get(bucket.id, (keys.COUNTERS,))[0]
    await rig.index.commit(bucket.id, {}, {keys.COUNTERS: flipped(row)})
    before = rig.blob_ids()
    with pytest.raises(StorageError):
        await rig.put(b"new", LARGE)
    assert rig.blob_ids() == before
    await rig.index.commit(bucket.id, {}, {keys.COUNTERS: row})
    await rig.put(b"new", LARGE)
