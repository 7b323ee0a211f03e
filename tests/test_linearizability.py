"""The checker of ``reliability.histories``, with histories that are known to be possible and known not to be."""

from __future__ import annotations

import itertools
import random

import pytest

from reliability import registers
from reliability.linearizability import NEVER, Operation, Undecided, linearize
from reliability.registers import UNKNOWN, History, Page, Record, State, Steps, perhaps, read, wrote

#: When it was called, when it returned, what it means.
Call = tuple[float, float, Steps]

POSSIBLE: dict[str, list[Call]] = {
    "nothing": [],
    "one after the other": [(0, 1, wrote("a")), (2, 3, read("a")), (4, 5, wrote(None)), (6, 7, read(None))],
    "a read beside a write sees the new": [(0, 3, wrote("a")), (1, 2, read("a"))],
    "a read beside a write sees the old": [(0, 3, wrote("a")), (1, 2, read(None))],
    "two writes, the first to begin wins": [(0, 9, wrote("a")), (1, 8, wrote("b")), (10, 11, read("a"))],
    "each reader sees the other's write last": [
        (0, 5, wrote("a")),
        (0, 5, wrote("b")),
        (1, 2, read("b")),
        (3, 4, read("a")),
    ],
    "at one moment calls come before returns": [(0, 1, wrote("a")), (1, 2, read(None))],
    "what was lost happened late": [
        (0, NEVER, perhaps(wrote("a"))),
        (1, 2, wrote("b")),
        (3, 4, read("b")),
        (5, 6, read("a")),
    ],
    "what was lost did not happen": [(0, NEVER, perhaps(wrote("a"))), (1, 2, wrote("b")), (3, 4, read("b"))],
    "what failed happened": [(0, 1, perhaps(wrote("a"))), (2, 3, read("a"))],
    "one of two creators": [
        (0, 3, registers.created("a")),
        (0, 3, registers.exists),
        (4, 5, read("a")),
    ],
    "replaced what was there": [(0, 1, wrote("a")), (2, 3, registers.replaced("a", "b")), (4, 5, read("b"))],
    "not replaced, as another was there": [(0, 1, wrote("b")), (2, 3, registers.differs("a")), (4, 5, read("b"))],
}

IMPOSSIBLE: dict[str, list[Call]] = {
    "a stale read": [(0, 1, wrote("a")), (2, 3, wrote("b")), (4, 5, read("a"))],
    "a lost write": [(0, 1, wrote("a")), (2, 3, read(None))],
    "a write that nobody made": [(0, 1, read("a"))],
    "a deleted object comes back": [(0, 1, wrote("a")), (2, 3, wrote(None)), (4, 5, read("a"))],
    "two readers see two writes in two orders": [
        (0, 1, wrote("a")),
        (0, 1, wrote("b")),
        (2, 3, read("a")),
        (4, 5, read("b")),
    ],
    "new, then old, beside the write": [(0, 9, wrote("a")), (1, 2, read("a")), (3, 4, read(None))],
    "what failed happened later": [(0, 1, perhaps(wrote("a"))), (2, 3, read(None)), (4, 5, read("a"))],
    "what was lost happened twice": [
        (0, NEVER, perhaps(wrote("a"))),
        (1, 2, read("a")),
        (3, 4, wrote("b")),
        (5, 6, read("b")),
        (7, 8, read("a")),
    ],
    "two creators": [(0, 3, registers.created("a")), (0, 3, registers.created("b"))],
    "not created, although nothing was there": [(0, 1, registers.exists)],
    "two replaced the same": [
        (0, 1, wrote("a")),
        (2, 5, registers.replaced("a", "b")),
        (2, 5, registers.replaced("a", "c")),
    ],
    "not replaced, although it was there": [(0, 1, wrote("a")), (2, 3, registers.differs("a"))],
    "replaced what was no longer there": [
        (0, 1, wrote("a")),
        (2, 3, wrote("b")),
        (4, 5, registers.replaced("a", "c")),
    ],
}


def operations(calls: list[Call]) -> list[Operation[State]]:
    return [Operation(called, returned, steps, str(number)) for number, (called, returned, steps) in enumerate(calls)]


@pytest.mark.parametrize("name", POSSIBLE)
def test_possible(name: str) -> None:
    for calls in (POSSIBLE[name], POSSIBLE[name][::-1]):
        assert linearize(operations(calls), None) is None


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible(name: str) -> None:
    for calls in (IMPOSSIBLE[name], IMPOSSIBLE[name][::-1]):
        order = linearize(operations(calls), None)
        assert order is not None
        assert len(order) < len(calls)


