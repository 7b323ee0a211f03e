"""Calls that run in the disk pool, counted, so that closing can wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from aisobj.errors import StoreBusy

P = ParamSpec("P")
T = TypeVar("T")


class Jobs:
    """Runs blocking calls in a pool that somebody else starts and stops.

    :param after: called in the reactor thread when a job has ended, before its Deferred fires.
    :param queue: how many jobs may wait for a thread before nothing new is begun (``check``).
    """

    def __init__(self, reactor: IReactorFromThreads, pool: ThreadPool, after: Callable[[], object], queue: int) -> None:
        self._most = pool.max + queue
        self._reactor = reactor
        self._pool = pool
        self._after = after
        self._running = 0
        self._idle: list[Deferred[None]] = []

    def check(self) -> None:
        """Call before something is begun that takes jobs; what has begun goes on. Raises StoreBusy."""
        if self._running >= self._most:
            raise StoreBusy(f"{self._running} jobs wait for the disk")

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """The call's outcome. Not for cancelling (the thread would go on uncounted): hand out :func:`shielded`."""
        self._running += 1
        job: Deferred[T] = deferToThreadPool(self._reactor, self._pool, call, *args, **kwargs)
        return job.addBoth(self._ran)

    def idle(self) -> Deferred[None]:
        """Fires once no job is left, nor one that such a job leads to."""
        if not self._running:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        return waiting

    def _ran(self, result: T | Failure) -> T | Failure:
        self._running -= 1
        self._after()
        if not self._running and self._idle:
            # Not now: whoever waits for this result may start another job with it.
            self._reactor.callFromThread(self._fire_idle)
        return result

    def _fire_idle(self) -> None:
        if not self._running:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)


def shielded(job: Deferred[T], lost: Callable[[T], object] | None = None) -> Deferred[T]:
    """The outcome of a job that goes on when this Deferred is cancelled (the client left).

    :param lost: takes the result that nobody waits for any more.
    """
    outcome: Deferred[T] = Deferred()

    def deliver(result: T | Failure) -> None:
        if outcome.called:
            if lost is not None and not isinstance(result, Failure):
                lost(result)
        elif isinstance(result, Failure):
            outcome.errback(result)
        else:
            outcome.callback(result)

    job.addBoth(deliver)
    return outcome
