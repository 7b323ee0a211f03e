"""The short form of ``python -m reliability.smuggling``, and that it can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reliability.program import fresh_seed
from reliability.sabotage import SMUGGLE
from reliability.server import Forker
from reliability.smuggling import missing, run

MUTATIONS = int(os.environ.get("MUTATIONS", "60"))
SEED = int(os.environ.get("SMUGGLING_SEED", "0")) or fresh_seed()

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


def test_nginx_and_the_server_read_every_request_alike(forker: Forker, tmp_path: Path) -> None:
    faults, measured = run(forker, tmp_path, mutations=MUTATIONS, seed=SEED)
    print(measured)
    assert not faults, (f"SMUGGLING_SEED={SEED}", measured, faults)
    counts: dict[str, int] = measured  # type: ignore[assignment]
    assert counts["cases"] > 300
    assert counts["read by both"] > 300  # it is not that all is refused


def test_a_server_that_takes_bodies_for_requests_is_found_out(forker: Forker, tmp_path: Path) -> None:
    """The test above can fail."""
    faults, measured = run(forker, tmp_path, SMUGGLE, only="a length", seed=SEED)
    for sign in ("the hidden request was executed", "by nginx (smuggled-1): the server has stored b''"):
        assert any(sign in fault for fault in faults), (sign, measured, faults)
    assert int(measured["rightly deleted"]) > 0  # type: ignore[call-overload]
