"""How an index that comes from the past fits the blobs of today, and how it takes the place of the one that is there.

In this order: the new index has a checkpoint that is greater than every blob; it is synced; it gets its name; the blobs
that it does not own are moved to the quarantine. Killed before it has its name, nothing has changed for the old one.
Killed after that, a start removes none of those blobs, as it looks only at what is newer than the checkpoint; fsck
names them, and the next run moves them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import lmdb

from aisobj.errors import CorruptData, StorageError
from aisobj.model import Garbage
from aisobj.storage import keys, records
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.index_backup import swap_index, sync_index
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.lmdb_env import row_prefix
from aisobj.storage.quarantine import UNOWNED

_PAGE = 512


def unowned_blobs(reader: IndexReader, files: BlobFiles) -> list[bytes]:
    """The blobs that the index does not know: those of garbage that cannot be read, too."""
    partitions = [partition for partition in reader.partitions() if partition != keys.ROOT]
    garbage: set[bytes] = set()
    for partition in partitions:
        after = b""
        while page := reader.scan(partition, after, keys.GARBAGE, _PAGE):
            for _, row in page:
                with contextlib.suppress(CorruptData):
                    garbage.update(records.decode(Garbage, row).blob_ids)
            after = page[-1][0]
    return [
        blob_id
        for blob_id in files.walk()
        if blob_id not in garbage
        and all(reader.get(partition, [keys.BLOB + blob_id])[0] is None for partition in partitions)
    ]


def count_lost(reader: IndexReader, files: BlobFiles) -> int:
    """How many blobs the index knows that are not there, nor in quarantine."""
    lost = 0
    for partition in reader.partitions():
        after = b""
        while partition != keys.ROOT and (page := reader.scan(partition, after, keys.BLOB, _PAGE)):
            for key, _ in page:
                lost += not os.path.exists(files.path(key[1:])) and not files.quarantine.holds(key[1:])
            after = page[-1][0]
    return lost


def finish(environment: lmdb.Environment, files: BlobFiles) -> None:
    """The last change of a fresh index: its checkpoint becomes greater than every blob that is there.

    A server whose clock is behind that makes it smaller by itself (``Sweeper.recover``).

    :raises lmdb.Error:
    """
    key = row_prefix(keys.ROOT) + keys.CHECKPOINT
    newest = max(files.walk(), default=bytes(16))
    beyond = (int.from_bytes(newest, "big") + 1).to_bytes(16, "big")
    with environment.begin(write=True) as transaction:
        row = transaction.get(key)
        with contextlib.suppress(CorruptData):  # it is replaced then, too
            beyond = max(beyond, b"" if row is None else bytes(records.unseal(row)))
        transaction.put(key, records.seal(beyond))
    environment.sync(True)


def put_in_place(data: Path, fresh: Path, files: BlobFiles, unowned: Mapping[bytes, str]) -> str:
    """Make a fresh index, finished and closed, that of a locked data directory. Where the old one is now, or "".

    :param unowned: the blobs that it does not own, and why; they are moved to the quarantine.
    :raises OSError: the index is as it was, or as ``swap_index`` says.
    :raises StorageError: the new index is in place, and not all blobs could be moved.
    """
    sync_index(fresh)
    replaced = swap_index(data, fresh)
    try:
        for blob_id, why in unowned.items():
            files.quarantine.take(blob_id, why, UNOWNED)
    except OSError as error:
        told = f"; the old one is {replaced}" if replaced else ""
        raise StorageError(
            f"the new index is in place{told}, but blobs that it does not know could not be moved to the quarantine "
            f"({error}): run this again, with --force"
        ) from error
    return str(replaced or "")
