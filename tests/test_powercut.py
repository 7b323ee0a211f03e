"""The short form of ``python -m reliability.powercut``, and that it can fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reliability.filesystems import KINDS, missing
from reliability.load import LARGE
from reliability.powercut import run
from reliability.program import fresh_seed
from reliability.sabotage import FORGET_LOG, SKIP_DIRECTORY_SYNC
from reliability.server import Forker

CUTS = int(os.environ.get("POWER_CUTS", "100")) // len(KINDS)
SEED = int(os.environ.get("POWER_SEED", "0")) or fresh_seed()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


@pytest.fixture
def need() -> Callable[[str], None]:
    def need(kind: str) -> None:
        if why := missing(kind):
            pytest.skip(f"no {kind} of our own: {why}")

    return need


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_survives_a_power_cut(
    forker: Forker, tmp_path: Path, need: Callable[[str], None], kind: str
) -> None:
    need(kind)
    faults, measured = run(forker, tmp_path, kind, cuts=CUTS, seed=SEED)
    print(measured)
    assert not faults, (f"POWER_SEED={SEED}", measured, faults)
    assert measured["acknowledged"] > 3 * CUTS
    assert measured["before ready"] or CUTS < 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_does_not_sync_is_found_out(
    forker: Forker, tmp_path: Path, need: Callable[[str], None], kind: str
) -> None:
    """The test above can fail."""
    need(kind)
    faults, measured = run(forker, tmp_path, kind, cuts=10, seed=SEED, sync=False)
    assert any("promised" in fault for fault in faults), (f"POWER_SEED={SEED}", measured, faults)


def test_a_server_that_does_not_sync_directories_is_found_out(
    forker: Forker, tmp_path: Path, need: Callable[[str], None]
) -> None:
    need("ext4")
    faults, measured = run(
        forker, tmp_path, "ext4", SKIP_DIRECTORY_SYNC, cuts=20, seed=SEED, workers=1, clients=1, operations=LARGE
    )
    assert faults, measured


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_does_not_survive_a_power_cut_is_found_out(
    forker: Forker, tmp_path: Path, need: Callable[[str], None], kind: str
) -> None:
    need(kind)
    faults, measured = run(forker, tmp_path, kind, FORGET_LOG, cuts=60, seed=SEED, in_start=0.5)
    assert any("promised" in fault for fault in faults), (f"POWER_SEED={SEED}", measured, faults)
