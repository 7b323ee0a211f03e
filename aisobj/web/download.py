"""A stored body on its way out: verified blocks, with back-pressure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred

from aisobj.storage.bodies import ExtentSource, VerifyingSource
from aisobj.storage.objects import Found
from aisobj.storage.store import ObjectStore
from aisobj.web.request import Block, Request


def send_found(
    request: Request,
    store: ObjectStore,
    found: Found,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    offset: int,
    length: int,
) -> Deferred[None] | None:
    """Answer with ``length`` bytes from ``offset`` of an object. None: it is done.

    A body in the index goes out with the head in one write. Otherwise the first block is read before the head is sent,
    so that BlobMissing still can be answered (by fetching again), and CorruptData by a 500.

    :raises StorageError: or errbacks; after the head is out the connection is aborted by whoever renders.
    """
    if request.method == b"HEAD":
        request.respond(status, (*headers, (b"Content-Length", b"%d" % length)))
        return None
    if found.inline is not None:
        store.objects.check_inline(found)
        request.respond(status, headers, found.inline[offset : offset + length])
        return None
    return Deferred.fromCoroutine(_stream(request, store, found, status, headers, offset, length))


async def _stream(
    request: Request,
    store: ObjectStore,
    found: Found,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    offset: int,
    length: int,
) -> None:
    source = await store.objects.open(found, offset, length)
    try:
        begun = source.next_block()
        first = await begun if isinstance(begun, Deferred) else begun
        if request.gone:
            source.close()
            return
        request.start_response(status, headers, length)
    except BaseException:
        source.close()
        raise
    await request.send(_Begun(first, source))


class _Begun:
    """A source whose first block was taken before the head went out: what is corrupt there is answered, not cut off."""

    __slots__ = ("_first", "_source", "close", "give_back")

    def __init__(self, first: memoryview | None, source: ExtentSource | VerifyingSource) -> None:
        self._first = first
        self._source = source
        self.close = source.close
        self.give_back = source.give_back

    def next_block(self) -> Block | Deferred[Block | None] | None:
        first = self._first
        if first is not None:
            self._first = None
            return first
        # A Deferred is invariant in what it fires with, so one of memoryviews is not one of blocks to the type checker.
        return cast("Block | Deferred[Block | None] | None", self._source.next_block())
