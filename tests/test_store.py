"""S3's semantics of objects in the store, on each engine: bodies, ETags, versions, metadata, keys and listings."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import INLINE, LARGE, NONE, SMALL, Rig, drain, etag_of, flipped, refused, write
from twisted.internet.defer import Deferred

from aisobj.checksums import CHECKSUM_TYPES, new_digest
from aisobj.errors import BlobMissing, CorruptData
from aisobj.model import Attributes, BodyKind, BucketProps, ObjectRecord
from aisobj.storage import keys, records
from aisobj.storage.bodies import VerifyingSource
from aisobj.storage.ids import IdMaker, id_time

rig = storekit.rig

BODIES = {
    "empty": b"",
    "inline": SMALL,
    "longest inline": bytes(INLINE),
    "shortest blob": bytes(INLINE + 1),
    "blob": LARGE,
}


# --- bodies and ETags


@ensureDeferred
@pytest.mark.parametrize("data", BODIES.values(), ids=BODIES)
async def test_a_body_comes_back_whole_and_in_ranges(rig: Rig, data: bytes) -> None:
    await rig.bucket()
    record = await rig.put(b"k", data)
    kind = BodyKind.EMPTY if not data else BodyKind.INLINE if len(data) <= INLINE else BodyKind.EXTENTS
    assert (record.size, record.body_kind) == (len(data), kind)
    found = rig.fetch(b"k")
    assert await rig.get(b"k") == data
    for offset, length in ((0, 0), (0, 1), (1, len(data) // 2), (len(data) - 1, 1)):
        if offset >= 0 and offset + length <= len(data):
            assert await rig.read(found, offset, length) == data[offset : offset + length]


@ensureDeferred
@pytest.mark.parametrize("size", [None, 0, len(LARGE)])
async def test_a_body_of_unknown_or_untrue_size_is_what_was_written(rig: Rig, size: int | None) -> None:
    bucket = await rig.bucket()
    for data in (b"", SMALL, LARGE):
        writer = rig.store.objects.writer(bucket, (), size)
        await write(writer, data, pieces=7)
        body = await writer.finish({})
        await rig.store.objects.put("bck", b"k", body, Attributes(), NONE)
        assert await rig.get(b"k") == data


@ensureDeferred
async def test_an_aborted_body_leaves_no_trace(rig: Rig) -> None:
    bucket = await rig.bucket()
    for data in (SMALL, LARGE):
        writer = rig.store.objects.writer(bucket, (), None)
        await write(writer, data)
        await writer.abort()
    assert rig.blob_ids() == set()


@ensureDeferred
@pytest.mark.parametrize("kind", CHECKSUM_TYPES)
async def test_the_etag_is_the_buckets_checksum(rig: Rig, kind: str) -> None:
    await rig.bucket(checksum_type=kind)
    for data in (SMALL, LARGE, b""):
        record = await rig.put(b"k", data)
        digest = new_digest(kind)
        digest.update(data)
        if kind == "none":
            assert record.etag == f"{record.version_id.hex()}-0"
        elif kind in ("md5", "sha256", "sha512"):
            assert record.etag == etag_of(kind, data)  # type: ignore[arg-type]
        assert record.etag == (digest.hexdigest() or record.etag)
        assert (record.checksum_type, record.checksum_value) == (kind, digest.hexdigest())


def test_the_etags_of_xxhash_and_crc32c_are_the_published_ones() -> None:
    # XXH64 with seed 0 (xxHash's specification) and CRC-32C (RFC 3720 B.4), of nothing and of 32 zeros.
    for kind, data, value in (("xxhash", b"", "ef46db3751d8e999"), ("crc32c", bytes(32), "8a9136aa")):
        digest = new_digest(kind)
        digest.update(data)
        assert digest.hexdigest() == value


@ensureDeferred
async def test_a_change_of_the_checksum_type_leaves_old_objects_as_they_are(rig: Rig) -> None:
    await rig.bucket(checksum_type="md5")
    old = await rig.put(b"old", LARGE)
    body = await rig.body(LARGE)
    before, after = await rig.store.buckets.update("bck", lambda props: BucketProps(checksum_type="sha256"))
    assert (before.checksum_type, after.checksum_type) == ("md5", "sha256")
    _, begun_before = await rig.store.objects.put("bck", b"begun", body, Attributes(), NONE)
    new = await rig.put(b"new", LARGE)
    assert rig.record(b"old") == old
    assert old.etag == begun_before.etag == etag_of("md5", LARGE)
    assert new.etag == etag_of("sha256", LARGE)
    assert await rig.get(b"old") == LARGE


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_warm_get_compares_the_whole_object_with_its_checksum(rig: Rig, data: bytes) -> None:
    await rig.bucket(checksum_type="md5", validate_warm_get=True)
    record = await rig.put(b"k", data)
    assert await rig.get(b"k") == data
    bucket = rig.store.buckets.get("bck")
    # Of another type than the blob's own, which alone says more: see test_misplaced.
    wrong = ObjectRecord(*[*as_list(record)[:7], "sha256", etag_of("sha256", b"other"), *as_list(record)[9:]])
    row = rig.index.get(bucket.id, (b"Ok",))[0]
    await rig.index.commit(bucket.id, {}, {b"Ok": records.encode(wrong)})
    found = rig.fetch(b"k")
    with pytest.raises(CorruptData):
        rig.store.objects.check_inline(found)
        await rig.read(found, 0, len(data))
    if data is LARGE:
        assert await rig.read(found, 1, 5) == data[1:6]  # a range cannot be compared
    await rig.index.commit(bucket.id, {}, {b"Ok": row})


@ensureDeferred
async def test_warm_get_finds_bytes_too_few_and_too_many(rig: Rig) -> None:
    await rig.bucket(checksum_type="md5", validate_warm_get=True)
    record = await rig.put(b"k", LARGE)
    bucket = rig.store.buckets.get("bck")
    row = rig.index.get(bucket.id, (b"Ok",))[0]
    for size in (len(LARGE) - 1, len(LARGE) + 1):
        fields = as_list(record)
        fields[2] = size
        await rig.index.commit(bucket.id, {}, {b"Ok": records.encode(ObjectRecord(*fields))})
        with pytest.raises(CorruptData):
            await rig.get(b"k")
    await rig.index.commit(bucket.id, {}, {b"Ok": row})


class Blocks:
    """A source of given blocks. ``waiting`` ones come as a Deferred, which ``close`` ends with None."""

    def __init__(self, *blocks: bytes, waiting: bool = False) -> None:
        self._blocks = list(blocks)
        self._waiting: Deferred[Any] | None = Deferred() if waiting else None

    def next_block(self) -> Any:
        if self._waiting is not None:
            return self._waiting
        return memoryview(self._blocks.pop(0)) if self._blocks else None

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.callback(None)


def verifying(source: Any, *stretches: bytes) -> VerifyingSource:
    return VerifyingSource(source, "md5", [(len(one), bytes.fromhex(etag_of("md5", one))) for one in stretches])


@ensureDeferred
async def test_a_whole_object_is_compared_stretch_by_stretch() -> None:
    assert await drain(verifying(Blocks(b"ab", b"cde"), b"abc", b"de")) == b"abcde"
    assert await drain(verifying(Blocks(b"ab", b"cde"), b"abc", b"", b"de")) == b"abcde"
    assert await drain(verifying(Blocks())) == b""
    for blocks, stretches in (
        ((b"ab", b"cdx"), (b"abc", b"de")),
        ((b"ab", b"cd"), (b"abc", b"de")),
        ((b"ab", b"cdef"), (b"abc", b"de")),
        ((b"abc",), (b"abc", b"de")),
        ((b"a",), ()),
    ):
        with pytest.raises(CorruptData):
            await drain(verifying(Blocks(*blocks), *stretches))


@ensureDeferred
async def test_a_whole_object_that_is_closed_while_it_waits_is_not_found_short() -> None:
    source = verifying(Blocks(waiting=True), b"abc")
    waiting = source.next_block()
    source.close()
    assert isinstance(waiting, Deferred)
    assert await waiting is None


def as_list(record: ObjectRecord) -> list[Any]:
    return [getattr(record, name) for name in record.__struct_fields__]


# --- versions and times


@ensureDeferred
async def test_the_native_counter_goes_up_by_one_and_begins_again_after_a_delete(rig: Rig) -> None:
    await rig.bucket()
    assert [(await rig.put(b"k", data)).counter for data in (SMALL, LARGE, b"", SMALL)] == [1, 2, 3, 4]
    await rig.delete(b"k")
    assert (await rig.put(b"k")).counter == 1


@ensureDeferred
async def test_version_ids_and_last_modified_go_on_when_the_clock_goes_back(rig: Rig) -> None:
    await rig.bucket()
    records_of_k = [await rig.put(b"k")]
    for step in (-3600, 7200, -10_000_000, 0, 5):
        rig.later(step)
        records_of_k.append(await rig.put(b"k"))
        # Another process, whose ids begin with its own clock.
        rig.store._engine.ids = IdMaker(lambda: 1)
        records_of_k.append(await rig.put(b"k"))
        rig.store._engine.ids = rig.ids
    for before, after in itertools.pairwise(records_of_k):
        assert after.version_id > before.version_id
        assert after.mtime >= before.mtime
        assert after.mtime == id_time(after.version_id)


def test_ids_are_in_order_whatever_the_clock_does() -> None:
    clock = iter([100, 50, 50, 200, 0, 199, 200, 201])
    ids = IdMaker(lambda: next(clock))
    made = [ids.make() for _ in range(7)]
    assert made == sorted(made)
    assert [id_time(one) for one in made] == [100, 101, 102, 200, 201, 202, 203]
    assert id_time(ids.make(after=1000)) == 1001
    assert len({one[8:] for one in made}) == 7


# --- metadata


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_long_metadata_comes_back_and_goes_with_its_version(rig: Rig, data: bytes) -> None:
    bucket = await rig.bucket()
    long = {"x-amz-meta-name": "größe " * 100, "cache-control": "no-store"}
    short = {"x-amz-meta-a": "b"}
    for headers in (long, short, {}, {**long, "expires": "0"}, long):
        record = await rig.put(b"k", data, headers=headers)
        assert record.long_headers is (len(str(headers)) > 200)
        found = rig.fetch(b"k")
        assert found.record.headers == headers
        assert rig.store.objects.headers(found.bucket, found.record) == headers
        assert rig.store.objects.headers(bucket, record) == headers
        assert len(rig.rows(bucket.id, keys.HEADERS)) == record.long_headers
        assert len(records.encode(record)) <= 400
    await rig.delete(b"k")
    assert rig.rows(bucket.id, keys.HEADERS) == {}
    with pytest.raises(BlobMissing):
        rig.store.objects.headers(bucket, record)


# --- keys and listings


AWKWARD = [
    b"a",
    b"a/",
    b"a//b",
    b"a/b",
    b"../x",
    b"./",
    b" ",
    b"+",
    b"%2F",
    "😀".encode(),
    "é".encode(),
    b"\x01",
    b"\x7f",
]


@ensureDeferred
async def test_keys_are_bytes_and_list_in_their_order(rig: Rig) -> None:
    await rig.bucket()
    names = [*AWKWARD, b"x" * 1024, "ü".encode() * 512, b"/" * 1024, b"O", b"D", b"A", b"x" * 1023]
    for name in names:
        await rig.put(name, name[:INLINE])
    page = rig.list()
    assert [key for key, _ in page.items] == sorted(names)
    for name in names:
        assert await rig.get(name) == name[:INLINE]
        assert await rig.delete(name) is not None
    assert rig.list().items == []


@ensureDeferred
async def test_a_listing_goes_from_page_to_page(rig: Rig) -> None:
    await rig.bucket()
    names = [b"%c/%d" % (97 + n % 5, n) for n in range(40)]
    for name in names:
        await rig.put(name)
    seen: list[bytes] = []
    after = b""
    while True:
        page = rig.list(max_keys=7, after=after)
        seen += [key for key, _ in page.items]
        if not page.truncated:
            break
        after = page.last
    assert seen == sorted(names)
    assert rig.list(delimiter=b"/").common_prefixes == [b"a/", b"b/", b"c/", b"d/", b"e/"]
    assert [key for key, _ in rig.list(prefix=b"b/1").items] == [b"b/1", b"b/11", b"b/16"]


@ensureDeferred
async def test_a_page_shows_one_moment(rig: Rig) -> None:
    """Whatever is written while it is being read, it holds none of it."""
    bucket = await rig.bucket()
    for number in range(5):
        await rig.put(b"k%d" % number)
    snapshot = rig.index.snapshot(bucket.id)
    try:
        found = [key for key, _ in snapshot.scan(b"", keys.OBJECT, 1)]
        await rig.delete(b"k3")
        await rig.put(b"k22")
        found += [key for key, _ in snapshot.scan(found[0], keys.OBJECT, 100)]
    finally:
        snapshot.close()
    assert found == [b"Ok0", b"Ok1", b"Ok2", b"Ok3", b"Ok4"]
    assert [key for key, _ in rig.list().items] == [b"k0", b"k1", b"k2", b"k22", b"k4"]


@ensureDeferred
@pytest.mark.parametrize("delimiter", [b"", b"/"])
async def test_a_row_that_is_corrupt_spoils_its_own_page_only(rig: Rig, delimiter: bytes) -> None:
    bucket = await rig.bucket()
    for number in range(5):
        await rig.put(b"k%d" % number)
    row = rig.index.get(bucket.id, (b"Ok3",))[0]
    await rig.index.commit(bucket.id, {}, {b"Ok3": flipped(row)})
    page = rig.list(max_keys=3, delimiter=delimiter)
    assert ([key for key, _ in page.items], page.truncated) == ([b"k0", b"k1", b"k2"], True)
    with pytest.raises(CorruptData):
        rig.list(max_keys=4, delimiter=delimiter)
    assert [key for key, _ in rig.list(after=b"k3", delimiter=delimiter).items] == [b"k4"]
    await rig.index.commit(bucket.id, {}, {b"Ok3": row})


@ensureDeferred
async def test_what_is_not_there_is_said_in_s3s_words(rig: Rig) -> None:
    with refused("NoSuchBucket"):
        rig.fetch(b"k")
    with refused("NoSuchBucket"):
        rig.list()
    with refused("NoSuchBucket"):
        await rig.delete(b"k")
    await rig.bucket()
    with refused("NoSuchKey"):
        rig.fetch(b"k")
    assert await rig.delete(b"k") is None
