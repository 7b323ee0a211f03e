"""Reads everything that is stored and compares it with its checksums: each row of the index, each block of each blob.

What is found corrupt goes into quarantine, where that is asked for; nothing is ever repaired by guessing. A scrub says
where it is after each step, so that the next process can go on there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from aisobj.errors import BlobMissing, CorruptData, StorageError
from aisobj.storage import records
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.blob_reader import quarantine_if_corrupt
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.row_audit import fault_of_row, name_of_row
from aisobj.storage.syncing import replace_file

#: Rows of one step: 4 MiB at most, as inline bodies have up to 64 KiB.
_PAGE = 64

# What may stand in a file that is read back: no more than an index can have. (msgspec looks for a match anywhere.)
_Partition = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2}){0,255}\Z")]
_Row = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{2}){0,1978}\Z")]
_Blob = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{32})?\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Progress(msgspec.Struct, forbid_unknown_fields=True):  # a file that is not ours must not be overwritten
    """Where a scrub is, and what it has seen. Ids and keys in hex; times in seconds since the epoch, 0: not yet."""

    started: float = 0.0
    finished: float = 0.0
    partition: _Partition = ""
    row: _Row = ""  #: the last one that was read
    rows_done: bool = False
    blob: _Blob = ""  #: the last one that was read
    rows: _Count = 0
    blobs: _Count = 0
    bytes: _Count = 0  #: of rows, and of blobs that have been read to their end
    corrupt: list[str] = []  #: a line each

    def save(self, path: Path) -> None:
        """Raises OSError."""
        replace_file(str(path), msgspec.json.encode(self) + b"\n")


def read_progress(path: Path) -> Progress:
    """What was saved; a fresh one where there is no such file.

    :raises StorageError: it is no state of a scrub. :raises OSError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress()
    except records.UNREADABLE as error:
        raise StorageError(f"{path} is no state of a scrub: {error}") from error


def load_progress(path: Path) -> Progress:
    """As :func:`read_progress`; a fresh one also where what is there cannot be read."""
    try:
        return read_progress(path)
    except (OSError, StorageError):
        return Progress()


class Scrub:
    """One look at everything. For one thread at a time.

    :param quarantine: move away, and note, what is corrupt; else it is only named.
    """

    def __init__(self, reader: IndexReader, blobs: BlobFiles, progress: Progress, *, quarantine: bool) -> None:
        self.progress = progress
        self._reader = reader
        self._blobs = blobs
        self._quarantine = quarantine

    def steps(self) -> Iterator[int]:
        """Do it, step by step: the bytes that were read in each. Between two steps nothing is held open but a file.

        :raises StorageError: the index cannot be read. :raises OSError: the quarantine cannot be written.
        """
        if not self.progress.rows_done:
            yield from self._rows()
            self.progress.rows_done = True
        yield from self._files()

    def _rows(self) -> Iterator[int]:
        progress = self.progress
        first = bytes.fromhex(progress.partition)
        for partition in self._reader.partitions():
            if (len(partition), partition) < (len(first), first):
                continue
            after = bytes.fromhex(progress.row) if partition == first else b""
            while page := self._reader.scan(partition, after, b"", _PAGE):
                for key, row in page:
                    self._check_row(partition, key, row)
                after = page[-1][0]
                progress.partition, progress.row = partition.hex(), after.hex()
                size = sum(len(key) + len(row) for key, row in page)
                progress.rows += len(page)
                progress.bytes += size
                yield size

    def _check_row(self, partition: bytes, key: bytes, row: bytes) -> None:
        fault = fault_of_row(partition, key, row)
        if fault:
            self.progress.corrupt.append(f"{name_of_row(partition, key)}: {fault}")
            if self._quarantine:
                self._blobs.quarantine.note_row(partition, key, fault)

    def _files(self) -> Iterator[int]:
        progress = self.progress
        for blob_id in self._blobs.walk(bytes.fromhex(progress.blob)):
            size = 0
            try:
                for block in self._blobs.read(blob_id):
                    size += len(block)
                    yield len(block)
                progress.blobs += 1
            except BlobMissing:
                pass  # removed meanwhile
            except (CorruptData, StorageError) as error:
                progress.blobs += 1
                progress.corrupt.append(f"blob {blob_id.hex()}: {error}")
                if self._quarantine and isinstance(error, CorruptData):
                    quarantine_if_corrupt(self._blobs, blob_id)
            # Not before: who goes on begins with this blob anew.
            progress.bytes += size
            progress.blob = blob_id.hex()


def remove_progress(path: Path) -> None:
    """The next scrub begins at the beginning."""
    if path.exists():
        os.unlink(path)
