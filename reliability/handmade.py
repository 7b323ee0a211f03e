"""Requests of S3 and of AIStore made by hand: in parts that can be changed, then signed, coded and put on the wire.

Whatever a part holds is signed and sent as it is, so that a request may be as wrong as one likes under a signature
that is right: what is behind the signature check gets to read it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import quote

from aisobj import signing

Fields = list[tuple[bytes, bytes]]

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

REGION = b"us-east-1"


class User(NamedTuple):
    access_key: str
    secret: str


class Signature(NamedTuple):
    """What the signatures inside an aws-chunked body are made with."""

    key: bytes
    amz_date: bytes
    scope: bytes
    seed: bytes


@dataclass
class Parts:
    """One request.

    :ivar payload: the words of ``x-amz-content-sha256``; "" stands for the hash of the body. The streaming ones code
        the body as aws-chunked.
    :ivar transfer: the body is sent in chunks of HTTP's.
    :ivar where: the signature: ``header``, ``query``, ``v2`` (in the header), or nowhere.
    :ivar change: what is done to the coded body, before its length is told.
    """

    method: bytes
    path: bytes
    query: bytes = b""
    headers: Fields = field(default_factory=list)
    body: bytes = b""
    payload: str = ""
    trailers: Fields = field(default_factory=list)
    transfer: bool = False
    where: str = "header"
    version: bytes = b"HTTP/1.1"
    chunk: int = 9000
    change: Callable[[bytes], bytes] | None = None

    def copy(self) -> Parts:
        return replace(self, headers=list(self.headers), trailers=list(self.trailers))


def assemble(parts: Parts, user: User | None, host: bytes) -> bytes:
    """The request as it goes on the wire, signed by ``user``; not at all if there is none."""
    parts = parts.copy()
    if not any(name.lower() == b"host" for name, _ in parts.headers):
        parts.headers.insert(0, (b"host", host))
    coded = parts.payload.startswith("STREAMING")
    if coded:
        parts.headers += [
            (b"content-encoding", b"aws-chunked"),
            (b"x-amz-decoded-content-length", b"%d" % len(parts.body)),
        ]
        parts.headers += [(b"x-amz-trailer", name) for name, _ in parts.trailers]
    signature = _sign(parts, user) if user is not None else Signature(b"", b"", b"", b"")
    body = parts.body
    if coded:
        chunks = [body[at : at + parts.chunk] for at in range(0, len(body), parts.chunk)]
        body = aws_chunked(chunks, parts.payload, signature, parts.trailers)
    if parts.transfer:
        body = http_chunked(body, parts.chunk)
    if parts.change is not None:
        body = parts.change(body)
    if parts.transfer:
        parts.headers.append((b"transfer-encoding", b"chunked"))
    elif body or parts.method in (b"PUT", b"POST", b"PATCH"):
        parts.headers.append((b"content-length", b"%d" % len(body)))
    target = parts.path + (b"?" + parts.query if parts.query else b"")
    lines = [b"%b %b %b" % (parts.method, target, parts.version), *(b"%b: %b" % pair for pair in parts.headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _sign(parts: Parts, user: User) -> Signature:
    """Adds a signature to the headers or the query."""
    now = time.time()
    if parts.where == "query":
        parts.query = _presigned(parts, user, now)
    elif parts.where == "v2":
        _sign_v2(parts, user, now)
    elif parts.where == "header":
        payload = parts.payload or hashlib.sha256(parts.body).hexdigest()
        fields = [(name.lower(), value) for name, value in parts.headers]
        added = signing.sign_headers(
            parts.method,
            parts.path,
            parts.query,
            fields,
            payload,
            access_key=user.access_key,
            secret=user.secret,
            region=REGION.decode(),
            now=now,
        )
        parts.headers += added
        values = dict(added)
        date = values[b"x-amz-date"]
        key = signing.signing_key(user.secret, date[:8], REGION)
        return Signature(key, date, _scope(date), values[b"authorization"].rpartition(b"Signature=")[2])
    return Signature(b"", b"", b"", b"")


def _scope(amz_date: bytes) -> bytes:
    return b"/".join((amz_date[:8], REGION, b"s3", b"aws4_request"))


def _presigned(parts: Parts, user: User, now: float) -> bytes:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)).encode()
    fields = sorted((name.lower(), value.strip()) for name, value in parts.headers)
    names = b";".join(name for name, _ in fields)
    values = {
        b"X-Amz-Algorithm": b"AWS4-HMAC-SHA256",
        b"X-Amz-Credential": user.access_key.encode() + b"/" + _scope(date),
        b"X-Amz-Date": date,
        b"X-Amz-Expires": b"600",
        b"X-Amz-SignedHeaders": names,
    }
    query = b"&".join(name + b"=" + quote(value, safe="").encode() for name, value in values.items())
    query = parts.query + b"&" + query if parts.query else query
    canonical = signing.canonical_request(
        parts.method,
        signing.canonical_path(parts.path),
        signing.canonical_query(signing.canonical_pairs(query)),
        [name + b":" + signing.canonical_value(value) for name, value in fields],
        names,
        UNSIGNED.encode(),
    )
    key = signing.signing_key(user.secret, date[:8], REGION)
    return query + b"&X-Amz-Signature=" + signing.sign(key, signing.string_to_sign(date, _scope(date), canonical))


def _sign_v2(parts: Parts, user: User, now: float) -> None:
    """The oldest of AWS's signatures, without sub-resources and ``x-amz-*`` headers."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
    text = parts.method + b"\n\n\n" + date + b"\n" + parts.path
    digest = hmac.digest(user.secret.encode(), text, "sha1")
    parts.headers += [
        (b"date", date),
        (b"authorization", b"AWS " + user.access_key.encode() + b":" + base64.b64encode(digest)),
    ]


def aws_chunked(
    chunks: Sequence[bytes], mode: str, signature: Signature, trailers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The body of AWS's "Transferring payload in multiple chunks", the empty chunk at the end included."""
    previous = signature.seed
    out = []

    def sign(algorithm: bytes, *hashes: bytes) -> bytes:
        lines = (algorithm, signature.amz_date, signature.scope, previous, *hashes)
        return hmac.new(signature.key, b"\n".join(lines), "sha256").hexdigest().encode()

    for chunk in (*chunks, b""):
        head = f"{len(chunk):x}".encode()
        if mode != UNSIGNED_TRAILER:
            digest = hashlib.sha256(chunk).hexdigest().encode()
            previous = sign(b"AWS4-HMAC-SHA256-PAYLOAD", signing.EMPTY_SHA256.encode(), digest)
            head += b";chunk-signature=" + previous
        out.append(head + b"\r\n" + (chunk + b"\r\n" if chunk else b""))
    for name, value in trailers:
        out.append(name + b":" + value + b"\r\n")
    if mode == STREAMING_TRAILER:
        canonical = b"".join(name + b":" + value + b"\n" for name, value in trailers)
        last = sign(b"AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(canonical).hexdigest().encode())
        out.append(b"x-amz-trailer-signature:" + last + b"\r\n")
    return b"".join(out) + b"\r\n"


def http_chunked(body: bytes, size: int) -> bytes:
    """HTTP's own chunks (RFC 9112 section 7.1)."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
