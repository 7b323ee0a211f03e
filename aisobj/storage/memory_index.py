"""The index in memory, for tests: what ``lmdb_index`` promises but durability. A commit is done when it returns."""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from aisobj.errors import StorageError, StoreReadOnly
from aisobj.storage.index_protocol import Commit, first_row, holds, prepare_commit
from aisobj.storage.interfaces import CommitResult, Expectations, IIndex, ISnapshot, Take, cut
from aisobj.storage.keys import add_counters


class _Rows:
    """One partition: rows by key, and their keys in order. Copied before a change while a snapshot shows it."""

    __slots__ = ("by_key", "order", "snapshots")

    def __init__(self, by_key: dict[bytes, bytes], order: list[bytes]) -> None:
        self.by_key = by_key
        self.order = order
        self.snapshots = 0

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.by_key:
            insort(self.order, key)
        self.by_key[key] = value

    def delete(self, key: bytes) -> None:
        if self.by_key.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]


@implementer(ISnapshot)
class MemorySnapshot:
    """Keeps a partition's rows from changing under it."""

    def __init__(self, find: Callable[[bytes], _Rows], partition: bytes, version: int) -> None:
        self.version = version
        self._find = find
        self._rows = find(partition)
        self._open = True
        self._rows.snapshots += 1

    def turn_to(self, partition: bytes) -> None:
        self._rows.snapshots -= 1
        self._rows = self._find(partition)
        self._rows.snapshots += 1

    def get(self, key: bytes) -> bytes | None:
        return self._rows.by_key.get(key)

    def scan(self, after: bytes, prefix: bytes, limit: int, lead: bytes = b"", take: Take[Any] = cut) -> list[Any]:
        order, by_key = self._rows.order, self._rows.by_key
        start = bisect_left(order, lead + first_row(after, prefix))
        within = takewhile(lambda key: key.startswith(lead + prefix), islice(order, start, start + limit))
        return take([(key, by_key[key]) for key in within], slice(len(lead), None))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._rows.snapshots -= 1


@implementer(IIndex)
class MemoryIndex:
    """For one thread."""

    def __init__(self) -> None:
        self.read_only = ""
        self._partitions: dict[bytes, _Rows] = {}
        self._version = 0

    def _rows(self, partition: bytes) -> _Rows:
        return self._partitions.setdefault(partition, _Rows({}, []))

    def rows(self) -> dict[bytes, dict[bytes, bytes]]:
        """A copy of everything: partition -> its rows."""
        return {name: dict(rows.by_key) for name, rows in self._partitions.items() if rows.by_key}

    def reset(self, rows: Mapping[bytes, Mapping[bytes, bytes]]) -> None:
        """Hold these, and nothing else."""
        self._version += 1
        self._partitions = {name: _Rows(dict(by_key), sorted(by_key)) for name, by_key in rows.items()}

    def get(self, partition: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        rows = self._rows(partition).by_key
        return [rows.get(key) for key in keys]

    def snapshot(self, partition: bytes) -> MemorySnapshot:
        return MemorySnapshot(self._rows, partition, self._version)

    def scan(self, partition: bytes, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        snapshot = self.snapshot(partition)
        try:
            return snapshot.scan(after, prefix, limit)
        finally:
            snapshot.close()

    def commit(
        self,
        partition: bytes,
        expect: Expectations,
        put: Mapping[bytes, bytes],
        delete: Sequence[bytes] = (),
        add: Mapping[bytes, Sequence[int]] = {},
        found: Mapping[bytes, Mapping[bytes, bytes]] = {},
    ) -> Deferred[CommitResult]:
        """As ``IIndex``. Raises ValueError for a key that no row can have."""
        commit = prepare_commit(partition, expect, put, delete, add, found)
        if self.read_only:
            return fail(StoreReadOnly(self.read_only))
        rows = self._rows(partition)
        try:
            change = _changes(commit, rows.by_key.get)
        except (ValueError, struct.error) as error:
            return fail(StorageError(f"{type(error).__name__}: {error}"))
        if change is None:
            return succeed(CommitResult.CONFLICT)
        if rows.snapshots:
            rows = self._partitions[partition] = _Rows(dict(rows.by_key), list(rows.order))
        self._version += 1
        deleted, put_rows = change
        for key in deleted:
            rows.delete(key)
        for key, value in put_rows.items():
            rows.put(key, value)
        for name, first_rows in commit.found.items():
            for key, value in first_rows.items():
                self._rows(name).put(key, value)
        return succeed(CommitResult.OK)

    def close(self) -> Deferred[None]:
        self.read_only = "the index is closed"
        return succeed(None)


def _changes(
    commit: Commit, get: Callable[[bytes], bytes | None]
) -> tuple[Collection[bytes], Mapping[bytes, bytes]] | None:
    """What a commit does to a partition whose rows ``get`` reads: (keys to delete, rows to put). None: a conflict.

    Raises ValueError or struct.error where a counters row does not have the form or the width of what is added.
    """
    for key, wanted in commit.expect.items():
        if not holds(get(key), wanted):
            return None
    put = commit.put
    if commit.add:
        put = dict(put)
        for key, amounts in commit.add.items():
            old = put.get(key) if key in put or key in commit.delete else get(key)
            put[key] = add_counters(old, amounts)
    return commit.delete, put
