"""Times as S3 writes them, from nanoseconds since the epoch. HTTP dates are read by ``conditions.parse_date``.

Documents carry whole seconds (``2009-10-12T17:50:30.000Z``), as AWS does: LIST, HEAD and ``If-Modified-Since`` then
agree about the same object. A page has a thousand times, most of few different seconds, so both forms are cached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

NANOSECONDS = 1_000_000_000

_REMEMBERED = 4096
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Iso8601(dict[int, str]):
    def __missing__(self, seconds: int) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
        text = self[seconds] = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z"
        return text


#: Whole seconds since the epoch -> :func:`iso8601` of them, of every second: for a page, which asks a thousand times.
ISO8601: Mapping[int, str] = _Iso8601()


def iso8601(ns: int) -> str:
    """``2009-10-12T17:50:30.000Z``: the form of every time in an S3 document. ``ns``: since the epoch."""
    return ISO8601[ns // NANOSECONDS]


@lru_cache(maxsize=_REMEMBERED)
def _http_date(seconds: int) -> str:
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def http_date(ns: int) -> str:
    """``Mon, 12 Oct 2009 17:50:30 GMT`` (RFC 9110 IMF-fixdate), as in ``Last-Modified``. ``ns``: since the epoch."""
    return _http_date(ns // NANOSECONDS)
