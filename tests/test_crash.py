"""The short form of ``python -m reliability.crash``, and that it can fail."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from reliability.crash import Crasher, make_clients, run
from reliability.load import BLIND, Torn, make_content, version_of
from reliability.program import fresh_seed
from reliability.sabotage import ACKNOWLEDGE_EARLY, FORGET_LOG
from reliability.server import Forker, Server, serving, small_log

CYCLES = int(os.environ.get("CRASH_CYCLES", "300"))
#: A slow machine does what it can in this time, and says how much that was.
SECONDS = float(os.environ.get("CRASH_SECONDS", "80"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or fresh_seed()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


@pytest.mark.parametrize(("workers", "cycles"), [(2, CYCLES), (1, CYCLES // 10)])
def test_what_was_acknowledged_survives_kill_9(forker: Forker, tmp_path: Path, workers: int, cycles: int) -> None:
    faults, measured = run(forker, tmp_path, cycles=cycles, workers=workers, seed=SEED, seconds=SECONDS)
    print(measured)
    assert not faults, (f"CRASH_SEED={SEED}", measured, faults)
    counts: dict[str, int] = measured  # type: ignore[assignment]
    done = counts["cycles"]
    if done < cycles:
        warnings.warn(f"{done} cycles of {cycles} in {SECONDS} s", stacklevel=1)
    assert counts["acknowledged"] > 5 * done
    assert counts["writers killed"] or done < 20
    assert counts["workers killed"] or done < 20 or workers == 1
    assert counts["of these before ready"] or done < 100
    assert float(measured["ready, median"]) < 1.0  # type: ignore[arg-type]


def test_a_server_that_acknowledges_too_early_is_found_out(forker: Forker, tmp_path: Path) -> None:
    """The test above can fail."""
    honest = Server(forker, tmp_path / "server")
    liar = Server(forker, tmp_path / "server", ACKNOWLEDGE_EARLY)
    with serving(honest):
        honest.start().make_bucket()
        honest.stop()
    crasher = Crasher(liar, make_clients(SEED, BLIND), SEED)
    with serving(liar):
        for _ in range(20):
            crasher.crash()
            if any(": lost" in fault or ": resurrected" in fault for fault in crasher.faults):
                return
    pytest.fail(f"it was not: {crasher.faults}")


def test_a_start_that_must_not_be_killed_is_found_out(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path, FORGET_LOG, *small_log(2), workers=2)
    crasher = Crasher(server, make_clients(SEED), SEED, in_start=1.0)
    with serving(server):
        server.start().make_bucket()
        server.kill()
        for _ in range(60):
            crasher.crash()
            if any(": lost" in fault or ": resurrected" in fault for fault in crasher.faults):
                return
    pytest.fail(f"it was not: {crasher.faults}")


@pytest.mark.parametrize("size", [0, 100, 3 << 20])
def test_torn_contents_are_seen(size: int) -> None:
    content = make_content("client-1", size)
    assert version_of(content) == "client-1"
    other = make_content("client-2", size)
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for torn in (flipped, content[:-1], content + b"\0", content[:half] + other[half:], b""):
        with pytest.raises(Torn):
            version_of(torn)
