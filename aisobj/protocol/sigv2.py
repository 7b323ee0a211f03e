"""Verifying AWS Signature Version 2, which old tools use, and boto for presigned URLs unless told otherwise.

Source: AWS "Signing and authenticating REST requests" (``dev/RESTAuthentication.html``). It signs the path, the
``x-amz-*`` headers and some of the query; not the host, and of the body only a Content-MD5 or ``x-amz-content-sha256``
if there is one.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import (
    NO_DATE,
    SHA256_HEADER,
    Authenticated,
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
from aisobj.signing import Pair

#: What of a query is signed: AWS's list, and whatever else chooses an S3 operation, since no one but the signer may.
SUB_RESOURCES = frozenset(
    {
        b"abac",
        b"accelerate",
        b"acl",
        b"analytics",
        b"annotation",
        b"append",
        b"attributes",
        b"cors",
        b"defaultObjectAcl",
        b"delete",
        b"encryption",
        b"intelligent-tiering",
        b"inventory",
        b"legal-hold",
        b"lifecycle",
        b"location",
        b"logging",
        b"metadataAnnotationTable",
        b"metadataConfiguration",
        b"metadataInventoryTable",
        b"metadataJournalTable",
        b"metadataTable",
        b"metrics",
        b"notification",
        b"object-lock",
        b"ownershipControls",
        b"partNumber",
        b"policy",
        b"policyStatus",
        b"publicAccessBlock",
        b"renameObject",
        b"replication",
        b"requestPayment",
        b"response-cache-control",
        b"response-content-disposition",
        b"response-content-encoding",
        b"response-content-language",
        b"response-content-type",
        b"response-expires",
        b"restore",
        b"retention",
        b"select",
        b"select-type",
        b"session",
        b"storageClass",
        b"tagging",
        b"torrent",
        b"uploadId",
        b"uploads",
        b"versionId",
        b"versioning",
        b"versions",
        b"website",
    }
)

_PARAMETERS = (b"AWSAccessKeyId", b"Signature", b"Expires")


def verify_header(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    pairs: Sequence[Pair],
    credentials: Credentials,
    now: float,
    *,
    prefix: bytes,
) -> Authenticated:
    """A request with ``Authorization: AWS KEY:SIGNATURE``; parameters as for ``sigv4.verify_header``."""
    access_key, _, signature = fields[b"authorization"][len(b"AWS") :].strip().rpartition(b":")
    if not (access_key and signature):
        raise S3Error("InvalidArgument", "AWS authorization header is invalid. Expected AwsAccessKeyId:signature")
    as_sent = fields.get(b"x-amz-date")
    date = b"" if as_sent is not None else fields.get(b"date", b"")
    if as_sent is None:
        as_sent = date
    claimed = parse_date_header(as_sent) or parse_amz_date(as_sent)
    if claimed is None:
        raise S3Error(*NO_DATE)
    check_skew(claimed, as_sent, now)
    amz = _amz_headers(fields, pairs)
    head = (request.method, fields.get(b"content-md5", b""), fields.get(b"content-type", b""), date)
    return _verify(request, head, amz, pairs, access_key, signature, credentials, prefix, Mechanism.V2_HEADER)


def verify_query(
    request: SignedRequest,
    fields: Mapping[bytes, bytes],
    pairs: Sequence[Pair],
    credentials: Credentials,
    now: float,
    *,
    prefix: bytes,
) -> Authenticated:
    """A request with ``?AWSAccessKeyId=...&Expires=...&Signature=...``; parameters as for ``sigv4.verify_query``."""
    values: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _PARAMETERS:
            if name in values:
                _missing_parameter()
            values[name] = signing.decode(value)
    if not all(map(values.get, _PARAMETERS)):
        _missing_parameter()
    expires = values[b"Expires"]
    if len(expires) > 11 or not expires.isdigit():
        raise S3Error("AccessDenied", f"Invalid date (should be seconds since epoch): {text(expires)}")
    if now > int(expires):
        expiry = server_time(int(expires))
        raise S3Error("AccessDenied", "Request has expired", Expires=expiry, ServerTime=server_time(now))
    # Who presigns moves headers into the query (botocore's HmacV1QueryAuth) and signs them all the same.
    moved = {name: _decode(value) for name, value in pairs if name in (b"content-md5", b"content-type")}
    head = (
        request.method,
        fields.get(b"content-md5", moved.get(b"content-md5", b"")),
        fields.get(b"content-type", moved.get(b"content-type", b"")),
        expires,
    )
    amz = _amz_headers(fields, pairs)
    # Base64 has no space: one is a "+" that was not escaped.
    signature = values[b"Signature"].replace(b" ", b"+")
    access_key = values[b"AWSAccessKeyId"]
    return _verify(request, head, amz, pairs, access_key, signature, credentials, prefix, Mechanism.V2_QUERY)


def _verify(
    request: SignedRequest,
    head: tuple[bytes, bytes, bytes, bytes],
    amz: Mapping[bytes, bytes],
    pairs: Sequence[Pair],
    access_key: bytes,
    signature: bytes,
    credentials: Credentials,
    prefix: bytes,
    mechanism: Mechanism,
) -> Authenticated:
    """:param head: method, Content-MD5, Content-Type and date, as in the string to sign."""
    payload = amz.get(SHA256_HEADER)
    mode = payload_mode(payload)
    principal, secret = find_user(credentials, access_key, amz.get(b"x-amz-security-token"))
    lines = [*map(bytes.strip, head), *(name + b":" + amz[name] for name in sorted(amz))]
    sub_resources = _sub_resources(pairs)
    first: bytes | None = None
    for path in _forms(request.path, prefix):
        to_sign = b"\n".join((*lines, path + sub_resources))
        expected = b64encode(hmac.digest(secret.encode(), to_sign, "sha1"))
        if hmac.compare_digest(expected, signature):
            break
        first = first or to_sign
    else:
        assert first is not None, "the wire form is always there"
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=text(access_key),
            StringToSign=text(first),
            SignatureProvided=text(signature),
        )
    check_allowed(mechanism, mode)
    payload_sha256 = payload.decode("ascii").lower() if payload is not None and mode is PayloadMode.SIGNED else None
    return Authenticated(principal, mode, payload_sha256, None, 2, mechanism is Mechanism.V2_QUERY)


def _amz_headers(fields: Mapping[bytes, bytes], pairs: Sequence[Pair]) -> dict[bytes, bytes]:
    """CanonicalizedAmzHeaders, and ``x-amz-*`` parameters of the query with them, which S3 takes for headers.

    A parameter counts once if it says what the header says; where it says something else both must be signed.
    """
    amz = {name: value.strip() for name, value in fields.items() if name.startswith(b"x-amz-")}
    for name, value in pairs:
        lower = name.lower()
        if lower.startswith(b"x-amz-"):
            decoded = _decode(value).strip()
            present = amz.get(lower, decoded)
            amz[lower] = decoded if present == decoded else present + b"," + decoded
    return amz


def _sub_resources(pairs: Sequence[Pair]) -> bytes:
    """The query's part in CanonicalizedResource; values are signed as they are before they are encoded."""
    signed = sorted([pair for pair in pairs if pair[0] in SUB_RESOURCES], key=lambda pair: pair[0])
    if not signed:
        return b""
    return b"?" + b"&".join([_sub_resource(name, value) for name, value in signed])


def _sub_resource(name: bytes, value: bytes) -> bytes:
    """AWS signs ``response-*`` decoded, whatever is in it. In any other a ``&`` could only feign a further one."""
    if not value:
        return name
    decoded = _decode(value)
    return name + b"=" + (value if b"&" in decoded and not name.startswith(b"response-") else decoded)


def _decode(value: bytes) -> bytes:
    """
    :raises S3Error: InvalidArgument for a line feed, which would make one line of what is signed look like two.
    """
    decoded = signing.decode(value)
    if b"\n" in decoded:
        raise S3Error("InvalidArgument", "A signed parameter has a line feed.")
    return decoded


def _forms(path: bytes, prefix: bytes) -> Iterator[bytes]:
    """The paths that a client may have signed: as on the wire; without the endpoint's; a bucket with a slash (boto)."""
    yield path
    below = path == prefix or path.startswith(prefix + b"/")
    rest = path[len(prefix) :] if below else path
    if below:
        yield rest or b"/"
    if rest and b"/" not in rest[1:]:
        yield rest + b"/"


def _missing_parameter() -> NoReturn:
    raise S3Error(
        "AccessDenied",
        "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, each once",
    )
