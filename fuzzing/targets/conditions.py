"""Range, conditions and dates."""

from __future__ import annotations

import datetime
import re

from aisobj.protocol.conditions import (
    NO_CONDITIONS,
    Outcome,
    ReadConditions,
    WritePrecondition,
    parse_copy_source_range,
    parse_date,
    parse_range,
    resolve,
    resolve_copy_source_range,
)
from aisobj.protocol.s3time import NANOSECONDS, http_date, iso8601
from aisobj.protocol.signing import parse_amz_date, parse_date_header
from fuzzing.target import Label, Target, attempt, demand, kind, same, words

_SIZES = (0, 1, 10, 2**63)


def check_range(data: bytes) -> Label:
    text = data.decode("latin-1")
    spec = parse_range(text)
    same(None if spec is None else (spec.first, spec.last), _read_range(text), "a plain reader reads the same")
    labels: list[object] = [spec is None]
    for size in _SIZES if spec is not None else ():
        assert spec is not None
        found, error = attempt(lambda size=size: resolve(spec, size))  # type: ignore[misc]
        wanted = _bytes_of(spec.first, spec.last, size)
        if found is None:
            demand(error is not None and error.code == "InvalidRange" and not wanted, "no byte is refused", spec, size)
        else:
            same(range(found[0], sum(found)), wanted, "the bytes that were asked for")
        labels.append(found is None)
    labels.append(_check_copy_range(text))
    return tuple(labels)


def _read_range(text: str) -> tuple[int | None, int | None] | None:
    """RFC 9110 section 14.1.2, of one range."""
    unit, _, ranges = text.partition("=")
    first, dash, last = ranges.partition("-")
    if unit.lower() != "bytes" or not dash or not all(c in "0123456789" for c in first + last) or not first + last:
        return None
    # Beyond any size one number is as good as another, and so are the first digits of it.
    numbers = [min(int(part.lstrip("0")[:25] or "0"), 10**19) if part else None for part in (first, last)]
    if None not in numbers and numbers[1] < numbers[0]:  # type: ignore[operator]
        return None
    return numbers[0], numbers[1]


def _bytes_of(first: int | None, last: int | None, size: int) -> range:
    if first is None:
        return range(max(0, size - (last or 0)), size)
    return range(first, size if last is None else min(last + 1, size))


def _check_copy_range(text: str) -> Label:
    spec, error = attempt(lambda: parse_copy_source_range(text))
    if spec is None:
        assert error is not None
        return kind(error)
    same(parse_range(text), spec, "what a copy takes for a range is one")
    for size in _SIZES:
        found, error = attempt(lambda size=size: resolve_copy_source_range(spec, size))  # type: ignore[misc]
        assert spec.first is not None and spec.last is not None
        demand((found is not None) is (spec.last < size), "only what is wholly there is copied", spec, size)
        if found is not None:
            same((found[0], sum(found) - 1), (spec.first, spec.last), "the bytes that were asked for")
    return "copy"


# Conditions: four values, a line each

_NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_ETAG = "05967d5390ac53b0"
_MTIME = 1_255_369_850
_NOW = _MTIME + 1000


def check_conditions(data: bytes) -> Label:
    values = [line.decode("latin-1") for line in data.split(b"\n", 3)]
    headers = {name: value for name, value in zip(_NAMES, values, strict=False) if value != "-"}
    conditions = ReadConditions.parse(headers.get)
    demand((conditions is NO_CONDITIONS) is (not headers), "no condition without a header", headers)
    outcome = conditions.evaluate(_ETAG, _MTIME * NANOSECONDS + 5, _NOW * NANOSECONDS)
    same(outcome, _outcome(headers), "RFC 9110's order of conditions")
    _, error = attempt(lambda: conditions.check_copy_source(_ETAG, _MTIME * NANOSECONDS, _NOW * NANOSECONDS))
    demand((error is None) is (outcome is Outcome.PROCEED), "a copy goes on where a read does", outcome, error)
    precondition, error = attempt(lambda: WritePrecondition.parse(headers.get))
    if precondition is not None:
        _, failed = attempt(lambda: precondition.check(None))
        demand((failed is None) is (precondition.if_match is None), "If-Match needs something that is there", headers)
        tag = precondition.if_match
        if tag is not None and tag != "*" and not any(char in tag for char in '"\n'):
            same(WritePrecondition.parse({"if-match": f'"{tag}"'}.get), precondition, "a tag in quotes is the same tag")
    return outcome, None if error is None else kind(error), len(headers)


