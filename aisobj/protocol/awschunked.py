"""The body coding ``aws-chunked``: chunks inside the HTTP body, signed or not, with trailers or without.

Sources: AWS "Transferring payload in multiple chunks" (``API/sigv4-streaming.html``) and "Including trailing headers"
(``API/sigv4-streaming-trailers.html``). Where these are silent, what AWS answers is taken from OpenStack Swift's
``test/s3api/test_input_errors.py``, whose cases were run against AWS: names and texts of errors, blanks in a chunk's
head, bodies that end after ``0 CRLF``. Trailer lines may end in ``LF CRLF``: minio-go writes them so.

The grammar, with the bounds that are ours::

    body    = *chunk last [trailer] [CRLF]
    chunk   = head data CRLF                                head = size [";chunk-signature=" signature] CRLF
    last    = head with size 0                              at most 256 bytes, size at most 16 hex digits
    trailer = *(name ":" value CRLF) ["x-amz-trailer-signature:" signature CRLF]                at most 16 KiB
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol

from aisobj import checksums
from aisobj.errors import S3Error

#: A signed chunk that is not the last one has at least this many bytes (``sigv4-streaming.html``).
MIN_SIGNED_CHUNK = 8192

MAX_HEAD = 256
MAX_TRAILER = 16 * 1024

_HEAD = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;(.*))?")
_TRAILER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TRAILER_VALUE = re.compile(rb"[\x20-\x7e]*")
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class Mode(enum.Enum):
    """The three codings; the value is that of ``x-amz-content-sha256``."""

    SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


class ChunkSigner(Protocol):
    """Knows the request's key, time, scope and the signature before this one; each call moves on to the next."""

    def verify_chunk(self, sha256_hex: str, signature: bytes, /) -> None:
        """:raises S3Error: SignatureDoesNotMatch."""

    def verify_trailer(self, canonical_trailer: bytes, signature: bytes, /) -> None:
        """
        :param canonical_trailer: ``name:value LF`` of each trailer; its sha256 goes into the string to sign.
        :raises S3Error: SignatureDoesNotMatch.
        """


def announced_trailers(value: str, *, checksum_in_headers: bool) -> tuple[bytes, ...]:
    """The trailers that ``x-amz-trailer`` announces: one ``x-amz-checksum-*`` name, lower-case; AWS takes no other.

    :param value: the header; AWS overlooks commas at its end, not elsewhere.
    :param checksum_in_headers: the request also has an ``x-amz-checksum-*`` header.
    :raises S3Error: InvalidRequest for an unknown name, several of them, or a checksum twice.
    """
    names = [name.strip().lower() for name in value.strip().rstrip(",").split(",")]
    if any(checksums.algorithm_of_header(name) is None for name in names):
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    if len(names) > 1 or checksum_in_headers:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    return (names[0].encode("ascii"),)


def _broken() -> NoReturn:
    """What AWS says to every kind of broken framing."""
    raise S3Error("IncompleteBody", "The request body terminated unexpectedly")


def _wrong_length(provided: int, expected: int) -> NoReturn:
    raise S3Error(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        NumberBytesExpected=str(expected),
        NumberBytesProvided=str(provided),
    )


def _malformed_trailer() -> NoReturn:
    raise S3Error(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    )


class _State(enum.Enum):
    HEAD = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()


