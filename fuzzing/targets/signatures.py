"""Signatures: of the header, of presigned URLs, and of what we sign ourselves and somebody changes.

An input is a request head of sorts: ``METHOD TARGET``, then ``name: value`` lines.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote_to_bytes

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol import presigned
from aisobj.protocol.authentication import verify
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import MAX_SKEW, Authenticated, SignedRequest, merge_headers
from fuzzing.target import Label, Target, attempt, chance, demand, kind, same, words

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
USERS = Credentials([("alice", ACCESS_KEY, SECRET)])
NOW = 1369353600.0  #: 20130524T000000Z, the day of AWS's examples

#: As the head parser lets them through; see ``web.head``.
_METHOD = re.compile(rb"[A-Z]{1,8}").fullmatch
_TARGET = re.compile(rb"/[!-~]*").fullmatch
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?").fullmatch


def read(data: bytes) -> SignedRequest | None:
    """None for what no head parser lets through."""
    first, *lines = data.split(b"\n")
    method, _, target = first.partition(b" ")
    if not _METHOD(method) or not _TARGET(target) or b"#" in target:
        return None
    headers = []
    for line in lines:
        name, _, value = line.partition(b": ")
        if not _NAME(name) or not _VALUE(value):
            return None
        headers.append((name, value))
    path, _, query = target.partition(b"?")
    return SignedRequest(method, path, query, headers)


def _verified(request: SignedRequest) -> tuple[Authenticated | None, S3Error | None]:
    found, error = attempt(lambda: verify(request, USERS, NOW))
    if error is not None:
        text = f"{error.message}{dict(error.detail)}{dict(error.headers)}"
        demand(SECRET not in text, "no error tells a secret", error)
        return None, error
    assert found is not None
    demand(found.principal.access_key == ACCESS_KEY, "it is the user who signed", found)
    return found, None


def signature_of(method: bytes, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], payload: str) -> bytes:
    """The signature of a presigned URL whose other parameters are all in ``query``."""
    parameters = {name: signing.decode(value) for name, value in signing.canonical_pairs(query)}
    scope = parameters[b"X-Amz-Credential"].partition(b"/")[2]
    day, region, *_ = scope.split(b"/")
    canonical = signing.canonical_request(
        method,
        signing.canonical_path(path),
        signing.canonical_query(signing.canonical_pairs(query)),
        [b"%b:%b" % header for header in headers],
        parameters[b"X-Amz-SignedHeaders"],
        payload.encode(),
    )
    to_sign = signing.string_to_sign(parameters[b"X-Amz-Date"], scope, canonical)
    return signing.sign(signing.signing_key(SECRET, day, region), to_sign)


def check_any(data: bytes) -> Label:
    """A signature that is there already, wherever it is."""
    request = read(data)
    if request is None:
        return None
    found, error = _verified(request)
    _check_fast_way(request)
    if error is not None:
        return kind(error)
    assert found is not None
    if found.signature_version == 4:
        _check_all_is_signed(request, found.presigned)
    return found.mode, found.presigned, found.signature_version


def _check_all_is_signed(request: SignedRequest, in_query: bool) -> None:
    """The header of the signature is read anew, in the plainest way."""
    if in_query:
        parts = [unquote_to_bytes(part) for part in request.query.split(b"&")]
    else:
        parts = b",".join(value for name, value in request.headers if name == b"authorization").split(b",")
    prefix = b"X-Amz-SignedHeaders=" if in_query else b"SignedHeaders="
    (names,) = [part.strip().removeprefix(prefix) for part in parts if part.strip().startswith(prefix)]
    signed = names.split(b";")
    for name, _ in request.headers:
        must = name == b"host" or (name.startswith(b"x-amz-") and name != b"x-amz-content-sha256")
        demand(not must or name in signed, "host and x-amz-* headers are signed", name, signed)


def _check_fast_way(request: SignedRequest) -> None:
    """Presigned URLs have a short way through the verifier, which must say what the long one says."""
    fields = merge_headers(request.headers)

    def short() -> Authenticated | None:
        return presigned.verify_plain(request, fields, USERS, NOW, region=None, prefix=b"/s3")

    def long() -> Authenticated:
        pairs = signing.canonical_pairs(request.query)
        return presigned.verify(request, fields, pairs, USERS, NOW, region=None, prefix=b"/s3")

    quick, error = attempt(short)
    if quick is None and error is None:
        return
    slow, other = attempt(long)
    same(_summary(quick, error), _summary(slow, other), "the short way is the long way")


def _summary(found: Authenticated | None, error: S3Error | None) -> object:
    if error is not None:
        return error.code, error.message, dict(error.detail)
    assert found is not None
    return found.principal, found.mode, found.payload_sha256, found.presigned


def check_own(data: bytes) -> Label:
    """Whatever request we sign is let in, and with anything in it changed it is not."""
    request = read(data)
    if request is None:
        return None
    headers = [field for field in request.headers if field[0] not in _SIGNERS_OWN]
    if [name for name, _ in headers].count(b"host") != 1:
        headers = [(b"host", b"h:1"), *(field for field in headers if field[0] != b"host")]
    if re.search(
        rb"(?:^|&)(?:X-Amz-(?:Algorithm|Credential|Signature)|AWSAccessKeyId|Signature)(?:=|&|$)", _plain(request.query)
    ):
        return None
    payload = (signing.UNSIGNED_PAYLOAD, signing.EMPTY_SHA256, hashlib.sha256(data).hexdigest())[chance(data, 3)]
    added = signing.sign_headers(
        request.method,
        request.path,
        request.query,
        headers,
        payload,
        access_key=ACCESS_KEY,
        secret=SECRET,
        region="us-east-1",
        now=NOW + chance(data, 2 * MAX_SKEW + 1) - MAX_SKEW,
    )
    signed = SignedRequest(request.method, request.path, request.query, [*headers, *added])
    found, error = _verified(signed)
    demand(error is None, "what we sign is let in", error)
    _check_changed(signed, data)
    assert found is not None
    return found.mode, len(headers), b"%" in request.path, b"%" in request.query, b"&" in request.query


_SIGNERS_OWN = frozenset({b"authorization", b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token", b"date"})


def _plain(query: bytes) -> bytes:
    return b"&".join(name + b"=" + value for name, value in signing.canonical_pairs(query))


def _check_changed(signed: SignedRequest, data: bytes) -> None:
    """One byte of it is another: it is refused, unless it means the same."""
    what = chance(data, 4, 1)
    method, path, query, headers = signed.method, signed.path, signed.query, list(signed.headers)
    if what == 0:
        path = _changed(path, data, b"/")
    elif what == 1:
        query = _changed(query, data)
    elif what == 2:
        at = chance(data, len(headers), 3)
        headers[at] = headers[at][0], _changed(headers[at][1], data)
    else:
        method = _changed(method, data)
    other = SignedRequest(method, path, query, headers)
    if _meaning(other) == _meaning(signed) or read(_text(other)) is None:
        return
    found, error = attempt(lambda: verify(other, USERS, NOW))
    demand(error is not None, "a changed request is refused", signed, other, found)


def _text(request: SignedRequest) -> bytes:
    target = request.path + (b"?" + request.query if request.query else b"")
    return b"\n".join([request.method + b" " + target, *(n + b": " + v for n, v in request.headers)])


def _changed(text: bytes, data: bytes, first: bytes = b"") -> bytes:
    if len(text) <= len(first):
        return text + b"x"
    at = len(first) + chance(data, len(text) - len(first), 4)
    return text[:at] + bytes([33 + chance(data, 94, 5)]) + text[at + 1 :]


def _meaning(request: SignedRequest) -> object:
    """A path with and without encoded slashes names the same key; blanks in a header count once."""
    fields = merge_headers(request.headers)
    values = {name: b" ".join(value.split()) for name, value in fields.items()}
    authorization = frozenset(
        part.strip() for part in values.pop(b"authorization", b"").removeprefix(signing.ALGORITHM).split(b",")
    ) - {b""}
    pairs = sorted(signing.canonical_pairs(request.query))
    return request.method, signing.decode(signing.canonical_path(request.path)), pairs, values, authorization


_TOKENS = words(
    r"""
    \nauthorization:\x20 \nx-amz-date:\x2020130524T000000Z \nx-amz-content-sha256:\x20 \nhost:\x20h \ndate:\x20
    AWS4-HMAC-SHA256\x20 Credential= SignedHeaders= Signature= /20130524/us-east-1/s3/aws4_request
    AKIAIOSFODNN7EXAMPLE UNSIGNED-PAYLOAD STREAMING-AWS4-HMAC-SHA256-PAYLOAD STREAMING-UNSIGNED-PAYLOAD-TRAILER
    Fri,\x2024\x20May\x202013\x2000:00:00\x20GMT Fri,\x2024\x20May\x202013\x2000:00:00\x20+0000
    X-Amz-Algorithm=AWS4-HMAC-SHA256 &X-Amz-Credential= &X-Amz-Date=20130524T000000Z &X-Amz-Expires=600
    &X-Amz-SignedHeaders=host &X-Amz-Signature= &AWSAccessKeyId= &Expires=1369353700 &Signature= AWS\x20 %2F %3B
    ; // host;x-amz-date \nx-amz-security-token:\x20a x-amz-meta- + ? & = %7e /s3/ -1
    """
)

TARGETS = [
    Target(
        "sigv4-header",
        check_any,
        "only S3 errors, without a secret; who is let in has signed host and every x-amz-* header (SigV2 too)",
        _TOKENS,
        16384,
    ),
    Target(
        "sigv4-presigned",
        check_any,
        "the same in the query; the verifier's short way says what the long one says",
        _TOKENS,
        16384,
    ),
    Target(
        "sigv4-own",
        check_own,
        "any request that we sign is let in; with one byte changed it is not, unless it means the same",
        _TOKENS,
        4096,
    ),
]
