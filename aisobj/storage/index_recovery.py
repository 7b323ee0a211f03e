"""Before anybody opens the index: whatever its last server left becomes what it had acknowledged, on the disk, and
needs no log any more (``index_log``). After a power cut LMDB's file by itself may be unreadable; here it becomes whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import lmdb

from aisobj.errors import CorruptData, StorageError
from aisobj.storage.index_log import DATA_NAME, LOG_NAMES, LogFile, Rows, clear_logs, latest
from aisobj.storage.index_rows import write_rows
from aisobj.storage.lmdb_env import MAP_SIZE, open_environment

#: Records that are applied in one transaction; its pages are held in memory.
_AT_ONCE = 256

#: Changes rows of an index that an earlier release wrote.
Migrate = Callable[["lmdb.Transaction[bytes]"], None]


def needs_recovery(path: Path) -> bool:
    """Whether a server left a log there: it still runs, or it was killed. Raises FormatError, StorageError."""
    with _Logs(path) as logs:
        return bool(logs.files)


def recover(path: Path, *, sync: bool = True, map_size: int = MAP_SIZE, migrate: Migrate | None = None) -> None:
    """Make the index in the directory ``path`` whole, if there is one. Nobody else may have it open.

    It is the same however often it is begun and not finished.

    :param sync: False: nothing has to survive a power cut.
    :param migrate: is done in a transaction of its own, when all else is.
    :raises FormatError: a newer release wrote it. :raises StorageError: it cannot be done.
    :raises CorruptData: a log is damaged; nothing has been changed.
    """
    if not (path / DATA_NAME).exists():
        return
    try:
        with _Logs(path) as logs:
            for file in logs.files:
                file.verify()  # before anything is changed
            if logs.files:
                _restore(path / DATA_NAME, logs.files[0].meta_pages)
            environment = open_environment(path, sync=sync, map_size=map_size)
            try:
                # As long as the logs count: LMDB must leave the tree alone that they begin with.
                base = environment.begin()
                for file in logs.files:
                    _apply(environment, file.records())
                if migrate is not None:
                    with environment.begin(write=True) as transaction:
                        migrate(transaction)
                base.abort()
                if sync:
                    environment.sync(True)
            finally:
                environment.close()
            logs.clear()
    except (lmdb.Error, OSError) as error:
        raise StorageError(f"the index {path} cannot be made whole: {error}") from error


class _Logs:
    """The logs that count, oldest first; none after an orderly end."""

    def __init__(self, path: Path) -> None:
        self._open: list[LogFile] = []
        self.files: list[LogFile] = []
        try:
            for name in LOG_NAMES:
                if (path / name).exists():
                    self._open.append(LogFile(path / name, create=False))
            self.files = self._that_count(path)
        except OSError as error:
            self.__exit__()
            raise StorageError(f"the log of the index {path} cannot be read: {error}") from error
        except BaseException:
            self.__exit__()
            raise

    def _that_count(self, path: Path) -> list[LogFile]:
        """Raises CorruptData where they are not what any server leaves, however it ended."""
        files = sorted((file for file in self._open if file.generation), key=lambda file: file.generation)
        if any(file.marked > latest(self._open) for file in self._open):
            # A mark is written when the rest of the beginning is on the disk, and taken away before the next one is.
            raise CorruptData(f"a log of the index {path} has a damaged beginning")
        if files and files[-1].durable:
            files = files[-1:]
        if files and not files[0].durable:
            if not self._is_none(files[0]):
                raise CorruptData(f"the logs of the index {path} have no base")
            files = []
        lost = any(file.cleared for file in self._open) and any(file.blank and file.size for file in self._open)
        if not files and lost:
            # Both are cleared together, and a log that begins leaves no zeros: a disk that fails does.
            raise CorruptData(f"a log of the index {path} has been lost")
        return files

    def _is_none(self, log: LogFile) -> bool:
        """Whether this one, which has no mark and is alone, was about to begin, or was the next to be cleared: the
        index is on the disk, and is what it was.
        """
        others = [file for file in self._open if file is not log]
        if others and all(file.cleared >= log.generation for file in others):
            return True
        return all(file.cleared or file.blank for file in others) and next(log.records(), None) is None

    def clear(self) -> None:
        """As ``clear_logs``."""
        clear_logs(self._open)

    def __enter__(self) -> _Logs:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            file.close()


def _restore(data: Path, meta_pages: bytes) -> None:
    """Make the base what the file shows. Raises OSError."""
    descriptor = os.open(data, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, meta_pages, 0)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _apply(environment: lmdb.Environment, records: Iterable[Rows]) -> None:
    """Raises lmdb.Error."""
    transaction = environment.begin(write=True)
    try:
        for number, (delete, put) in enumerate(records, 1):
            write_rows(transaction, delete, put)
            if not number % _AT_ONCE:
                transaction.commit()
                transaction = environment.begin(write=True)
        transaction.commit()
    except BaseException:
        transaction.abort()
        raise
