"""The rows of an index by themselves: whether each is what was written. ``blob_audit`` does it for blobs."""

from __future__ import annotations

from collections.abc import Iterator

import lmdb

from aisobj.errors import StorageError
from aisobj.storage import keys, records


def fault_of_row(partition: bytes, key: bytes, row: bytes) -> str:
    """What is wrong with a row, whatever stands elsewhere, or "": of the wrong form, of a newer one, of another key."""
    if partition == keys.ROOT and key[:1] == keys.PURGE:
        return ""  # it is empty
    try:
        if partition != keys.ROOT and key[:1] == keys.OBJECT:
            records.decode_object(key[1:], row)
        else:
            records.unseal(row)
    except StorageError as error:
        return str(error)
    return ""


def name_of_row(partition: bytes, key: bytes) -> str:
    """For the operator: in hex, and what can be read of it."""
    return f"row {key.hex()} ({key!r}) of partition {partition.hex()}"


def faults_of_rows(environment: lmdb.Environment) -> Iterator[str]:
    """What is wrong with the rows of an index that nobody changes, a line each. Reads all of it, once, in order.

    LMDB finds rows by the order of their keys, and has no checksums: so this is looked at too, and that there are as
    many rows as it has counted.

    :raises lmdb.Error: a page cannot be read. (Some make LMDB end the process.)
    """
    counted: int = environment.stat()["entries"]
    last, found = b"", 0
    with environment.begin() as transaction, transaction.cursor() as cursor:
        for place, row in cursor:
            found += 1
            if place <= last or found > counted:
                yield f"row {place.hex()} is out of order"
                return  # what comes now may come for ever
            last = place
            partition, key = place[1 : 1 + place[0]], place[1 + place[0] :]
            if fault := fault_of_row(partition, key, row):
                yield f"{name_of_row(partition, key)}: {fault}"
    if found < counted:
        yield f"{counted - found} rows are missing"
