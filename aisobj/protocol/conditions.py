"""Conditional requests and ranges.

Sources: RFC 9110 sections 13 and 14; AWS "Conditional reads" and the condition headers of GetObject, PutObject,
CopyObject and UploadPartCopy in the API reference.
"""

from __future__ import annotations

import datetime
import email.utils
import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from aisobj.errors import S3Error
from aisobj.model import ObjectRecord

#: A getter of request headers by lower-case name, None if absent.
Get = Callable[[str], str | None]

_NS = 1_000_000_000
_ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"|([^\s,"]+)')


class Outcome(enum.Enum):
    """What a read's conditions say."""

    PROCEED = enum.auto()
    NOT_MODIFIED = enum.auto()
    PRECONDITION_FAILED = enum.auto()


@dataclass(frozen=True, slots=True)
class _EntityTags:
    """An If-Match or If-None-Match value. S3 also takes tags without quotes."""

    any: bool  # "*"
    strong: frozenset[str]
    weak: frozenset[str]

    @classmethod
    def parse(cls, value: str) -> _EntityTags:
        if value.strip() == "*":
            return cls(True, frozenset(), frozenset())
        strong: set[str] = set()
        weak: set[str] = set()
        for match in _ENTITY_TAG.finditer(value):
            is_weak, quoted, bare = match.groups()
            (weak if is_weak else strong).add(bare if quoted is None else quoted)
        return cls(False, frozenset(strong), frozenset(weak))

    def match_strongly(self, etag: str) -> bool:
        return self.any or etag in self.strong

    def match_weakly(self, etag: str) -> bool:
        return self.any or etag in self.strong or etag in self.weak


def parse_date(value: str) -> int | None:
    """An HTTP date in any of its three forms (RFC 9110 section 5.6.7), in seconds since the epoch; else None."""
    if len(value) > 64:
        return None
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:  # asctime's form has no zone: UTC
            date = date.replace(tzinfo=datetime.UTC)
        return int(date.timestamp())
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """The conditions of a GET or HEAD, or those on the source of a copy; dates in seconds since the epoch."""

    if_match: _EntityTags | None = None
    if_none_match: _EntityTags | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None

    #: The headers that :meth:`parse` reads; a request that has none of them has :data:`NO_CONDITIONS`.
    HEADERS: ClassVar = frozenset({b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})

    @classmethod
    def parse(cls, get: Get, prefix: str = "") -> ReadConditions:
        """
        :param get: as :data:`Get`.
        :param prefix: ``"x-amz-copy-source-"`` for a copy.
        :returns: :data:`NO_CONDITIONS` itself if there are none. A date that cannot be read is no condition.
        """
        match = get(f"{prefix}if-match")
        none_match = get(f"{prefix}if-none-match")
        modified = get(f"{prefix}if-modified-since")
        unmodified = get(f"{prefix}if-unmodified-since")
        if match is none_match is modified is unmodified is None:
            return NO_CONDITIONS
        return cls(
            None if match is None else _EntityTags.parse(match),
            None if none_match is None else _EntityTags.parse(none_match),
            None if modified is None else parse_date(modified),
            None if unmodified is None else parse_date(unmodified),
        )

    def evaluate(self, etag: str, mtime_ns: int, now_ns: int) -> Outcome:
        """In the order of RFC 9110 section 13.2.2, where an entity tag overrules the date beside it: AWS's rules for
        "both headers" are the same.

        :param etag: the object's, without quotes; a strong one.
        :param mtime_ns: its Last-Modified, of which clients saw whole seconds.
        :param now_ns: the clock; an If-Modified-Since after it is no condition.
        """
        if self is NO_CONDITIONS:
            return Outcome.PROCEED
        mtime = mtime_ns // _NS
        if self.if_match is not None:
            if not self.if_match.match_strongly(etag):
                return Outcome.PRECONDITION_FAILED
        elif self.if_unmodified_since is not None and mtime > self.if_unmodified_since:
            return Outcome.PRECONDITION_FAILED
        if self.if_none_match is not None:
            if self.if_none_match.match_weakly(etag):
                return Outcome.NOT_MODIFIED
        elif self.if_modified_since is not None and mtime <= self.if_modified_since <= now_ns // _NS:
            return Outcome.NOT_MODIFIED
        return Outcome.PROCEED

    def check_copy_source(self, etag: str, mtime_ns: int, now_ns: int) -> None:
        """As :meth:`evaluate`; for a copy, "not modified" is a failure too.

        :raises S3Error: PreconditionFailed.
        """
        if self.evaluate(etag, mtime_ns, now_ns) is not Outcome.PROCEED:
            raise S3Error("PreconditionFailed")


