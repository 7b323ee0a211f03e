"""A time of day that can be set, of a server and all its processes.

Not libfaketime's: it wraps the sleeps of Python 3.11 and later wrongly (clock_nanosleep with EINVAL, or for seconds
instead of milliseconds). What Python's own ``time`` says is what our code goes by.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_VARIABLE = "RELIABILITY_CLOCK"
_OFFSET = struct.Struct("d")


class Clock:
    """``set`` it at any time. The monotonic clock, and the times of files, stay what they are.

    :param file: where the time is said; made here.
    """

    def __init__(self, file: Path) -> None:
        file.write_bytes(_OFFSET.pack(0))
        self._offset = _map(file)
        #: Of a process that is to :func:`follow` this clock.
        self.environment = {_VARIABLE: str(file)}

    def set(self, offset: float) -> None:
        """So many seconds from the true time."""
        self._offset[0] = offset


def follow() -> None:
    """Let this process, and those that are forked from it, go by the clock that its environment names, if any.

    Call before anything is imported that keeps ``time.time`` under a name of its own.
    """
    path = os.environ.pop(_VARIABLE, None)
    if path is None:
        return
    offset, true_time, true_ns = _map(Path(path)), time.time, time.time_ns
    time.time = lambda: true_time() + offset[0]
    time.time_ns = lambda: true_ns() + int(offset[0] * 1e9)


def _map(file: Path) -> memoryview[float]:
    """Eight aligned bytes, which are read and written in one go."""
    with file.open("r+b") as opened:
        return memoryview(mmap.mmap(opened.fileno(), _OFFSET.size)).cast("d")
