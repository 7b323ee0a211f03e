"""The embedded engine in a data directory of its own: LMDB for the index, files for blobs.

::

    DATA/lock      held by the one server that uses the directory
    DATA/writer    the socket at which the index writer takes the workers of a server that has several
    DATA/index/    LMDB (``lmdb_index``)
    DATA/blobs/    files (``file_blobs``); in it ``quarantine`` and ``orphans``
    DATA/backups/  copies of the index (``index_backup``), made now and then (``upkeep``)
    DATA/scrub.json   where the background scrub is
    DATA/ballast   given up when the disk is full, so that deletes still work
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from aisobj.errors import StorageError
from aisobj.storage import keys, records
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.disk_pool import DiskPool
from aisobj.storage.engine import Ballast, Changes
from aisobj.storage.file_blobs import RESERVE, FileBlobs
from aisobj.storage.formats import check_format, first_format, migrate
from aisobj.storage.ids import IdMaker
from aisobj.storage.index_backup import DIRECTORY, backups
from aisobj.storage.index_client import IIndexReactor, WriterClient
from aisobj.storage.index_log import DATA_NAME
from aisobj.storage.index_recovery import recover
from aisobj.storage.index_writer_start import ProcessWriter, connector, directory, short_path
from aisobj.storage.interfaces import IIndex
from aisobj.storage.lmdb_env import MAP_SIZE
from aisobj.storage.lmdb_index import LmdbIndex
from aisobj.storage.store import ObjectStore
from aisobj.storage.upkeep import EmbeddedUpkeep, IUpkeepReactor, UpkeepSettings

_BALLAST = 32 << 20
_INDEX = "index"
_WRITER = "writer"
#: How long a start waits for the directory's lock.
_LOCK_SECONDS = 2.0


class IEmbeddedReactor(IIndexReactor, IUpkeepReactor):
    """What the embedded engine needs of a reactor."""


class DataDirectory:
    """A data directory that nobody else uses. ``release`` gives it back; so does the end of the process.

    The lock belongs to the open file, so it lives on in every process that inherited it: in a daemon that was forked,
    and in an index writer whose server was killed, until it has finished what it got.

    :ivar descriptor: of the open lock file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def lock_data_directory(path: Path) -> DataDirectory:
    """Make the directory if it is missing, and lock it.

    :raises StorageError: another server has it, or it cannot be written; the text is one line for the operator.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"the data directory {path} cannot be used: {error.strerror}") from None
    try:
        _lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise StorageError(f"another server is using the data directory {path}") from None
        raise StorageError(f"the data directory {path} cannot be locked: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        os.close(descriptor)
        raise StorageError(f"the data directory {path} is not writable")
    return DataDirectory(path, descriptor)


def writer_socket(path: Path) -> socket.socket:
    """The listening socket of the index writer in a locked data directory, for its owner only. The caller closes it.

    :raises StorageError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with directory(path) as descriptor:
            (path / _WRITER).unlink(missing_ok=True)  # of an earlier server
            listener.bind(short_path(descriptor, _WRITER))
            (path / _WRITER).chmod(0o600)  # nobody gets in before it listens
        listener.listen()
    except OSError as error:
        listener.close()
        raise StorageError(f"the data directory {path} takes no Unix socket: {error.strerror}") from None
    return listener


def remove_writer_socket(path: Path) -> None:
    """At the end, while the directory is still locked."""
    (path / _WRITER).unlink(missing_ok=True)


def start_writer(
    data: DataDirectory, listener: socket.socket, *, reactor: IIndexReactor, sync: bool = True
) -> WriterClient:
    """Run the index writer of a server with several workers, and run it again when it dies; the caller closes it.

    :param listener: of :func:`writer_socket`; stays the caller's, since it outlives a writer.
    """
    _refuse_lost_index(data.path)
    recover(data.path / _INDEX, sync=sync, migrate=migrate)
    writer = ProcessWriter(reactor, data.path / _INDEX, sync, MAP_SIZE, data.descriptor, listener.fileno())
    return WriterClient(reactor, writer.start)


def _lock(descriptor: int) -> None:
    """Lock, with a little patience for what a server that was killed has left running. Raises OSError."""
    patience = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > patience:
                raise
            time.sleep(0.02)


