"""Where a request body ends: by Content-Length, or chunked (RFC 9112 section 7.1). Sans-IO.

Both framings have ``feed(data) -> (body, rest)`` and ``done``: ``body`` is what belongs to the message, ``rest`` what
follows it (always empty until ``done``).
"""

from __future__ import annotations

import enum
import re
from typing import Final

from aisobj.web.head import refusal
from aisobj.web.limits import Limits

#: 16 hexadecimal digits are 64 bits; blanks before the extension are as little in the grammar as for llhttp.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class LengthFraming:
    """A body of ``remaining`` bytes. A read that lies wholly in the body is passed on as it is, not copied."""

    __slots__ = ("done", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data, b""
        body, rest = (data, b"") if size == self.remaining else (data[: self.remaining], data[self.remaining :])
        self.remaining = 0
        self.done = True
        return body, rest


class _Expect(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()


class ChunkedFraming:
    """Takes the chunks' frame off. Extensions and trailers are checked, counted and dropped: nothing we serve uses
    them, and a trailer must never pass for a header.

    :raises S3Error: from ``feed``, with ``close``: the framing is broken, or a line or the trailers are too long.
    """

    __slots__ = ("_chunk", "_expect", "_limits", "_line", "_trailers", "done")

    def __init__(self, limits: Limits) -> None:
        self.done = False
        self._limits = limits
        self._expect = _Expect.SIZE
        self._line = b""  # the beginning of a line that is still to come
        self._chunk = 0  # bytes of the current chunk still to come
        self._trailers = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._expect is _Expect.DATA:
                piece = data[at : at + self._chunk]
                pieces.append(piece)
                at += len(piece)
                self._chunk -= len(piece)
                if not self._chunk:
                    self._expect = _Expect.DATA_END
            else:
                at = self._take_line(data, at)
        return b"".join(pieces), data[at:]

    def _take_line(self, data: bytes, at: int) -> int:
        """Add to the line what there is up to its LF; a whole line is acted upon. Returns where to go on in data."""
        limit = self._limits.trailer_bytes if self._expect is _Expect.TRAILER else self._limits.chunk_line_bytes
        found = data.find(b"\n", at)
        end = len(data) if found < 0 else found + 1
        if len(self._line) + end - at > limit:
            raise refusal("A line of the chunked body is too long.")
        line = self._line = self._line + data[at:end]
        if found >= 0:
            if not line.endswith(b"\r\n"):
                raise refusal("A line of the chunked body must end in CRLF.")
            self._line = b""
            self._act(line[:-2])
        elif self._expect is _Expect.DATA_END and line != b"\r":
            raise refusal("A chunk is longer than its size.")
        return end

    def _act(self, line: bytes) -> None:
        match self._expect:
            case _Expect.SIZE:
                matched = _CHUNK_LINE.fullmatch(line)
                if not matched:
                    raise refusal("A chunk size is malformed.")
                self._chunk = int(matched[1], 16)
                self._expect = _Expect.DATA if self._chunk else _Expect.TRAILER
            case _Expect.DATA_END:
                if line:
                    raise refusal("A chunk is longer than its size.")
                self._expect = _Expect.SIZE
            case _:
                self._act_on_trailer(line)

    def _act_on_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        if self._trailers > self._limits.trailer_bytes:
            raise refusal("The trailer section is too long.")
        if not _TRAILER_LINE.fullmatch(line):
            raise refusal("A trailer is malformed.")
