"""What the embedded engine does by itself now and then: a backup of the index, a gentle scrub, and a look for snapshots
of processes that have died. One process does it.

Both work in the disk pool, in steps that the reactor spaces out; what fails is logged and tried again later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from aisobj.errors import StorageError
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.index_backup import DIRECTORY, back_up, backups, next_backup, remove_old
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.orphans import drop_old_orphans
from aisobj.storage.scrub import Progress, Scrub, load_progress

#: Of the background scrub, in the data directory.
PROGRESS: Final = "scrub.json"
#: A start is a bad time: nothing is begun before this, seconds (or the interval, where that is shorter).
_FIRST: Final = 600.0
#: After a failure, seconds.
_AGAIN: Final = 3600.0
#: Where a scrub is is written down this often, seconds.
_SAVE: Final = 30.0
_MIB: Final = 1 << 20
#: A step counts as so many bytes at least: one of small rows costs a turn of the pool too.
_LEAST: Final = 256 * 1024

#: A tool or a worker that was killed is found within this, seconds.
_READERS: Final = 60.0
#: How often orphans are looked at, seconds.
_ORPHANS: Final = 3600.0

_END: Final = -1


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """What the operator wants. Intervals in seconds."""

    backups: int = 3  #: how many are kept; 0: none are made
    backup_interval: float = 24 * 3600.0
    scrub_rate: float = 4.0  #: MiB/s; 0: off
    scrub_interval: float = 7 * 24 * 3600.0  #: from the end of one to the start of the next


class IUpkeepReactor(IReactorTime, IReactorThreads):
    """What this needs of a reactor."""


class EmbeddedUpkeep:
    """``start`` it, and ``stop`` it before the index is closed.

    :param environment: of the index. :param reserve: bytes of free space that a backup leaves.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IUpkeepReactor,
        pool: ThreadPool,
        settings: UpkeepSettings,
        data: Path,
        environment: lmdb.Environment,
        reserve: int,
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._settings = settings
        self._data = data
        self._environment = environment
        self._reserve = reserve
        self._running: list[Deferred[None]] = []
        self._waiting: set[Deferred[None]] = set()
        self._stopped = False

    def start(self) -> None:
        settings = self._settings
        self._begin(self._free_readers, time.time, _READERS)
        self._begin(self._drop_orphans, time.time, _ORPHANS)
        if settings.backups:
            self._begin(self._back_up, self._last_backup, settings.backup_interval)
        if settings.scrub_rate:
            self._begin(self._scrub, self._last_scrub, settings.scrub_interval)

    async def stop(self) -> None:
        self._stopped = True
        for waiting in list(self._waiting):
            waiting.cancel()
        await gatherResults(self._running)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], last: Callable[[], float], interval: float) -> None:
        self._running.append(Deferred.fromCoroutine(self._repeat(work, last, interval)))

    async def _repeat(
        self, work: Callable[[], Coroutine[Any, Any, None]], last: Callable[[], float], interval: float
    ) -> None:
        # What seems to have been done in the future was done before the clock was set back.
        delay = min(max(last() + interval - time.time(), min(_FIRST, interval)), interval)
        while await self._sleep(delay):
            try:
                await work()
                delay = interval
            except Exception as error:  # nobody is told but the log; the next one tries again
                self._log.error("upkeep: {error}", error=error)
                delay = min(interval, _AGAIN)

    async def _sleep(self, seconds: float) -> bool:
        """False: it is time to stop."""
        if self._stopped:
            return False
        waiting: Deferred[None] = deferLater(self._reactor, seconds)
        self._waiting.add(waiting)
        try:
            await waiting
        except CancelledError:
            return False
        finally:
            self._waiting.discard(waiting)
        return not self._stopped

    async def _in_pool(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._pool, call, *arguments)

    async def _free_readers(self) -> None:
        """Free the slots of dead processes in the table of readers: a snapshot of theirs makes the index grow."""
        self._environment.reader_check()

    async def _drop_orphans(self) -> None:
        """Remove blobs that have had no owner for long."""
        if dropped := await self._in_pool(drop_old_orphans, str(self._data / "blobs"), time.time()):
            self._log.info("blobs that {dropped} starts found without an owner are removed", dropped=dropped)

    # backups ----------------------------------------------------------------------------------------------------

    def _last_backup(self) -> float:
        found = backups(self._data / DIRECTORY)
        return found[-1].stat().st_mtime if found else 0.0

    async def _back_up(self) -> None:
        target = next_backup(self._data / DIRECTORY, time.time())
        await self._in_pool(self._back_up_now, target)
        self._log.info("the index was backed up to {target}", target=target)

    def _back_up_now(self, target: Path) -> None:
        free = os.statvfs(self._data)
        size = self._environment.info()["last_pgno"] * self._environment.stat()["psize"]
        if free.f_bavail * free.f_frsize < size + self._reserve:
            raise StorageError("there is not enough free space for a backup of the index")
        back_up(self._environment, target)
        remove_old(target.parent, self._settings.backups)

    # scrub ------------------------------------------------------------------------------------------------------

    def _last_scrub(self) -> float:
        progress = load_progress(self._data / PROGRESS)
        return progress.finished if progress.finished or not progress.started else 0.0

    async def _scrub(self) -> None:
        """From where the last process was, or from the start."""
        path = self._data / PROGRESS
        progress = load_progress(path)
        if progress.finished or not progress.started:
            progress = Progress(started=time.time())
        scrub = Scrub(IndexReader(self._environment), BlobFiles(self._data / "blobs"), progress, quarantine=True)
        steps = scrub.steps()
        rate = self._settings.scrub_rate * _MIB
        saved, known = time.monotonic(), len(progress.corrupt)
        while (size := await self._in_pool(next, steps, _END)) != _END:
            for text in progress.corrupt[known:]:
                self._log.error("scrub: {text}", text=text)
            known = len(progress.corrupt)
            if time.monotonic() - saved > _SAVE:
                await self._in_pool(progress.save, path)
                saved = time.monotonic()
            if not await self._sleep(max(size, _LEAST) / rate):
                break
        else:
            progress.finished = time.time()
            for text in progress.corrupt[known:]:
                self._log.error("scrub: {text}", text=text)
        steps.close()  # type: ignore[attr-defined]
        await self._in_pool(progress.save, path)
