"""The short form of ``python -m reliability.malformed``, and that it can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from reliability.malformed import judge, run
from reliability.mangling import mangled
from reliability.program import fresh_seed
from reliability.sabotage import LEAK, TRUST_CLIENTS, WAIT_FOR_EVER
from reliability.server import Forker

REQUESTS = int(os.environ.get("MALFORMED", "12000"))
SEED = int(os.environ.get("MALFORMED_SEED", "0")) or fresh_seed()
#: The program says one second; a machine that does five other things at once is no hang of the server's.
HANG = 5.0


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


def test_malformed_requests_are_answered_and_leave_nothing(forker: Forker, tmp_path: Path) -> None:
    faults, measured = run(forker, tmp_path, requests=REQUESTS, seed=SEED, hang=HANG)
    print(measured)
    assert not faults, (f"MALFORMED_SEED={SEED}", measured, faults[:20])
    answers: dict[int, int] = measured["answers"]  # type: ignore[assignment]
    # Most are refused, by parsers before and behind the signature check; some were not wrong enough.
    assert answers.keys() >= {200, 204, 206, 400, 403, 404, 405, 411, 412, 501}
    assert sum(count for status, count in answers.items() if status >= 400) > REQUESTS * 0.5


@pytest.mark.parametrize(
    ("sabotage", "sign", "at_most"),
    [
        (TRUST_CLIENTS, "500: b'", 30_000),
        (WAIT_FOR_EVER, "and when sent again inf s", 2000),
        (LEAK, "has grown from", 2000),
    ],
    ids=["exceptions", "hangs", "leaks"],
)
def test_a_server_that_is_not_careful_is_found_out(
    forker: Forker, tmp_path: Path, sabotage: str, sign: str, at_most: int
) -> None:
    """The test above can fail.

    :param at_most: as many requests; what only one in hundreds of them meets needs more, and ends with the first.
    """
    faults, measured = run(forker, tmp_path, sabotage, requests=at_most, seed=SEED, hang=HANG / 5, enough=1)
    assert any(sign in fault for fault in faults), (f"MALFORMED_SEED={SEED}", measured, faults[:5])
    if sabotage == TRUST_CLIENTS:
        assert any("'Traceback' in the log" in fault for fault in faults)
    if sabotage == LEAK:
        assert any("descriptors open" in fault for fault in faults)


def test_the_same_seed_makes_the_same_requests() -> None:
    """But for what depends on the time."""
    one, two = ([mangled(Random(f"1 {number}"), None, b"x", b"0" * 32)[0] for number in range(300)] for _ in range(2))
    assert one == two
    assert len(set(one)) > 290


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: 4\r\n\r\n<a>&",
        b"<html>",
    ],
)
def test_wrong_answers_are_seen(answer: bytes) -> None:
    assert any(fault for _, fault in judge(answer, False))
