"""Rows as the writer of the index changes them: each is read and written once for all commits of a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import lmdb

from aisobj.storage import keys
from aisobj.storage.index_protocol import Commit, holds
from aisobj.storage.lmdb_env import row_prefix


class IndexRows:
    """The rows of an index with some commits applied, one after another, before any of it is written.

    :param get: reads a row as it was.
    """

    __slots__ = ("_changed", "_get", "_read")
    _changed: dict[bytes, bytes | tuple[int, ...] | None]  # counters that were added to are encoded in the end

    def __init__(self, get: Callable[[bytes], bytes | None]) -> None:
        self._get = get
        self._read: dict[bytes, bytes | None] = {}
        self._changed = {}

    def get(self, key: bytes) -> bytes | None:
        """A row as the commits so far leave it, by its whole key."""
        changed = self._changed
        if key in changed:
            value = changed[key]
            return keys.encode_counters(value) if isinstance(value, tuple) else value
        read = self._read
        if key in read:
            return read[key]
        row = read[key] = self._get(key)
        return row

    def apply(self, commit: Commit) -> bool:
        """Whether what it expects is true, and then it is applied.

        Raises ValueError or struct.error where a counters row does not have the form or the width of what is added.
        Some of the commit may have been applied then: none of them can be written.
        """
        prefix = row_prefix(commit.partition)
        for key, wanted in commit.expect.items():
            if not holds(self.get(prefix + key), wanted):
                return False
        changed = self._changed
        for key in commit.delete:
            changed[prefix + key] = None
        for key, value in commit.put.items():
            changed[prefix + key] = value
        for key, amounts in commit.add.items():
            self._add(prefix + key, amounts)
        for partition, rows in commit.found.items():
            prefix = row_prefix(partition)
            for key, value in rows.items():
                changed[prefix + key] = value
        return True

    def _add(self, key: bytes, amounts: Sequence[int]) -> None:
        value = self._changed.get(key)
        if not isinstance(value, tuple):
            row = self.get(key)
            value = None if row is None else keys.counters_in(row)
        self._changed[key] = tuple(amounts) if value is None else keys.sum_counters(value, amounts)

    def changes(self) -> tuple[list[bytes], dict[bytes, bytes]]:
        """(keys of rows to delete, rows to put): what is different from what ``get`` read, or may be. Raises
        struct.error where a sum has become too large."""
        put = {
            key: keys.encode_counters(value) if isinstance(value, tuple) else value
            for key, value in self._changed.items()
            if value is not None
        }
        return [key for key in self._changed if key not in put] if len(put) < len(self._changed) else [], put


def write_rows(transaction: lmdb.Transaction[bytes], delete: Sequence[bytes], put: Mapping[bytes, bytes]) -> None:
    """Raises lmdb.Error."""
    for key in delete:
        transaction.delete(key)
    if put:
        with transaction.cursor() as cursor:
            cursor.putmulti(sorted(put.items()))
