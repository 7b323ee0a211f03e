"""Whether what many clients saw of one thing could have come from doing their operations one after the other.

The algorithm is Wing and Gong's, with Lowe's memory of what has been tried ("Testing for linearizability", 2017), as
in Porcupine. Nondeterminism (operations that nobody knows the end of) is handled as Porcupine does: a state of the
search is the set of all states that the thing may be in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

#: ``returned`` of an operation that may happen at any time after its call.
NEVER = math.inf
#: More steps than any history that a program here makes has taken needs by far.
MAX_STEPS = 2_000_000


class Undecided(Exception):
    """The search took too long."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[S]):
    """What one client did.

    :param called: when it began. :param returned: when its answer was there. Both by one clock that never goes back.
    :param steps: state before -> the states that it may leave; none, if its answer cannot come from that state.
    :param what: how a report names it.
    """

    called: float
    returned: float
    steps: Callable[[S], Iterable[S]]
    what: str


class _Event(Generic[S]):
    """A call, or a return; a node of the list of those that are not in the order yet."""

    __slots__ = ("bit", "following", "operation", "previous", "returning")

    def __init__(self, operation: Operation[S], bit: int, returning: _Event[S] | None) -> None:
        self.operation = operation
        self.bit = bit
        self.returning = returning  #: of a call
        self.previous: _Event[S] = self
        self.following: _Event[S] | None = None

    def take_out(self) -> None:
        self.previous.following = self.following
        if self.following is not None:
            self.following.previous = self.previous

    def put_back(self) -> None:
        self.previous.following = self
        if self.following is not None:
            self.following.previous = self


def linearize(operations: Sequence[Operation[S]], initial: S, max_steps: int = MAX_STEPS) -> list[Operation[S]] | None:
    """None: there is an order in which each operation happens between its call and its return and answers as it did.

    Otherwise the longest beginning of an order that was found; what cannot follow is among the rest.

    :param initial: the state before.
    :raises Undecided:
    """
    head = _events(operations)
    states, done = frozenset((initial,)), 0
    tried = {(done, states)}
    order: list[tuple[_Event[S], frozenset[S]]] = []
    longest: list[Operation[S]] = []
    event = head.following
    for _ in range(max_steps):
        if head.following is None:
            return None
        assert event is not None
        if event.returning is not None:
            after = frozenset(new for state in states for new in event.operation.steps(state))
            if after and (done | event.bit, after) not in tried:
                tried.add((done | event.bit, after))
                order.append((event, states))
                if len(order) > len(longest):
                    longest = [each.operation for each, _ in order]
                states, done = after, done | event.bit
                event.take_out()
                event.returning.take_out()
                event = head.following
            else:
                event = event.following
            continue
        # Whatever returns here had to happen before, in one of the ways that have been tried by now.
        if not order:
            return longest
        last, states = order.pop()
        done &= ~last.bit
        assert last.returning is not None
        last.returning.put_back()
        last.put_back()
        event = last.following
    raise Undecided(f"{len(operations)} operations, {max_steps} steps")


def _events(operations: Sequence[Operation[S]]) -> _Event[S]:
    """What comes before the first of the list. At one moment calls come before returns: they may overlap."""
    timed: list[tuple[float, int, _Event[S]]] = []
    for number, operation in enumerate(operations):
        assert operation.called <= operation.returned
        returning = _Event(operation, 0, None)
        timed.append((operation.returned, 1, returning))
        timed.append((operation.called, 0, _Event(operation, 1 << number, returning)))
    timed.sort(key=lambda each: each[:2])
    beginning: Operation[S] = Operation(0, 0, lambda _: (), "the beginning")
    head = last = _Event(beginning, 0, None)
    for _, _, event in timed:
        last.following, event.previous = event, last
        last = event
    return head
