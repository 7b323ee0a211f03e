"""The short form of ``python -m reliability.blockstates``, and that it can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reliability.blockstates import missing, run
from reliability.filesystems import KINDS
from reliability.program import fresh_seed
from reliability.sabotage import SKIP_RECOVERY
from reliability.server import Forker

STATES = int(os.environ.get("BLOCK_STATES", "30")) // len(KINDS)
SEED = int(os.environ.get("BLOCK_SEED", "0")) or fresh_seed()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_cache_of_the_disk_loses_was_not_acknowledged(tmp_path: Path, kind: str) -> None:
    if why := missing(kind):
        pytest.skip(f"no disk of our own: {why}")
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, kind, states=STATES, seed=SEED)
    print(measured)
    assert not faults, (f"BLOCK_SEED={SEED}", measured, faults)
    assert int(measured["flushes"]) >= 60  # type: ignore[call-overload]  # one for each change at least


def test_a_server_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    """The test above can fail."""
    if why := missing("ext4"):
        pytest.skip(f"no disk of our own: {why}")
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, "ext4", states=5, seed=SEED, sync=False)
    assert faults, measured


def test_an_index_that_is_not_made_whole_is_found_out(tmp_path: Path) -> None:
    """Nor is what LMDB's own file shows enough."""
    if why := missing("ext4"):
        pytest.skip(f"no disk of our own: {why}")
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, "ext4", SKIP_RECOVERY, states=5, seed=SEED)
    assert faults, measured