def _tags(value: str) -> tuple[bool, set[str], set[str]]:
    """any, strong and weak ones, cut off one by one."""
    if value.strip() == "*":
        return True, set(), set()
    strong: set[str] = set()
    weak: set[str] = set()
    at = 0
    while at < len(value):
        quote = at + 2 if value.startswith('W/"', at) else at
        if value.startswith('"', quote if quote > at else at):
            begin = (quote if quote > at else at) + 1
            end = value.find('"', begin)
            if end >= 0:
                (weak if quote > at else strong).add(value[begin:end])
                at = end + 1
                continue
        bare = re.match(r'[^\s,"]+', value[at:])
        if bare:
            strong.add(bare[0])
        at += len(bare[0]) if bare else 1
    return False, strong, weak


def _outcome(headers: dict[str, str]) -> Outcome:
    match, none_match, modified, unmodified = (headers.get(name) for name in _NAMES)
    if match is not None:
        everything, strong, _ = _tags(match)
        if not (everything or _ETAG in strong):
            return Outcome.PRECONDITION_FAILED
    elif unmodified is not None and (limit := parse_date(unmodified)) is not None and limit < _MTIME:
        return Outcome.PRECONDITION_FAILED
    if none_match is not None:
        everything, strong, weak = _tags(none_match)
        if everything or _ETAG in strong | weak:
            return Outcome.NOT_MODIFIED
    elif modified is not None and (since := parse_date(modified)) is not None and _MTIME <= since <= _NOW:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


# Dates

_YEAR_10000 = 253_402_300_800
#: A time zone leads further back, and the year is read as one of two digits then; nothing writes such times.
_YEAR_100 = -59_011_459_200


def check_date(data: bytes) -> Label:
    http = parse_date(data.decode("latin-1"))
    if http is not None and _YEAR_100 <= http < _YEAR_10000:
        text = http_date(http * NANOSECONDS)
        same(parse_date(text), http, "a time, written and read, is the same time")
    header = parse_date_header(data)
    if header is not None and 0 <= header < _YEAR_10000:
        same(
            parse_date_header(http_date(header * NANOSECONDS).encode()), header, "a Date, written and read, is the same"
        )
    for seconds in (http, header):
        if seconds is not None:
            iso8601(seconds * NANOSECONDS)
    amz = parse_amz_date(data)
    same(amz, _amz_date(data), "datetime reads the same")
    return http is None, header is None, amz is None, (http or 0) < 0


def _amz_date(data: bytes) -> int | None:
    if not re.fullmatch(rb"[0-9]{8}T[0-9]{6}Z", data):
        return None
    try:
        when = datetime.datetime.strptime(data.decode("ascii"), "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    seconds = int((when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds())
    return seconds if seconds >= 0 and data[13:15] < b"60" else None


TARGETS = [
    Target(
        "range",
        check_range,
        "the bytes that a plain reader of RFC 9110 would send, or InvalidRange; anything else is no range",
        words(
            r"""
            bytes= 0- -5 5-9 9-5 BYTES= - , 00000000000000000000000000 \xb2 bytes=0-0,-1
            """
        ),
        16384,
    ),
    Target(
        "conditions",
        check_conditions,
        "no exception; the outcome that RFC 9110's order gives; a write's precondition is one tag, * or refused",
        words(
            r"""
            * \n -\n "05967d5390ac53b0" 05967d5390ac53b0 W/" " ,\x20 ""
            Mon,\x2012\x20Oct\x202009\x2017:50:50\x20GMT Mon,\x2012\x20Oct\x202009\x2017:59:50\x20GMT
            Sun,\x2011\x20Oct\x202009\x2017:50:50\x20GMT
            """
        ),
        16384,
    ),
    Target(
        "dates",
        check_date,
        "a time or none, never an exception; written and read again it is the same; datetime agrees on x-amz-date",
        words(
            r"""
            Mon,\x2012\x20Oct\x202009\x2017:50:50\x20GMT Monday,\x2012-Oct-09\x2017:50:50\x20GMT
            Mon\x20Oct\x2012\x2017:50:50\x202009 20130524T000000Z +0000 -2359 +9999 EST Oct Feb 29 9999
            0001 \xb2 \xa0 ( ) , : .
            """
        ),
        128,
    ),
]
