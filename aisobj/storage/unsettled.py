"""The blobs that exist, or are about to, and that no index row owns yet: what a checkpoint must not pass."""

from __future__ import annotations

from collections.abc import Iterable

from aisobj.storage.ids import IdMaker, first_id

#: A checkpoint stays this far behind the clock, so that another process whose clock was read a little later, or stepped
#: back a little, still makes greater ids.
MARGIN_NS = 10 * 10**9


class Unsettled:
    """Hands out blob ids and remembers each until it is settled. For one thread."""

    __slots__ = ("_ids", "_open")

    def __init__(self, ids: IdMaker) -> None:
        self._ids = ids
        # A dict keeps the order of insertion, and ids only grow: the first one is the smallest.
        self._open: dict[bytes, None] = {}

    def make(self) -> bytes:
        blob_id = self._ids.make()
        self._open[blob_id] = None
        return blob_id

    def settle(self, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            self._open.pop(blob_id, None)

    def before(self) -> bytes:
        """An id that is smaller than that of every unsettled blob and of every blob to come."""
        limit = first_id(self._ids.time() - MARGIN_NS)
        oldest = next(iter(self._open), None)
        if oldest is None or oldest > limit:
            return limit
        return (int.from_bytes(oldest, "big") - 1).to_bytes(16, "big")
