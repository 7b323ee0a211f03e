"""``fsck`` finds what it is for: each fault is planted in a sound store and must be named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.index_reader import IndexReader
from aisobj.tools.fsck import PAGE, Fsck

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


class _Watched(IndexReader):
    """Knows which snapshots are open, and how many rows each has shown."""

    def __init__(self, reader: IndexReader) -> None:
        super().__init__(reader.environment)
        self.open = 0
        self.most = 0

    def snapshot(self, partition: bytes) -> Any:
        return _WatchedSnapshot(self, super().snapshot(partition))


class _WatchedSnapshot:
    def __init__(self, reader: _Watched, snapshot: Any) -> None:
        self._reader = reader
        self._snapshot = snapshot
        self._closed = False
        self._rows = 0
        self.get = snapshot.get
        reader.open += 1

    def scan(self, after: bytes, prefix: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        for row in self._snapshot.scan(after, prefix, limit):
            self._rows += 1
            self._reader.most = max(self._reader.most, self._rows)
            yield row

    def close(self) -> None:
        self._reader.open -= not self._closed
        self._closed = True
        self._snapshot.close()


class _WatchedFiles(BlobFiles):
    def __init__(self, root: Path, reader: _Watched) -> None:
        super().__init__(root)
        self._reader = reader
        self.asked = 0

    def footer(self, blob_id: bytes) -> Any:
        self.asked += 1
        assert not self._reader.open, "a snapshot is open while the disk is read"
        return super().footer(blob_id)


@ensureDeferred
async def test_no_snapshot_outlives_its_page_or_waits_for_the_disk(tmp_path: Path) -> None:
    store = await embedded.open_store(tmp_path, reactor=reactor, sync=False, reserve=0)  # type: ignore[arg-type]
    rig = Rig(store._engine.index, store._engine.blobs, store._engine.ids, tmp_path)
    await fill(rig)
    for number in range(PAGE + 50):
        await rig.put(b"k%d" % number)
    reader = _Watched(IndexReader(store._engine.index.environment))
    files = _WatchedFiles(tmp_path / "blobs", reader)
    report = Fsck(reader, files, online=True, deep=True).run()
    assert (report.faults, report.objects) == ([], PAGE + 52)
    assert (reader.open, reader.most) == (0, PAGE)
    assert files.asked >= 2
    await store.close()