async def open_store(
    path: Path,
    *,
    reactor: IEmbeddedReactor,
    sync: bool = True,
    reserve: int = RESERVE,
    lock: DataDirectory | None = None,
    shared: bool = False,
    upkeep: UpkeepSettings | None = None,
) -> ObjectStore:
    """Open what a locked data directory holds, or begin it. Not before a fork. The caller starts and closes the store.

    :param sync: False: nothing survives a power cut.
    :param reserve: bytes of free space below which nothing new is stored.
    :param lock: shared with the index writer; without it the caller must know that no writer of an earlier server runs.
    :param shared: for one worker of several: the writer is the one that serves :func:`writer_socket`.
    :param upkeep: what is done in the background, where the store is started with ``sweep``. None: nothing.
    :raises FormatError: a newer release wrote it. :raises StorageError: it cannot be opened, or has lost its index.
    """
    ids = IdMaker()
    if not shared:
        _refuse_lost_index(path)
    pool = DiskPool()
    keep_open = None if lock is None else lock.descriptor
    connect = connector(path / _WRITER) if shared else None
    index = LmdbIndex.open(
        path / _INDEX, reactor=reactor, sync=sync, keep_open=keep_open, start_writer=connect, migrate=migrate
    )
    try:
        await _check_format(path, index, ids)
        pool.start()
        blobs = FileBlobs(
            path / "blobs",
            reactor=reactor,
            pool=pool,
            ids=ids,
            sync=sync,
            reserve=reserve,
            on_read_only=index.refuse,
        )
        ballast = FileBallast(path / "ballast")
        if blobs.free_space() > reserve + _BALLAST:
            ballast.fill()
    except BaseException:
        await index.close()
        if pool.started:
            pool.stop()
        raise
    store = ObjectStore(
        index,
        blobs,
        reactor,
        ids=ids,
        ballast=ballast,
        findings=blobs,
        upkeep=EmbeddedUpkeep(reactor, pool, upkeep, path, index.environment, reserve) if upkeep else None,
        closed=pool.stop,
    )
    if shared:
        store.sweeper.others = bytes(16)  # until the master says more
    return store


class FileBallast(Ballast):
    """A file of zeros that takes up space until it is needed: once for all processes that use the directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._filled = False

    def fill(self) -> None:
        """Take the space, if it is not taken yet. A file system that cannot promise space has no ballast."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"the ballast {self._path} cannot be made: {error.strerror}") from error
        try:
            os.posix_fallocate(descriptor, 0, _BALLAST)
            self._filled = True
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        try:
            self._path.unlink()
        except FileNotFoundError:
            had, self._filled = self._filled, False
            return had  # another worker was quicker: there is room for us too
        except OSError:
            return False
        self._filled = False
        return True


async def _check_format(path: Path, index: IIndex, ids: IdMaker) -> None:
    """Read the format row, or write it into an index that is new, and with it the first checkpoint."""
    row = index.get(keys.ROOT, (keys.FORMAT,))[0]
    if row is None and _has_stored(path):
        row = index.get(keys.ROOT, (keys.FORMAT,))[0]  # another worker was quicker to begin, and has stored since
        if row is None:
            raise _lost_index(path)
    if row is not None:
        check_format(row, "the data directory")
        return
    changes = Changes(keys.ROOT)
    changes.expect_row(keys.FORMAT, None)
    changes.put[keys.FORMAT] = first_format(ids.make())
    changes.put[keys.CHECKPOINT] = records.seal(bytes(16))
    await index.commit(changes.partition, changes.expect, changes.put)


def _refuse_lost_index(path: Path) -> None:
    """An index that is not there is not begun anew where there has been one: everything would be without an owner.

    Nobody else uses the data directory. :raises StorageError:
    """
    data = path / _INDEX / DATA_NAME
    if not (data.exists() and data.stat().st_size) and _has_stored(path):
        raise _lost_index(path)


def _has_stored(path: Path) -> bool:
    """Whether a store has been used there: it has left blobs, or backups of its index."""
    return bool(backups(path / DIRECTORY)) or any(True for _ in BlobFiles(path / "blobs").walk())


def _lost_index(path: Path) -> StorageError:
    return StorageError(
        f"the data directory {path} has lost its index, but not its blobs or backups: see ais-s3 restore and "
        "rebuild-index, or empty it"
    )
