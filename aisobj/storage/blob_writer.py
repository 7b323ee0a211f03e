"""Writing one blob: :class:`BlobFile` works in the disk pool, :class:`FileBlobWriter` feeds it from the reactor.

Data is gathered into batches and each batch is one job in the pool: hash its blocks, compute the caller's digests,
write it. One job at a time for a writer, so its memory is at most two batches and what arrived at once beyond them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from xxhash import xxh3_64
from zope.interface import implementer

from aisobj.errors import BlobMissing, CorruptData
from aisobj.storage.blob_directory import BlobDirectory, storage_error
from aisobj.storage.blob_format import BLOCK, encode_footer
from aisobj.storage.files import Buffer
from aisobj.storage.interfaces import IBlobWriter, Owner
from aisobj.storage.jobs import Jobs, shielded
from aisobj.storage.unsettled import Unsettled

Update = Callable[[bytes | memoryview], object]

#: Bytes that make a job of the pool: fewer jobs, fewer fights for the interpreter between the pool and the reactor.
BATCH = 1024 * 1024
#: ... and a quarter of it once all writers of the process together hold so much.
CROWDED = 16 * 1024 * 1024

#: Chunks that make a job however small they are: bounds their overhead, and stays under IOV_MAX (1024).
_MAX_CHUNKS = 512

#: Start writing to disk every so many bytes. Measured, 64 MiB and a sync: 630 to 710 MiB/s against 570 to 600 without.
_WRITEBACK = 8 * 1024 * 1024

_COPY = 1024 * 1024
#: What copy_file_range(2) answers where the file system or the kernel cannot do it.
_CANNOT_COPY = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))
#: What link(2) answers where the file system has no links, or no more of them for this file.
_CANNOT_LINK = frozenset((errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS))

log = Logger()


class BlobFile:
    """A blob on its way to its name. For the disk pool, one call at a time.

    A call that raises has already removed the temporary file; OSErrors come out as StorageError.
    """

    __slots__ = (
        "_directory",
        "_fd",
        "_filled",
        "_hash",
        "_offset",
        "_path",
        "_size",
        "_started",
        "_sums",
        "_update",
        "named",
    )

    def __init__(self, directory: BlobDirectory, update: Update | None) -> None:
        self._directory = directory
        self._update = update
        self._path = ""
        #: the file has left its temporary name for that of its id
        self.named = False
        self._fd = -1
        self._hash = xxh3_64()
        self._filled = 0  # bytes of the block that has begun
        self._sums = bytearray()
        self._size = 0  # bytes of data
        self._offset = 0  # bytes written
        self._started = 0  # up to where writeback has been started

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        """The next bytes. :raises StoreFull, StoreReadOnly, StorageError:"""
        with self._discarding():
            self._absorb(chunks)
            self._write(chunks)

    def finish(
        self, chunks: Sequence[bytes | memoryview], owner: Owner, digests: Callable[[], Owner], blob_id: bytes
    ) -> None:
        """The last bytes and the footer; then sync, rename, sync of the directory, in this order.

        :raises StoreFull, StoreReadOnly, StorageError: where it is the directory that failed, the blob may lie under
            its name all the same: the caller removes it.
        """
        with self._discarding():
            self._absorb(chunks)
            if self._filled:
                self._sums += self._hash.digest()
            footer = encode_footer(BLOCK, self._size, bytes(self._sums), blob_id, {**owner, **digests()})
            self._write([*chunks, footer])
            self._name(blob_id)

    def copy(self, source: str, blob_id: bytes) -> None:
        """Become a copy of a blob file, footer and all. Raises as :meth:`finish` does."""
        fs = self._directory.fs
        with self._discarding():
            origin = fs.open(source, os.O_RDONLY)
            try:
                size = fs.fstat(origin).st_size
                self._directory.make_room(size)
                self._open()
                copied = 0
                while copied < size:
                    copied += self._copy_some(origin, size - copied, copied)
            finally:
                fs.close(origin)
            self._name(blob_id)

    def discard(self) -> None:
        """Remove the file while it is temporary. Raises nothing: what stays is found by the next start."""
        fs = self._directory.fs
        fd, self._fd = self._fd, -1
        path, self._path = self._path, ""
        try:
            if fd >= 0:
                fs.close(fd)
        except OSError as error:
            log.warn("closing {path}: {error}", path=path, error=error)
        try:
            if path:
                fs.unlink(path)
        except OSError as error:
            log.warn("a temporary file stays: {error}", error=error)

    @property
    def exists(self) -> bool:
        """Whether there is anything to discard."""
        return bool(self._path)

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            self._directory.require_writable()
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise storage_error(error) from error
            raise

    def _absorb(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Compute the caller's digests and the blocks' checksums."""
        update, block = self._update, self._hash
        for chunk in chunks:
            if update is not None:
                update(chunk)
            rest = memoryview(chunk)
            self._size += len(rest)
            while rest:
                part = rest[: BLOCK - self._filled]
                block.update(part)
                self._filled += len(part)
                if self._filled == BLOCK:
                    self._sums += block.digest()
                    block.reset()
                    self._filled = 0
                rest = rest[len(part) :]

    def _open(self) -> None:
        path = self._directory.temporary_path()
        self._fd = self._directory.fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._path = path

    def _write(self, buffers: Sequence[Buffer]) -> None:
        """Append buffers, all of them. The offset is known, so that a short write is seen and gone on with."""
        fs = self._directory.fs
        left = sum(map(len, buffers))
        self._directory.make_room(left)
        if self._fd < 0:
            self._open()
        while left:
            written = fs.pwritev(self._fd, buffers, self._offset)
            self._offset += written
            left -= written
            if left:
                buffers = _after(buffers, written)
        if self._offset - self._started >= _WRITEBACK:
            fs.start_writeback(self._fd, self._started, self._offset - self._started)
            self._started = self._offset

    def _copy_some(self, origin: int, length: int, offset: int) -> int:
        fs = self._directory.fs
        try:
            copied = fs.copy_file_range(origin, self._fd, length, offset)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
            data = fs.pread(origin, min(length, _COPY), offset)
            copied = fs.pwritev(self._fd, [data], offset) if data else 0
        if not copied:
            raise CorruptData("a blob file became shorter while it was copied")
        return copied

    def _name(self, blob_id: bytes) -> None:
        self._directory.sync_file(self._fd, self._path)
        fd, self._fd = self._fd, -1
        self._directory.fs.close(fd)
        self._directory.place(blob_id, self._rename)

    def _rename(self, path: str) -> None:
        self._directory.fs.rename(self._path, path)
        self._path = ""
        self.named = True


