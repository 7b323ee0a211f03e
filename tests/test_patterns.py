"""Regular expressions: none has what releases of Python that we run on match wrongly."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import aisobj


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Those that are made when a module is imported."""
    for module in pkgutil.walk_packages(aisobj.__path__, "aisobj."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                pattern = getattr(value, "__self__", value)
                if isinstance(pattern, re.Pattern):
                    yield f"{module.name}.{name}", pattern


def repeats_wrongly(parsed: Any) -> bool:
    """``(?:ab)*+``: up to 3.11.4 (Debian 12 has 3.11.2) the beginning of a repetition that fails is taken for matched
    (https://github.com/python/cpython/issues/106052). ``[ab]*+`` and ``(?>(?:ab)*)`` are right."""
    for code, given in parsed:
        if code is constants.POSSESSIVE_REPEAT:
            (item, *more) = given[2]
            if more or item[0] not in (constants.IN, constants.LITERAL, constants.NOT_LITERAL, constants.ANY):
                return True
        if any(isinstance(inner, parser.SubPattern) and repeats_wrongly(inner) for inner in parts(given)):
            return True
    return False


def parts(given: Any) -> Iterator[Any]:
    if isinstance(given, (tuple, list)) and not isinstance(given, parser.SubPattern):
        for one in given:
            yield from parts(one)
    else:
        yield given


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        (r"[ab]*+c", False),
        (r"(?>(?:ab)*)c", False),
        (r"a(?:ab)?+", True),
        (r"(x|(y(?:ab){2,3}+))", True),
        (r"(?>(?:a(?:%[0-9]b)*+)*)", True),
        (r"(a(?=(?:bc)?+))", True),
    ],
)
def test_what_is_found(pattern: str, wrong: bool) -> None:
    assert repeats_wrongly(parser.parse(pattern)) is wrong


def test_no_group_is_repeated_possessively() -> None:
    found = dict(patterns())
    assert len(found) > 50
    assert [
        name for name, pattern in found.items() if repeats_wrongly(parser.parse(pattern.pattern, pattern.flags))
    ] == []
