"""Which data directories, indexes and backups this release reads: what the root's ``F`` row says."""

from __future__ import annotations

from typing import Final

import lmdb
import msgspec

from aisobj.errors import FormatError, StorageError
from aisobj.model import Format
from aisobj.storage import keys, records
from aisobj.storage.lmdb_env import row_prefix

#: What this release writes, and the oldest release's format that it still reads.
FORMAT_VERSION: Final = 2

#: The feature flags (``Format.flags``) that this release knows.
_FLAGS: Final[frozenset[str]] = frozenset()


def first_format(instance: bytes) -> bytes:
    """The row of a new store. ``instance``: its id."""
    return records.encode(Format(FORMAT_VERSION, FORMAT_VERSION, [], instance))


def check_format(row: bytes | None, what: object) -> None:
    """Whether this release may read what has this ``F`` row.

    :param what: the name of it, for the operator.
    :raises FormatError: a newer release wrote it. :raises StorageError: it has no such row, or the row is corrupt.
    """
    if row is None:
        raise StorageError(f"{what} is no index of ais-s3")
    found = records.decode(Format, row)
    if found.min_reader > FORMAT_VERSION:
        raise FormatError(f"{what} has format {found.version}; this release reads {FORMAT_VERSION}")
    unknown = sorted(set(found.flags) - _FLAGS)
    if unknown:
        raise FormatError(f"{what} uses features that this release does not know: {', '.join(unknown)}")


def migrate(transaction: lmdb.Transaction[bytes]) -> None:
    """Make an index of format 1 one of format 2, whose only difference is that it may need its log.

    A release that knows only the first must not open it then.
    """
    key = row_prefix(keys.ROOT) + keys.FORMAT
    row = transaction.get(key)
    if row is not None:
        found = records.decode(Format, row)
        if found.version < FORMAT_VERSION and _FLAGS.issuperset(found.flags):
            found = msgspec.structs.replace(found, version=FORMAT_VERSION, min_reader=FORMAT_VERSION)
            transaction.put(key, records.encode(found))
