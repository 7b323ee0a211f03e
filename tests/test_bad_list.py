"""Each row of the list of bad inputs, limits and holes has its test, by its name."""

from __future__ import annotations

import importlib

import pytest
from badinputs import HOLES, INPUTS, LIMITS, ROW_MODULES


def test_every_row_of_the_list_has_its_test() -> None:
    found: set[int | str] = set()
    for module in ROW_MODULES:
        found |= importlib.import_module(module).ROWS.ids
    assert found == {*INPUTS, *LIMITS, *HOLES}


def test_the_inputs_are_numbered_without_a_gap() -> None:
    assert list(INPUTS) == list(range(1, 78))


def test_a_row_that_the_list_does_not_have_is_none() -> None:
    rows = importlib.import_module("test_bad_inputs").ROWS
    with pytest.raises(KeyError):
        rows.row(78)
