"""A request's body on its way into a BodyWriter: decoded, digested, and checked against all that the client promised.

Order: everything that the head can prove wrong is refused before a byte is read (and before ``100 Continue``); the
body streams with back-pressure; at its end every length, digest, chunk signature and trailer is checked, and only a
body that passes them all is handed back.

Rules: AWS "Checking object integrity", "Signature calculations: transferring payload in multiple chunks".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from aisobj import checksums
from aisobj.errors import S3Error
from aisobj.model import Checksum
from aisobj.protocol.awschunked import Decoder, Mode, announced_trailers
from aisobj.protocol.signing import Authenticated, PayloadMode
from aisobj.storage.bodies import BodyWriter, WrittenBody
from aisobj.storage.interfaces import Owner
from aisobj.web.request import Request

#: AWS "Amazon S3 multipart upload limits": a single PUT and a single part.
MAX_UPLOAD = 5 << 30
_CHUNKED_MODES = {
    PayloadMode.STREAMING_SIGNED: Mode.SIGNED,
    PayloadMode.STREAMING_SIGNED_TRAILER: Mode.SIGNED_TRAILER,
    PayloadMode.STREAMING_UNSIGNED_TRAILER: Mode.UNSIGNED_TRAILER,
}

_is_number_of_parts = re.compile("[1-9][0-9]{0,4}").fullmatch

Begin = Callable[[int | None, Iterable[str]], BodyWriter]


@dataclass(slots=True)
class Promises:
    """What the head says of the body."""

    size: int | None  #: decoded; None for a chunked transfer without a length
    md5: bytes | None
    sha256: str | None  #: hex
    checksum: Checksum | None  #: x-amz-checksum-* as header
    trailer: str  #: algorithm of the checksum that comes as a trailer, or ""
    decoder: Decoder | None

    def digests(self) -> list[str]:
        """The digests to compute to see whether it is true."""
        names = []
        if self.md5 is not None:
            names.append("md5")
        if self.sha256 is not None:
            names.append("SHA256")
        if self.checksum is not None:
            names.append(self.checksum.algorithm)
        if self.trailer:
            names.append(self.trailer)
        return names

    def check(self, body_size: int, hex_of: Callable[[str], str], raw_of: Callable[[str], bytes]) -> Checksum | None:
        """All has arrived. The checksum that the client gave, if any.

        :raises S3Error: IncompleteBody, BadDigest, XAmzContentSHA256Mismatch, MalformedTrailerError.
        """
        if self.size is not None and body_size != self.size:
            raise S3Error("IncompleteBody")
        trailers = self.decoder.finish() if self.decoder is not None else {}
        if self.sha256 is not None and hex_of("SHA256") != self.sha256:
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=self.sha256,
                S3ComputedContentSHA256=hex_of("SHA256"),
            )
        if self.md5 is not None and raw_of("md5") != self.md5:
            raise S3Error("BadDigest", ExpectedDigest=self.md5.hex(), CalculatedDigest=hex_of("md5"))
        given = self.checksum
        if self.trailer:
            given = _checksum(self.trailer, trailers.get(checksums.header_name(self.trailer), ""))
        if given is not None and raw_of(given.algorithm) != given.value:
            raise S3Error("BadDigest", f"The {given.algorithm} you specified did not match the calculated checksum.")
        return given


def read_promises(request: Request, auth: Authenticated, max_size: int = MAX_UPLOAD) -> Promises:
    """Everything that the head says of the body of an upload, checked as far as it can be.

    :raises S3Error: MissingContentLength, EntityTooLarge, InvalidDigest, InvalidRequest, InvalidArgument,
        MalformedTrailerError.
    """
    promises = _read_promises(request, auth, required=True)
    algorithm = request.header(b"x-amz-sdk-checksum-algorithm")
    if algorithm is not None:
        _check_sdk_algorithm(algorithm.decode("latin-1").upper(), promises)
    if promises.size is not None and promises.size > max_size:
        raise S3Error("EntityTooLarge", ProposedSize=str(promises.size), MaxSizeAllowed=str(max_size))
    return promises


def _read_promises(request: Request, auth: Authenticated, *, required: bool, checksum_header: bool = True) -> Promises:
    """:param required: what the request asks for takes a body, which may be empty, but must be announced.

    :param checksum_header: whether an ``x-amz-checksum-*`` header speaks of the body.
    """
    header, body = request.header, request.body
    md5 = _content_md5(header(b"content-md5"))
    checksum = header_checksum(request) if checksum_header else None
    mode = _CHUNKED_MODES.get(auth.mode)
    announced = header(b"x-amz-trailer")
    if mode is None:
        if required and not body.length and not body.chunked and header(b"content-length") is None:
            raise S3Error("MissingContentLength")
        if announced:  # nothing but aws-chunked has trailers that are looked at
            raise S3Error("MalformedTrailerError")
        return Promises(body.length, md5, auth.payload_sha256, checksum, "", None)
    names: tuple[bytes, ...] = ()
    if announced is not None:
        names = announced_trailers(announced.decode("latin-1"), checksum_in_headers=checksum is not None)
    trailer = checksums.algorithm_of_header(names[0].decode()) or "" if names else ""
    size = _decoded_length(header(b"x-amz-decoded-content-length"))
    return Promises(size, md5, auth.payload_sha256, checksum, trailer, Decoder(mode, size, auth.chunk_signer, names))


async def receive(
    request: Request,
    auth: Authenticated,
    begin: Begin,
    footer: Owner,
    max_size: int = MAX_UPLOAD,
) -> tuple[WrittenBody, Checksum | None]:
    """Store the body of a PUT.

    :param begin: (size or None, digests) -> the writer that it goes to; called before ``100 Continue`` is sent. The
        writer is ended here.
    :param footer: as for ``IBlobWriter.commit``.
    :returns: the body, and the checksum that the client gave for it.
    :raises S3Error: and then nothing of it is left.
    """
    promises = read_promises(request, auth, max_size)
    writer = begin(promises.size, promises.digests())
    try:
        pipe = _Pipe(writer, promises.decoder, max_size)
        piece = request.body.take()
        waiting = request.body.deliver(pipe) if piece is None else pipe.write(piece)
        if waiting is not None:
            await waiting
        body = await writer.finish(footer)
    except BaseException:
        await writer.abort()
        raise
    try:
        return body, promises.check(body.size, body.digests.hex, body.digests.raw)
    except BaseException:
        await writer.discard(body)
        raise


class SmallUpload:
    """The body of a PUT that goes into the index, so that it is taken in one piece and nothing is waited for then."""

    __slots__ = ("_limit", "_promises", "_writer")

    def __init__(self, promises: Promises, writer: BodyWriter, limit: int) -> None:
        self._promises = promises
        self._writer = writer
        self._limit = limit

    def finish(self, piece: bytes) -> tuple[WrittenBody, Checksum | None]:
        """All of it has come. Returns, and raises, what :func:`receive` does."""
        _Pipe(self._writer, self._promises.decoder, self._limit).write(piece)
        body = self._writer.finish_inline()
        return body, self._promises.check(body.size, body.digests.hex, body.digests.raw)


def begin_small(request: Request, auth: Authenticated, begin: Begin, limit: int) -> SmallUpload | None:
    """What :func:`receive` does before it reads, of a body that takes at most ``limit`` bytes on the wire.

    None where it is said to be longer without its coding.

    :param limit: bytes up to which a body goes into the index.
    :raises S3Error: as :func:`receive`.
    """
    promises = read_promises(request, auth)
    if promises.size is None or promises.size > limit:
        return None
    return SmallUpload(promises, begin(promises.size, promises.digests()), limit)


async def read_document(
    request: Request,
    auth: Authenticated,
    limit: int,
    *,
    required: bool = False,
    digest_required: bool = False,
    of_body: bool = True,
) -> bytes:
    """The whole body of a request that carries a document (or should carry nothing), checked like any other body.

    :param limit: bytes; a longer one is MalformedXML.
    :param required: nothing can be done without a document, so that its length must be announced.
    :param digest_required: it must come with Content-MD5 or x-amz-checksum-* (DeleteObjects).
    :param of_body: whether an ``x-amz-checksum-*`` header speaks of the body.
    """
    promises = _read_promises(request, auth, required=required, checksum_header=of_body)
    if promises.size is not None and promises.size > limit:
        raise S3Error("MalformedXML")
    if digest_required and promises.md5 is None and promises.checksum is None and not promises.trailer:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    # Coded as chunks a document takes more room: heads, signatures, trailers.
    data = await request.body.read(limit if promises.decoder is None else 2 * limit + 65536)
    if promises.decoder is not None:
        data = b"".join(promises.decoder.feed(data))
    digests = checksums.DigestSet(promises.digests())
    digests.update(data)
    promises.check(len(data), digests.hex, digests.raw)
    return data


def header_checksum(request: Request, *, composite: bool = False) -> Checksum | None:
    """The one ``x-amz-checksum-*`` header with a value.

    :param composite: whether ``value-N`` may be given (CompleteMultipartUpload); then the checksum has N parts.
    :raises S3Error: InvalidRequest for two of them, an unknown algorithm or a value that is none.
    """
    given: list[tuple[str, str]] = []
    for name, value in request.raw_headers:
        if name.startswith(b"x-amz-checksum-") and name not in _NOT_VALUES:
            algorithm = checksums.algorithm_of_header(name.decode("latin-1"))
            if algorithm is None:
                raise S3Error("InvalidRequest", "The checksum algorithm that you specified is not supported.")
            given.append((algorithm, value.decode("latin-1")))
    if len(given) > 1:
        raise S3Error(
            "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    found = None
    if given:
        found = _composite_checksum(*given[0]) if composite else _checksum(*given[0])
    wanted = request.header(b"x-amz-sdk-checksum-algorithm")
    if wanted is not None and wanted.decode("latin-1").upper() not in checksums.AWS_ALGORITHMS:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    return found


def _check_sdk_algorithm(algorithm: str, promises: Promises) -> None:
    """What an SDK says that it computed must be there: its user believes the bytes protected by it."""
    given = promises.trailer if promises.checksum is None else promises.checksum.algorithm
    if not given:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )
    if given != algorithm:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")


_NOT_VALUES = frozenset({b"x-amz-checksum-algorithm", b"x-amz-checksum-mode", b"x-amz-checksum-type"})


def _checksum(algorithm: str, text: str, parts: int = 0) -> Checksum:
    try:
        return Checksum(algorithm, checksums.parse_value(algorithm, text), parts)
    except ValueError:
        raise _invalid_checksum(algorithm) from None


def _composite_checksum(algorithm: str, text: str) -> Checksum:
    value, dash, parts = text.partition("-")
    if dash and not _is_number_of_parts(parts):
        raise _invalid_checksum(algorithm)
    return _checksum(algorithm, value, int(parts or 0))


def _invalid_checksum(algorithm: str) -> S3Error:
    return S3Error("InvalidRequest", f"Value for {checksums.header_name(algorithm)} header is invalid.")


def _content_md5(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return digest


def _decoded_length(value: bytes | None) -> int:
    if value is None:
        raise S3Error("MissingContentLength")
    if not (value.isdigit() and len(value) <= 19):
        raise S3Error("InvalidArgument", ArgumentName="x-amz-decoded-content-length")
    return int(value)


class _Pipe:
    """From the connection to the writer, through the decoder if there is one."""

    __slots__ = ("_decoder", "_left", "_writer")

    def __init__(self, writer: BodyWriter, decoder: Decoder | None, max_size: int) -> None:
        self._writer = writer
        self._decoder = decoder
        self._left = max_size

    def write(self, data: bytes) -> Deferred[None] | None:
        if self._decoder is None:
            return self._pass_on(data)
        pieces = self._decoder.feed(data)
        for position, piece in enumerate(pieces):
            wait = self._pass_on(piece)
            if wait is not None and position + 1 < len(pieces):
                return Deferred.fromCoroutine(self._rest(wait, pieces[position + 1 :]))
        return wait if pieces else None

    def _pass_on(self, data: bytes | memoryview) -> Deferred[None] | None:
        self._left -= len(data)
        if self._left < 0:
            raise S3Error("EntityTooLarge", close=True)
        return self._writer.write(data)

    async def _rest(self, wait: Deferred[None], pieces: list[bytes | memoryview]) -> None:
        await wait
        for piece in pieces:
            more = self._pass_on(piece)
            if more is not None:
                await more
