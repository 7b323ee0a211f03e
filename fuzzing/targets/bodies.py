"""Request bodies: ``aws-chunked`` and the chunked coding of HTTP, each against a reference that takes all at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from httptools import HttpParserError, HttpRequestParser

from aisobj.errors import S3Error
from aisobj.protocol.awschunked import MAX_HEAD, MAX_TRAILER, MIN_SIGNED_CHUNK, Decoder, Mode
from aisobj.web.framing import ChunkedFraming, LengthFraming
from aisobj.web.limits import Limits
from fuzzing.target import Label, Target, attempt, chance, demand, pieces, same, single_bytes

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
    """The grammar at the head of ``awschunked``, read from one string.

    :param length: None for whatever it has.
    """
    signer = Signer()
    data = b""
    at, number, before = 0, 0, MIN_SIGNED_CHUNK
    try:
        while True:
            end = body.find(b"\r\n", at, at + MAX_HEAD)
            if end < 0:
                return Decoded("IncompleteBody")
            size_text, extension, rest = re.split(rb"(;)", body[at:end], maxsplit=1) if b";" in body[at:end] else (
                body[at:end], b"", b"")  # fmt: skip
            size_text = size_text.rstrip(b" \t")
            if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", size_text) or b"\n" in rest:
                return Decoded("IncompleteBody")
            size = int(size_text, 16)
            signature = b""
            if mode is not Mode.UNSIGNED_TRAILER:
                name, _, signature = (part.strip(b" \t") for part in rest.partition(b"="))
                if not extension or not signature:
                    return Decoded("IncompleteBody")
                if name != b"chunk-signature":
                    return Decoded("SignatureDoesNotMatch")
                if b";" in signature:
                    return Decoded("IncompleteBody")
                if size and before < MIN_SIGNED_CHUNK:
                    return Decoded("InvalidChunkSizeError")
            before, number = size, number + 1
            if length is not None and len(data) + size > length:
                return Decoded("IncompleteBody")
            at = end + 2
            chunk = body[at : at + size]
            if len(chunk) < size:
                return Decoded("IncompleteBody")
            if mode is not Mode.UNSIGNED_TRAILER:
                signer.verify_chunk(hashlib.sha256(chunk).hexdigest(), signature)
            data += chunk
            at += size
            if not size:
                break
            if body[at : at + 2] != b"\r\n":
                return Decoded("IncompleteBody")
            at += 2
        trailers = _trailers(body[at:], mode, signer, announced, length is None or len(data) == length)
    except S3Error as error:
        return Decoded(error.code)
    return Decoded("", data, trailers, tuple(signer.asked))


def _trailers(
    text: bytes, mode: Mode, signer: Signer, announced: tuple[bytes, ...], complete: bool
) -> tuple[tuple[str, str], ...]:
    if len(text) > MAX_TRAILER:
        raise S3Error("MalformedTrailerError")
    if text.startswith(b"\r\n"):
        lines, text = b"", text[2:]
    elif b"\r\n\r\n" in text:
        lines, _, text = text.partition(b"\r\n\r\n")
    elif text and not text.endswith(b"\r\n"):
        raise S3Error("IncompleteBody")  # within a line
    else:
        lines, text = text.removesuffix(b"\r\n"), b""
    fields: list[tuple[str, str]] = []
    for line in lines.split(b"\r\n") if lines else []:
        for field in line.removesuffix(b"\n").split(b"\n"):
            match = re.fullmatch(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[!-~](?:[ -~]*[!-~])?)?)[ \t]*", field)
            if match is None:
                raise S3Error("MalformedTrailerError")
            fields.append((match[1].decode().lower(), match[2].decode()))
    signature = None
    if mode is Mode.SIGNED_TRAILER:
        if not announced or not fields or fields[-1][0] != "x-amz-trailer-signature":
            raise S3Error("IncompleteBody")
        signature = fields.pop()[1].encode()
    if not complete:
        raise S3Error("IncompleteBody")
    if text.replace(b"\r\n", b""):
        raise S3Error("MalformedTrailerError")
    if signature is not None:
        signer.verify_trailer("".join(f"{name}:{value}\n" for name, value in fields).encode(), signature)
    trailers = dict(fields)
    if trailers.keys() != {name.decode() for name in announced}:
        raise S3Error("MalformedTrailerError")
    return tuple(sorted(trailers.items()))


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
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(;[\t -~\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*")


class Framed(NamedTuple):
    """What a framing made of a stream."""

    outcome: str  #: refused, unfinished or done
    body: bytes = b""
    rest: bytes = b""


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


def _frame_reference(data: bytes) -> Framed:
    """RFC 9112 section 7.1 with our limits, from one string."""
    body, at, trailers = b"", 0, -1
    while True:
        limit = _LIMITS.chunk_line_bytes if trailers < 0 else _LIMITS.trailer_bytes
        end = data.find(b"\n", at) + 1
        line = data[at : end or len(data)]
        if len(line) > limit:
            return Framed("refused")
        if not end:
            return Framed("unfinished", body)
        if not line.endswith(b"\r\n"):
            return Framed("refused")
        line, at = line[:-2], end
        if trailers >= 0:
            if not line:
                return Framed("done", body, data[at:])
            trailers += len(line) + 2
            if trailers > limit or not _TRAILER_LINE.fullmatch(line):
                return Framed("refused")
            continue
        match = _CHUNK_LINE.fullmatch(line)
        if not match:
            return Framed("refused")
        size = int(match[1], 16)
        body += data[at : at + size]
        at += size
        if at > len(data):
            return Framed("unfinished", body)
        if not size:
            trailers = 0
        elif data[at : at + 2] != b"\r\n"[: len(data) - at]:
            return Framed("refused")
        elif len(data) < at + 2:
            return Framed("unfinished", body)
        else:
            at += 2


class _Llhttp:
    """What llhttp, and whoever uses it in front of us, takes for the body."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.done = False
        try:
            HttpRequestParser(self).feed_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
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
    same(whole, _frame_reference(stream), "a plain reader reads the same")
    same(_feed(pieces(stream), ChunkedFraming(_LIMITS)), whole, "any pieces of the same bytes give the same")
    if len(stream) <= _BYTE_BY_BYTE >> chance(stream, 5):
        same(_feed(single_bytes(stream), ChunkedFraming(_LIMITS)), whole, "single bytes give the same")
    if whole.outcome == "done":
        other = _Llhttp(stream[: len(stream) - len(whole.rest)])
        # It refuses some trailers that we pass over; a refusal is read by nobody as another request.
        demand(other.broken or (other.done and other.body == whole.body), "llhttp sees the same body", whole, other.body)
    return whole.outcome, len(whole.body) > 0, len(whole.rest) > 0, len(stream).bit_length()


TARGETS = [
    Target(
        "aws-chunked",
        check_aws_chunked,
        "any pieces of the same bytes give the same data, trailers, signatures to check or error; a plain decoder agrees",
        [b"0\r\n", b"5\r\nhello\r\n", b"\r\n\r\n", b";chunk-signature=", b"x-amz-trailer-signature:", _TRAILER + b":AAAA",
         b"AAAAAAAAAAAAAAAA", b"10;chunk-signature=s\r\n", b"\n\r\n", b"2000;chunk-signature=s\r\n" + bytes(0x2000)],
        20000,
    ),
    Target(
        "http-body",
        check_http_body,
        "any pieces give the same body, rest or refusal; a plain reader agrees, and llhttp wherever we accept",
        [b"0\r\n", b"5\r\nhello\r\n", b"\r\n\r\n", b";a=b", b"A: b\r\n", b"0000000000000005", b"FFFFFFFFFFFFFFFF", b"\n", b"\r"],
        4096,
    ),
]  # fmt: skip
