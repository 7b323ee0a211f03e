"""A :class:`FileSystem` for tests: it records every call and fails the one it is told to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from types import FunctionType
from typing import Any

from aisobj.storage.files import FileSystem

Call = tuple[str, tuple[Any, ...]]


class FaultyFiles(FileSystem):
    """Records each call as (method, what it names): paths stay, a file descriptor becomes the path it was opened by.

    :ivar fault: decides about a call before it is made: an errno to raise, or None. A failing ``close`` still closes.
    :ivar skip: methods that are lost on the way: neither made nor recorded.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.fault: Callable[[str, tuple[Any, ...]], int | None] = lambda method, args: None
        self.skip: frozenset[str] = frozenset()
        self.open_files: dict[int, str] = {}
        self.free: int | None = None

    def methods(self) -> list[str]:
        """The methods called so far, in order."""
        return [method for method, _ in self.calls]

    def _call(self, method: str, *args: Any) -> Any:
        if method in self.skip:
            return None
        named = tuple(self.open_files.get(a, a) if type(a) is int else a for a in args)
        self.calls.append((method, named))
        number = self.fault(method, named)
        if method == "close":
            del self.open_files[args[0]]
        if number is not None:
            if method == "close":
                os.close(args[0])
            raise OSError(number, f"injected into {method}")
        result = getattr(FileSystem, method)(self, *args)
        if method in ("open", "open_cached"):
            assert result not in self.open_files
            self.open_files[result] = args[0]
        return result

    def statvfs(self, path: str) -> os.statvfs_result:
        answer: os.statvfs_result = self._call("statvfs", path)
        if self.free is None:
            return answer
        values = list(answer)
        values[4] = self.free // answer.f_frsize
        return os.statvfs_result(values)


def _through(method: str) -> Callable[..., Any]:
    def call(self: FaultyFiles, *args: Any) -> Any:
        return self._call(method, *args)

    return call


METHODS = [name for name, value in vars(FileSystem).items() if isinstance(value, FunctionType)]
for _name in METHODS:
    if _name not in vars(FaultyFiles):
        setattr(FaultyFiles, _name, _through(_name))


def once(method: str, number: int = errno.EIO, nth: int = 1) -> Callable[[str, tuple[Any, ...]], int | None]:
    """A fault for the n-th call of one method only."""
    left = [nth]

    def fault(called: str, args: tuple[Any, ...]) -> int | None:
        if called != method:
            return None
        left[0] -= 1
        return number if left[0] == 0 else None

    return fault
