"""Ids of buckets, versions, bodies, uploads and blobs: 16 bytes that sort by the time they were made.

Eight bytes of nanoseconds since the epoch (big-endian, never going back within a process even if the clock does), then
eight random bytes, which keep processes apart.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

_U64 = struct.Struct(">Q")
_RANDOM_BATCH = 512


class IdMaker:
    """Makes ids. One for a process; not for use by several threads at once.

    :param now: nanoseconds since the epoch.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last = 0
        self._random = b""
        self._used = 0

    def now(self) -> int:
        """Nanoseconds, by the clock as it is, which may go back."""
        return self._now()

    def time(self, after: int = 0) -> int:
        """Nanoseconds: max(clock, the last one + 1, ``after`` + 1)."""
        now, least = self._now(), max(self._last, after) + 1
        self._last = now = least if now < least else now
        return now

    def make(self, after: int = 0) -> bytes:
        """A fresh id, greater than every earlier one and than any id of time ``after``."""
        start = self._used
        if start == len(self._random):
            self._random = os.urandom(8 * _RANDOM_BATCH)
            start = 0
        self._used = end = start + 8
        return _U64.pack(self.time(after)) + self._random[start:end]


def id_time(identifier: bytes) -> int:
    """The nanoseconds in an id."""
    value: int = _U64.unpack_from(identifier)[0]
    return value


def first_id(time_ns: int) -> bytes:
    """The smallest id of a time."""
    return _U64.pack(time_ns) + bytes(8)
