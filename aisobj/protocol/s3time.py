"""Times as S3 writes them, from nanoseconds since the epoch. HTTP dates are read by ``conditions.parse_date``.

Documents carry whole seconds (``2009-10-12T17:50:30.000Z``), as AWS does: LIST, HEAD and ``If-Modified-Since`` then
agree about the same object. A page has a thousand times, most of few different seconds, so both forms are cached.
"""

from __future__ import annotations

import time
from functools import lru_cache

NANOSECONDS = 1_000_000_000

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=4096)
def _iso8601(seconds: int) -> str:
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z"


def iso8601(ns: int) -> str:
    """``2009-10-12T17:50:30.000Z``: the form of every time in an S3 document. ``ns``: since the epoch."""
    return _iso8601(ns // NANOSECONDS)


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def http_date(ns: int) -> str:
    """``Mon, 12 Oct 2009 17:50:30 GMT`` (RFC 9110 IMF-fixdate), as in ``Last-Modified``. ``ns``: since the epoch."""
    return _http_date(ns // NANOSECONDS)
