"""Who sent a request: the one entry to the signature checks. No anonymous request gets past it."""

from __future__ import annotations

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol import presigned, sigv2, sigv4
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import Authenticated, SignedRequest, merge_headers

_V4_PARAMETERS = frozenset((b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Signature"))
_V2_PARAMETERS = frozenset((b"AWSAccessKeyId", b"Signature"))


def verify(
    request: SignedRequest,
    credentials: Credentials,
    now: float,
    *,
    region: str | None = None,
    prefix: bytes = b"/s3",
    require_sha_header: bool = True,
) -> Authenticated:
    """Find the request's signature, wherever it is, and check it. The body is for the caller to check.

    :param now: seconds since the epoch.
    :param region: the only one that is accepted, None for any.
    :param prefix: the path of the S3 endpoint, which some clients do not sign; the wire's path is always tried first.
    :param require_sha_header: a signature in the header needs ``x-amz-content-sha256``, as S3 has it. Without it a
        request that lacks it has no body.
    :raises S3Error: whatever is wrong, as AWS names it; ``AccessDenied`` for a request without a signature.
    """
    fields = merge_headers(request.headers)
    if b"authorization" not in fields:
        plain = presigned.verify_plain(request, fields, credentials, now, region=region, prefix=prefix)
        if plain is not None:
            return plain
    pairs = signing.canonical_pairs(request.query)
    authorization = fields.get(b"authorization", b"").strip() or None  # an empty one is none, as with AWS
    parameters = dict(pairs)
    in_query_4 = not _V4_PARAMETERS.isdisjoint(parameters)
    in_query_2 = not _V2_PARAMETERS.isdisjoint(parameters)
    if (authorization is not None) + in_query_4 + in_query_2 > 1:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
        )
    if in_query_4:
        return presigned.verify(request, fields, pairs, credentials, now, region=region, prefix=prefix)
    if in_query_2:
        return sigv2.verify_query(request, fields, pairs, credentials, now, prefix=prefix)
    if authorization is None:
        raise S3Error("AccessDenied")
    scheme = authorization.split(None, 1)[0]
    if scheme == signing.ALGORITHM:
        return sigv4.verify_header(
            request,
            fields,
            pairs,
            credentials,
            now,
            region=region,
            prefix=prefix,
            require_sha_header=require_sha_header,
        )
    if scheme == b"AWS":
        return sigv2.verify_header(request, fields, pairs, credentials, now, prefix=prefix)
    raise S3Error("InvalidArgument", "Unsupported Authorization Type", ArgumentName="Authorization")
