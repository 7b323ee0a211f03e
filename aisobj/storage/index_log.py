"""The log of the index: what makes a commit durable, with one sync. LMDB itself is written without any.

LMDB alone syncs twice for each transaction, all over its file. A record here says which rows a transaction changes, in
one piece and in the place of an older one, so that its sync writes nothing but that: no size, no block, no page of a
tree. Order: rows changed in LMDB's memory -> record written and synced -> LMDB's commit, which shows it to readers ->
answer.

What the kernel writes of LMDB's file in the meantime, and in what order, is left to it. So after a power cut that file
shows anything; but it holds one tree whole: the *base*. That one was synced when the log began, a read transaction
keeps LMDB from using its pages again, and the two meta pages that lead to it are kept in the log. ``index_recovery``
puts them back and applies the records.

There are two files, used in turn, each with the base that its records begin with. When one is full the next one begins
at once, while a thread syncs LMDB's file up to there (a *checkpoint*). Until that is done, and said in the new file's
*mark*, the older base and both logs are what counts. Nothing that a recovery may need is overwritten before.

The form is in ``docs/format.md``. Files that hold no log say so, or are new and begin with zeros.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import lmdb
import msgspec
from xxhash import xxh3_64_digest

from aisobj.errors import CorruptData, FormatError
from aisobj.storage.syncing import sync_directory

#: In the index's directory.
LOG_NAMES: Final = ("log.0", "log.1")
DATA_NAME: Final = "data.mdb"
#: Bytes of a file after which the next one begins. More: fewer checkpoints, each of which writes what many commits have
#: changed once; less: LMDB's file grows less (pages are not used again between two checkpoints), and a start has less
#: to apply. See ``docs/performance.md``.
LOG_SIZE: Final = 32 << 20
#: What begins a record is written in blocks, so that no sector of one is written again with the next.
BLOCK: Final = 4096
_GROWTH: Final = 1 << 20

_MAGIC: Final = b"AISILOG\0"
_CLEARED: Final = struct.Struct(">8sQ")  # another magic, generation
_NONE: Final = b"AISNONE\0"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">8sHQQI")  # magic, version, generation, seed, bytes of one meta page
_DIGEST: Final = 8
_GENERATION: Final = struct.Struct(">Q")
_RECORD: Final = struct.Struct(">QQI")  # generation, number, bytes of the rows; behind a digest of all that follows
_ROWS: Final = _DIGEST + _RECORD.size
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: What a record holds: keys of rows that go, and rows that come; the keys are those of LMDB.
Rows = tuple[list[bytes], dict[bytes, bytes]]

_encoder: Final = msgspec.msgpack.Encoder()
_decode: Final = msgspec.msgpack.Decoder(Rows).decode


class LogFile:
    """One of the two files. Raises OSError throughout. The caller closes it.

    :ivar generation: which log this is: greater than that of every one before it; 0: none.
    :ivar seed: of its records' digests, so that nothing a client sends looks like a record.
    :ivar meta_pages: LMDB's two, of the base.
    :ivar durable: whether the base is on the disk.
    :ivar marked: the generation that its mark names, whatever else there is; 0: it has none.
    :ivar cleared: it holds none, and all logs up to this generation are in the index; 0: it does not say so.
    :ivar blank: it begins with nothing but zeros, as a new file does.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """:raises FormatError: a newer release wrote it."""
        self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        # An error of writing is told once to each open file: the thread that marks must not take the writer's.
        self._marker = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size
        self.generation = self.seed = self.marked = 0
        self.meta_pages = b""
        self.durable = False
        self.cleared = 0
        self.blank = True
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._marker)

    def _read_header(self) -> None:
        head = os.pread(self.descriptor, BLOCK, 0)
        self.blank = not any(head)
        self.marked = self._mark_behind(2 * mmap.PAGESIZE)  # which LMDB's pages have
        if head.startswith(_NONE) and head[: _CLEARED.size + _DIGEST] == _sealed(head[: _CLEARED.size]):
            _, self.cleared = _CLEARED.unpack_from(head)
        if len(head) < BLOCK or not head.startswith(_MAGIC):
            return
        _, version, generation, seed, page = _HEADER.unpack_from(head)
        if version > _VERSION:
            raise FormatError(f"a log of the index of version {version}; this release reads {_VERSION}")
        pages = os.pread(self.descriptor, 2 * page, BLOCK)
        digest = head[_HEADER.size : _HEADER.size + _DIGEST]
        if len(pages) != 2 * page or xxh3_64_digest(head[: _HEADER.size] + pages) != digest:
            return  # it was about to begin
        self.generation, self.seed, self.meta_pages = generation, seed, pages
        self.durable = self._mark_behind(2 * page) == generation

    def _mark_behind(self, pages: int) -> int:
        """The generation in the mark that stands behind so many bytes of meta pages; 0: there is none."""
        mark = os.pread(self.descriptor, _GENERATION.size + _DIGEST, BLOCK + pages)
        named = mark[: _GENERATION.size]
        generation: int = _GENERATION.unpack(named)[0] if mark == _sealed(named) else 0
        return generation

    @property
    def start(self) -> int:
        """Where the first record is."""
        return 2 * BLOCK + len(self.meta_pages)

    def records(self) -> Iterator[Rows]:
        """All that were written in full, in order; up to the first that was not, which :meth:`verify` looks at."""
        return map(_decode, self._records())

    def verify(self) -> None:
        """:raises CorruptData: behind the end of the records there are more: each was written when the one before it
        was on the disk, so one has been damaged since."""
        position, number = self.start, 0
        for rows in self._records():
            position += _blocks(_ROWS + len(rows))
            number += 1
        self._require_end(position, number)

    def _records(self) -> Iterator[bytes]:
        position, number = self.start, 0
        while (rows := self._rows_at(position, number)) is not None:
            yield rows
            position += _blocks(_ROWS + len(rows))
            number += 1

    def _rows_at(self, position: int, number: int) -> bytes | None:
        """What a record holds; None where there is none with this number."""
        head = os.pread(self.descriptor, _ROWS, position)
        if len(head) < _ROWS:
            return None
        generation, found, length = _RECORD.unpack_from(head, _DIGEST)
        if (generation, found) != (self.generation, number) or length > self.size:
            return None
        rows = os.pread(self.descriptor, length, position + _ROWS)
        return rows if xxh3_64_digest(head[_DIGEST:] + rows, self.seed) == head[:_DIGEST] else None

    def _require_end(self, position: int, number: int) -> None:
        """Raises CorruptData where the log goes on behind ``position``, where its record ``number`` should be."""
        mine = slice(_DIGEST, _DIGEST + _GENERATION.size)
        generation = _GENERATION.pack(self.generation)
        for start in range(position, self.size, _GROWTH):
            piece = os.pread(self.descriptor, _GROWTH, start)
            for at in range(0, len(piece), BLOCK):
                head = piece[at : at + _ROWS]
                if head[mine] != generation:
                    continue
                _, found, _ = _RECORD.unpack_from(head, _DIGEST)
                if found > number and self._rows_at(start + at, found) is not None:
                    raise CorruptData(f"record {number} of a log of the index is damaged: number {found} follows")

    def begin(self, after: int, meta_pages: bytes) -> None:
        """A new log, without records and without a mark. Not synced: the first record's sync does it.

        :param after: generation of the log before it.
        """
        # The clock, because what an earlier log left in the file must not look like records of this one.
        self.generation, self.seed = max(time.time_ns(), after + 1), int.from_bytes(os.urandom(8), "big")
        self.meta_pages, self.durable = meta_pages, False
        head = _HEADER.pack(_MAGIC, _VERSION, self.generation, self.seed, len(meta_pages) // 2)
        self.make_room(self.start + BLOCK)
        page = (head + xxh3_64_digest(head + meta_pages)).ljust(BLOCK, b"\0")
        _write(self.descriptor, page + meta_pages + bytes(BLOCK), 0)

    def mark(self) -> None:
        """The base is on the disk; so is this mark when this returns."""
        mark = _sealed(_GENERATION.pack(self.generation))
        _write(self._marker, mark.ljust(BLOCK, b"\0"), BLOCK + len(self.meta_pages))
        os.fdatasync(self._marker)
        self.durable = True

    def make_room(self, end: int) -> None:
        """Make the file as long as that, at least: with zeros that are written, since a hole would be filled, and the
        size changed, by the sync of each record."""
        if end > self.size:
            grown = -(-end // _GROWTH) * _GROWTH
            _write(self.descriptor, bytes(grown - self.size), self.size)
            self.size = grown

    def clear(self, latest: int) -> None:
        """It holds no log any more, durably.

        :param latest: the greatest generation of which the index has everything; 0: there was none.
        """
        self.generation = 0
        if self.size and latest:
            _write(self.descriptor, _sealed(_CLEARED.pack(_NONE, latest)).ljust(BLOCK, b"\0"), 0)
            os.fdatasync(self.descriptor)


def clear_logs(files: Collection[LogFile]) -> None:
    """No file holds a log any more: the index has all of them, on the disk. The oldest goes first, since the newest
    counts meanwhile. Raises OSError.
    """
    newest = latest(files)
    for file in sorted(files, key=lambda file: file.generation):
        file.clear(newest)


def latest(files: Iterable[LogFile]) -> int:
    """The greatest generation that they know of; 0: none."""
    return max((max(file.generation, file.cleared) for file in files), default=0)


class IndexLog:
    """The log as the one writer of the index uses it, in one thread. :meth:`close` at the end.

    To make one begins a log with the index as it is: first by a sync of all that LMDB's file shows, whoever wrote it. A
    writer that was killed may have left a record that LMDB does not show: nobody was answered, and now it will never
    happen.

    :param path: of the index's directory. Nobody else writes to the index.
    :param environment: opened without syncs; outlives this.
    :param size: bytes of a file after which the next one begins; 0: ``LOG_SIZE``.
    :raises OSError: or lmdb.Error: it cannot begin; a sync that failed must not be tried again.
    :raises FormatError: a newer release wrote the log.
    """

    def __init__(self, path: Path, environment: lmdb.Environment, size: int = 0) -> None:
        self._environment = environment
        self._size = size or LOG_SIZE
        self._page: int = environment.stat()["psize"]
        # As for the marks: a descriptor of our own, for the checkpoints alone.
        self._data = os.open(path / DATA_NAME, os.O_RDONLY | os.O_CLOEXEC)
        self._files = [LogFile(path / name, create=True) for name in LOG_NAMES]
        self._buffer = bytearray()
        self._number = 0
        self._last = 0  # where the last record begins
        self._position = 0  # where the next one does
        self._checkpoint: threading.Thread | None = None
        self._failure: OSError | None = None
        # LMDB shows what a writer that was killed had written when the next one begins.
        environment.begin(write=True).abort()
        self._held = [environment.begin()]  # the base, and the next one while its checkpoint is made
        os.fdatasync(self._data)
        newest = max(self._files, key=lambda file: file.generation)
        if newest.generation and not newest.durable:
            newest.mark()  # both files may be needed until here; from here on the older one is not
        for file in self._files:
            file.make_room(_GROWTH)  # a full disk must not keep the next log from beginning
        sync_directory(path)
        self._begin(self._other(newest), latest(self._files))
        os.fdatasync(self._current.descriptor)
        self._current.mark()

    @property
    def generation(self) -> int:
        """Of the log that is written."""
        return self._current.generation

    def append(self, delete: Sequence[bytes], put: Mapping[bytes, bytes]) -> None:
        """Make it durable that these rows change, of which LMDB shows nothing yet.

        :raises OSError: it is not known to be durable, and nothing is appended. Where it was not for lack of room
            (:func:`is_no_room`), nothing more may be appended.
        """
        self._settle_checkpoint()
        buffer = self._buffer
        _encoder.encode_into((delete, put), buffer, _ROWS)
        length = len(buffer) - _ROWS
        end = self._position + _blocks(len(buffer))
        if end > self._size and self._number:
            self.checkpoint()
            end = self._position + _blocks(len(buffer))
        current = self._current
        _RECORD.pack_into(buffer, _DIGEST, current.generation, self._number, length)
        with memoryview(buffer) as view:
            buffer[:_DIGEST] = xxh3_64_digest(view[_DIGEST:], current.seed)
        buffer += bytes(-len(buffer) % BLOCK)
        self._last = self._position
        try:
            current.make_room(end)
            _write(current.descriptor, buffer, self._position)
            os.fdatasync(current.descriptor)
        except OSError as error:
            self._forget(error)
            raise
        self._number += 1
        self._position = end

    def void(self) -> None:
        """What was appended last has not happened: LMDB could not commit it. Raises OSError as :meth:`append`."""
        self._number -= 1
        self._position = self._last
        _write(self._current.descriptor, bytes(BLOCK), self._last)
        os.fdatasync(self._current.descriptor)

    def checkpoint(self, *, wait: bool = False) -> None:
        """Begin the next log with the index as LMDB shows it, and see to it that it is all on the disk.

        Afterwards LMDB uses pages again that had been given up.

        :param wait: until it is. :raises OSError: as :meth:`append`.
        """
        self._settle_checkpoint(wait=True)
        following = self._other(self._current)
        self._held.append(self._environment.begin())
        self._begin(following, self._current.generation)
        self._checkpoint = threading.Thread(target=self._make_durable, args=(following,), name="checkpoint")
        self._checkpoint.start()
        if wait:
            self._settle_checkpoint(wait=True)

    def close(self, *, keep: bool = False) -> None:
        """Leave an index that needs no log.

        :param keep: leave the log to the next start. :raises OSError: it is left all the same.
        """
        try:
            self._settle_checkpoint(wait=True)
            if not keep:
                os.fdatasync(self._data)
                clear_logs(self._files)
        finally:
            for reader in self._held:
                reader.abort()
            for file in self._files:
                file.close()
            os.close(self._data)

    def _other(self, file: LogFile) -> LogFile:
        return self._files[file is self._files[0]]

    def _begin(self, file: LogFile, after: int) -> None:
        file.begin(after, os.pread(self._data, 2 * self._page, 0))
        self._current = file
        self._number = 0
        self._position = self._current.start

    def _make_durable(self, file: LogFile) -> None:
        try:
            os.fdatasync(self._data)
            file.mark()
        except OSError as error:
            self._failure = error

    def _settle_checkpoint(self, wait: bool = False) -> None:
        """Let the older base go if the newer one is on the disk. Raises OSError: a checkpoint has failed."""
        if self._checkpoint is not None and (wait or not self._checkpoint.is_alive()):
            self._checkpoint.join()
            self._checkpoint = None
            if self._failure is None:
                self._held.pop(0).abort()
        if self._failure is not None:
            raise self._failure

    def _forget(self, error: OSError) -> None:
        """A record that failed must not be found by a later start: it is answered with an error."""
        if not is_no_room(error):
            self._failure = error
        with contextlib.suppress(OSError):  # it was not written, or nobody knows: what failed is being told already
            _write(self._current.descriptor, bytes(BLOCK), self._last)


def is_no_room(error: OSError) -> bool:
    """Whether it is for lack of room that something could not be written, and not because of the disk."""
    return error.errno in _NO_ROOM


def _sealed(data: bytes) -> bytes:
    return data + xxh3_64_digest(data)


def _blocks(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _write(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    done = os.pwrite(descriptor, data, offset)
    while done < len(data):
        done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)
