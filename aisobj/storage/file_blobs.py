"""Blobs as files: one immutable file each, under a path made of its id. ``blob_format`` has the layout."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from aisobj.errors import CorruptData, StoreFull, StoreReadOnly
from aisobj.storage.blob_directory import BlobDirectory
from aisobj.storage.blob_reader import (
    Buffers,
    CacheReads,
    FileBlobReader,
    OpenBlob,
    open_blob,
    open_cached_blob,
    quarantine_if_corrupt,
)
from aisobj.storage.blob_writer import FileBlobWriter, Update, clone_blob, remove_quietly
from aisobj.storage.engine import Findings
from aisobj.storage.files import FileSystem
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import IBlobReader, IBlobs
from aisobj.storage.jobs import Jobs, shielded
from aisobj.storage.unsettled import Unsettled

#: Free space that is never written to: room for the index to grow while deletes make more.
RESERVE = 256 * 1024 * 1024

#: Jobs that may wait for one of the pool's threads. Each transfer has one or two at a time.
QUEUE = 512

#: How long an answer about free space is believed when a writer asks to begin, seconds. Every batch asks anew.
_FRESH = 1.0

log = Logger()


def _ignore(why: str) -> None:
    pass


@implementer(IBlobs)
class FileBlobs(Findings):
    """The blobs of one data directory, for one process; several processes may have one each.

    What each process promises about ids (``settled_before``) is about its own blobs. A checkpoint for several is the
    smallest of their answers.

    :param root: where the files are; made if missing, its parent must exist.
    :param pool: where all disk work is done. Started and stopped by the caller, after :meth:`close`.
    :param sync: False: nothing survives a power cut. For throw-away test servers.
    :param reserve: bytes of free space to keep.
    :param queue: how many jobs may wait for the pool before readers and writers get StoreBusy.
    :param on_read_only: called once with the reason, in the reactor thread, when a sync has failed.
    :raises StorageError: the directory cannot be made or asked for its free space. Blocks; meant for start-up.
    """

    def __init__(
        self,
        root: Path,
        *,
        reactor: IReactorFromThreads,
        pool: ThreadPool,
        ids: IdMaker,
        sync: bool,
        reserve: int = RESERVE,
        queue: int = QUEUE,
        fs: FileSystem | None = None,
        on_read_only: Callable[[str], object] = _ignore,
    ) -> None:
        self._fs = FileSystem() if fs is None else fs
        self._directory = BlobDirectory(str(root), sync=sync, reserve=reserve, fs=self._fs)
        self._jobs = Jobs(reactor, pool, self._job_ended, queue)
        self._unsettled = Unsettled(ids)
        self._buffers = Buffers()
        self._cache = CacheReads(self._fs)
        self._on_read_only = on_read_only
        self._told = False
        self._measuring = False
        #: how often this process read bytes that did not match their checksum
        self.corrupt = 0
        self._suspects: set[bytes] = set()  # being looked at for quarantine

    @property
    def read_only(self) -> str:
        return self._directory.failed

    def free_space(self) -> int:
        """Bytes that the file system had left when it was last asked, less what writers hold: reserve included."""
        return self._directory.free - self._directory.in_flight

    def check_space(self) -> None:
        directory = self._directory
        if directory.failed:
            raise StoreReadOnly(directory.failed)
        if time.monotonic() - directory.measured >= _FRESH and not self._measuring:
            self._measuring = True
            self._jobs.run(directory.measure).addBoth(self._measured)
        # An old answer too, until there is a new one: what is written in the index asks nobody else.
        if directory.free - directory.in_flight < directory.reserve:
            raise StoreFull(f"{self.free_space()} bytes free, of which {directory.reserve} are kept")

    def writer(self, update: Update | None = None) -> FileBlobWriter:
        self.check_space()
        self._jobs.check()
        return FileBlobWriter(self._directory, self._jobs, self._unsettled, self.remove, update)

    def reader(self, blob_id: bytes, offset: int, length: int) -> Deferred[IBlobReader]:
        cached = open_cached_blob(self._directory, blob_id, self._cache)
        if cached is not None and offset + length <= cached.footer.size:
            return succeed(self._reader(cached, offset, length))
        if cached is not None:
            cached.close()
        self._jobs.check()
        opening = Deferred.fromCoroutine(self._open(blob_id, offset, length))
        return shielded(opening, lambda reader: reader.close())

    def clone(self, blob_id: bytes) -> Deferred[bytes]:
        self._jobs.check()
        return shielded(Deferred.fromCoroutine(self._clone(blob_id)), partial(remove_quietly, self.remove))

    def settle(self, blob_ids: Sequence[bytes]) -> None:
        self._unsettled.settle(blob_ids)

    def remove(self, blob_ids: Sequence[bytes]) -> Deferred[None]:
        return shielded(Deferred.fromCoroutine(self._remove(blob_ids)))

    def set_aside(self, blob_ids: Sequence[bytes]) -> Deferred[None]:
        return shielded(Deferred.fromCoroutine(self._set_aside(blob_ids)))

    def settled_before(self) -> bytes:
        return self._unsettled.before()

    def newer_than(self, blob_id: bytes) -> Deferred[list[bytes]]:
        return shielded(self._jobs.run(self._directory.newer_than, blob_id))

    def clean(self) -> Deferred[int]:
        return shielded(self._jobs.run(self._directory.clean))

    def close(self) -> Deferred[None]:
        """Fires when no job is left. Readers and writers still open keep their files: their owners end them."""
        return self._jobs.idle()

    def _job_ended(self) -> None:
        if self._directory.failed and not self._told:
            self._told = True
            log.critical("read-only from now on: {why}", why=self._directory.failed)
            self._on_read_only(self._directory.failed)

    def _measured(self, result: object) -> None:
        # A failure is left to the writers' own jobs, which ask again and name it.
        self._measuring = False

    def count(self) -> int:
        """As ``Findings``: one look into the quarantine's directory."""
        return self._directory.quarantine.count()

    def note_row(self, partition: bytes, key: bytes, why: str) -> None:
        """As ``Findings``."""
        self._jobs.run(self._directory.quarantine.note_row, partition, key, why).addErrback(self._not_noted)

    def _found_corrupt(self, path: str, error: CorruptData) -> None:
        self.corrupt += 1
        log.error("corrupt blob: {error}", error=error, path=path)
        blob_id = bytes.fromhex(os.path.basename(path))
        if blob_id not in self._suspects:
            self._suspects.add(blob_id)
            job = self._jobs.run(quarantine_if_corrupt, self._directory, blob_id)
            job.addErrback(self._not_noted).addBoth(lambda _: self._suspects.discard(blob_id))

    def _not_noted(self, failure: Failure) -> None:
        log.error("the quarantine cannot be written: {error}", error=failure.value)

    async def _open(self, blob_id: bytes, offset: int, length: int) -> IBlobReader:
        try:
            blob = await self._jobs.run(open_blob, self._directory, blob_id)
        except CorruptData as error:
            self._found_corrupt(self._directory.path(blob_id), error)
            raise
        if offset + length > blob.footer.size:
            blob.close()
            short = CorruptData(f"{blob.path}: ends at {blob.footer.size}, before the range {offset}+{length} does")
            self._found_corrupt(blob.path, short)
            raise short
        return self._reader(blob, offset, length)

    def _reader(self, blob: OpenBlob, offset: int, length: int) -> IBlobReader:
        return FileBlobReader(
            blob,
            offset,
            length,
            jobs=self._jobs,
            buffers=self._buffers,
            cache=self._cache,
            corrupt=self._found_corrupt,
        )

    async def _clone(self, source: bytes) -> bytes:
        blob_id = self._unsettled.make()
        try:
            await self._jobs.run(clone_blob, self._directory, source, blob_id)
        except BaseException:
            await remove_quietly(self.remove, blob_id)
            raise
        return blob_id

    async def _remove(self, blob_ids: Sequence[bytes]) -> None:
        await self._jobs.run(self._directory.remove, blob_ids)
        self._unsettled.settle(blob_ids)

    async def _set_aside(self, blob_ids: Sequence[bytes]) -> None:
        if blob_ids:
            path = await self._jobs.run(self._directory.set_aside, blob_ids)
            log.warn("{count} blobs that the index does not know are in {path}", count=len(blob_ids), path=path)
        self._unsettled.settle(blob_ids)
