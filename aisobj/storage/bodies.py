"""The bytes of objects: written inline or to a blob with digests on the way, read back verified, extent by extent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed

from aisobj.checksums import DigestSet, etag, new_digest
from aisobj.errors import CorruptData, S3Error, StoreBusy, StoreFull, StoreReadOnly
from aisobj.model import Body, Extent
from aisobj.storage.engine import Engine, slow_down
from aisobj.storage.interfaces import IBlobReader, IBlobWriter, Owner


class WrittenBody:
    """Bytes that are stored but belong to nobody yet. The store makes them an object's, or drops them.

    :ivar checksum_type: the bucket's when the body was begun; it decides the ETag.
    :ivar digests: of that type and whatever else was asked for.
    :ivar inline: the bytes themselves, where they go into the index; None where they are in ``extents``.
    """

    __slots__ = ("checksum_type", "digests", "extents", "inline", "size")

    def __init__(
        self, checksum_type: str, size: int, digests: DigestSet, inline: bytes | None, extents: list[Extent]
    ) -> None:
        self.checksum_type = checksum_type
        self.size = size
        self.digests = digests
        self.inline = inline
        self.extents = extents


class NewBody(msgspec.Struct, frozen=True, gc=False):
    """What a record says of its body; either ``inline`` or ``body`` or neither (empty)."""

    size: int
    etag: Callable[[bytes], str]  #: version id -> ETag (type none has the version in it)
    checksum_type: str
    checksum_value: str
    inline: bytes | None = None
    body: Body | None = None
    owner: bytes = b""  #: the body id, where it must be a given one (an upload's)
    parts: int = 0


def new_body(body: WrittenBody) -> NewBody:
    """A written one."""
    stored = Body(body.extents) if body.extents else None
    return _new_body(body.checksum_type, body.size, body.digests.hex(body.checksum_type), body.inline, stored)


def whole_body(checksum_type: str, data: bytes) -> NewBody:
    """One that goes into the index, all of it."""
    digest = new_digest(checksum_type)
    digest.update(data)
    return _new_body(checksum_type, len(data), digest.hexdigest(), data, None)


def _new_body(checksum_type: str, size: int, value: str, inline: bytes | None, stored: Body | None) -> NewBody:
    return NewBody(size, lambda version: etag(checksum_type, value, version), checksum_type, value, inline, stored)


class BodyWriter:
    """Takes a body as it arrives and decides where it goes. Whoever made it ends it with ``finish`` or ``abort``.

    :param checksum_type: the bucket's ``checksum.type``.
    :param digests: names of further digests to compute on the way (``checksums.new_digest``).
    :param size: its length where that is known, else None.
    :param inline: whether a small one may stay out of blobs.
    :raises S3Error: SlowDown or ServiceUnavailable where nothing can be stored now.
    """

    def __init__(
        self, engine: Engine, checksum_type: str, digests: Iterable[str], size: int | None, inline: bool = True
    ) -> None:
        self._engine = engine
        self._type = checksum_type
        self._digests = DigestSet((checksum_type, *digests))
        self._limit = engine.inline_limit if inline else -1
        self._pending: list[bytes | memoryview] = []
        self._blob: IBlobWriter | None = None
        self.size = 0
        engine.check_space()
        if size is not None and size > self._limit:
            self._blob = self._open()

    def write(self, data: bytes | memoryview) -> Deferred[None] | None:
        """Append; a Deferred is back-pressure. Raises, or errbacks with, S3Error or StorageError."""
        self.size += len(data)
        if self._blob is not None:
            return self._blob.write(data)
        self._pending.append(data)
        if self.size <= self._limit:
            return None
        blob = self._blob = self._open()
        pending, self._pending = self._pending, []
        return blob.write(b"".join(pending))

    async def finish(self, footer: Owner) -> WrittenBody:
        """All has been written: durable if in a blob, digests known. ``footer`` as in ``IBlobWriter.commit``."""
        if self._blob is None and self._limit < 0:
            self._blob = self._open()
        if self._blob is None:
            return self.finish_inline()
        blob_id = await self._blob.commit(footer, self._checksum)
        return WrittenBody(self._type, self.size, self._digests, None, [Extent(blob_id, 0, self.size)])

    def finish_inline(self) -> WrittenBody:
        """:meth:`finish` of a body that is not longer than the limit."""
        inline = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._digests.update(inline)
        return WrittenBody(self._type, self.size, self._digests, bytes(inline), [])

    def abort(self) -> Deferred[None]:
        """Leave no trace."""
        self._pending.clear()
        return succeed(None) if self._blob is None else self._blob.abort()

    async def discard(self, body: WrittenBody) -> None:
        """Drop a body that this writer finished and that will belong to nobody."""
        await self._engine.drop([extent.blob_id for extent in body.extents])

    def _checksum(self) -> dict[str, str]:
        """For the blob's footer; computed in the disk pool."""
        return {"checksum-type": self._type, "checksum": self._digests.hex(self._type)}

    def _open(self) -> IBlobWriter:
        try:
            writer: IBlobWriter = self._engine.blobs.writer(self._digests.update)
        except (StoreFull, StoreBusy) as error:
            raise slow_down(error) from error
        except StoreReadOnly as error:
            raise S3Error("ServiceUnavailable") from error
        return writer