NO_CONDITIONS = ReadConditions()


@dataclass(frozen=True, slots=True)
class WritePrecondition:
    """The precondition of PutObject, CompleteMultipartUpload or CopyObject on what the key holds now."""

    if_match: str | None = None  #: an entity tag without quotes, or ``*``
    if_none_match: bool = False  #: ``If-None-Match: *``

    none: ClassVar[WritePrecondition]  #: the one without a precondition

    #: the headers it is made of; without any of them it is :attr:`none`
    HEADERS: ClassVar[frozenset[bytes]] = frozenset({b"if-match", b"if-none-match"})

    @classmethod
    def parse(cls, get: Get) -> WritePrecondition:
        """
        :returns: :attr:`none` itself if there is none.
        :raises S3Error: NotImplemented for an If-None-Match other than ``*``, for both headers at once, and for an
            If-Match that is neither ``*`` nor exactly one entity tag, as AWS.
        """
        match = get("if-match")
        none_match = get("if-none-match")
        if match is none_match is None:
            return cls.none
        if none_match is None:
            return cls(if_match=_single_tag(match or ""))
        if match is not None or none_match.strip() != "*":
            raise S3Error("NotImplemented", Header="If-None-Match")
        return cls(if_none_match=True)

    def check(self, current: ObjectRecord | None) -> None:
        """
        :param current: what the key holds, None for nothing.
        :raises S3Error: PreconditionFailed; NoSuchKey for an If-Match without an object.
        """
        if self.if_none_match:
            if current is not None:
                raise S3Error("PreconditionFailed", Condition="If-None-Match")
        elif self.if_match is not None:
            if current is None:
                raise S3Error("NoSuchKey")
            if self.if_match not in ("*", current.etag):
                raise S3Error("PreconditionFailed", Condition="If-Match")


WritePrecondition.none = WritePrecondition()


def _single_tag(value: str) -> str:
    tags = _EntityTags.parse(value)
    if tags.any:
        return "*"
    if len(tags.strong) != 1 or tags.weak:
        # A weak tag never matches here (RFC 9110 section 13.1.1), so nobody can mean one.
        raise S3Error("NotImplemented", Header="If-Match")
    (tag,) = tags.strong
    return tag


# Ranges

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})")
_HUGE = 10**19  # beyond any size, and where int() would begin to cost


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """One byte range. ``first`` is None for a suffix, whose length is ``last``; ``last`` is None for "to the end"."""

    first: int | None
    last: int | None


def parse_range(value: str) -> RangeSpec | None:
    """A ``Range`` header.

    :returns: None if it is to be ignored (the answer is a 200 with everything): not one well-formed range of bytes.
        AWS serves no multiple ranges either.
    """
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = (_number(text) for text in match.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return RangeSpec(first, last)


def _number(text: str) -> int | None:
    if not text:
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else _HUGE


def resolve(spec: RangeSpec, size: int) -> tuple[int, int]:
    """
    :param size: of the object, in bytes.
    :returns: offset and length of the answer, at least one byte.
    :raises S3Error: InvalidRange.
    """
    if spec.first is None:
        length = min(spec.last or 0, size)
        offset = size - length
    else:
        offset = spec.first
        length = (size if spec.last is None else min(spec.last + 1, size)) - offset
    if length <= 0:
        raise S3Error(
            "InvalidRange",
            headers={"Content-Range": f"bytes */{size}"},
            RangeRequested=_range_text(spec),
            ActualObjectSize=str(size),
        )
    return offset, length


def _range_text(spec: RangeSpec) -> str:
    first, last = ("" if number is None else str(number) for number in (spec.first, spec.last))
    return f"bytes={first}-{last}"


def parse_copy_source_range(value: str) -> RangeSpec:
    """``x-amz-copy-source-range`` of UploadPartCopy: ``bytes=first-last`` and nothing else.

    :raises S3Error: InvalidArgument.
    """
    match = _COPY_RANGE.fullmatch(value)
    if match is None or int(match[2]) < int(match[1]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=value,
        )
    return RangeSpec(int(match[1]), int(match[2]))


def resolve_copy_source_range(spec: RangeSpec, size: int) -> tuple[int, int]:
    """
    :param spec: from :func:`parse_copy_source_range`.
    :returns: offset and length; unlike a read's, a range that goes beyond the source is an error.
    :raises S3Error: InvalidArgument.
    """
    assert spec.first is not None and spec.last is not None
    if spec.last >= size:
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=_range_text(spec),
        )
    return spec.first, spec.last - spec.first + 1
