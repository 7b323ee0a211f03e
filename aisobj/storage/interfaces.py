"""What a storage engine promises. Everything S3-like is written once, in ``store``, over these two interfaces.

An engine is an :class:`IIndex` (ordered rows in partitions, atomic commits) and an :class:`IBlobs` (immutable byte
strings named by a fresh id). The embedded engine (LMDB and files) and the in-memory one implement them, and one
contract suite (``tests/test_engine_contract.py``) runs over each.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


class Expect(enum.IntEnum):
    """What a commit expects of a row, besides exact bytes."""

    ABSENT = 0
    PRESENT = 1


ABSENT: Final = Expect.ABSENT
PRESENT: Final = Expect.PRESENT

#: key -> ABSENT, PRESENT or the exact bytes that the row must hold
Expectations = Mapping[bytes, Expect | bytes]

T = TypeVar("T")

#: What a blob says of its owner; values as msgpack has them.
Owner = Mapping[str, str | bytes | int | Mapping[str, str]]


#: Makes what a scan returns of some rows, in order. The slice cuts a key as the engine has it to what the scan means.
Take = Callable[[list[tuple[bytes, bytes]], slice], list[T]]


def cut(rows: list[tuple[bytes, bytes]], own: slice) -> list[tuple[bytes, bytes]]:
    """A :data:`Take`: the rows."""
    return [(key[own], value) for key, value in rows]


class CommitResult(enum.IntEnum):
    """How a commit ended. A commit that was refused has changed nothing."""

    OK = 0  #: durable, and visible to every reader that asks from now on
    CONFLICT = 1  #: an expectation did not hold


class ISnapshot(Interface):
    """One unchanging view of one partition. Cheap, short-lived: the caller closes it.

    An old snapshot keeps the engine from reusing space, so none outlives one LIST page; only what is read in slices
    (``turns``) holds one while others are served.
    """

    version: int = Attribute("Of the index: those of two snapshots are the same if nothing was committed in between.")

    def turn_to(partition: bytes) -> None:
        """Show another partition from now on: as it was when the snapshot was made, or later."""

    def get(key: bytes) -> bytes | None:
        """The row's value, or None."""

    def scan(after: bytes, prefix: bytes, limit: int, lead: bytes = b"", take: Take[Any] = cut) -> list[Any]:
        """Rows (key, value) in byte order whose key starts with ``prefix`` and is greater than ``after``.

        At most ``limit``; a short page is allowed, an empty one is the end. All this is of the keys that begin with
        ``lead``, and without it: it is not in ``after``, ``prefix`` and the keys returned.

        :param take: makes what is returned of some of them; what it raises is raised.
        """

    def close() -> None:
        """Give the view back. Idempotent."""