class ExtentSource:
    """A range of a body, block by block: the blocks of its extents, one reader after another.

    ``next_block``, ``give_back`` and ``close`` are those of ``IBlobReader``. A blob that is missing, or bytes that do
    not match, come out as BlobMissing or CorruptData.
    """

    def __init__(self, engine: Engine, extents: Sequence[Extent], offset: int, length: int) -> None:
        self._engine = engine
        self._wanted = cut(extents, offset, length)
        if sum(extent.length for extent in self._wanted) != length:
            raise CorruptData(f"a body that ends before the range {offset}+{length} does")
        self._next = 0
        self._reader: IBlobReader | None = None
        self._closed = False

    async def open(self) -> Owner:
        """Open the first extent, so that what is missing shows before any head has been sent. What is said of its blob;
        nothing of an empty body's."""
        await self._open_next()
        return {} if self._reader is None else self._reader.owner

    def next_block(self) -> memoryview | Deferred[memoryview | None] | None:
        if self._reader is not None:
            block = self._reader.next_block()
            if block is not None and not isinstance(block, Deferred):
                return block
            if block is None and self._next == len(self._wanted):
                return None
        elif self._next == len(self._wanted):
            return None
        else:
            block = None
        return Deferred.fromCoroutine(self._across(block))

    def give_back(self, count: int) -> bool:
        return self._reader is not None and self._reader.give_back(count)

    def close(self) -> None:
        self._closed = True
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def _across(self, waiting: Deferred[memoryview | None] | None) -> memoryview | None:
        """The next block where that needs the disk, or the next extent."""
        block = None if waiting is None else await waiting
        while block is None and await self._open_next():
            assert self._reader is not None
            found = self._reader.next_block()
            block = await found if isinstance(found, Deferred) else found
        return block

    async def _open_next(self) -> bool:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._closed or self._next == len(self._wanted):
            return False
        extent = self._wanted[self._next]
        self._next += 1
        opening = self._engine.blobs.reader(extent.blob_id, extent.offset, extent.length)
        reader: IBlobReader = await opening if isinstance(opening, Deferred) else opening
        if self._closed:  # the client went away while we waited
            reader.close()
            return False
        self._reader = reader
        return True


def is_of_another(owner: Owner, checksum_type: str, value: str) -> bool:
    """Whether a blob is another one than the whole body that has this checksum: what its writer said contradicts it.

    Its own checksums cannot tell: they are in it.
    """
    return bool(value) and owner.get("checksum-type") == checksum_type and owner.get("checksum") != value


class VerifyingSource:
    """A whole body whose digest is checked on the way: the last block comes out only if all of them match.

    Bytes too few or too many do not match either.

    :param expected: (length, raw digest) of consecutive stretches: one, or one per part.
    """

    def __init__(self, source: ExtentSource, checksum_type: str, expected: Sequence[tuple[int, bytes]]) -> None:
        self._source = source
        self._type = checksum_type
        self._expected = list(reversed([e for e in expected if e[0]]))
        self._digest = new_digest(checksum_type)
        self._left = self._expected[-1][0] if self._expected else 0

    def next_block(self) -> memoryview | Deferred[memoryview | None] | None:
        block = self._source.next_block()
        if isinstance(block, Deferred):
            return block.addCallback(self._check)
        return self._check(block)

    def give_back(self, count: int) -> bool:
        return False  # a digest does not go back

    def close(self) -> None:
        self._left = 0  # nothing more is expected: a block that is being waited for will be None
        self._source.close()

    def _check(self, block: memoryview | None) -> memoryview | None:
        if block is None and self._left:
            raise CorruptData(f"a whole object ends {self._left} bytes before its {self._type} does")
        rest = block
        while rest:
            if not self._left:
                raise CorruptData(f"a whole object goes on after its {self._type} ends")
            self._digest.update(rest[: self._left])
            taken = min(self._left, len(rest))
            self._left -= taken
            rest = rest[taken:]
            if not self._left:
                _, digest = self._expected.pop()
                if self._digest.digest() != digest:
                    raise CorruptData(f"the {self._type} of a whole object does not match")
                self._digest = new_digest(self._type)
                self._left = self._expected[-1][0] if self._expected else 0
        return block


def cut(extents: Sequence[Extent], offset: int, length: int) -> list[Extent]:
    """The extents that hold ``length`` bytes from ``offset`` of what ``extents`` hold together."""
    found: list[Extent] = []
    for extent in extents:
        if length <= 0:
            break
        if offset >= extent.length:
            offset -= extent.length
            continue
        take = min(extent.length - offset, length)
        found.append(Extent(extent.blob_id, extent.offset + offset, take))
        length -= take
        offset = 0
    return found
