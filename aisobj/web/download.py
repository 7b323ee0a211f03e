"""A stored body on its way out: verified blocks, with back-pressure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred

from aisobj.storage.objects import Found
from aisobj.storage.store import ObjectStore
from aisobj.web.request import BlockSource, Request


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

    A body in the index goes out with the head in one write. Otherwise the first blob is opened before the head is
    sent, so that BlobMissing still can be answered (by fetching again).

    :raises StorageError: or errbacks; after the head is out the connection is aborted by whoever renders.
    """
    if found.inline is not None:
        store.objects.check_inline(found)
        request.respond(status, headers, bytes(found.inline[offset : offset + length]))
        return None
    if request.method == b"HEAD":
        request.respond(status, (*headers, (b"Content-Length", b"%d" % length)))
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
    if request.gone:
        source.close()
        return
    try:
        request.start_response(status, headers, length)
    except BaseException:
        source.close()
        raise
    # A Deferred is invariant in what it fires with, so a source of memoryviews is not one of blocks to the type checker.
    await request.send(cast(BlockSource, source))