def orders_exist(calls: list[Call]) -> bool:
    """The definition, tried out: some order of all that keeps to real time, and in which each answer is right."""
    for order in itertools.permutations(calls):
        if any(later[1] < earlier[0] for earlier, later in itertools.combinations(order, 2)):
            continue
        states: set[State] = {None}
        for _, _, steps in order:
            states = {new for state in states for new in steps(state)}
        if states:
            return True
    return False


def test_it_agrees_with_the_definition() -> None:
    chance = random.Random(7)
    verdicts = []
    for _ in range(3000):
        calls: list[Call] = []
        for _ in range(chance.randrange(1, 6)):
            etag, other = chance.choices("ab", k=2)
            steps = chance.choice(
                (
                    *(read(etag), read(None), wrote(etag), wrote(None), registers.created(etag), registers.exists),
                    *(registers.replaced(other, etag), registers.differs(etag)),
                )
            )
            called = chance.randrange(8)
            returned: float = called + chance.randrange(1, 5)
            if chance.random() < 0.2:
                steps, returned = perhaps(steps), chance.choice((returned, NEVER))
            calls.append((called, returned, steps))
        verdict = linearize(operations(calls), None) is None
        assert verdict == orders_exist(calls), calls
        verdicts.append(verdict)
    assert 500 < sum(verdicts) < 2500


def test_many_at_once_are_decided() -> None:
    """Also where nothing fits, and all orders have to be tried: what was tried is remembered."""
    beside = [(0.0, 100.0, wrote(str(number))) for number in range(10)]
    assert linearize(operations([*beside, (101, 102, read("3"))]), None) is None
    assert linearize(operations([*beside, (101, 102, read("other"))]), None) is not None
    with pytest.raises(Undecided):
        linearize(operations([*beside, (101, 102, read("other"))]), None, max_steps=1000)


def record(key: str, called: float, returned: float, etag: State, **more: object) -> Record:
    return Record(key, called, returned, wrote(etag), f"{key} becomes {etag}", etag, **more)  # type: ignore[arg-type]


def test_what_a_dead_server_did_not_do_it_never_does() -> None:
    history = History()
    history.records = [
        record("k", 0, NEVER, "a", server=0, answered=False),
        Record("k", 3, 4, read(None), "reads nothing"),
        Record("k", 5, 6, read("a"), "reads a"),
    ]
    assert history.faults([0]) == []
    history.records[0].returned = NEVER
    (fault,) = history.faults([0, 2])
    assert "not linearizable" in fault


def test_keys_are_looked_at_one_by_one() -> None:
    history = History()
    history.records = [record("k", 0, 1, "a"), record("l", 0, 1, "b"), Record("l", 2, 3, read("a"), "reads a")]
    (fault,) = history.faults([0])
    assert fault.startswith("l: not linearizable")


PAGES: dict[str, tuple[list[Record], dict[str, State], bool]] = {
    "all at one moment": ([record("k", 0, 1, "a"), record("l", 0, 1, "b")], {"k": "a", "l": "b"}, True),
    "one not yet, another no longer": (
        [record("k", 0, 1, "a"), record("k", 4, 5, "b"), record("l", 6, 7, "c")],
        {"k": "a", "l": "c"},
        False,
    ),
    "perhaps at the same moment": (
        [record("k", 0, 1, "a"), record("k", 4, 7, "b"), record("l", 6, 9, "c")],
        {"k": "a", "l": "c"},
        True,
    ),
    "there before it was made": ([record("k", 20, 21, "a")], {"k": "a"}, False),
    "no longer absent": ([record("k", 0, 1, "a"), record("l", 2, 3, "b")], {"k": None, "l": "b"}, False),
    "absent again, perhaps": ([record("k", 0, 1, "a"), record("k", 2, 3, None)], {"k": None}, True),
    "made by a copy, perhaps": (
        [record("k", 0, 1, "a"), record("k", 2, 3, "b"), record("k", 4, NEVER, UNKNOWN, answered=False)],
        {"k": "a"},
        True,
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_moment(name: str) -> None:
    history = History()
    history.records, found, possible = PAGES[name]
    history.pages = [Page(0, 10, found)]
    assert (history.faults([0]) == []) is possible