class Decoder:
    """Decodes one body, fed in pieces of any size; after an exception it is of no further use.

    The bytes of a chunk are handed out before its signature can be known to be right, but never before that of the
    chunk before it: so nothing that was handed out may be committed until :meth:`finish` has returned.
    """

    __slots__ = (
        "_chunk_number",
        "_chunk_size",
        "_decoded_length",
        "_hash",
        "_held",
        "_mode",
        "_received",
        "_remaining",
        "_signature",
        "_signer",
        "_state",
        "_trailer",
        "_trailer_names",
    )

    def __init__(
        self, mode: Mode, decoded_length: int, signer: ChunkSigner | None, trailer_names: Sequence[bytes] = ()
    ) -> None:
        """
        :param decoded_length: ``x-amz-decoded-content-length``.
        :param signer: None where nothing is verified: always when unsigned, and on a server without credentials.
        :param trailer_names: what :func:`announced_trailers` returned; empty without ``x-amz-trailer``.
        """
        self._mode = mode
        self._decoded_length = decoded_length
        self._signer = signer
        self._trailer_names = frozenset(name.decode("ascii") for name in trailer_names)
        self._state = _State.HEAD
        self._held = b""  # the beginning of a head or of the CRLF after data, when a piece ended in it
        self._chunk_number = 0
        self._chunk_size = 0
        self._remaining = 0  # bytes of this chunk still to come
        self._received = 0  # decoded bytes, this chunk's counted in full from its head on
        self._signature = b""
        self._hash = hashlib.sha256()
        self._trailer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Take the next piece of the body.

        :returns: the decoded data in it: slices of ``data``, not copies, so they live no longer than its memory.
        :raises S3Error: IncompleteBody, InvalidChunkSizeError, SignatureDoesNotMatch, MalformedTrailerError.
        """
        view = memoryview(data)
        end = len(view)
        position = 0
        decoded: list[bytes | memoryview] = []
        while position < end:
            if self._state is _State.DATA:
                piece = view[position : position + self._remaining]
                position += len(piece)
                self._take_data(piece)
                decoded.append(piece)
            elif self._state is _State.HEAD:
                position = self._take_head(view, position)
            elif self._state is _State.DATA_END:
                position = self._take_data_end(view, position)
            else:
                if len(self._trailer) + end - position > MAX_TRAILER:
                    _malformed_trailer()
                self._trailer += view[position:]
                break
        return decoded

    def _take_head(self, view: memoryview, position: int) -> int:
        held = len(self._held)
        window = self._held + view[position : position + MAX_HEAD - held]
        end = window.find(b"\r\n")
        if end < 0:
            if len(window) == MAX_HEAD:
                _broken()
            self._held = window
            return len(view)
        self._held = b""
        self._begin_chunk(window[:end])
        return position + end + 2 - held

    def _begin_chunk(self, head: bytes) -> None:
        match = _HEAD.fullmatch(head)
        if match is None:
            _broken()
        size = int(match[1], 16)
        if self._mode is not Mode.UNSIGNED_TRAILER:
            self._signature = _chunk_signature(match[2])
            if size and self._chunk_number and self._chunk_size < MIN_SIGNED_CHUNK:
                raise S3Error(
                    "InvalidChunkSizeError",
                    "Only the last chunk is allowed to have a size less than 8192 bytes",
                    Chunk=str(self._chunk_number + 1),
                    BadChunkSize=str(self._chunk_size),
                )
        self._received += size
        if self._received > self._decoded_length:
            _wrong_length(self._received, self._decoded_length)
        self._chunk_number += 1
        self._chunk_size = self._remaining = size
        if size:
            self._state = _State.DATA
        else:
            self._verify_chunk()
            self._state = _State.TRAILER

    def _take_data(self, piece: memoryview) -> None:
        if self._signer is not None:
            self._hash.update(piece)
        self._remaining -= len(piece)
        if not self._remaining:
            self._verify_chunk()
            self._state = _State.DATA_END

    def _take_data_end(self, view: memoryview, position: int) -> int:
        held = len(self._held)
        window = self._held + view[position : position + 2 - held]
        if window == b"\r\n":
            self._held = b""
            self._state = _State.HEAD
        elif window == b"\r":
            self._held = window
        else:
            _broken()
        return position + len(window) - held

    def _verify_chunk(self) -> None:
        if self._signer is not None:
            self._signer.verify_chunk(self._hash.hexdigest(), self._signature)
            self._hash = hashlib.sha256()

    def finish(self) -> dict[str, str]:
        """The body has ended.

        :returns: the trailers, lower-case name -> value, without the signature; of a repeated one the last (as AWS).
            Exactly the announced ones are there; their values are not looked into.
        :raises S3Error: IncompleteBody if the body ended early or has another length than announced,
            MalformedTrailerError if the trailers are not those announced or more follows, SignatureDoesNotMatch.
        """
        if self._state is not _State.TRAILER:
            _broken()
        *lines, rest = bytes(self._trailer).split(b"\r\n")
        blank = lines.index(b"") if b"" in lines else len(lines)
        if rest and blank == len(lines):
            _broken()  # within a line
        fields = list(_trailer_fields(lines[:blank]))
        signature = self._pop_signature(fields)
        if self._received != self._decoded_length:
            _wrong_length(self._received, self._decoded_length)
        if rest or any(lines[blank:]):
            _malformed_trailer()
        if signature is not None and self._signer is not None:
            canonical = "".join(f"{name}:{value}\n" for name, value in fields)
            self._signer.verify_trailer(canonical.encode("ascii"), signature)
        trailers = dict(fields)
        if trailers.keys() != self._trailer_names:
            _malformed_trailer()
        return trailers

    def _pop_signature(self, fields: list[tuple[str, str]]) -> bytes | None:
        """Take the signature off the end of ``fields``. To AWS a signed trailer that lacks it, or has nothing to sign
        because none was announced, is a body that ended too early."""
        if self._mode is not Mode.SIGNED_TRAILER:
            return None
        if not self._trailer_names or not fields or fields[-1][0] != _TRAILER_SIGNATURE:
            _broken()
        return fields.pop()[1].encode("ascii")


def _chunk_signature(extension: bytes | None) -> bytes:
    """The signature in what follows the ``;`` of a chunk's head. Blanks are allowed round its two parts."""
    name, equals, value = (extension or b"").partition(b"=")
    signature = value.strip(b" \t")
    if not equals or not signature:
        _broken()
    if name.strip(b" \t") != b"chunk-signature":
        raise S3Error("SignatureDoesNotMatch")
    if b";" in signature:
        _broken()
    return signature


def _trailer_fields(lines: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Lower-case name and value of each trailer; minio-go ends each with LF and the whole with LF CRLF."""
    for line in lines:
        for field in line.removesuffix(b"\n").split(b"\n"):
            name, colon, value = field.partition(b":")
            value = value.strip(b" \t")
            if not colon or not _TRAILER_NAME.fullmatch(name) or not _TRAILER_VALUE.fullmatch(value):
                _malformed_trailer()
            yield name.decode("ascii").lower(), value.decode("ascii")
