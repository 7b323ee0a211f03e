"""Blob files in their directories: names, syncs, free space. All of it runs in the disk pool."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from aisobj.errors import StorageError, StoreFull, StoreReadOnly
from aisobj.storage.blob_format import BLOB_NAME, LEAF, LEAF_NS, TOP, blob_path
from aisobj.storage.files import FileSystem
from aisobj.storage.orphans import ORPHANS, orphans_name
from aisobj.storage.quarantine import Quarantine

#: Errors that mean "no room": the disk, a quota, or a limit on the size of a file.
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

#: An empty directory is removed only this long after its time, when nobody can be about to rename a blob into it.
_PRUNE_AFTER_NS = 3600 * 10**9

#: How many leaf directories are remembered as durable; one is current, for 69 s.
_KNOWN = 64

_TOP_NAME = re.compile(r"[0-9a-f]{5}")
_LEAF_NAME = re.compile(r"[0-9a-f]{2}")


def storage_error(error: OSError) -> StorageError:
    """What an OSError of a blob file is called above this floor."""
    return StoreFull(str(error)) if error.errno in _FULL else StorageError(str(error))


class BlobDirectory:
    """The tree of blob files under ``root``. Any number of threads, and of processes, may use one.

    :ivar quarantine: where blobs go that were found corrupt.
    :ivar failed: why nothing more is written, once a sync has failed; it stays.
    :ivar free: bytes that the file system had left when :meth:`measure` was last called.
    :ivar measured: when that was, in seconds of ``time.monotonic``.
    :ivar in_flight: bytes that writers hold in memory. The reactor's thread counts them.
    """

    def __init__(
        self, root: str, *, sync: bool, reserve: int, fs: FileSystem, now: Callable[[], int] = time.time_ns
    ) -> None:
        """:param reserve: bytes to leave free. :param now: nanoseconds since the epoch.

        Makes ``root`` and its ``tmp`` where they are missing. :raises StorageError: it cannot.
        """
        self.root = root
        self.temporary = os.path.join(root, "tmp")
        self.fs = fs
        self.quarantine = Quarantine(root)
        self.sync = sync
        self.failed = ""
        self.free = 0
        self.measured = 0.0
        self.in_flight = 0
        self.reserve = reserve
        self._now = now
        self._known: set[str] = set()
        try:
            for path in (root, self.temporary):
                self._make_directory(path)
                self.sync_directory(os.path.dirname(path))
            self.measure()
        except OSError as error:
            raise storage_error(error) from error

    def path(self, blob_id: bytes) -> str:
        return blob_path(self.root, blob_id)

    def temporary_path(self) -> str:
        """A fresh name on the same file system, which :meth:`clean` will find."""
        return os.path.join(self.temporary, os.urandom(16).hex())

    # Space

    def measure(self) -> None:
        """Ask the file system how much is free (3 µs on ext4). :raises OSError:"""
        answer = self.fs.statvfs(self.root)
        self.free = answer.f_bavail * answer.f_frsize
        self.measured = time.monotonic()

    def make_room(self, length: int) -> None:
        """Call before ``length`` bytes are written. :raises StoreFull: they would go into the reserve."""
        self.measure()
        if self.free - length < self.reserve:
            raise StoreFull(f"{self.free} bytes free in {self.root}, of which {self.reserve} are kept")

    # Syncs. One that failed is never tried again: the kernel may have dropped the pages, and a second call would lie.

    def require_writable(self) -> None:
        """:raises StoreReadOnly: a sync has failed."""
        if self.failed:
            raise StoreReadOnly(self.failed)

    def sync_file(self, fd: int, path: str) -> None:
        """Wait until the file's bytes are on disk. :raises StoreReadOnly: nobody knows whether they are."""
        if self.sync:
            self._sync(self.fs.fdatasync, fd, path)

    def sync_directory(self, path: str) -> None:
        """Wait until the names in a directory are on disk. :raises StoreReadOnly: as above. :raises OSError:"""
        if not self.sync:
            return
        fd = self.fs.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(self.fs.fsync, fd, path)
        finally:
            self.fs.close(fd)

    def _sync(self, call: Callable[[int], None], fd: int, path: str) -> None:
        self.require_writable()
        try:
            call(fd)
        except OSError as error:
            self.failed = f"the sync of {path} failed: {error}"
            raise StoreReadOnly(self.failed) from error

    # Names

    def place(self, blob_id: bytes, put: Callable[[str], None]) -> None:
        """Give a blob its name, durably.

        :param put: makes the file appear at the path it is given, by rename or link.
        :raises OSError: from ``put`` or a directory; StoreReadOnly.
        """
        path = self.path(blob_id)
        leaf = os.path.dirname(path)
        self._prepare(leaf)
        try:
            put(path)
        except FileNotFoundError:  # an empty directory that has been pruned
            self._known.discard(leaf)
            self._prepare(leaf)
            put(path)
        # Syncs of one directory from several threads already share the journal's commit: sharing the call as well
        # changed nothing in a trial (16 threads, ext4: 1,350 files/s each way).
        self.sync_directory(leaf)

    def _prepare(self, leaf: str) -> None:
        """Make a leaf directory and its parent, durably.

        Also where they exist: another process may have made them and not have synced them yet.
        """
        if leaf in self._known:
            return
        top = os.path.dirname(leaf)
        self._make_directory(top)
        self._make_directory(leaf)
        self.sync_directory(self.root)
        self.sync_directory(top)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(leaf)

    def _make_directory(self, path: str) -> None:
        with suppress(FileExistsError):
            self.fs.mkdir(path)

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        """Unlink blobs, durably; one that is not there is no error.

        :raises StorageError: some could not be; all the others are gone.
        """
        leaves: set[str] = set()
        failure: OSError | None = None
        for blob_id in blob_ids:
            path = self.path(blob_id)
            leaves.add(os.path.dirname(path))
            try:
                self.fs.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                failure = error
        for leaf in leaves:
            try:
                self._sync_removal(leaf)
            except OSError as error:
                failure = error
        if failure is not None:
            raise storage_error(failure) from failure

    def set_aside(self, blob_ids: Iterable[bytes]) -> str:
        """Move blobs to the orphans, durably; one that is not there is no error. Where they are now.

        :raises StorageError: some could not be; they are where they were.
        """
        top = os.path.join(self.root, ORPHANS)
        target = os.path.join(top, orphans_name(self._now()))
        leaves: set[str] = set()
        try:
            self._make_directory(top)
            self._make_directory(target)
            for blob_id in blob_ids:
                path = self.path(blob_id)
                with suppress(FileNotFoundError):
                    self.fs.rename(path, os.path.join(target, blob_id.hex()))
                    leaves.add(os.path.dirname(path))
            for directory in (target, top, self.root, *leaves):  # their new names first
                self.sync_directory(directory)
        except OSError as error:
            raise storage_error(error) from error
        return target

    def _sync_removal(self, leaf: str) -> None:
        if not self.failed:  # then no index row that names the blob can go away either
            try:
                self.sync_directory(leaf)
            except FileNotFoundError:
                return
        top = os.path.dirname(leaf)
        began = int(os.path.basename(top) + os.path.basename(leaf), 16) * LEAF_NS
        if began + LEAF_NS + _PRUNE_AFTER_NS < self._now():
            try:
                self.fs.rmdir(leaf)
                self.fs.rmdir(top)
            except OSError:
                return  # not empty, nearly always; an empty directory that stays does no harm

    def newer_than(self, blob_id: bytes) -> list[bytes]:
        """The ids of the blobs with a greater id, in order. Looks at no directory of an earlier time.

        :raises OSError:
        """
        since = blob_id.hex()
        found: list[bytes] = []
        for top in self._names(self.root, _TOP_NAME):
            if top < since[TOP]:
                continue
            for leaf in self._names(os.path.join(self.root, top), _LEAF_NAME):
                if (top, leaf) < (since[TOP], since[LEAF]):
                    continue
                names = self._names(os.path.join(self.root, top, leaf), BLOB_NAME)
                found += [bytes.fromhex(name) for name in names if name > since]
        found.sort()
        return found

    def _names(self, path: str, form: re.Pattern[str]) -> Sequence[str]:
        try:
            return [name for name in self.fs.listdir(path) if form.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):  # pruned meanwhile; or not ours
            return []

    def clean(self) -> int:
        """Unlink what a crash left half written; how many files. :raises OSError:"""
        names = self.fs.listdir(self.temporary)
        for name in names:
            self.fs.unlink(os.path.join(self.temporary, name))
        return len(names)
