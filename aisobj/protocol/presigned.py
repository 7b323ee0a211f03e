"""Verifying AWS Signature Version 4 in the query: presigned URLs.

Source: AWS "Authenticating Requests: Using Query Parameters" (``API/sigv4-query-string-auth.html``); texts of errors as
AWS answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.model import Principal
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import (
    MAX_SKEW,
    SHA256_HEADER,
    UNSIGNED,
    V4_QUERY,
    Authenticated,
    SignedRequest,
    payload_mode,
    server_time,
)
from aisobj.protocol.sigv4 import Malformed, Signed, is_signed, read_claim, verify_claim

MAX_EXPIRES = 7 * 24 * 3600

_UNSIGNED_PAYLOAD = signing.UNSIGNED_PAYLOAD.encode("ascii")
_SIGNATURE = b"X-Amz-Signature"
_REQUIRED = (
    b"X-Amz-Algorithm",
    b"X-Amz-Credential",
    _SIGNATURE,
    b"X-Amz-Date",
    b"X-Amz-SignedHeaders",
    b"X-Amz-Expires",
)
#: Parameters that say something to the verifier, so that each may be there only once.
_PARAMETERS = (*_REQUIRED, b"X-Amz-Content-Sha256", b"X-Amz-Security-Token")

_WRONG = Malformed(
    "AuthorizationQueryParametersError",
    "Error parsing the X-Amz-Credential parameter; ",
    (
        "AuthorizationQueryParametersError",
        "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
    ),
)

#: The parameters of the signature and no others, in canonical form and in one of the orders that SDKs write: what they
#: make of a request without parameters of its own. A regular expression with a group for each of :data:`PlainQuery`.
PLAIN_QUERY = (
    rb"X-Amz-Algorithm=AWS4-HMAC-SHA256"
    rb"&X-Amz-Credential=([A-Za-z0-9_.~-]++(?>(?:%2F[A-Za-z0-9_.~-]++)*))"
    rb"&X-Amz-Date=([0-9A-Z]++)"
    rb"(?>(?:&X-Amz-Expires=([0-9-]++))?)"
    rb"&X-Amz-SignedHeaders=([A-Za-z0-9_.~-]++(?>(?:%3B[A-Za-z0-9_.~-]++)*))"
    rb"(?>(?:&X-Amz-Expires=([0-9-]++))?)"
    rb"&X-Amz-Signature=([A-Za-z0-9_.~-]++)"
)
_plain = re.compile(PLAIN_QUERY).fullmatch
#: Credential, date, Expires if it precedes the next, SignedHeaders, Expires if it follows it, signature.
PlainQuery = tuple[bytes, bytes, bytes | None, bytes, bytes | None, bytes]
_CANONICAL = (
    b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%b&X-Amz-Date=%b&X-Amz-Expires=%b&X-Amz-SignedHeaders=%b"
)
#: A whole canonical request that signs a Host only: method, path, credential, date, Expires, Host.
_BARE_REQUEST = signing.canonical_request(
    b"%b", b"%b", _CANONICAL % (b"%b", b"%b", b"%b", b"host"), (b"host:%b",), b"host", _UNSIGNED_PAYLOAD
)
_BEFORE_CREDENTIAL = len("?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=")

_decode = lru_cache(maxsize=256)(signing.decode)  # of users and lists of headers, which come again and again


def verify_plain(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    credentials: Credentials,
    now: float,
    *,
    region: str | None,
    prefix: bytes,
) -> Authenticated | None:
    """As :func:`verify`, for a query that has nothing to be split, sorted and encoded: one match instead. None for any
    other query. (Measured: 16 us instead of 28.)
    """
    match = _plain(request.query)
    if match is None:
        return None
    credential, amz_date, before, signed_headers, after, signature = match.groups()
    if (before is None) is (after is None):
        return None
    expires = before or after
    query = _CANONICAL % (credential, amz_date, expires, signed_headers)
    claim = read_claim(_decode(credential), amz_date, _decode(signed_headers), region, _WRONG)
    _check_expiry(claim.seconds, expires, now)
    payload = fields.get(SHA256_HEADER)
    mode = UNSIGNED if payload is None else payload_mode(payload)
    token = fields.get(b"x-amz-security-token")
    payload = _UNSIGNED_PAYLOAD if payload is None else payload
    signed = Signed(signature, payload, mode, token, V4_QUERY, True)
    return verify_claim(request, fields, query, claim, signed, credentials, prefix)


def without_secrets(uri: bytes, path: bytes, query: PlainQuery) -> bytes:
    """A target that is the path and a query of :data:`PLAIN_QUERY`, with ``-`` for the credential and the signature."""
    credential = len(path) + _BEFORE_CREDENTIAL
    return b"%b-%b-" % (uri[:credential], uri[credential + len(query[0]) : -len(query[-1])])


def verify_bare(
    method: bytes,
    path: bytes,
    host: bytes,
    query: PlainQuery,
    credentials: Credentials,
    now: float,
    *,
    region: str | None,
) -> Principal | None:
    """Who signed a request that has a query of :data:`PLAIN_QUERY` and, of all that can be signed, only a Host; None
    where only :func:`verify` can tell. (Measured: half of what :func:`verify_plain` takes.)

    :param path: in canonical form.
    :raises S3Error: as :func:`verify`.
    """
    credential, amz_date, before, signed_headers, after, signature = query
    expires = before or after
    if signed_headers != b"host" or expires is None or (before is None) is (after is None):
        return None
    claim = read_claim(_decode(credential), amz_date, signed_headers, region, _WRONG)
    user = credentials.lookup(claim.access_key)
    if user is None or not claim.seconds - MAX_SKEW <= now <= claim.seconds + _expires_seconds(expires):
        return None
    principal, secret = user
    canonical = _BARE_REQUEST % (method, path, credential, amz_date, expires, host)
    key = signing.signing_key(secret, claim.date, claim.region)
    return principal if is_signed(canonical, claim, signature, key) else None


def verify(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    pairs: Sequence[signing.Pair],
    credentials: Credentials,
    now: float,
    *,
    region: str | None,
    prefix: bytes,
) -> Authenticated:
    """A presigned request; parameters and errors as :func:`aisobj.protocol.authentication.verify` has them.

    :param fields: from :func:`aisobj.protocol.signing.merge_headers`.
    :param pairs: from :func:`aisobj.signing.canonical_pairs`.
    """
    values = _presigned_parameters(pairs)
    if values[b"X-Amz-Algorithm"] != signing.ALGORITHM:
        _malformed_query('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    query = signing.canonical_query([pair for pair in pairs if pair[0] != _SIGNATURE])
    claim = read_claim(
        _decode(values[b"X-Amz-Credential"]),
        values[b"X-Amz-Date"],
        _decode(values[b"X-Amz-SignedHeaders"]),
        region,
        _WRONG,
    )
    _check_expiry(claim.seconds, values[b"X-Amz-Expires"], now)
    in_header = fields.get(SHA256_HEADER)
    payload = values.get(b"X-Amz-Content-Sha256", in_header)
    if in_header is not None and payload != in_header:
        _malformed_query("X-Amz-Content-Sha256 and the header x-amz-content-sha256 must be the same")
    mode = UNSIGNED if payload is None else payload_mode(payload)
    token = values.get(b"X-Amz-Security-Token", fields.get(b"x-amz-security-token"))
    payload = _UNSIGNED_PAYLOAD if payload is None else payload
    signed = Signed(values[_SIGNATURE], payload, mode, token, V4_QUERY)
    return verify_claim(request, fields, query, claim, signed, credentials, prefix)


def _presigned_parameters(pairs: Sequence[signing.Pair]) -> dict[bytes, bytes]:
    """The query with all ``X-Amz-*`` parameters of the signature, still encoded.

    :raises S3Error: AuthorizationQueryParametersError if one is missing, empty, or there twice.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        if any(names.count(name) > 1 for name in _PARAMETERS):
            _malformed_query("Each of the parameters of query-string authentication must be given once")
    if not all(map(values.get, _REQUIRED)):
        _malformed_query(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    return values


@lru_cache(maxsize=256)  # programs ask for the same time again and again; what is refused is not kept
def _expires_seconds(expires: bytes) -> int:
    # The length first: int() takes time in the square of it.
    if len(expires) > 18 or not expires.removeprefix(b"-").isdigit():
        _malformed_query("X-Amz-Expires should be a number")
    seconds = int(expires)
    if seconds <= 0:
        _malformed_query("X-Amz-Expires must be positive")
    if seconds > MAX_EXPIRES:
        _malformed_query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            f"{MAX_EXPIRES} seconds"
        )
    return seconds


def _check_expiry(claimed: int, expires: bytes, now: float) -> None:
    """:raises S3Error: AuthorizationQueryParametersError for a wrong number, AccessDenied outside its time."""
    seconds = _expires_seconds(expires)
    if now > claimed + seconds:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            Expires=server_time(claimed + seconds),
            ServerTime=server_time(now),
        )
    if claimed - now > MAX_SKEW:
        raise S3Error("AccessDenied", "Request is not valid yet", ServerTime=server_time(now))


def _malformed_query(problem: str) -> NoReturn:
    raise S3Error(_WRONG.code, problem)
