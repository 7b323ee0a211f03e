"""The index on LMDB: readers in the calling thread, commits through the one writer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import lmdb
from twisted.internet.defer import Deferred
from zope.interface import implementer

from aisobj.storage.index_client import IIndexReactor, WriterClient
from aisobj.storage.index_protocol import MAX_KEY, MAX_PARTITION, prepare_commit
from aisobj.storage.index_recovery import Migrate, recover
from aisobj.storage.index_writer_start import ProcessWriter, StartWriter, ThreadWriter
from aisobj.storage.interfaces import CommitResult, Expectations, IIndex, ISnapshot, Take, cut
from aisobj.storage.lmdb_env import MAP_SIZE, begin_reading, open_environment, row_prefix

_FIRST_BATCH = 16
#: of a key in LMDB: a partition's name behind its length, and a row's key
_LONGEST = 1 + MAX_PARTITION + MAX_KEY

_Row = tuple[bytes, bytes]


@implementer(ISnapshot)
class LmdbSnapshot:
    """A read transaction. While it is open LMDB reuses no page that was freed since."""

    __slots__ = ("_cursor", "_prefix", "_transaction", "version")

    def __init__(self, environment: lmdb.Environment, partition: bytes) -> None:
        self._prefix = row_prefix(partition)
        self._transaction = begin_reading(environment)
        self.version = self._transaction.id()
        self._cursor: lmdb.Cursor | None = None

    def turn_to(self, partition: bytes) -> None:
        self._prefix = row_prefix(partition)

    def get(self, key: bytes) -> bytes | None:
        return self._transaction.get(self._prefix + key)

    def scan(self, after: bytes, prefix: bytes, limit: int, lead: bytes = b"", take: Take[Any] = cut) -> list[Any]:
        cursor: Any = self._cursor  # a cast of each row is a call for each group
        if cursor is None:
            cursor = self._cursor = self._transaction.cursor()
        before = self._prefix + lead
        first = before + (after + b"\0" if after >= prefix else prefix)  # first_row, which is called for each group
        if not (cursor.set_range(first) if len(first) <= _LONGEST else self._set_range(cursor, first)):
            return []
        if limit == 1 and take is cut:  # the next group's first key: what a listing with a delimiter mostly costs
            row: _Row = cursor.item()
            key, value = row
            return [(key[len(before) :], value)] if key.startswith(before + prefix) else []
        return _read(cursor, before + prefix, slice(len(before), None), limit, take)

    def _set_range(self, cursor: lmdb.Cursor, first: bytes) -> bool:
        """Of a key that is longer than LMDB looks for. Of those that it can hold the shortened one is the only one too
        many: it is not greater than the long one, whose beginning it is."""
        found: bool = cursor.set_range(first[:_LONGEST])
        return found and (cast(bytes, cursor.key()) > first or cursor.next())

    def close(self) -> None:
        self._transaction.abort()


def _read(cursor: lmdb.Cursor, within: bytes, own: slice, limit: int, take: Take[Any]) -> list[Any]:
    """Rows from where the cursor stands, as long as their keys start with ``within``.

    No line of Python runs for a row but what ``take`` does, so rows are read ahead: more, the more have been right.
    """
    found: list[Any] = []
    following = cast(Iterator[_Row], cursor.iternext())
    batch = _FIRST_BATCH
    while limit > 0:
        rows = list(islice(following, min(batch, limit)))
        right = len(rows)
        if rows and not rows[-1][0].startswith(within):
            # All up to one are right, and they come first: keys are in order, and none is less than the first of them.
            right = bisect_left(rows, True, key=lambda row: not row[0].startswith(within))
        found += take(rows if right == len(rows) else rows[:right], own)
        if right < min(batch, limit):
            break
        limit -= right
        batch *= 4
    return found


@implementer(IIndex)
class LmdbIndex:
    """:meth:`open` makes one. Not before a fork (twistd daemonizes): from a service's start, not from ``makeService``.

    Several processes may have the same index open, each once, and see each other's commits at once.
    """

    def __init__(self, environment: lmdb.Environment, reactor: IIndexReactor, start_writer: StartWriter) -> None:
        self._environment = environment
        self._writer = WriterClient(reactor, start_writer)
        self._closed: Deferred[None] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        reactor: IIndexReactor,
        sync: bool = True,
        writer: Literal["process", "thread"] = "process",
        map_size: int = MAP_SIZE,
        keep_open: int | None = None,
        start_writer: StartWriter | None = None,
        migrate: Migrate | None = None,
    ) -> LmdbIndex:
        """Open, or make, the index in the directory ``path`` (its parent must exist) and start its writer.

        :param sync: False gives up durability (a power cut may lose or spoil everything), for throw-away servers.
        :param writer: a thread has to wait for the interpreter at every row it writes. Measured with 32 durable
            commits of 4 KiB in flight beside a LIST loop (``benchmarks/index_commit.py``): 2,100 commits/s, p99 36 ms,
            against 4,400/s and 11 ms for the process; it also costs the server 130 us a commit instead of 45.
        :param map_size: the most bytes the index may grow to; the same in every process.
        :param keep_open: a file descriptor that the writer process holds too: the lock of the data directory, so that
            no other server begins before a writer whose server was killed has finished what it got.
        :param start_writer: instead of ``writer`` and ``keep_open``: how to get at a writer that somebody else runs,
            and who has called ``recover``. Without it that is done here, so nobody else may have the index open.
        :param migrate: for ``recover``.
        :raises FormatError: another format. :raises StorageError: it cannot be opened, made or synced.
        """
        if start_writer is None:
            recover(path, sync=sync, map_size=map_size, migrate=migrate)
        environment = open_environment(path, sync=sync, map_size=map_size)
        environment.reader_check()
        if start_writer is None:
            start_writer = (
                ProcessWriter(reactor, path, sync, map_size, keep_open).start
                if writer == "process"
                else ThreadWriter(environment, path if sync else None).start
            )
        return cls(environment, reactor, start_writer)

    @property
    def read_only(self) -> str:
        return self._writer.read_only

    @property
    def environment(self) -> lmdb.Environment:
        """For reads that are no part of ``IIndex`` (``upkeep``); closed by :meth:`close`."""
        return self._environment

    def refuse(self, why: str) -> None:
        """Write nothing more, here and in every process that uses the index: a sync of something else has failed."""
        self._writer.refuse(why)

    def get(self, partition: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        prefix = row_prefix(partition)
        transaction = begin_reading(self._environment)
        try:
            get = transaction.get
            return [get(prefix + key) for key in keys]
        finally:
            transaction.abort()

    def snapshot(self, partition: bytes) -> LmdbSnapshot:
        return LmdbSnapshot(self._environment, partition)

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
        """As ``IIndex``. Raises ValueError for a key or a commit that is too large."""
        return self._writer.commit(prepare_commit(partition, expect, put, delete, add, found))

    def close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = self._writer.close().addCallback(lambda _: self._environment.close())
        done: Deferred[None] = Deferred()
        self._closed.chainDeferred(done)
        return done
