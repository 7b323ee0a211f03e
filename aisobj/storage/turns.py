"""Long computations take turns: in one turn of the reactor only one of them does one slice of its work.

So a small request waits for one slice at most, however many pages and long uploads are being made. Of those some are
under way at a time: each holds what it has made so far, a page a MiB, and a snapshot of the index. What is mostly done
in one slice, and not asked for often, waits for neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")

#: How much work may be under way. The rest waits for its beginning, not for a turn: 64 pages at a time took 40 MB.
MOST_BEGUN = 8


class Turns:
    """One for all of a process.

    :param clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Deferred[None]] = deque()
        self._taken = False  # somebody has done a slice in this turn of the reactor
        self._begun = 0
        self._to_begin: deque[Deferred[None]] = deque()

    async def run(self, slices: Generator[None, None, T], at_once: bool = False) -> T:
        """Do the work, a slice a turn, and return its result; it begins at once if it is nobody else's turn, and not
        too much has begun.

        :param at_once: the first slice waits for nothing: for work that mostly has no other and is not asked for often.
        """
        if at_once or self._begun < MOST_BEGUN:
            self._begun += 1
        else:
            place: Deferred[None] = Deferred()
            self._to_begin.append(place)
            await place
        try:
            while True:
                if not at_once:
                    await self.take()
                at_once = False
                try:
                    next(slices)
                except StopIteration as done:
                    result: T = done.value
                    return result
        finally:
            slices.close()
            self._begun -= 1
            if self._to_begin and self._begun < MOST_BEGUN:
                self._begun += 1
                # In a turn of its own: one that begins and ends at once would begin the next one within this one's end.
                self._clock.callLater(0, self._to_begin.popleft().callback, None)

    async def take(self) -> None:
        """Wait for a turn."""
        if self._taken:
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            await turn
        else:
            self._taken = True
            self._clock.callLater(0, self._next)

    def _next(self) -> None:
        if self._waiting:
            self._clock.callLater(0, self._next)
            self._waiting.popleft().callback(None)
        else:
            self._taken = False
