"""ObjectStore: S3's semantics, written once, over an index and a blob engine (see ``interfaces``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from aisobj.storage.buckets import Buckets
from aisobj.storage.copying import Copier
from aisobj.storage.engine import Ballast, Engine, Findings
from aisobj.storage.ids import IdMaker
from aisobj.storage.interfaces import IBlobs, IIndex
from aisobj.storage.multipart import Uploads
from aisobj.storage.objects import Objects
from aisobj.storage.sweeper import Sweeper

#: Bodies up to this size live in the index: one sync makes them durable. Larger ones would gain too, but a row that is
#: not in the page cache is read by the reactor thread: 0.55 ms at 64 KiB. Measured in docs/performance.md.
INLINE_LIMIT = 64 * 1024
SWEEP_SECONDS = 60.0

_log = Logger()


class Upkeep(Protocol):
    """Work of an engine's own, in the background."""

    def start(self) -> None: ...

    async def stop(self) -> None:
        """Returns when nothing of it runs any more."""


class ObjectStore:
    """All of storage, as the web sees it.

    :ivar buckets: :class:`~aisobj.storage.buckets.Buckets`
    :ivar objects: :class:`~aisobj.storage.objects.Objects`
    :ivar uploads: :class:`~aisobj.storage.multipart.Uploads`
    :ivar turns: :class:`~aisobj.storage.turns.Turns`, which runs what is done in slices
    :ivar copier: :class:`~aisobj.storage.copying.Copier`

    :param upkeep: what else is done behind the clients' backs, by the process that sweeps.
    :param closed: called at the end of ``close``, when both engines are closed.

    Whoever made it calls ``start`` before serving and ``close`` at the end; ``close`` closes both engines.
    """

    def __init__(
        self,
        index: IIndex,
        blobs: IBlobs,
        clock: IReactorTime,
        ids: IdMaker | None = None,
        inline_limit: int = INLINE_LIMIT,
        ballast: Ballast | None = None,
        findings: Findings | None = None,
        upkeep: Upkeep | None = None,
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        ids = ids or IdMaker()
        self._engine = Engine(index, blobs, ids, clock, inline_limit, ballast or Ballast(), findings or Findings())
        self._closed = closed
        self._upkeep = upkeep
        self.turns = self._engine.turns
        self.buckets = Buckets(self._engine)
        self.objects = Objects(self._engine, self.buckets)
        self.uploads = Uploads(self._engine, self.objects)
        self.copier = Copier(self._engine, self.objects, self.uploads)
        self.sweeper = Sweeper(self._engine)
        self._sweeping: Deferred[None] | None = None
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = clock

    @property
    def read_only(self) -> str:
        """Why nothing can be written any more, or ''."""
        return self._engine.read_only

    def corrupt_count(self) -> int:
        """How many rows and blobs are known to be corrupt."""
        return self._engine.findings.count()

    def settled_before(self) -> bytes:
        """An id that is smaller than those of all unsettled blobs of this process, and of its blobs to come."""
        settled: bytes = self._engine.blobs.settled_before()
        return settled

    async def start(self, alone: bool = True, sweep: bool = True) -> None:
        """Remove what a crash left, then begin to sweep.

        :param alone: no other process uses the store yet; otherwise nothing is removed, since what has no owner may be
            about to get one.
        :param sweep: False in all processes but one.
        """
        if alone:
            removed = await self.sweeper.recover()
            if removed:
                _log.info("removed {removed} files that a crash left without an owner", removed=removed)
        else:
            self.sweeper.join()
        if sweep:
            self._loop.start(SWEEP_SECONDS, now=False)
            if self._upkeep is not None:
                self._upkeep.start()

    async def close(self) -> None:
        """Stop sweeping, then close the blobs and the index."""
        if self._loop.running:
            self._loop.stop()
        self.sweeper.stop()
        if self._sweeping is not None:
            await self._sweeping
        if self._upkeep is not None:
            await self._upkeep.stop()
        await self._engine.blobs.close()
        await self._engine.index.close()
        self._closed()

    def _sweep(self) -> Deferred[None]:
        self._sweeping = Deferred.fromCoroutine(self._sweep_once())
        return self._sweeping

    async def _sweep_once(self) -> None:
        if self.read_only:
            return
        try:
            await self.sweeper.sweep()
        except Exception:
            _log.failure("a sweep failed; the next one tries again")