class IIndex(Interface):
    """Ordered rows of bytes in partitions. A partition is named by opaque bytes: 16 for a bucket, b"" for the root.

    Reads happen at once in the calling thread (they come from the memory map). Writes go to the one writer, which
    batches them: each commit is atomic within its partition (and those that it founds), isolated, and durable before
    its Deferred fires, unless the engine was opened with ``sync=False``.
    """

    read_only = Attribute("str: why nothing more is written (a sync failed), or '' while writing is possible.")

    def get(partition: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several rows of one partition from one snapshot."""

    def snapshot(partition: bytes) -> ISnapshot:
        """A view that shows every commit that has been answered, and none in part. The caller closes it."""

    def scan(partition: bytes, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """:meth:`ISnapshot.scan` on a snapshot of its own."""

    def commit(
        partition: bytes,
        expect: Expectations,
        put: Mapping[bytes, bytes],
        delete: Sequence[bytes] = (),
        add: Mapping[bytes, Sequence[int]] = {},
        found: Mapping[bytes, Mapping[bytes, bytes]] = {},
    ) -> Deferred[CommitResult]:
        """Check ``expect``, then write: all of it or nothing.

        ``delete`` of an absent row is no error. ``add`` adds to a row of signed 64-bit counters (absent = zeros;
        ``keys.encode_counters`` is its form), commutative: it never makes a conflict.
        ``found`` are the first rows of partitions that begin with this commit, by their names: fresh ones, which nobody
        else knows.
        None of the arguments is changed by anybody before the Deferred fires.
        Errback: StoreReadOnly, StoreFull, CommitUnknown (nobody knows: re-read and compare ids).
        """

    def close() -> Deferred[None]:
        """Answer what is queued, stop the writer, release the files."""


class IBlobWriter(Interface):
    """One blob being written. Whoever got it ends it, by ``commit`` or by ``abort``, exactly once."""

    def write(data: bytes | memoryview) -> Deferred[None] | None:
        """Append. The data is the engine's from now on (the caller must not change it).

        Returns None where more may follow at once; a Deferred is back-pressure: wait for it before the next write.
        It errbacks with StorageError (StoreFull, StoreReadOnly), after which only ``abort`` is allowed.
        """

    def commit(footer: Owner, digests: Callable[[], Owner] = dict) -> Deferred[bytes]:
        """Make it durable and give it its name; fires with the fresh blob id.

        ``footer`` says whose it is, for rebuilding an index: bucket (id), key, upload, part, content-type, metadata.
        ``digests`` is asked for more of it, in the disk pool, when ``update`` has seen every byte.
        From then on the blob is *unsettled* until ``IBlobs.settle``.
        """

    def abort() -> Deferred[None]:
        """Leave no trace. Allowed after a failed write or commit. Never errbacks."""


class IBlobReader(Interface):
    """A range of one blob, block by block, each verified before it is handed out. Whoever got it closes it."""

    owner = Attribute("Owner: what its writer said of the blob; of a clone, what was said of the first one.")

    def next_block() -> memoryview | Deferred[memoryview | None] | None:
        """The next bytes of the range, or None at its end; a Deferred where the disk has to be waited for.

        The view is of a buffer that is used again: it is valid until the next call or ``close``.
        Raises, or errbacks with, CorruptData, BlobMissing, StorageError.
        """

    def give_back(count: int) -> bool:
        """Take back the last ``count`` bytes of the last block: ``next_block`` begins with them, and the memory of the
        block is free until then. False: nothing of this has happened.
        """

    def close() -> None:
        """Release the file and the buffer. Idempotent.

        Allowed while a Deferred of ``next_block`` is unfired, which then fires with None.
        """


class IBlobs(Interface):
    """Immutable byte strings, named by 16-byte time-ordered ids that are never used again."""

    read_only = Attribute("str: why nothing more is written (a sync failed), or '' while writing is possible.")

    def check_space() -> None:
        """Raises what ``writer`` would, and begins nothing: for bytes that go elsewhere on the same disk."""

    def writer(update: Callable[[bytes | memoryview], object] | None = None) -> IBlobWriter:
        """Begin a blob. Raises StoreFull (free space under the reserve), StoreReadOnly or StoreBusy.

        ``update`` is called with every byte, in order and in the pieces that were written, before the Deferred of
        ``commit`` fires: not in the reactor thread where the engine has others, but never twice at a time. It is where
        whole-object digests are computed.
        """

    def reader(blob_id: bytes, offset: int, length: int) -> Deferred[IBlobReader] | IBlobReader:
        """Read ``length`` bytes from ``offset``.

        Raises, or errbacks with, BlobMissing, CorruptData (bad footer, or the blob ends before the range does),
        FormatError (a newer release wrote it), StoreBusy, StorageError.
        """

    def clone(blob_id: bytes) -> Deferred[bytes]:
        """A second blob with the same bytes, as cheaply as the engine can, durable; fires with its id (unsettled).

        Raises StoreBusy.
        """

    def settle(blob_ids: Sequence[bytes]) -> None:
        """The index now owns these blobs (or they have been removed): a crash need not look for them any more."""

    def remove(blob_ids: Sequence[bytes]) -> Deferred[None]:
        """Remove; a blob that is not there is no error. Settles them too."""

    def set_aside(blob_ids: Sequence[bytes]) -> Deferred[None]:
        """As :meth:`remove`, of blobs whose owner is not known: an engine that can keeps them where nothing of this
        interface finds them, for whoever repairs a damaged index."""

    def settled_before() -> bytes:
        """An id that is greater than the id of no unsettled blob: what the checkpoint row may say."""

    def newer_than(blob_id: bytes) -> Deferred[list[bytes]]:
        """The ids of all blobs with a greater id, in order: what a restart compares with the index."""

    def clean() -> Deferred[int]:
        """At the start of a store that nobody else uses: remove what a crash left half written; how many files."""

    def close() -> Deferred[None]:
        """Wait for running work, release everything."""
