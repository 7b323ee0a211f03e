"""The figures of docs/reliability.md: each is what a program measured last, and none is written by hand.

``--record`` with any program of this directory keeps its result in docs/reliability.json, and puts it on the page where
the program's own marker is: ``<!-- reliability.crash -->...<!-- / -->``. After an edit of the page ``python -m
reliability.record`` writes all of them again; tests/test_docs.py compares the two.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

_DOCS = Path(__file__).parent.parent / "docs"
MEASURED = _DOCS / "reliability.json"
PAGE = _DOCS / "reliability.md"

#: How the markers begin that name tests (see ``promises``).
TESTS = "tests."

_marked = re.compile(r"<!-- (reliability\.\w+|fuzzing\.?\w*|tests\.[\w:+]+) -->.*?<!-- / -->", re.DOTALL)

#: What a program measured: words -> numbers, words, or such mappings.
Measured = Mapping[str, object]


def record(program: str, arguments: list[str], seconds: float, measured: Measured) -> None:
    """Keep a result, and show it on the page."""
    results = load()
    results[program] = {
        "arguments": " ".join(arguments),
        "seconds": round(seconds),
        "date": time.strftime("%Y-%m-%d"),
        "revision": _revision(),
        "measured": measured,
    }
    MEASURED.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(PAGE.read_text(), load()))  # in the order of the file, as a test will


def load() -> dict[str, dict[str, object]]:
    """Program -> its last result."""
    results: dict[str, dict[str, object]] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    return results


def markers(text: str, beginning: str = "") -> list[str]:
    """Those of a page that begin so, in its order."""
    return [found[1] for found in _marked.finditer(text) if found[1].startswith(beginning)]


def page(text: str, results: Mapping[str, Mapping[str, object]]) -> str:
    """The page with every marker filled."""

    def fill(found: re.Match[str]) -> str:
        result = results.get(found[1])
        return f"<!-- {found[1]} -->{'not yet' if result is None else _words(result)}<!-- / -->"

    return _marked.sub(fill, text)


def _words(result: Mapping[str, object]) -> str:
    measured = result["measured"]
    assert isinstance(measured, dict)
    figures = "; ".join(_figure(name, value) for name, value in measured.items())
    arguments = f"`{result['arguments']}`: " if result["arguments"] else ""
    return f"{arguments}{figures} ({result['seconds']:,} s, {result['date']}, {result['revision']})"


def _figure(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{name}: " + ", ".join(_figure(*each) for each in value.items())
    if isinstance(value, list):
        return f"{name} {', '.join(str(each) for each in value) or 'none'}"
    return f"{name} {value:,}" if isinstance(value, (int, float)) and name != "seed" else f"{name} {value}"


def _revision() -> str:
    git = ["git", "-C", str(_DOCS)]
    try:
        revision = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, check=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "..", ":!../docs"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "no revision"
    return revision.stdout.strip() + ("+" if changed.returncode else "")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), load()))
