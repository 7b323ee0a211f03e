"""Verifying AWS Signature Version 4: in the ``Authorization`` header, and in the query (a presigned URL).

Sources: AWS "Authenticating Requests: Using the Authorization Header"
(``API/sigv4-auth-using-authorization-header.html``) and "Using Query Parameters"
(``API/sigv4-query-string-auth.html``); texts of errors as AWS answers.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn

import msgspec

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import (
    SHA256_HEADER,
    Authenticated,
    ChunkSigner,
    Mechanism,
    PayloadMode,
    SignedRequest,
    check_allowed,
    check_skew,
    find_user,
    no_date,
    parse_amz_date,
    parse_date_header,
    payload_mode,
    server_time,
    text,
)

_EMPTY_SHA256 = signing.EMPTY_SHA256.encode("ascii")


class Malformed(NamedTuple):
    """What a mechanism answers to a part of it that cannot be right."""

    code: str
    prefix: str


_HEADER = Malformed("AuthorizationHeaderMalformed", "The authorization header is malformed; ")


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a request says about its own signature."""

    access_key: bytes
    date: bytes  #: of the scope: ``20130524``
    region: bytes
    scope: bytes  #: ``20130524/us-east-1/s3/aws4_request``
    amz_date: bytes  #: ``20130524T000000Z``
    signed_headers: bytes
    signature: bytes
    payload: bytes  #: the last line of the canonical request


def verify_header(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    pairs: Sequence[signing.Pair],
    credentials: Credentials,
    now: float,
    *,
    region: str | None,
    prefix: bytes,
    require_sha_header: bool,
) -> Authenticated:
    """A request with ``Authorization: AWS4-HMAC-SHA256 ...``; parameters and errors as
    :func:`aisobj.protocol.authentication.verify` has them.

    :param fields: from :func:`aisobj.protocol.signing.merge_headers`.
    :param pairs: from :func:`aisobj.signing.canonical_pairs`.
    """
    parts = _split_authorization(fields[b"authorization"])
    access_key, date, claimed_region, scope = split_credential(parts[b"Credential"], region, _HEADER)
    claimed, amz_date = _header_date(fields)
    check_scope_date(date, amz_date, _HEADER)
    check_skew(claimed, amz_date, now)
    payload = fields.get(SHA256_HEADER)
    if payload is None:
        if require_sha_header:
            raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        payload = _EMPTY_SHA256
    claim = Claim(
        access_key, date, claimed_region, scope, amz_date, parts[b"SignedHeaders"], parts[b"Signature"], payload
    )
    mode = payload_mode(payload)
    token = fields.get(b"x-amz-security-token")
    query = signing.canonical_query(pairs)
    return verify_claim(request, fields, query, claim, credentials, token, prefix, Mechanism.V4_HEADER, mode)


def verify_claim(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    query: bytes,
    claim: Claim,
    credentials: Credentials,
    token: bytes | None,
    prefix: bytes,
    mechanism: Mechanism,
    mode: PayloadMode,
    only_signature: bool = False,
) -> Authenticated:
    """Check the signature itself, which both mechanisms have in common.

    :param query: from :func:`aisobj.signing.canonical_query`, without the signature.
    :raises S3Error: whatever is wrong.
    """
    principal, secret = find_user(credentials, claim.access_key, token)
    names, named = _signed_headers(claim.signed_headers)
    _check_signed(fields, named)
    key = signing.signing_key(secret, claim.date, claim.region)
    _check_signature(request, fields, names, query, claim, key, prefix)
    check_allowed(mechanism, mode)
    chunk_signer = None
    if mode is PayloadMode.STREAMING_SIGNED or mode is PayloadMode.STREAMING_SIGNED_TRAILER:
        chunk_signer = ChunkSigner(key, claim.amz_date, claim.scope, claim.signature)
    payload_sha256 = claim.payload.decode("ascii").lower() if mode is PayloadMode.SIGNED else None
    return Authenticated(
        principal, mode, payload_sha256, chunk_signer, 4, mechanism is Mechanism.V4_QUERY, only_signature
    )


@lru_cache(maxsize=64)  # a client signs the same headers again and again
def _signed_headers(value: bytes) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """The names in ``SignedHeaders``, in order and as a set."""
    names = tuple(value.split(b";"))
    return names, frozenset(names)


def _check_signed(fields: Mapping[bytes, bytes], signed: frozenset[bytes]) -> None:
    """``host`` and every ``x-amz-*`` must be signed: else who has a presigned URL could add what it does not grant.

    ``x-amz-content-sha256`` need not be named (AWS does not ask for it either): it is the last line that is signed.

    :raises S3Error: AccessDenied.
    """
    if b"host" in signed and signed.issuperset(fields):
        return
    missing = [name for name in fields if name not in signed and name.startswith(b"x-amz-") and name != SHA256_HEADER]
    if b"host" not in signed:
        missing.append(b"host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(text(name) for name in missing),
        )


