"""The short form of ``python -m reliability.histories``, and that it can fail."""

from __future__ import annotations

import http.client
import os
import time
import warnings
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from reliability.clock import Clock
from reliability.histories import CLIENTS, OPERATIONS, run
from reliability.program import fresh_seed
from reliability.sabotage import ACKNOWLEDGE_EARLY, RACY_CONDITIONS, STALE_READS
from reliability.server import Forker, Server, serving

HISTORIES = int(os.environ.get("HISTORIES", "30"))
#: A slow machine does what it can in this time, and says how much that was.
SECONDS = float(os.environ.get("HISTORIES_SECONDS", "60"))
SEED = int(os.environ.get("HISTORIES_SEED", "0")) or fresh_seed()


def test_every_history_is_linearizable(tmp_path: Path) -> None:
    faults, measured = run(tmp_path, histories=HISTORIES, seed=SEED, seconds=SECONDS)
    print(measured)
    assert not faults, "\n".join((f"HISTORIES_SEED={SEED}", str(measured), *faults))
    made: int = measured["histories"]  # type: ignore[assignment]
    if made < HISTORIES:
        warnings.warn(f"{made} histories of {HISTORIES} in {SECONDS} s", stacklevel=1)
    operations: dict[str, int] = measured["operations"]  # type: ignore[assignment]
    assert sum(operations.values()) == made * CLIENTS * OPERATIONS
    troubles: dict[str, int] = measured["troubles"]  # type: ignore[assignment]
    assert made < 16 or all(troubles.values()), troubles


@pytest.mark.parametrize("sabotage", [ACKNOWLEDGE_EARLY, STALE_READS, RACY_CONDITIONS])
def test_a_server_that_is_not_is_found_out(tmp_path: Path, sabotage: str) -> None:
    faults, measured = run(tmp_path, histories=10, seed=SEED, sabotage=sabotage)
    assert any("not linearizable" in fault for fault in faults), (f"HISTORIES_SEED={SEED}", measured, faults)


def test_the_clock_of_a_server_can_be_set(tmp_path: Path) -> None:
    """Otherwise no history would have seen a step of it."""
    clock = Clock(tmp_path / "clock")
    with Forker(clock.environment) as forker, serving(Server(forker, tmp_path / "server", workers=2)) as server:
        server.start()
        for offset in (0, 5000, -5000):
            clock.set(offset)
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", "/-/health")
            date = parsedate_to_datetime(connection.getresponse().headers["Date"]).timestamp()
            assert abs(date - time.time() - offset) < 100
            connection.close()
