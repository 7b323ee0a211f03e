"""How an index that comes from the past fits the blobs of today."""

from __future__ import annotations

import os

from aisobj.model import Garbage
from aisobj.storage import keys, records
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.index_reader import IndexReader

_PAGE = 512


def unowned_blobs(reader: IndexReader, files: BlobFiles) -> list[bytes]:
    """The blobs that the index does not know; the next start of a server would remove those that are new."""
    partitions = [partition for partition in reader.partitions() if partition != keys.ROOT]
    garbage: set[bytes] = set()
    for partition in partitions:
        after = b""
        while page := reader.scan(partition, after, keys.GARBAGE, _PAGE):
            for _, row in page:
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
