r"""The inputs that are kept, one text file for each target.

A line is one input as a Python literal (``b'bytes=0-\xff'``). Lines with ``#`` are for people; the line above what
once broke something says what that was. All of them are where fuzzing begins, and are replayed by a test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).parent / "corpus"


def path(target: str) -> Path:
    return DIRECTORY / f"{target}.txt"


def load(target: str) -> list[bytes]:
    """Raises ValueError for a line that is no input."""
    file = path(target)
    if not file.exists():
        return []
    inputs = []
    for line in file.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            value = ast.literal_eval(line)
            if not isinstance(value, bytes):
                raise ValueError(f"{file.name}: not an input: {line[:80]}")
            inputs.append(value)
    return inputs


def add(target: str, inputs: Iterable[bytes], comment: str = "") -> int:
    """Append those that are not there yet. How many there were."""
    known = set(load(target))
    fresh = [each for each in dict.fromkeys(inputs) if each not in known]
    if fresh:
        DIRECTORY.mkdir(exist_ok=True)
        with path(target).open("a", encoding="ascii") as file:
            if comment:
                file.write(f"# {comment}\n".encode("ascii", "backslashreplace").decode("ascii"))
            file.writelines(f"{each!r}\n" for each in fresh)
    return len(fresh)
