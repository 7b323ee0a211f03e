"""The index for those who only read it: the tools, beside a running server or without one. No reactor, no writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb

from aisobj.errors import FormatError, StorageError
from aisobj.storage.lmdb_env import MAP_SIZE, MAX_READERS, begin_reading, row_prefix
from aisobj.storage.lmdb_index import LmdbSnapshot


class IndexReader:
    """Reads pages, each from a snapshot of its own, so that a server reuses its pages meanwhile.

    :param environment: opened by somebody else, who closes it; :meth:`open` makes a reader with one of its own.
    """

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment

    @classmethod
    def open(cls, path: Path) -> IndexReader:
        """Open ``DATA/index`` read-only, or a backup (a file). The caller closes it.

        :raises FormatError: it is not LMDB 1.0's. :raises StorageError: there is none, or it cannot be opened.
        """
        single = path.is_file()
        if not single and not (path / "data.mdb").exists():
            raise StorageError(f"{path} holds no index")
        try:
            environment = lmdb.open(
                str(path),
                lib_version=1,
                subdir=not single,
                readonly=True,
                lock=not single,  # nobody changes a backup
                map_size=MAP_SIZE,
                max_readers=MAX_READERS,
                readahead=False,
            )
        except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise FormatError(f"{path} is no index of this release: {error}") from error
        except (lmdb.Error, OSError) as error:
            raise StorageError(f"the index {path} cannot be opened: {error}") from error
        return cls(environment)

    def close(self) -> None:
        self.environment.close()

    def snapshot(self, partition: bytes) -> LmdbSnapshot:
        """The caller closes it, after a page at most."""
        return LmdbSnapshot(self.environment, partition)

    def get(self, partition: bytes, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """As ``IIndex.get``."""
        snapshot = self.snapshot(partition)
        try:
            return [snapshot.get(key) for key in row_keys]
        finally:
            snapshot.close()

    def scan(self, partition: bytes, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """As ``IIndex.scan``."""
        snapshot = self.snapshot(partition)
        try:
            return list(snapshot.scan(after, prefix, limit))
        finally:
            snapshot.close()

    def partitions(self) -> Iterator[bytes]:
        """The names of all partitions that have rows, in order; each looked up when it is asked for."""
        start = b"\0"
        while True:
            with begin_reading(self.environment) as transaction, transaction.cursor() as cursor:
                if not cursor.set_range(start):
                    return
                row_key: bytes = cursor.key()
            partition = row_key[1 : 1 + row_key[0]]
            yield partition
            start = _beyond(row_prefix(partition))


def _beyond(prefix: bytes) -> bytes:
    """The smallest key that is greater than all that begin with ``prefix``."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])
