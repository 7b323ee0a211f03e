"""``fsck`` finds what it is for: each fault is planted in a sound store and must be named."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsck
import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, SMALL, Rig
from tools import tool
from twisted.internet import reactor

from aisobj.errors import StorageError
from aisobj.model import Garbage
from aisobj.storage import embedded, keys, records

rig = storekit.rig


async def fill(rig: Rig) -> dict[bytes, bytes]:
    """One of each kind; the rows of the bucket."""
    bucket = await rig.bucket()
    await rig.put(b"small", SMALL, headers={"x-amz-meta-a": "x" * 300})
    await rig.put(b"large", LARGE)
    upload = await rig.upload(b"up")
    await rig.part(b"up", upload, 1, LARGE)
    assert rig.fsck() == []
    return rig.rows(bucket.id)


@ensureDeferred
async def test_every_row_that_is_lost_is_found(rig: Rig) -> None:
    rows = await fill(rig)
    bucket = rig.store.buckets.get("bck")
    for row_key, row in rows.items():
        await rig.index.commit(bucket.id, {}, {}, [row_key])
        assert rig.fsck() != [], row_key
        await rig.index.commit(bucket.id, {}, {row_key: row})
    assert rig.fsck() == []


@ensureDeferred
async def test_every_row_that_is_left_over_or_corrupt_is_found(rig: Rig) -> None:
    rows = await fill(rig)
    bucket = rig.store.buckets.get("bck")
    for row_key, row in rows.items():
        if row_key[:1] in (keys.INLINE, keys.BODY, keys.HEADERS, keys.PART, keys.BLOB):
            other = row_key[:1] + bytes(16) + row_key[17:]
            await rig.index.commit(bucket.id, {}, {other: row})
            assert rig.fsck() != [], other
            await rig.index.commit(bucket.id, {}, {}, [other])
        await rig.index.commit(bucket.id, {}, {row_key: row[:-1] + bytes([row[-1] ^ 1])})
        assert rig.fsck() != [], row_key
        await rig.index.commit(bucket.id, {}, {row_key: row})
    for partition, row_key in ((bucket.id, b"?"), (bytes(16), b"A?"), (keys.ROOT, b"?")):
        await rig.index.commit(partition, {}, {row_key: b""})
        assert rig.fsck() != []
        await rig.index.commit(partition, {}, {}, [row_key])
    assert rig.fsck() == []


@ensureDeferred
async def test_wrong_counters_owners_and_garbage_are_found(rig: Rig) -> None:
    rows = await fill(rig)
    bucket = rig.store.buckets.get("bck")
    blob_row = next(row_key for row_key in rows if row_key[:1] == keys.BLOB)
    for row_key, row in (
        (keys.COUNTERS, keys.encode_counters((2, 1))),
        (blob_row, records.seal(bytes(16))),
        (keys.garbage(1, bytes(16)), records.encode(Garbage([blob_row[1:]]))),
    ):
        await rig.index.commit(bucket.id, {}, {row_key: row})
        assert rig.fsck() != [], row_key
        if row_key in rows:
            await rig.index.commit(bucket.id, {}, {row_key: rows[row_key]})
        else:
            await rig.index.commit(bucket.id, {}, {}, [row_key])
    assert rig.fsck() == []


@ensureDeferred
async def test_lost_blobs_are_faults_and_orphans_are_where_nothing_crashed(rig: Rig) -> None:
    await fill(rig)
    body = await rig.body(LARGE)
    (fault,) = rig.fsck()
    assert body.extents[0].blob_id.hex() in fault
    assert fsck.check(rig.store, rig.data, crashed=True) == []
    await rig.store.objects.discard(body)
    await rig.bucket("lost")
    await rig.put(b"k", LARGE, "lost")
    blob_id = rig.fetch(b"k", "lost").body.extents[0].blob_id  # type: ignore[union-attr]
    await rig.blobs.remove([blob_id])
    assert any("is lost" in fault for fault in fsck.check(rig.store, rig.data, crashed=True))
    await rig.store.buckets.destroy("lost")


@ensureDeferred
async def test_a_directory_is_checked_and_the_command_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    store = await embedded.open_store(data, reactor=reactor, sync=False, reserve=0)  # type: ignore[arg-type]
    rig = Rig(store._engine.index, store._engine.blobs, store._engine.ids, data)
    await fill(rig)
    await store.close()
    assert fsck.check_directory(data) == []
    blob = sorted((data / "blobs").glob("?????/??/*"))[0]
    good = blob.read_bytes()
    blob.write_bytes(good[:50] + b"?" + good[51:])
    assert len(fsck.check_directory(data)) == 1
    assert fsck.check_directory(data, deep=False) == []
    blob.write_bytes(good)
    (data / "blobs" / "tmp" / ("0" * 32)).touch()
    assert len(fsck.check_directory(data)) == 1
    assert fsck.check_directory(data, crashed=True) == []
    assert tool(data, "fsck")[0] == 1
    status, text = tool(data, "fsck", "--crashed")
    assert (status, text.split(";")[0]) == (0, "sound")
    shutil.rmtree(data / "index")
    with pytest.raises(StorageError):
        fsck.check_directory(data)
