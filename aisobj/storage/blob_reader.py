"""Reading one blob: blocks from the page cache in the reactor thread, all else in the disk pool; each verified."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from aisobj.errors import BlobMissing, CorruptData, FormatError, StorageError
from aisobj.storage.blob_directory import storage_error
from aisobj.storage.blob_format import MAX_BLOCK, TRAILER, Footer, decode_footer, footer_length, verify
from aisobj.storage.files import FileSystem
from aisobj.storage.interfaces import IBlobReader, Owner
from aisobj.storage.jobs import Jobs, shielded
from aisobj.storage.quarantine import Quarantine

#: Bytes that one call reads, verifies and hands out. Measured, 64 MiB from the page cache to a socket: 25 ms of CPU
#: with 512 KiB, 33 with 256 KiB (more wake-ups), 25 with 1 MiB.
READ = 512 * 1024

#: Buffers kept for the next reader: 16 MiB at most.
_SPARE = 32

#: Read with the trailer, so that a blob of up to 120 MiB or so opens with one read.
_TAIL = 4096

#: What the calls that never wait answer where the kernel, the file system or a container does not have them.
_NEVER = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM))


class Buffers:
    """Read buffers that are used again. A fresh one costs a page fault for every 4 KiB."""

    __slots__ = ("_spare",)

    def __init__(self) -> None:
        self._spare: list[memoryview] = []

    def take(self, block: int) -> memoryview:
        """A buffer for at least one block."""
        if block <= READ and self._spare:
            return self._spare.pop()
        return memoryview(bytearray(max(READ, block)))

    def give(self, buffer: memoryview) -> None:
        if len(self._spare) < _SPARE and len(buffer) == READ:
            self._spare.append(buffer)


class OpenBlob:
    """A blob file whose footer has been verified. ``close`` it once."""

    __slots__ = ("_fs", "fd", "footer", "path")

    def __init__(self, fs: FileSystem, fd: int, footer: Footer, path: str) -> None:
        self._fs = fs
        self.fd = fd
        self.footer = footer
        self.path = path

    def read(self, buffer: memoryview, offset: int) -> memoryview:
        """Fill ``buffer`` with whole blocks from ``offset``, verified. For the disk pool.

        :raises CorruptData: they do not match, or the file has become shorter. :raises StorageError:
        """
        filled = 0
        try:
            while filled < len(buffer):
                got = self._fs.preadv(self.fd, buffer[filled:], offset + filled)
                if not got:
                    raise CorruptData("the file ends before its data does")
                filled += got
        except OSError as error:
            raise storage_error(error) from error
        verify(buffer, offset // self.footer.block, self.footer)
        return buffer

    def read_all(self, buffer: memoryview) -> Iterator[memoryview]:
        """All of its data, verified, in pieces as long as ``buffer``, which they are views of: each is valid until the
        next one. At least one, empty for an empty blob. Raises as :meth:`read`.

        :param buffer: of ``MAX_BLOCK`` bytes or more.
        """
        size = self.footer.size
        step = len(buffer) // self.footer.block * self.footer.block
        for start in range(0, size or 1, step):
            yield self.read(buffer[: min(step, size - start)], start)

    def is_unlinked(self) -> bool:
        """Whether closing it gives its space back, which takes a while."""
        try:
            return self._fs.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        with suppress(OSError):  # nothing was written
            self._fs.close(fd)


class BlobPaths(Protocol):
    """Where blob files are."""

    fs: FileSystem
    quarantine: Quarantine

    def path(self, blob_id: bytes) -> str: ...


def open_blob(directory: BlobPaths, blob_id: bytes) -> OpenBlob:
    """Open a blob file and verify its footer. For the disk pool.

    :raises BlobMissing: there is none. :raises CorruptData: also of a blob in quarantine.
    :raises FormatError, StorageError:
    """
    fs = directory.fs
    path = directory.path(blob_id)
    try:
        fd = fs.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        if directory.quarantine.holds(blob_id):
            raise CorruptData(f"{path}: it is in quarantine") from None
        raise BlobMissing(str(error)) from error
    except OSError as error:
        raise storage_error(error) from error
    try:
        return OpenBlob(fs, fd, _read_footer(fs, fd, fs.pread), path)
    except BaseException as error:
        with suppress(OSError):  # the first error tells more
            fs.close(fd)
        if isinstance(error, OSError):
            raise storage_error(error) from error
        if isinstance(error, (CorruptData, FormatError)):
            raise type(error)(f"{path}: {error}") from None
        raise


def open_cached_blob(directory: BlobPaths, blob_id: bytes, cache: CacheReads) -> OpenBlob | None:
    """As :func:`open_blob`, for the reactor thread. None: the disk is needed, or something is wrong, which
    ``open_blob`` will meet again and name."""
    fs = directory.fs
    path = directory.path(blob_id)
    fd = cache.open(path)
    if fd is None:
        return None
    try:
        return OpenBlob(fs, fd, _read_footer(fs, fd, cache.pread), path)
    except (OSError, CorruptData, FormatError):
        with suppress(OSError):
            fs.close(fd)
        return None


def quarantine_if_corrupt(directory: BlobPaths, blob_id: bytes) -> bool:
    """Read all of a suspect again, and move it away if it still does not match: so a fault of memory, or of a cable,
    that passes takes no good blob away. Whether it was moved. For the disk pool. Raises OSError.
    """
    try:
        blob = open_blob(directory, blob_id)
        try:
            for _ in blob.read_all(memoryview(bytearray(MAX_BLOCK))):
                pass
        finally:
            blob.close()
    except CorruptData as error:
        return directory.quarantine.take(blob_id, str(error))
    except StorageError:  # it is gone, or cannot be read: who wants it next will say
        return False
    return False


def _read_footer(fs: FileSystem, fd: int, pread: Callable[[int, int, int], bytes]) -> Footer:
    size = fs.fstat(fd).st_size
    tail = _read_end(pread, fd, size, _TAIL)
    trailer = tail[-TRAILER:]
    length = footer_length(trailer, size) + TRAILER
    if length > len(tail):
        tail = _read_end(pread, fd, size, length)
    return decode_footer(tail[-length:-TRAILER], trailer, size)


def _read_end(pread: Callable[[int, int, int], bytes], fd: int, size: int, length: int) -> bytes:
    """The last ``length`` bytes of a file, or all of a shorter one."""
    offset = max(0, size - length)
    pieces = []
    while offset < size:
        piece = pread(fd, size - offset, offset)
        if not piece:
            raise CorruptData("the file became shorter while it was read")
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class CacheReads:
    """What the kernel has in memory, in the reactor thread: 30 µs for 512 KiB, 20 to open a blob, instead of a turn of
    the pool for each.

    RWF_NOWAIT (Linux 4.14) and RESOLVE_CACHED (5.12) never wait for the disk. Where one is not known, it is not asked
    again.
    """

    __slots__ = ("_open", "_opens", "_read", "_reads")

    def __init__(self, fs: FileSystem) -> None:
        self._read = fs.preadv_nowait
        self._open = fs.open_cached
        self._reads = self._opens = True

    def read(self, fd: int, buffer: memoryview, offset: int) -> int:
        """How many bytes it had; 0 where the disk has to be asked."""
        if not self._reads:
            return 0
        try:
            return self._read(fd, buffer, offset)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in _NEVER:
                self._reads = False
            return 0  # the pool will meet the same error and name it

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """As os.pread. :raises BlockingIOError: the disk has to be asked."""
        buffer = bytearray(length)
        had = self.read(fd, memoryview(buffer), offset)
        if not had:
            raise BlockingIOError
        return bytes(buffer[:had])

    def open(self, path: str) -> int | None:
        """A file descriptor; None where the disk has to be asked."""
        if not self._opens or not self._reads:
            return None
        try:
            return self._open(path)
        except OSError as error:
            if error.errno in _NEVER:
                self._opens = False
            return None


@implementer(IBlobReader)
class FileBlobReader:
    """A range of an open blob.

    :param corrupt: told of every blob found corrupt: path and what is wrong.
    """

    __slots__ = ("_blob", "_buffer", "_buffers", "_busy", "_cache", "_closed", "_corrupt", "_end", "_jobs", "_position")

    def __init__(
        self,
        blob: OpenBlob,
        offset: int,
        length: int,
        *,
        jobs: Jobs,
        buffers: Buffers,
        cache: CacheReads,
        corrupt: Callable[[str, CorruptData], object],
    ) -> None:
        self._blob = blob
        self._position = offset
        self._end = offset + length
        self._jobs = jobs
        self._buffers = buffers
        self._cache = cache
        self._corrupt = corrupt
        self._buffer: memoryview | None = buffers.take(blob.footer.block)
        self._busy = False
        self._closed = False

    @property
    def owner(self) -> Owner:
        return self._blob.footer.owner

    def next_block(self) -> memoryview | Deferred[memoryview | None] | None:
        if self._closed or self._busy:
            raise RuntimeError("a blob reader is asked for a block after its end, or before it gave the last one")
        position, footer = self._position, self._blob.footer
        if position >= self._end:
            return None
        block = footer.block
        start = position - position % block
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._buffers.take(block)
        # Whole blocks, up to the one that holds the end of the range.
        want = min(len(buffer) // block * block, -(-self._end // block) * block - start, footer.size - start)
        had = self._cache.read(self._blob.fd, buffer[:want], start)
        if had < want:
            had -= had % block
        if had:
            found = buffer[:had]
            try:
                verify(found, start // block, footer)
            except CorruptData as error:
                raise self._named(error) from None
            return self._cut(found, start)
        self._busy = True
        job = self._jobs.run(self._blob.read, buffer[:want], start)
        return shielded(job.addBoth(self._arrived, start))

    def give_back(self, count: int) -> bool:
        if self._closed or self._busy or self._buffer is None:
            return False
        self._position -= count
        self._give_buffer()
        return True

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._busy:
                self._release()

    def _arrived(self, result: memoryview | Failure, start: int) -> memoryview | Failure | None:
        self._busy = False
        if self._closed:
            self._release()
            return None
        if isinstance(result, Failure):
            error = result.value
            return Failure(self._named(error)) if isinstance(error, CorruptData) else result
        return self._cut(result, start)

    def _cut(self, found: memoryview, start: int) -> memoryview:
        """The part of whole blocks that belongs to the range."""
        skip = self._position - start
        view = found[skip : self._end - start]
        self._position += len(view)
        return view

    def _named(self, error: CorruptData) -> CorruptData:
        named = CorruptData(f"{self._blob.path}: {error}")
        self._corrupt(self._blob.path, named)
        return named

    def _release(self) -> None:
        self._give_buffer()
        blob = self._blob
        if blob.is_unlinked():
            self._jobs.run(blob.close)
        else:
            blob.close()

    def _give_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._buffers.give(buffer)
