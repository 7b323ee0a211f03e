"""The short form of ``python -m reliability.faults``, and that it can fail. The same faults at the seam, one call after
the other, are in ``test_file_blobs_faults``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reliability import filesystems, tracing
from reliability.faults import ERRORS, fill, run
from reliability.program import fresh_seed
from reliability.sabotage import IGNORE_FAULTS
from reliability.server import Forker

SAMPLE = int(os.environ.get("FAULTS", "30"))
SEED = int(os.environ.get("FAULTS_SEED", "0")) or fresh_seed()

traced = pytest.mark.skipif(bool(tracing.missing()), reason=f"cannot trace: {tracing.missing()}")


@traced
def test_a_system_call_that_fails_costs_a_5xx_and_nothing_else(tmp_path: Path) -> None:
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, sample=SAMPLE, seed=SEED)
    print(measured)
    assert not faults, (f"FAULTS_SEED={SEED}", measured, faults)
    injected: dict[str, int] = measured["injected"]  # type: ignore[assignment]
    assert sum(injected.values()) > SAMPLE * 0.5
    assert all(injected[error] for error in ERRORS), measured


@traced
def test_a_server_that_takes_a_failed_sync_for_a_success_is_found_out(tmp_path: Path) -> None:
    """The test above can fail."""
    with Forker() as forker:
        faults, measured = run(
            forker, tmp_path, IGNORE_FAULTS, sample=3, seed=SEED, only=["fdatasync"], process="server"
        )
    assert any("the server goes on writing" in fault for fault in faults), measured


def test_a_full_disk_reads_lists_and_deletes(tmp_path: Path) -> None:
    if why := filesystems.missing("ext4"):
        pytest.skip(f"no ext4 of our own: {why}")
    with Forker() as forker:
        faults, measured = fill(forker, tmp_path)
    assert measured["blocks left"] == 0
    assert not faults, measured
