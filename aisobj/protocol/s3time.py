"""Times as S3 writes them, from nanoseconds since the epoch, and HTTP dates read strictly.

Documents carry whole seconds (``2009-10-12T17:50:30.000Z``), as AWS does: LIST, HEAD and ``If-Modified-Since`` then
agree about the same object. A page has a thousand times, most of few different seconds, so both forms are cached.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from functools import lru_cache

NANOSECONDS = 1_000_000_000

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
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


_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_HTTP_DATES = (
    re.compile(rf"(?P<weekday>{'|'.join(_DAYS)}), (?P<day>\d\d) {_MONTH} (?P<year>\d\d\d\d) {_TIME} GMT", re.ASCII),
    re.compile(rf"(?P<weekday>{'|'.join(_LONG_DAYS)}), (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT", re.ASCII),
    re.compile(rf"(?P<weekday>{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d\d\d\d)", re.ASCII),
)


def parse_http_date(text: str) -> int | None:
    """The time of an HTTP date in ns since the epoch, or None if it is none (RFC 9110: such a header is ignored).

    The three forms of RFC 9110 §5.6.7: IMF-fixdate, RFC 850 and asctime; names are case-sensitive there. A day name
    that does not fit the date is accepted, since senders get it wrong and nothing depends on it.
    """
    match = next((match for form in _HTTP_DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"]) + 1
    year, day, hour, minute, second = (int(match[part]) for part in ("year", "day", "hour", "minute", "second"))
    if len(match["year"]) == 2:
        year = _full_year(year)
    # A leap second (60) is valid in the grammar and counts as the second after it.
    if year == 0 or hour > 23 or minute > 59 or second > 60:
        return None
    seconds = timegm((year, month, day, hour, minute, second))
    # timegm carries an impossible day (31 February) over into the next month.
    if day == 0 or time.gmtime(timegm((year, month, day, 0, 0, 0)))[1:3] != (month, day):
        return None
    return seconds * NANOSECONDS


def _full_year(two_digits: int) -> int:
    """RFC 9110 §5.6.7: a year more than 50 years in the future is the most recent past one with these digits."""
    this_year = time.gmtime().tm_year
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
