"""What S3's operations mean for one key: a register that holds an object, known by its ETag, or none.

CopyObject is two operations, a read of the source and a write, as S3 promises nothing of two keys. A page of
ListObjectsV2 is a read of every key that it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reliability.linearizability import NEVER, Operation, Undecided, linearize

#: The ETag of the object, None: there is none.
State = str | None
#: In place of the state that an operation leaves: it leaves what was there; nobody knows which.
UNCHANGED, UNKNOWN = "", "?"
Steps = Callable[[State], Iterable[State]]


def wrote(etag: State) -> Steps:
    """It was put (None: deleted), whatever was there."""
    return lambda state: (etag,)


def read(etag: State) -> Steps:
    return lambda state: (state,) if state == etag else ()


def created(etag: str) -> Steps:
    """With ``If-None-Match: *``."""
    return lambda state: (etag,) if state is None else ()


def replaced(old: str, etag: str) -> Steps:
    """With ``If-Match: old``."""
    return lambda state: (etag,) if state == old else ()


def exists(state: State) -> Iterable[State]:
    """Nothing was created, since there is something."""
    return () if state is None else (state,)


def differs(old: str) -> Steps:
    """Nothing was replaced, since something else is there."""
    return lambda state: () if state in (None, old) else (state,)


def nothing(state: State) -> Iterable[State]:
    """Refused whatever is there."""
    return (state,)


def perhaps(steps: Steps) -> Steps:
    return lambda state: (state, *steps(state))


def one_of(etags: Callable[[], Collection[State]]) -> Steps:
    """Something was put, of which only this is known."""
    return lambda state: etags()


@dataclass(slots=True)
class Record:
    """An operation on a key.

    :param leaves: the state that it leaves if it happens, ``UNCHANGED`` or ``UNKNOWN``.
    :param server: which of the servers, which follow one another on the same data, it was sent to.
    :param answered: with what has happened. Otherwise it happened or did not: before ``returned``, if that is known.
    """

    key: str
    called: float
    returned: float
    steps: Steps
    what: str
    leaves: State = UNCHANGED
    server: int = 0
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a listing said of each key that it speaks of."""

    called: float
    returned: float
    found: Mapping[str, State]


class History:
    """What all clients did to one bucket, which was empty before. Clients of several threads may append to it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.pages: list[Page] = []

    def faults(self, ready: Sequence[float]) -> list[str]:
        """What cannot be, a text each.

        :param ready: when each server had begun: what an earlier one has not done by then will not be done.
        """
        by_key: dict[str, list[Record]] = {}
        for record in self.records:
            if record.returned == NEVER and record.server + 1 < len(ready):
                record.returned = ready[record.server + 1]
            by_key.setdefault(record.key, []).append(record)
        faults = [fault for key, records in sorted(by_key.items()) for fault in _check(key, records)]
        return faults + [fault for page in self.pages for fault in _check_page(page, by_key)]


def _check(key: str, records: Sequence[Record]) -> list[str]:
    operations = [Operation(each.called, each.returned, _steps(each), each.what) for each in records]
    try:
        order = linearize(operations, None)
    except Undecided as error:
        return [f"{key}: undecided: {error}"]
    if order is None:
        return []
    placed = set(map(id, order))
    rest = sorted((each for each in operations if id(each) not in placed), key=lambda each: each.called)
    first = min(each.called for each in operations)
    lines = [f"{key}: not linearizable: the longest order found has {len(order)} of {len(operations)} operations"]
    for name, some in (("the last of them", order[-20:]), ("the first of the rest", rest[:20])):
        lines.append(f"  {name}:")
        lines += [f"    {each.called - first:.6f} to {each.returned - first:.6f}: {each.what}" for each in some]
    return ["\n".join(lines)]


def _steps(record: Record) -> Steps:
    return record.steps if record.answered else perhaps(record.steps)


def _check_page(page: Page, by_key: Mapping[str, Sequence[Record]]) -> list[str]:
    """A page is one moment: whether there is one at which all keys may have been as it says."""
    earliest, latest = (page.called, ""), (page.returned, "")
    for key, state in page.found.items():
        since, until = _lived(state, by_key.get(key, ()))
        earliest = max(earliest, (since, key))
        latest = min(latest, (until, key))
    if earliest[0] <= latest[0]:
        return []
    return [
        f"a page shows no one moment: {earliest[1]} was not yet {page.found.get(earliest[1])} when {latest[1]} was no "
        f"longer {page.found.get(latest[1])}"
    ]


def _lived(state: State, records: Sequence[Record]) -> tuple[float, float]:
    """The longest time that a key can have been in a state that was brought about once; else, always."""
    changes = [each for each in records if each.leaves != UNCHANGED]
    makers = [each for each in changes if each.leaves in (state, UNKNOWN)]
    if state is None and not makers:
        since = made = -math.inf
    elif state is not None and len(makers) == 1:
        since, made = makers[0].called, makers[0].returned
    else:
        return -math.inf, math.inf
    ends = [each.returned for each in changes if each.answered and each.called > made]
    return since, min(ends, default=math.inf)
