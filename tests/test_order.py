"""Each PUT syncs, renames and answers in the order that a power cut asks for (``python -m reliability.order``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reliability import tracing
from reliability.order import run
from reliability.sabotage import SKIP_DIRECTORY_SYNC
from reliability.server import Forker

pytestmark = pytest.mark.skipif(bool(tracing.missing()), reason=f"cannot trace: {tracing.missing()}")


def test_everything_is_synced_in_order_before_the_answer(tmp_path: Path) -> None:
    with Forker() as forker:
        faults, measured = run(forker, tmp_path)
    assert not faults, measured


def test_syncs_that_are_left_out_are_noticed(tmp_path: Path) -> None:
    """The test above can fail."""
    with Forker() as forker:
        faults, _ = run(forker, tmp_path / "none", sync=False)
        for what in ("sync of the file", "sync of the directory", "sync of the log"):
            assert any(f"{what}: there is none" in fault for fault in faults), faults
        faults, _ = run(forker, tmp_path / "no directory", SKIP_DIRECTORY_SYNC)
    assert faults == [
        f"1048576 bytes, {how}: sync of the directory: there is none" for how in ("a new key", "an overwrite")
    ]
