"""Request bodies: ``aws-chunked`` and the chunked coding of HTTP, each against a reference that takes all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from httptools import HttpParserError, HttpRequestParser

from aisobj.errors import S3Error
from aisobj.protocol.awschunked import Decoder, Mode
from aisobj.web.framing import ChunkedFraming, LengthFraming
from aisobj.web.limits import Limits
from fuzzing.plain import AwsChunked, Framed, HttpChunks
from fuzzing.target import Label, Target, attempt, chance, demand, pieces, same, single_bytes, words

# aws-chunked. The first byte says the mode, whether a trailer was announced, and whether the length is the right one.

_MODES = (Mode.UNSIGNED_TRAILER, Mode.SIGNED, Mode.SIGNED_TRAILER)
_TRAILER = b"x-amz-checksum-crc32"
_BYTE_BY_BYTE = 400  #: inputs up to so many bytes are sometimes also fed in single ones


class Signer:
    """Takes every signature but those that begin with ``x``, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | bytes, bytes]] = []

    def verify_chunk(self, sha256_hex: str, signature: bytes, /) -> None:
        self._verify(sha256_hex, signature)

    def verify_trailer(self, canonical_trailer: bytes, signature: bytes, /) -> None:
        self._verify(canonical_trailer, signature)

    def _verify(self, signed: str | bytes, signature: bytes) -> None:
        self.asked.append((signed, signature))
        if signature.startswith(b"x"):
            raise S3Error("SignatureDoesNotMatch")


class Decoded(NamedTuple):
    """What became of a body; of a broken one only why."""

    error: str = ""
    data: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    signed: tuple[tuple[str | bytes, bytes], ...] = ()


def _decode(parts: Iterable[bytes], mode: Mode, length: int, announced: tuple[bytes, ...]) -> Decoded:
    signer = Signer()
    decoder = Decoder(mode, length, None if mode is Mode.UNSIGNED_TRAILER else signer, announced)
    data = bytearray()

    def all_of_it() -> dict[str, str]:
        for part in parts:
            for piece in decoder.feed(part):
                data.extend(piece)
        return decoder.finish()

    trailers, error = attempt(all_of_it)
    if error is not None:
        return Decoded(error.code)
    assert trailers is not None
    return Decoded("", bytes(data), tuple(sorted(trailers.items())), tuple(signer.asked))


def _reference(body: bytes, mode: Mode, length: int | None, announced: tuple[bytes, ...]) -> Decoded:
    """What a plain decoder makes of it; ``length`` is None for whatever it has."""
    signer = Signer()
    reader = AwsChunked(body, mode, announced, signer)
    try:
        trailers = reader.read(length)
    except S3Error as error:
        return Decoded(error.code)
    return Decoded("", reader.data, tuple(sorted(trailers.items())), tuple(signer.asked))


def check_aws_chunked(data: bytes) -> Label:
    choice, body = (data[0] if data else 0), data[1:]
    mode = _MODES[choice % 3]
    announced = (_TRAILER,) if choice & 8 else ()
    reference = _reference(body, mode, None, announced)
    length = len(body) if reference.error else len(reference.data)
    if choice & 16:
        length = choice >> 5 or length + 1
    reference = _reference(body, mode, length, announced)
    whole = _decode([body], mode, length, announced)
    same(whole, reference, "a plain decoder reads the same")
    same(_decode(pieces(body), mode, length, announced), whole, "any pieces of the same bytes give the same")
    if len(body) <= _BYTE_BY_BYTE >> chance(body, 5):
        same(_decode(single_bytes(body), mode, length, announced), whole, "single bytes give the same")
    return mode, announced, whole.error, len(whole.signed), len(whole.trailers)


# HTTP

_LIMITS = Limits(chunk_line_bytes=48, trailer_bytes=96)


def _feed(parts: Iterable[bytes], framing: ChunkedFraming | LengthFraming) -> Framed:
    body, rest = b"", b""

    def all_of_it() -> None:
        nonlocal body, rest
        for part in parts:
            if framing.done:
                rest += part
                continue
            piece, rest = framing.feed(part)
            body += piece
            demand(framing.done or not rest, "nothing is left over before the end", rest)

    _, error = attempt(all_of_it)
    if error is not None:
        demand(error.close, "a broken frame ends the connection", error)
        return Framed("refused")
    return Framed("done" if framing.done else "unfinished", body, rest)


class _Llhttp:
    """What llhttp, and whoever uses it in front of us, takes for the body."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.done = False
        try:
            HttpRequestParser(self).feed_data(
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + data
            )
        except HttpParserError:
            self.broken = True
        else:
            self.broken = False

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self.body += data

    def on_message_complete(self) -> None:
        self.done = True


def check_http_body(data: bytes) -> Label:
    choice, stream = (data[0] if data else 0), data[1:]
    if choice == 0x4C:  # L: by length
        length = min(len(stream), stream[0] if stream else 0)
        for parts in ([stream], pieces(stream), single_bytes(stream)):
            framed = _feed(parts, LengthFraming(length))
            same(framed, Framed("done", stream[:length], stream[length:]), "a body ends at its length")
        return length == 0, len(stream) > length
    whole = _feed([stream], ChunkedFraming(_LIMITS))
    same(whole, HttpChunks(stream, _LIMITS).read(), "a plain reader reads the same")
    same(_feed(pieces(stream), ChunkedFraming(_LIMITS)), whole, "any pieces of the same bytes give the same")
    if len(stream) <= _BYTE_BY_BYTE >> chance(stream, 5):
        same(_feed(single_bytes(stream), ChunkedFraming(_LIMITS)), whole, "single bytes give the same")
    if whole.outcome == "done":
        other = _Llhttp(stream[: len(stream) - len(whole.rest)])
        # It refuses some trailers that we pass over; a refusal is read by nobody as another request.
        demand(
            other.broken or (other.done and other.body == whole.body), "llhttp sees the same body", whole, other.body
        )
    return whole.outcome, len(whole.body) > 0, len(whole.rest) > 0, len(stream).bit_length()


TARGETS = [
    Target(
        "aws-chunked",
        check_aws_chunked,
        "any pieces give the same data, trailers, signatures to check or error; a plain decoder agrees",
        words(
            r"""
            0\r\n 5\r\nhello\r\n \r\n\r\n ;chunk-signature= x-amz-trailer-signature:
            x-amz-checksum-crc32:AAAA AAAAAAAAAAAAAAAA 10;chunk-signature=s\r\n \n\r\n
            """
        ),
        20000,
    ),
    Target(
        "http-body",
        check_http_body,
        "any pieces give the same body, rest or refusal; a plain reader agrees, and llhttp wherever we accept",
        words(
            r"""
            0\r\n 5\r\nhello\r\n \r\n\r\n ;a=b A:\x20b\r\n 0000000000000005 FFFFFFFFFFFFFFFF \n \r
            """
        ),
        4096,
    ),
]