def _check_signature(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    names: Sequence[bytes],
    query: bytes,
    claim: Claim,
    key: bytes,
    prefix: bytes,
) -> None:
    """:raises S3Error: SignatureDoesNotMatch, with what we would have signed."""
    # A header that is named but not there counts as an empty one: HTTP libraries drop those.
    lines = [name + b":" + signing.canonical_value(fields.get(name, b"")) for name in names]
    path = signing.canonical_path(request.path)
    method, signed_headers, payload = request.method, claim.signed_headers, claim.payload
    on_wire = signing.canonical_request(method, path, query, lines, signed_headers, payload)
    if _is_signed(on_wire, claim, key):
        return
    where = names.index(b"host")
    for host, other_path in _other_forms(lines[where].removeprefix(b"host:"), path, prefix):
        lines[where] = b"host:" + host
        if _is_signed(signing.canonical_request(method, other_path, query, lines, signed_headers, payload), claim, key):
            return
    raise S3Error(
        "SignatureDoesNotMatch",
        AWSAccessKeyId=text(claim.access_key),
        StringToSign=text(signing.string_to_sign(claim.amz_date, claim.scope, on_wire)),
        SignatureProvided=text(claim.signature),
        CanonicalRequest=text(on_wire),
    )


def _is_signed(canonical: bytes, claim: Claim, key: bytes) -> bool:
    to_sign = signing.string_to_sign(claim.amz_date, claim.scope, canonical)
    return hmac.compare_digest(signing.sign(key, to_sign), claim.signature)


def _other_forms(host: bytes, path: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The Host and URI that a client may have signed instead of those on the wire: what clients make of an endpoint
    with a path.

    None of them can be another request's wire form: a Host has no slash, and the tree answers ``/BKT/KEY`` as it
    answers ``/s3/BKT/KEY``.
    """
    if b"%2F" in path:
        yield host, path.replace(b"%2F", b"/")  # AWS's UriEncode of a key
    if path != prefix and not path.startswith(prefix + b"/"):
        return
    rest = path[len(prefix) :] or b"/"
    yield host, rest  # s3fs-fuse
    yield host + prefix, rest  # s3cmd, host_bucket = HOST:PORT/s3
    bucket, _, key = rest[1:].partition(b"/")
    if bucket:
        yield host + prefix + b"/" + bucket, b"/" + key  # s3cmd, host_bucket = HOST:PORT/s3/%(bucket)s


def _header_date(fields: Mapping[bytes, bytes]) -> tuple[int, bytes]:
    """Seconds since the epoch, and the same as ``20130524T000000Z``: from ``x-amz-date``, else from ``Date``.

    :raises S3Error: AccessDenied if there is none, or it cannot be read.
    """
    amz_date = fields.get(b"x-amz-date")
    if amz_date is not None:
        claimed = parse_amz_date(amz_date)
    else:
        amz_date = fields.get(b"date", b"")
        claimed = parse_amz_date(amz_date)
        if claimed is None and (claimed := parse_date_header(amz_date)) is not None:
            amz_date = _format_amz_date(claimed)
    if claimed is None:
        no_date()
    return claimed, amz_date


def _split_authorization(value: bytes) -> Mapping[bytes, bytes]:
    parts = {}
    for piece in value[len(signing.ALGORITHM) :].split(b","):
        name, _, content = piece.strip().partition(b"=")
        if name in parts:
            _malformed_header(f"the authorization header has {text(name)} twice.")
        parts[name] = content
    if not (parts.get(b"Credential") and parts.get(b"SignedHeaders") and parts.get(b"Signature")):
        _malformed_header("it requires three components: Credential, SignedHeaders, and Signature.")
    return parts


@lru_cache(maxsize=256)  # the same users come again and again; what is refused is not kept
def split_credential(credential: bytes, region: str | None, malformed: Malformed) -> tuple[bytes, bytes, bytes, bytes]:
    """
    :param region: the only one that is right, None for any.
    :return: access key, date, region, scope.
    :raises S3Error: ``malformed``.
    """
    code, prefix = malformed
    access_key, _, scope = credential.partition(b"/")
    parts = scope.split(b"/")
    if not access_key or len(parts) != 4:
        expected = "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"
        raise S3Error(code, f'{prefix}the Credential is mal-formed; expecting "{expected}".')
    date, claimed_region, service, terminator = parts
    if terminator != signing.TERMINATOR:
        raise S3Error(code, f'{prefix}incorrect terminal "{text(terminator)}". This endpoint uses "aws4_request".')
    if service != signing.SERVICE:
        raise S3Error(code, f'{prefix}incorrect service "{text(service)}". This endpoint belongs to "s3".')
    if region is not None and claimed_region != region.encode():
        problem = f"the region '{text(claimed_region)}' is wrong; expecting '{region}'"
        raise S3Error(code, prefix + problem, Region=region)
    return access_key, date, claimed_region, scope


def check_scope_date(date: bytes, amz_date: bytes, malformed: Malformed) -> None:
    """:raises S3Error: ``malformed``."""
    if amz_date[:8] != date:
        raise S3Error(
            malformed.code,
            f'{malformed.prefix}Invalid credential date "{text(date)}". This date is not the same as X-Amz-Date: '
            f'"{text(amz_date[:8])}".',
        )


def _format_amz_date(seconds: int) -> bytes:
    return server_time(seconds).replace("-", "").replace(":", "").replace(".000", "").encode("ascii")


def _malformed_header(problem: str) -> NoReturn:
    raise S3Error(_HEADER.code, _HEADER.prefix + problem)
