"""The short form of ``python -m reliability.killpoints``, and that it can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reliability import tracing
from reliability.killpoints import run
from reliability.program import fresh_seed
from reliability.sabotage import ACKNOWLEDGE_EARLY
from reliability.server import Forker

SAMPLE = int(os.environ.get("KILL_POINTS", "25"))
SEED = int(os.environ.get("KILL_SEED", "0")) or fresh_seed()

pytestmark = pytest.mark.skipif(bool(tracing.missing()), reason=f"cannot trace: {tracing.missing()}")


def test_a_server_killed_at_any_system_call_has_done_all_or_nothing(tmp_path: Path) -> None:
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, sample=SAMPLE, seed=SEED)
    print(measured)
    assert not faults, (f"KILL_SEED={SEED}", measured, faults)
    assert int(measured["server killed"]) + int(measured["writer killed"]) > SAMPLE * 0.7  # type: ignore[call-overload]


def test_a_server_that_acknowledges_too_early_is_found_out(tmp_path: Path) -> None:
    """The test above can fail."""
    with Forker() as forker:
        faults, measured = run(
            forker, tmp_path, ACKNOWLEDGE_EARLY, sample=4, seed=SEED, operations=["put small"], settle=0.2
        )
    assert any("acknowledged (2" in fault for fault in faults), measured
