"""What the index's readers and its one writer say to each other, over a stream socket. No Twisted here.

Each way, frames: a little-endian u32 length, then that many bytes of msgpack. To the writer one :class:`Commit` a
frame, in any number, without waiting for answers; back a list of :class:`Answer` for every batch the writer has
finished, in no promised order (``seq`` pairs them). Both ends run the same release of this package, so the form has
no version.

An answer with the ``seq`` :data:`NOTICE` answers no commit of the client's. The first frame of a connection is one (OK,
or what keeps the writer from writing): when it comes, whatever an earlier writer had taken has become visible, or never
will. Further ones say that the writer has become read-only.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from aisobj.storage.interfaces import Expectations

MAX_PARTITION: Final = 16
#: bytes in the longest key of a row: LMDB 1.0 takes 1,978, of which the partition takes up to 17
MAX_KEY: Final = 1978 - 1 - MAX_PARTITION
#: bytes in the largest commit; what callers write in one is far below (a small object's bytes and a few records)
MAX_FRAME: Final = 64 << 20

LENGTH: Final = struct.Struct("<I")

#: the ``seq`` of what the writer says without having been asked
NOTICE: Final = -1


class Outcome(enum.IntEnum):
    """How the writer ended a commit. Only OK has changed anything."""

    OK = 0
    CONFLICT = 1
    FAILED = 2  #: this commit cannot be written (StorageError)
    FULL = 3  #: no room (StoreFull)
    READ_ONLY = 4  #: a sync failed, now or earlier (StoreReadOnly)


class Commit(msgspec.Struct, array_like=True, gc=False):
    """One ``IIndex.commit``. Of a row, ``expect`` says 0 (ABSENT), 1 (PRESENT) or the exact bytes.

    Where one key is in several of them, ``delete`` comes before ``put`` before ``add``.

    ``found``: partition -> its first rows.

    One with a ``refuse`` is no commit: a client says why nobody may write any more (a blob's sync has failed). It gets
    no answer of its own; every client gets the notice.
    """

    seq: int
    partition: bytes
    expect: Mapping[bytes, int | bytes]
    put: Mapping[bytes, bytes]
    delete: Sequence[bytes]
    add: Mapping[bytes, Sequence[int]]
    refuse: str = ""
    found: Mapping[bytes, Mapping[bytes, bytes]] = {}


class Answer(msgspec.Struct, array_like=True, gc=False):
    """What became of the commit ``seq``; ``text`` says why where it is not OK or CONFLICT."""

    seq: int
    outcome: Outcome
    text: str = ""


def notice_commit(refuse: str = "") -> Commit:
    """A commit of nothing: what the writer answers a new connection with, or what tells it to refuse."""
    return Commit(NOTICE, b"", {}, {}, [], {}, refuse)


_NO_LENGTH: Final = bytes(LENGTH.size)
_encoder: Final = msgspec.msgpack.Encoder()
decode_commit: Final = msgspec.msgpack.Decoder(Commit).decode
decode_answers: Final = msgspec.msgpack.Decoder(list[Answer]).decode


def encode_frame(message: Commit | list[Answer]) -> bytearray:
    """A frame. Raises ValueError where it would be larger than ``MAX_FRAME``."""
    frame = bytearray()
    append_frame(frame, message)
    return frame


def append_frame(frames: bytearray, message: Commit | list[Answer]) -> None:
    """Add a frame to others. Raises ValueError as :func:`encode_frame`, and then, as whatever fails, adds nothing."""
    start = len(frames)
    frames += _NO_LENGTH
    try:
        _encoder.encode_into(message, frames, -1)
    except BaseException:
        del frames[start:]
        raise
    size = len(frames) - start - LENGTH.size
    if size > MAX_FRAME:
        del frames[start:]
        raise ValueError(f"a commit of {size} bytes; the most is {MAX_FRAME}")
    LENGTH.pack_into(frames, start, size)


T = TypeVar("T")


class FrameReader(Generic[T]):
    """Cuts what arrives into frames and decodes them."""

    def __init__(self, decode: Callable[[memoryview], T]) -> None:
        self._decode = decode
        self._rest = bytearray()

    def feed(self, data: bytes | memoryview) -> list[T]:
        """The messages that ``data`` completes. Raises ValueError (msgspec's included) where it is no such stream."""
        if self._rest:
            self._rest += data
            view = memoryview(self._rest)
        else:
            view = memoryview(data)
        messages: list[T] = []
        start = 0
        while len(view) - start >= LENGTH.size:
            size: int = LENGTH.unpack_from(view, start)[0]
            if size > MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes; the most is {MAX_FRAME}")
            end = start + LENGTH.size + size
            if end > len(view):
                break
            messages.append(self._decode(view[start + LENGTH.size : end]))
            start = end
        # A frame that is still growing stays where it is, so that a large one is not copied at every read.
        if start or not self._rest:
            self._rest = bytearray(view[start:])
        return messages


def prepare_commit(
    partition: bytes,
    expect: Expectations,
    put: Mapping[bytes, bytes],
    delete: Sequence[bytes],
    add: Mapping[bytes, Sequence[int]],
    found: Mapping[bytes, Mapping[bytes, bytes]],
) -> Commit:
    """``IIndex.commit``'s arguments as the writer takes them, uncopied. Raises ValueError for names no row can have."""
    row_keys = (*expect, *put, *delete, *add)
    longest = len(partition)
    if found:
        row_keys = (*row_keys, *(key for rows in found.values() for key in rows))
        longest = max(longest, *map(len, found))
    if longest > MAX_PARTITION:
        raise ValueError(f"a partition's name of {longest} bytes; the most is {MAX_PARTITION}")
    if row_keys and (b"" in row_keys or max(map(len, row_keys)) > MAX_KEY):
        lengths = [*map(len, row_keys)]
        raise ValueError(f"row keys of {min(lengths)} to {max(lengths)} bytes; they must have 1 to {MAX_KEY}")
    return Commit(0, partition, expect, put, delete, add, "", found)


def first_row(after: bytes, prefix: bytes) -> bytes:
    """The smallest key a scan may return: starts with ``prefix``, is greater than ``after`` (if any key is)."""
    return after + b"\0" if after >= prefix else prefix


def holds(row: bytes | None, wanted: int | bytes) -> bool:
    """Whether a row is as a commit expects it."""
    if isinstance(wanted, bytes):
        return row == wanted
    return (row is not None) == wanted
