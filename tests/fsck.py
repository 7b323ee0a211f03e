"""``ais-s3 fsck`` for tests: of a store that is open and at rest, and of a data directory whose server is not running.

Both return what is wrong, a line each; [] is a sound store. A crash may leave what the next start removes: after a kill
ask with ``crashed=True``, which takes that as no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aisobj.errors import BlobMissing
from aisobj.storage import keys
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.blob_format import BLOCK, VERSION, Footer
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.memory_blobs import MemoryBlobs
from aisobj.storage.memory_index import MemoryIndex
from aisobj.storage.store import ObjectStore
from aisobj.tools.fsck import Blobs, Fsck, Report, Rows


def check(store: ObjectStore, data: Path | None, *, crashed: bool = False, deep: bool = True) -> list[str]:
    """The faults of an open store at rest.

    :param data: the directory that holds ``blobs/`` where blobs are files, else None.
    :param deep: also read every byte and compare it with the object's checksum.
    """
    index, blobs = unwrapped(store._engine.index), unwrapped(store._engine.blobs)
    rows: Rows = _MemoryRows(index) if isinstance(index, MemoryIndex) else IndexReader(index._environment)
    if isinstance(blobs, MemoryBlobs):
        found: Blobs = _MemoryFiles(blobs)
    else:
        assert data is not None
        found = BlobFiles(data / "blobs")
    return _lines(Fsck(rows, found, online=False, deep=deep).run(), crashed)


def check_directory(path: Path, *, crashed: bool = False, deep: bool = True) -> list[str]:
    """The faults of the data directory of a server that is not running."""
    reader = IndexReader.open(path / "index")
    try:
        report = Fsck(reader, BlobFiles(path / "blobs"), online=False, deep=deep).run()
        if reader.get(keys.ROOT, [keys.FORMAT]) == [None]:
            report.faults.append("the root has no format row")
    finally:
        reader.close()
    return _lines(report, crashed)


def _lines(report: Report, crashed: bool) -> list[str]:
    return report.faults if crashed else report.faults + report.left_by_crash


def unwrapped(engine: Any) -> Any:
    """The engine inside whatever a test has put round it (``wrapped``)."""
    while hasattr(engine, "wrapped"):
        engine = engine.wrapped
    return engine


class _MemoryRows:
    """The index of the engine for tests, as ``IndexReader``."""

    def __init__(self, index: MemoryIndex) -> None:
        self.snapshot = index.snapshot
        self._index = index

    def partitions(self) -> Iterator[bytes]:
        return iter([name for name, rows in self._index._partitions.items() if rows.by_key])


class _MemoryFiles:
    """The blobs of the engine for tests, as ``BlobFiles``."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._data = blobs._data
        self._footers = blobs.footers

    def walk(self) -> Iterator[bytes]:
        return iter(sorted(self._data))

    def temporary(self) -> list[str]:
        return []

    def footer(self, blob_id: bytes) -> Footer:
        if blob_id not in self._data:
            raise BlobMissing(blob_id.hex())
        return Footer(VERSION, BLOCK, len(self._data[blob_id]), b"", blob_id, self._footers.get(blob_id, {}))

    def read(self, blob_id: bytes) -> Iterator[memoryview]:
        self.footer(blob_id)
        yield memoryview(self._data[blob_id])
