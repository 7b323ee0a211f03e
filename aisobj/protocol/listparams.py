"""The query parameters of the LIST operations, and the continuation token.

Source: AWS API reference, ListObjects, ListObjectsV2, ListMultipartUploads, ListParts, ListBuckets.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Self

from aisobj.errors import S3Error
from aisobj.protocol.query import Query

MAX_KEYS = 1000
_MAX_BUCKETS = 10_000
_MAX_PART_NUMBER = 10_000
_MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ListParams:
    """ListObjects (version 1) or ListObjectsV2 (version 2)."""

    version: int
    prefix: bytes
    delimiter: bytes  #: b"" for none
    max_keys: int
    url_encoded: bool
    after: bytes  #: entries greater than this are listed
    marker: bytes = b""  #: version 1
    start_after: bytes = b""  #: version 2
    continuation_token: str | None = None  #: version 2, as it came
    fetch_owner: bool = False  #: version 2

    @classmethod
    def parse(cls, query: Query, version: int) -> Self:
        """Raises InvalidArgument for a bad max-keys, encoding-type, list-type or continuation-token."""
        if version == 1:
            marker = query.get_bytes("marker") or b""
            return cls(1, *_common(query, "max-keys"), after=marker, marker=marker)
        if query.get("list-type") != "2":
            raise _invalid("list-type", query.get("list-type") or "", "Invalid List Type specified in Request")
        token = query.get("continuation-token")
        start_after = query.get_bytes("start-after") or b""
        return cls(
            2,
            *_common(query, "max-keys"),
            after=start_after if token is None else decode_token(token),
            start_after=start_after,
            continuation_token=token,
            fetch_owner=query.get("fetch-owner") == "true",
        )


@dataclass(frozen=True, slots=True)
class VersionsParams:
    """ListObjectVersions."""

    keys: ListParams  #: the listing of keys that it comes to where each has one version
    key_marker: bytes = b""
    version_id_marker: str = ""  #: as it came: of the key marker there is no other version to go on with

    @classmethod
    def parse(cls, query: Query) -> Self:
        """Raises InvalidArgument for a bad max-keys or encoding-type, or a version-id-marker without a key-marker."""
        key_marker = query.get_bytes("key-marker") or b""
        version_id = query.get("version-id-marker") or ""
        if version_id and not key_marker:
            message = "A version-id marker cannot be specified without a key marker."
            raise _invalid("version-id-marker", version_id, message)
        return cls(ListParams(2, *_common(query, "max-keys"), after=key_marker), key_marker, version_id)


@dataclass(frozen=True, slots=True)
class UploadsParams:
    """ListMultipartUploads."""

    prefix: bytes
    delimiter: bytes
    max_uploads: int
    url_encoded: bool
    key_marker: bytes = b""
    upload_id_marker: bytes = b""  #: 16 bytes, or b""; only with a key marker (without one AWS ignores it)

    @classmethod
    def parse(cls, query: Query) -> Self:
        """Raises InvalidArgument for a bad max-uploads, encoding-type or upload-id-marker."""
        key_marker = query.get_bytes("key-marker") or b""
        upload_id = query.get("upload-id-marker") or ""
        return cls(
            *_common(query, "max-uploads"),
            key_marker=key_marker,
            upload_id_marker=_upload_id(upload_id) if key_marker and upload_id else b"",
        )


@dataclass(frozen=True, slots=True)
class PartsParams:
    """ListParts."""

    max_parts: int
    part_number_marker: int  #: parts with a greater number are listed
    url_encoded: bool = False

    @classmethod
    def parse(cls, query: Query) -> Self:
        """Raises InvalidArgument for a bad max-parts, part-number-marker or encoding-type."""
        marker = _integer(query, "part-number-marker", default=0)
        max_parts = min(_integer(query, "max-parts", default=MAX_KEYS), MAX_KEYS)
        return cls(max_parts, min(marker, _MAX_PART_NUMBER), _url_encoded(query))


@dataclass(frozen=True, slots=True)
class BucketsParams:
    """ListBuckets."""

    prefix: bytes
    max_buckets: int
    after: bytes  #: buckets with a greater name are listed
    asked: bool  #: whether there was any parameter: then AWS tells the region of each bucket
    region: str = ""  #: the only one whose buckets are listed, or ""

    @classmethod
    def parse(cls, query: Query) -> Self:
        """Raises InvalidArgument for max-buckets outside 1..10000 or a bad continuation-token."""
        max_buckets = _integer(query, "max-buckets", default=_MAX_BUCKETS)
        if not 1 <= max_buckets <= _MAX_BUCKETS:
            raise _invalid("max-buckets", str(max_buckets), f"max-buckets must be between 1 and {_MAX_BUCKETS}")
        token = query.get("continuation-token")
        return cls(
            prefix=query.get_bytes("prefix") or b"",
            max_buckets=max_buckets,
            after=decode_token(token) if token else b"",
            asked=any(map(query.get, ("max-buckets", "prefix", "continuation-token", "bucket-region"))),
            region=query.get("bucket-region") or "",
        )


_TOKEN_VERSION = b"\x01"


def encode_token(after: bytes) -> str:
    """The opaque ``NextContinuationToken`` that goes on after this entry. It survives restarts; it is no secret."""
    body = _TOKEN_VERSION + after
    return base64.urlsafe_b64encode(zlib.crc32(body).to_bytes(4) + body).decode("ascii").rstrip("=")


def decode_token(token: str) -> bytes:
    """The entry (valid UTF-8) in a token of :func:`encode_token`. Raises InvalidArgument for any other text."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        raw[5:].decode()
    except ValueError:
        raw = b""
    check, version, after = raw[:4], raw[4:5], raw[5:]
    # Encoding again refuses the many texts that base64 decodes to the same bytes.
    if version != _TOKEN_VERSION or check != zlib.crc32(raw[4:]).to_bytes(4) or encode_token(after) != token:
        raise _invalid("continuation-token", token, "The continuation token provided is incorrect")
    return after


def _common(query: Query, limit: str) -> tuple[bytes, bytes, int, bool]:
    """Prefix, delimiter, page size (at most 1,000, whatever was asked for), url encoding."""
    return (
        query.get_bytes("prefix") or b"",
        query.get_bytes("delimiter") or b"",
        min(_integer(query, limit, default=MAX_KEYS), MAX_KEYS),
        _url_encoded(query),
    )


def _url_encoded(query: Query) -> bool:
    encoding = query.get("encoding-type")
    if encoding and encoding != "url":
        raise _invalid("encoding-type", encoding, "Invalid Encoding Method specified in Request")
    return bool(encoding)


def _integer(query: Query, name: str, default: int) -> int:
    """A number 0 .. 2**31-1; an empty value is the default, as with AWS."""
    text = query.get(name)
    if not text:
        return default
    # Length first: int() of thousands of digits is quadratic.
    if len(text) <= 10 and text.isascii() and text.isdigit() and (value := int(text)) <= _MAX_INT:
        return value
    raise _invalid(name, text, f"Provided {name} not an integer or within integer range")


def _upload_id(text: str) -> bytes:
    try:
        upload_id = bytes.fromhex(text)
    except ValueError:
        upload_id = b""
    if len(upload_id) != 16 or upload_id.hex() != text:
        raise _invalid("upload-id-marker", text, "Invalid uploadId marker")
    return upload_id


def _invalid(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value[:256])
