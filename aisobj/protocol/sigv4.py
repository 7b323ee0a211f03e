"""Verifying AWS Signature Version 4: in the ``Authorization`` header, and in the query (a presigned URL).

Sources: AWS "Authenticating Requests: Using the Authorization Header"
(``API/sigv4-auth-using-authorization-header.html``) and "Using Query Parameters"
(``API/sigv4-query-string-auth.html``); texts of errors as AWS answers.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn

import msgspec

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import (
    NO_DATE,
    SHA256_HEADER,
    SIGNED,
    SIGNED_CHUNKS,
    V4_HEADER,
    V4_QUERY,
    Authenticated,
    ChunkSigner,
    Mechanism,
    PayloadMode,
    SignedRequest,
    check_allowed,
    check_skew,
    find_user,
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
    date: tuple[str, str]  #: code and text for a date that cannot be read


#: What is wrong with a signature in the header.
HEADER = Malformed("AuthorizationHeaderMalformed", "The authorization header is malformed; ", NO_DATE)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a request says about its own signature, without what is another one each time: see :func:`read_claim`."""

    access_key: bytes
    date: bytes  #: of the scope: ``20130524``
    region: bytes
    scope: bytes  #: ``20130524/us-east-1/s3/aws4_request``
    amz_date: bytes  #: ``20130524T000000Z``
    seconds: int  #: the same, since the epoch
    signed_headers: bytes
    names: tuple[bytes, ...]  #: of ``signed_headers``, in order
    named: frozenset[bytes]  #: the same, if ``host`` is among them; empty if not, as then the claim is wrong
    to_sign: bytes  #: the string to sign, up to the hash


@lru_cache(maxsize=256)
def read_claim(
    credential: bytes, amz_date: bytes, signed_headers: bytes, region: str | None, wrong: Malformed
) -> Claim:
    """All that can be told of a claim without a clock and without knowing the user.

    Kept, since a client signs with the same words again and again (for a second in a header, with one time for many
    URLs); what is refused is not. Whether a signature was right is never kept.

    :param credential: and ``signed_headers``, decoded.
    :param region: the only one that is right, None for any.
    :raises S3Error: ``wrong``.
    """
    access_key, date, claimed_region, scope = _split_credential(credential, region, wrong)
    seconds = parse_amz_date(amz_date)
    if seconds is None:
        raise S3Error(*wrong.date)
    _check_scope_date(date, amz_date, wrong)
    names = tuple(signed_headers.split(b";"))
    named = frozenset(names) if b"host" in names else frozenset()
    to_sign = signing.string_to_sign(amz_date, scope)
    return Claim(access_key, date, claimed_region, scope, amz_date, seconds, signed_headers, names, named, to_sign)


class Signed(msgspec.Struct, frozen=True, gc=False):
    """What else a request says about its signature."""

    signature: bytes
    payload: bytes  #: the last line of the canonical request
    mode: PayloadMode  #: what that means
    token: bytes | None  #: ``x-amz-security-token``
    mechanism: Mechanism
    only_signature: bool = False  #: as :class:`aisobj.protocol.signing.Authenticated` has it


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
    credential, signed_headers, signature = _split_authorization(fields[b"authorization"])
    amz_date = fields.get(b"x-amz-date")
    if amz_date is None:
        amz_date = _date_header(fields)
    claim = read_claim(credential, amz_date, signed_headers, region, HEADER)
    check_skew(claim.seconds, amz_date, now)
    payload = fields.get(SHA256_HEADER)
    if payload is None:
        if require_sha_header:
            raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        payload = _EMPTY_SHA256
    token = fields.get(b"x-amz-security-token")
    signed = Signed(signature, payload, payload_mode(payload), token, V4_HEADER)
    return verify_claim(request, fields, signing.canonical_query(pairs), claim, signed, credentials, prefix)


def verify_claim(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    query: bytes,
    claim: Claim,
    signed: Signed,
    credentials: Credentials,
    prefix: bytes,
) -> Authenticated:
    """Check the signature itself, which both mechanisms have in common.

    :param query: from :func:`aisobj.signing.canonical_query`, without the signature.
    :raises S3Error: whatever is wrong.
    """
    principal, secret = find_user(credentials, claim.access_key, signed.token)
    if not (claim.named and claim.named.issuperset(fields)):
        _check_signed(fields, claim.names)
    key = signing.signing_key(secret, claim.date, claim.region)
    # A header that is named but not there counts as an empty one: HTTP libraries drop those. Its value is trimmed as
    # signing.canonical_value does it.
    lines = [b"%b:%b" % (name, b" ".join(fields.get(name, b"").split())) for name in claim.names]
    path = signing.canonical_path(request.path)
    canonical = signing.canonical_request(request.method, path, query, lines, claim.signed_headers, signed.payload)
    if not is_signed(canonical, claim, signed.signature, key):
        _check_other_forms(request, path, query, lines, claim, signed, key, prefix, canonical)
    mode, mechanism = signed.mode, signed.mechanism
    check_allowed(mechanism, mode)
    chunk_signer = None
    if mode in SIGNED_CHUNKS:
        chunk_signer = ChunkSigner(key, claim.amz_date, claim.scope, signed.signature)
    payload_sha256 = signed.payload.decode("ascii").lower() if mode is SIGNED else None
    return Authenticated(principal, mode, payload_sha256, chunk_signer, 4, mechanism is V4_QUERY, signed.only_signature)