def _after(buffers: Sequence[Buffer], written: int) -> list[Buffer]:
    """What is left of the buffers after their first ``written`` bytes."""
    left: list[Buffer] = []
    for buffer in buffers:
        if written >= len(buffer):
            written -= len(buffer)
        else:
            left.append(memoryview(buffer)[written:])
            written = 0
    return left


def clone_blob(directory: BlobDirectory, source: bytes, blob_id: bytes) -> None:
    """Give the bytes of blob ``source`` a second name, durably: by link, and where that cannot be, by copying them.

    For the disk pool. :raises BlobMissing: there is no ``source``; StorageError as :meth:`BlobFile.finish`.
    """
    directory.require_writable()
    origin = directory.path(source)
    try:
        try:
            directory.place(blob_id, lambda path: directory.fs.link(origin, path))
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            BlobFile(directory, None).copy(origin, blob_id)
    except FileNotFoundError as error:
        raise BlobMissing(str(error)) from error
    except OSError as error:
        raise storage_error(error) from error


@implementer(IBlobWriter)
class FileBlobWriter:
    """The reactor's side of a blob being written.

    :param remove: ``FileBlobs.remove``, for what a commit that fails, or that nobody waits for, leaves under its name.
    """

    __slots__ = (
        "_busy", "_chunks", "_directory", "_ended", "_failure", "_file", "_jobs", "_pending", "_quiet", "_remove",
        "_unsettled", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        directory: BlobDirectory,
        jobs: Jobs,
        unsettled: Unsettled,
        remove: Callable[[Sequence[bytes]], Deferred[None]],
        update: Update | None,
    ) -> None:
        self._directory = directory
        self._jobs = jobs
        self._unsettled = unsettled
        self._remove = remove
        self._file = BlobFile(directory, update)
        self._chunks: list[bytes | memoryview] = []
        self._pending = 0  # bytes in _chunks
        self._busy = False
        self._waiting: Deferred[None] | None = None  # the caller, for room
        self._quiet: Deferred[None] | None = None  # commit or abort, for the running job
        self._failure: Failure | None = None
        self._ended = False

    def write(self, data: bytes | memoryview) -> Deferred[None] | None:
        if self._ended or (self._waiting is not None and not self._waiting.called):
            raise RuntimeError("a blob writer is written to after its end, or before it said that it can take more")
        if self._failure is not None:
            return fail(self._failure)
        if not data:
            return None
        self._chunks.append(data)
        self._pending += len(data)
        self._directory.in_flight += len(data)
        if not self._is_full():
            return None
        if not self._busy:
            self._start()
            return None
        self._waiting = Deferred()
        return self._waiting

    def commit(self, footer: Owner, digests: Callable[[], Owner] = dict) -> Deferred[bytes]:
        self._end()
        # A blob whose id nobody waits for any more can belong to nobody.
        return shielded(Deferred.fromCoroutine(self._commit(footer, digests)), partial(remove_quietly, self._remove))

    def abort(self) -> Deferred[None]:
        self._ended = True
        return shielded(Deferred.fromCoroutine(self._abort()))

    def _is_full(self) -> bool:
        enough = BATCH if self._directory.in_flight < CROWDED else BATCH // 4
        return self._pending >= enough or len(self._chunks) >= _MAX_CHUNKS

    def _end(self) -> None:
        if self._ended:
            raise RuntimeError("a blob writer is ended twice")
        self._ended = True

    def _take(self) -> tuple[list[bytes | memoryview], int]:
        """Empty the buffer: its chunks and their bytes, which stay counted as in flight."""
        chunks, pending = self._chunks, self._pending
        self._chunks, self._pending = [], 0
        return chunks, pending

    def _start(self) -> None:
        chunks, length = self._take()
        self._busy = True
        job = self._jobs.run(self._file.append, chunks)
        job.addBoth(self._appended, length)

    def _appended(self, result: Failure | None, length: int) -> None:
        self._busy = False
        self._directory.in_flight -= length
        if isinstance(result, Failure):
            self._failure = result
            self._drop()
        elif not self._ended and self._is_full():
            self._start()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            if self._failure is not None:
                waiting.errback(self._failure)
            else:
                waiting.callback(None)
        if self._quiet is not None and not self._busy:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)

    def _drop(self) -> None:
        self._directory.in_flight -= self._take()[1]

    async def _until_quiet(self) -> None:
        if self._busy:
            self._quiet = Deferred()
            await self._quiet

    async def _commit(self, footer: Owner, digests: Callable[[], Owner]) -> bytes:
        await self._until_quiet()
        if self._failure is not None:
            self._failure.raiseException()
        # Named as late as possible, but before the footer, which holds the name. The reactor's thread makes all ids.
        blob_id = self._unsettled.make()
        chunks, length = self._take()
        try:
            await self._jobs.run(self._file.finish, chunks, footer, digests, blob_id)
        except BaseException:
            if self._file.named:
                await remove_quietly(self._remove, blob_id)
            else:
                self._unsettled.settle([blob_id])
            raise
        finally:
            self._directory.in_flight -= length
        return blob_id

    async def _abort(self) -> None:
        self._drop()
        await self._until_quiet()
        if self._file.exists:
            await self._jobs.run(self._file.discard)


def remove_quietly(remove: Callable[[Sequence[bytes]], Deferred[None]], blob_id: bytes) -> Deferred[None]:
    """Remove a blob that will have no owner. Where that fails too, it stays unsettled."""

    def failed(failure: Failure) -> None:
        log.warn("blob {blob} stays without an owner: {failure}", blob=blob_id.hex(), failure=failure.value)

    return remove([blob_id]).addErrback(failed)
