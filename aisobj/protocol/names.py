"""Names: what a bucket and a key may be called, and where in a request they are.

Bucket names: AWS "General purpose bucket naming rules" (``userguide/bucketnamingrules.html``). Keys: AWS "Naming Amazon
S3 objects" (``userguide/object-keys.html``): a key is the exact bytes the client named, and never a path.
"""

from __future__ import annotations

import functools
import re
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aisobj.errors import S3Error

MAX_KEY_BYTES = 1024

# Labels of letters, digits and inner hyphens with dots between: AWS also refuses ".-" and "-." (s3-tests).
_BUCKET = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_SLASH = re.compile(rb"/|%2[Ff]")
_LEADING_SLASH = re.compile(rb"\A(?:/|%2[Ff])")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def check_bucket_name(name: str) -> None:
    """:raises S3Error: InvalidBucketName."""
    if not _is_bucket_name(name):
        raise S3Error("InvalidBucketName", BucketName=name)


@lru_cache(maxsize=1024)  # every request asks, of few names
def _is_bucket_name(name: str) -> bool:
    return (
        _BUCKET.fullmatch(name) is not None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
        and _IPV4.fullmatch(name) is None
    )


def check_key(key: bytes) -> None:
    """
    :param key: decoded.
    :raises S3Error: KeyTooLongError beyond 1,024 bytes, InvalidURI if it is not UTF-8, InvalidArgument if it is empty
        or has a NUL (which is ours: the index ends a key with one).
    """
    if len(key) > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", Size=str(len(key)), MaxSizeAllowed=str(MAX_KEY_BYTES))
    if not key:
        raise S3Error("InvalidArgument", "A key must be specified.")
    if 0 in key:
        raise S3Error("InvalidArgument", "Object keys must not contain a NUL character.")
    if not key.isascii():
        try:
            key.decode("utf-8")
        except UnicodeDecodeError:
            raise S3Error("InvalidURI") from None


def decode_path(raw: bytes) -> bytes:
    """Undo percent-encoding, once and strictly; ``+`` stands for itself in a path.

    :raises S3Error: InvalidURI for a ``%`` without two hex digits.
    """
    if b"%" not in raw:
        return raw
    if _BAD_ESCAPE.search(raw) is not None:
        raise S3Error("InvalidURI")
    return unquote_to_bytes(raw)


@functools.lru_cache(maxsize=1024)  # every request names one of few buckets; what is refused is not kept
def _decode_bucket(raw: bytes) -> str:
    bucket = decode_path(raw).decode("utf-8", "replace")
    check_bucket_name(bucket)
    return bucket


def split_target(raw_path: bytes, prefix: bytes = b"") -> tuple[str | None, bytes | None]:
    """Bucket and key of a path-style request.

    :param raw_path: the path of the request target as it was sent, still percent-encoded, without the query.
    :param prefix: ``b"/s3"``, or empty at the root.
    :returns: ``(None, None)`` for the service, ``(bucket, None)`` for a bucket, with or without a slash after it, else
        ``(bucket, key)``; both checked. The key is all that follows the slash after the bucket, decoded, nothing merged
        or dropped.
    :raises S3Error: InvalidURI, InvalidBucketName, and as :func:`check_key`.
    """
    if not raw_path.startswith(prefix):
        raise S3Error("InvalidURI")
    path = raw_path[len(prefix) :]
    if path in (b"", b"/"):
        return None, None
    if not path.startswith(b"/"):
        raise S3Error("InvalidURI")
    raw_bucket, _, raw_key = path[1:].partition(b"/")
    bucket = _decode_bucket(raw_bucket)
    if not raw_key:
        return bucket, None
    key = decode_path(raw_key)
    check_key(key)
    return bucket, key


def parse_copy_source(value: str | bytes) -> tuple[str, bytes, str | None]:
    """``x-amz-copy-source``: ``[/]bucket/key[?versionId=id]``, where bucket and key are encoded as in a form.

    A plus is a blank here, unlike in the path of a request: AWS decodes it so (aws/aws-sdk-js#1821), and s5cmd, which
    uses Go's QueryEscape, writes blanks in no other way. A plus in a key is ``%2B``, as the SDKs write it.

    Many programs encode the slash between the two as well (AWS's own examples in Java and Go did), and AWS takes it.

    :param value: the header; as ``str``, decoded from UTF-8.
    :returns: bucket, key and version id, bucket and key checked.
    :raises S3Error: InvalidArgument.
    """
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    path, question, version = raw.rpartition(b"?versionId=")
    if not question:
        path, version_id = raw, None
    elif version and version.isascii():
        version_id = version.decode("ascii")
    else:
        _bad_copy_source("Version id cannot be the empty string" if not version else "Invalid version id specified")
    raw_bucket, *rest = _SLASH.split(_LEADING_SLASH.sub(b"", path), 1)
    raw_key = rest[0] if rest else b""
    if not raw_key:
        _bad_copy_source("Invalid copy source object key" if raw_bucket else "Invalid copy source bucket name")
    try:
        bucket = _decode_bucket(raw_bucket)
    except S3Error:
        _bad_copy_source("Invalid copy source bucket name")
    try:
        key = decode_path(raw_key.replace(b"+", b" "))
        check_key(key)
    except S3Error:
        _bad_copy_source("Invalid copy source object key")
    return bucket, key, version_id


def _bad_copy_source(message: str) -> NoReturn:
    raise S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source")


def uri_encode(key: bytes, safe: str = "/") -> str:
    """Percent-encode a key, as for ``encoding-type=url`` in a listing.

    The blank becomes ``%20`` (s3-tests ``test_bucket_list_encoding_basic``), which clients read rightly whether they
    decode a path or a form; AWS's ``+`` only the latter can. ``/`` stays.
    """
    return quote_from_bytes(key, safe)