def _check_signed(fields: Mapping[bytes, bytes], signed: Sequence[bytes]) -> None:
    """``host`` and every ``x-amz-*`` must be signed: else who has a presigned URL could add what it does not grant.

    ``x-amz-content-sha256`` need not be named (AWS does not ask for it either): it is the last line that is signed.

    :raises S3Error: AccessDenied.
    """
    missing = [name for name in fields if name not in signed and name.startswith(b"x-amz-") and name != SHA256_HEADER]
    if b"host" not in signed:
        missing.append(b"host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(text(name) for name in missing),
        )


def is_signed(canonical: bytes, claim: Claim, signature: bytes, key: bytes) -> bool:
    """Whether it is the signature of a canonical request. ``key``: from :func:`aisobj.signing.signing_key`."""
    to_sign = claim.to_sign + hashlib.sha256(canonical).hexdigest().encode("ascii")
    return hmac.compare_digest(signing.sign(key, to_sign), signature)


def _check_other_forms(
    request: SignedRequest,
    path: bytes,
    query: bytes,
    lines: list[bytes],
    claim: Claim,
    signed: Signed,
    key: bytes,
    prefix: bytes,
    on_wire: bytes,
) -> None:
    """
    :param on_wire: the canonical request, whose signature is another one.
    :raises S3Error: SignatureDoesNotMatch, with what we would have signed.
    """
    where = claim.names.index(b"host")
    for host, other_path in _other_forms(lines[where].removeprefix(b"host:"), path, prefix):
        lines[where] = b"host:" + host
        canonical = signing.canonical_request(
            request.method, other_path, query, lines, claim.signed_headers, signed.payload
        )
        if is_signed(canonical, claim, signed.signature, key):
            return
    raise S3Error(
        "SignatureDoesNotMatch",
        AWSAccessKeyId=text(claim.access_key),
        StringToSign=text(claim.to_sign) + hashlib.sha256(on_wire).hexdigest(),
        SignatureProvided=text(signed.signature),
        CanonicalRequest=text(on_wire),
    )


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


def _date_header(fields: Mapping[bytes, bytes]) -> bytes:
    """``Date`` as ``20130524T000000Z``, where there is no ``x-amz-date``; as it is if it cannot be read."""
    date = fields.get(b"date", b"")
    if parse_amz_date(date) is None and (seconds := parse_date_header(date)) is not None:
        return _format_amz_date(seconds)
    return date


#: As SDKs write it.
plain_authorization = re.compile(
    rb"AWS4-HMAC-SHA256 Credential=([^\s,=]++), ?SignedHeaders=([^\s,=]++), ?Signature=([^\s,=]++)"
).fullmatch


def _split_authorization(value: bytes) -> tuple[bytes, bytes, bytes]:
    """Credential, SignedHeaders, Signature."""
    match = plain_authorization(value)
    if match is not None:
        credential, signed_headers, signature = match.groups()
        return credential, signed_headers, signature
    parts = {}
    for piece in value[len(signing.ALGORITHM) :].split(b","):
        name, _, content = piece.strip().partition(b"=")
        if name in parts:
            _malformed_header(f"the authorization header has {text(name)} twice.")
        parts[name] = content
    if not (parts.get(b"Credential") and parts.get(b"SignedHeaders") and parts.get(b"Signature")):
        _malformed_header("it requires three components: Credential, SignedHeaders, and Signature.")
    return parts[b"Credential"], parts[b"SignedHeaders"], parts[b"Signature"]


def _split_credential(credential: bytes, region: str | None, malformed: Malformed) -> tuple[bytes, bytes, bytes, bytes]:
    """
    :param region: the only one that is right, None for any.
    :return: access key, date, region, scope.
    :raises S3Error: ``malformed``.
    """
    code, prefix, _ = malformed
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


def _check_scope_date(date: bytes, amz_date: bytes, malformed: Malformed) -> None:
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
    raise S3Error(HEADER.code, HEADER.prefix + problem)
