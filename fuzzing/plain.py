"""Plain readers of request bodies, to compare ours with: each has all the bytes at once, and follows its grammar.

``aws-chunked``: the grammar at the head of ``aisobj.protocol.awschunked``. HTTP's chunked coding: RFC 9112 section 7.1.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple, Protocol

from aisobj.errors import S3Error
from aisobj.protocol.awschunked import MAX_HEAD, MAX_TRAILER, MIN_SIGNED_CHUNK, Mode
from aisobj.web.limits import Limits

_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(;.*)?").fullmatch
_SIGNED_BY = re.compile(rb";[ \t]*([^=]*?)[ \t]*=[ \t]*(.*?)[ \t]*").fullmatch
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[!-~](?:[ -~]*[!-~])?)?)[ \t]*").fullmatch


class Signer(Protocol):
    """As ``awschunked.ChunkSigner``."""

    def verify_chunk(self, sha256_hex: str, signature: bytes, /) -> None: ...

    def verify_trailer(self, canonical_trailer: bytes, signature: bytes, /) -> None: ...


class AwsChunked:
    """One body.

    :ivar data: decoded so far.
    """

    def __init__(self, body: bytes, mode: Mode, announced: tuple[bytes, ...], signer: Signer) -> None:
        self._rest = body
        self._mode = mode
        self._announced = announced
        self._signer = signer
        self.data = b""

    def read(self, length: int | None) -> dict[str, str]:
        """The trailers.

        :param length: that the data must have, None for any.
        :raises S3Error: whatever is wrong.
        """
        size, before = -1, MIN_SIGNED_CHUNK
        while size:
            size, signature = self._head(before)
            before = size
            if length is not None and len(self.data) + size > length:
                raise S3Error("IncompleteBody")
            self._chunk(size, signature)
            if size and self._take(2) != b"\r\n":
                raise S3Error("IncompleteBody")
        return self._trailers(length is None or len(self.data) == length)

    def _take(self, count: int) -> bytes:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _head(self, before: int) -> tuple[int, bytes]:
        line, end, _ = self._rest[:MAX_HEAD].partition(b"\r\n")
        match = _SIZE(line)
        if not end or match is None:
            raise S3Error("IncompleteBody")
        self._take(len(line) + 2)
        size, signature = int(match[1], 16), b""
        if self._mode is not Mode.UNSIGNED_TRAILER:
            signature = self._signature(match[2] or b"")
            if size and before < MIN_SIGNED_CHUNK:
                raise S3Error("InvalidChunkSizeError")
        return size, signature

    def _signature(self, extension: bytes) -> bytes:
        match = _SIGNED_BY(extension)
        if match is None or not match[2]:
            raise S3Error("IncompleteBody")
        if match[1] != b"chunk-signature":
            raise S3Error("SignatureDoesNotMatch")
        if b";" in match[2]:
            raise S3Error("IncompleteBody")
        return match[2]

    def _chunk(self, size: int, signature: bytes) -> None:
        chunk = self._take(size)
        if len(chunk) < size:
            raise S3Error("IncompleteBody")
        if self._mode is not Mode.UNSIGNED_TRAILER:
            self._signer.verify_chunk(hashlib.sha256(chunk).hexdigest(), signature)
        self.data += chunk

    def _trailers(self, complete: bool) -> dict[str, str]:
        fields = self._fields()
        signature = None
        if self._mode is Mode.SIGNED_TRAILER:
            if not self._announced or not fields or fields[-1][0] != "x-amz-trailer-signature":
                raise S3Error("IncompleteBody")
            signature = fields.pop()[1].encode()
        if not complete:
            raise S3Error("IncompleteBody")
        if self._rest.replace(b"\r\n", b""):
            raise S3Error("MalformedTrailerError")
        if signature is not None:
            self._signer.verify_trailer("".join(f"{name}:{value}\n" for name, value in fields).encode(), signature)
        trailers = dict(fields)
        if trailers.keys() != {name.decode() for name in self._announced}:
            raise S3Error("MalformedTrailerError")
        return trailers

    def _fields(self) -> list[tuple[str, str]]:
        """The trailers up to the blank line, or to the end; what follows stays in ``_rest``."""
        text = b"\r\n" + self._rest  # so that a blank line at once looks like any other
        if len(self._rest) > MAX_TRAILER:
            raise S3Error("MalformedTrailerError")
        lines, blank, self._rest = text.partition(b"\r\n\r\n")
        if not blank:
            if not lines.endswith(b"\r\n"):
                raise S3Error("IncompleteBody")  # within a line
            lines = lines.removesuffix(b"\r\n")
        fields = []
        for line in lines.removeprefix(b"\r\n").split(b"\r\n") if lines else []:
            for field in line.removesuffix(b"\n").split(b"\n"):
                match = _TRAILER(field)
                if match is None:
                    raise S3Error("MalformedTrailerError")
                fields.append((match[1].decode().lower(), match[2].decode()))
        return fields


# HTTP

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(;[\t -~\x80-\xff]*)?").fullmatch
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*").fullmatch


class Framed(NamedTuple):
    """What a framing made of a stream."""

    outcome: str  #: refused, unfinished or done
    body: bytes = b""
    rest: bytes = b""


class _Unfinished(Exception):
    pass


class _Refused(Exception):
    pass


class HttpChunks:
    """The chunked coding of HTTP, with our limits."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._rest = data
        self._limits = limits
        self._body = b""

    def read(self) -> Framed:
        try:
            while self._chunk():
                pass
            self._trailers()
        except _Unfinished:
            return Framed("unfinished", self._body)
        except _Refused:
            return Framed("refused")
        return Framed("done", self._body, self._rest)

    def _line(self, limit: int) -> bytes:
        line, end, rest = self._rest.partition(b"\n")
        if len(line) + len(end) > limit:
            raise _Refused
        if not end:
            raise _Unfinished
        if not line.endswith(b"\r"):
            raise _Refused
        self._rest = rest
        return line[:-1]

    def _chunk(self) -> bool:
        match = _CHUNK_LINE(self._line(self._limits.chunk_line_bytes))
        if match is None:
            raise _Refused
        size = int(match[1], 16)
        self._body += self._rest[:size]
        if len(self._rest) < size:
            raise _Unfinished
        self._rest = self._rest[size:]
        if size:
            if not b"\r\n".startswith(self._rest[:2]):
                raise _Refused
            if len(self._rest) < 2:
                raise _Unfinished
            self._rest = self._rest[2:]
        return size > 0

    def _trailers(self) -> None:
        total = 0
        while line := self._line(self._limits.trailer_bytes):
            total += len(line) + 2
            if total > self._limits.trailer_bytes or _TRAILER_LINE(line) is None:
                raise _Refused
