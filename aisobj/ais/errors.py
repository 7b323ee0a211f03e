"""AIStore's error document, and what each failure is called in it.

The document is JSON (``cmn/err.go``, ``ErrHTTP``); an answer to HEAD has no body and carries it in ``Hdr-Error``
(``api/apc/const.go``). Clients tell errors apart by the *text*: the Python SDK looks for ``ais://BUCKET`` (a bucket is
meant) or ``ais://BUCKET/`` (an object is), so these texts are part of the interface.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aisobj.errors import S3Error
from aisobj.web.request import Request

#: The one node of this "cluster": proxy and target at once.
NODE_ID = "ais-s3"

#: What the verifier says of a request without a signature, and of another kind of authorization.
_NOT_LET_IN = frozenset({"AccessDenied", "InvalidArgument"})

JSON = (b"Content-Type", b"application/json")


class Described(NamedTuple):
    """An error in AIStore's terms."""

    status: int
    tcode: str  #: the Go type's name
    message: str


def bucket_uri(name: str) -> str:
    """``ais://BUCKET``."""
    return f"ais://{name}"


def object_uri(bucket: str, key: bytes) -> str:
    """``ais://BUCKET/KEY``."""
    return f"ais://{bucket}/{key.decode('utf-8', 'replace')}"


def not_implemented(what: str) -> S3Error:
    """501: AIStore has it, this server does not."""
    return S3Error("NotImplemented", f"{what} is not supported")


def describe(error: S3Error, request: Request, *, unsigned: bool = False) -> Described:
    """
    :param unsigned: a signature is needed and the request has none, or one of AIStore's tokens: 401 instead of 403,
        as AIStore without a token.
    """
    if unsigned and error.code in _NOT_LET_IN:
        return Described(401, "ErrInvalidToken", "access denied: the request is not signed")
    known = _KNOWN.get(error.code)
    if known is None:
        return Described(error.status, f"Err{error.code}", error.message)
    tcode, text = known
    return Described(error.status, tcode, text(error, request))


def respond(request: Request, error: S3Error, *, unsigned: bool = False) -> None:
    """Answer with the error; no head has been sent."""
    described = describe(error, request, unsigned=unsigned)
    document = json.dumps(
        {
            "tcode": described.tcode,
            "message": described.message,
            "method": request.method.decode("latin-1"),
            "url_path": request.path.decode("latin-1"),
            "remote_addr": "",
            "caller": "",
            "node": NODE_ID,
            "status": described.status,
        }
    ).encode("ascii")
    headers = [JSON, *((name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items())]
    if request.method == b"HEAD":
        headers.append((b"Hdr-Error", document))
    if error.close:
        request.keep_alive = False
    request.respond(described.status, headers, document)


def _no_such_bucket(error: S3Error, request: Request) -> str:
    name = error.detail.get("BucketName")
    return f'bucket "{bucket_uri(name)}" does not exist' if name else error.message


def _bucket_exists(error: S3Error, request: Request) -> str:
    return f'bucket "{bucket_uri(error.detail.get("BucketName", ""))}" already exists'


def _bad_bucket_name(error: S3Error, request: Request) -> str:
    name = error.detail.get("BucketName", "")
    if not name:
        return "bucket name is missing"
    return (
        f"bucket name {json.dumps(name)} is invalid: may only contain lower-case letters, numbers, dashes (-), "
        "and dots (.), and must be 3 to 63 characters long"
    )


def _no_such_key(error: S3Error, request: Request) -> str:
    return f"t[{NODE_ID}]: {object_uri(request.bucket or '', request.key)} does not exist"


def _denied(error: S3Error, request: Request) -> str:
    return f"access denied: {error.message}"


_KNOWN: Mapping[str, tuple[str, Callable[[S3Error, Request], str]]] = {
    "NoSuchBucket": ("ErrBckNotFound", _no_such_bucket),
    "BucketAlreadyExists": ("ErrBckAlreadyExists", _bucket_exists),
    "BucketAlreadyOwnedByYou": ("ErrBckAlreadyExists", _bucket_exists),
    "InvalidBucketName": ("ErrInvalidBucketName", _bad_bucket_name),
    "NoSuchKey": ("ErrNotFound", _no_such_key),
    "AccessDenied": ("ErrAccessDenied", _denied),
    "InvalidAccessKeyId": ("ErrAccessDenied", _denied),
    "SignatureDoesNotMatch": ("ErrAccessDenied", _denied),
    "RequestTimeTooSkewed": ("ErrAccessDenied", _denied),
}
