"""Damaged pages of the index never make a wrong answer, and a restore heals (short form of ``reliability.pages``)."""

from __future__ import annotations

import os
from pathlib import Path

from reliability.pages import run
from reliability.program import fresh_seed
from reliability.sabotage import VERIFY_NOTHING
from reliability.server import Forker

DAMAGES = int(os.environ.get("PAGES", "8"))
SEED = int(os.environ.get("PAGES_SEED", "0")) or fresh_seed()


def test_no_damaged_page_makes_a_wrong_answer_and_a_restore_heals(tmp_path: Path) -> None:
    with Forker() as forker:
        faults, measured = run(forker, tmp_path, SEED, DAMAGES)
    assert not faults, f"PAGES_SEED={SEED}: {measured}"


def test_a_server_that_verifies_nothing_is_found_out(tmp_path: Path) -> None:
    """The test above can fail."""
    with Forker() as forker:
        faults, _ = run(forker, tmp_path, 5, 4, VERIFY_NOTHING)
    assert any("is answered with 200" in fault for fault in faults), faults
