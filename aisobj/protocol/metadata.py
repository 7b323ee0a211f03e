"""An object's own headers: from the request to the record, and back into responses.

Header values are bytes. They are kept as text of the same code points (latin-1, as PEP 3333 does), so whatever a client
sent comes back byte for byte: raw UTF-8 (s3cmd, curl), raw latin-1, or RFC 2047 words, which we do not interpret. AWS
encodes non-ASCII values as RFC 2047 on the way out, which no client undoes; MinIO and Ceph return the bytes, as here.
Names are lower-case, ``x-amz-meta-`` included.

Source: AWS, "Working with object metadata" and PutObject; RFC 9110 §5.5 (what a value may hold).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aisobj.errors import S3Error
from aisobj.protocol.query import Query

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
MAX_USER_METADATA = 2048

_META = b"x-amz-meta-"

#: What AWS stores besides user metadata, in the spelling of the response.
_NAMES: Mapping[str, bytes] = {
    "cache-control": b"Cache-Control",
    "content-disposition": b"Content-Disposition",
    "content-encoding": b"Content-Encoding",
    "content-language": b"Content-Language",
    "expires": b"Expires",
}
_STORED = frozenset(name.encode() for name in _NAMES)
#: Of these a second one is the rest of a list (RFC 9110 §5.3); of the others the first one counts.
_LISTS = frozenset({b"cache-control", b"content-encoding", b"content-language"})

#: RFC 9110 §5.1: what a name is made of.
_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
#: RFC 9110 §5.5: no control character but tab.
_forbidden = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def parse_object_headers(raw_headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, dict[str, str]]:
    """``Content-Type`` ("" if absent) and the other headers to store, from all headers of a request, in any case.

    For a presigned request add ``Query.hoisted()``. Repeated ``x-amz-meta-*`` and list headers are joined by a comma.
    ``aws-chunked`` is dropped from ``Content-Encoding``: it is how the body came, not what the object is.

    Raises MetadataTooLarge if names (without ``x-amz-meta-``) and values of user metadata exceed 2 KiB together,
    InvalidArgument for a control character in a value, or a name that no header can have.
    """
    content_type = b""
    found: dict[bytes, bytes] = {}
    for raw_name, value in raw_headers:
        name = raw_name.lower()
        if name.startswith(_META) or name in _STORED:
            if name not in found:
                if not _is_token(name):  # what comes from a query may be anything
                    raise S3Error("InvalidArgument", "A header's name has a character that none can have.")
                found[name] = value
            elif name.startswith(_META) or name in _LISTS:
                found[name] += b"," + value
        elif name == b"content-type":
            content_type = content_type or value
    if not found:
        return _text(b"content-type", content_type), {}
    if b"content-encoding" in found:
        found[b"content-encoding"] = _without_aws_chunked(found[b"content-encoding"])
    _check_size(found)
    headers = {
        name.decode("latin-1"): _text(name, value) for name, value in found.items() if value or name.startswith(_META)
    }
    return _text(b"content-type", content_type), headers


def response_headers(
    content_type: str, headers: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> list[tuple[bytes, bytes]]:
    """The object's own headers for a GET or HEAD.

    :param content_type: as stored; "" stands for ``binary/octet-stream``.
    :param headers: as stored, those of ``X<version id>`` included.
    :param overrides: of :func:`response_overrides`; they replace what is stored.
    """
    if overrides:
        content_type = overrides.get("content-type", content_type)
        headers = {**headers, **{name: value for name, value in overrides.items() if name in _NAMES}}
    fields = [(b"Content-Type", (content_type or DEFAULT_CONTENT_TYPE).encode("latin-1"))]
    for name, value in headers.items():
        fields.append((_NAMES.get(name) or name.encode("latin-1"), value.encode("latin-1")))
    return fields


#: What a cache needs again with a 304: how long it may keep what it has (RFC 9110 §15.4.5).
_FRESHNESS = frozenset({b"Cache-Control", b"Expires"})


def freshness_headers(headers: Mapping[str, str], overrides: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Those of :func:`response_headers` that a 304 repeats: a copy onto itself changes them, and not the ETag."""
    return [field for field in response_headers("", headers, overrides) if field[0] in _FRESHNESS]


_OVERRIDES = {f"response-{name}": name for name in (*_NAMES, "content-type")}


def response_overrides(query: Query, *, signed: bool = True) -> dict[str, str]:
    """Lower-case header name -> value that a ``response-*`` parameter wants instead of what is stored.

    Empty values override nothing. A value is text, UTF-8 in the query, and sent in ISO-8859-1, as AWS does and HTTP
    clients read headers. Raises InvalidArgument for what that has not, and for control characters (CR LF would begin a
    header of the client's choice), InvalidRequest if the request is not ``signed``: AWS does not let strangers choose
    headers.
    """
    if not query:
        return {}
    overrides = {}
    for parameter, name in _OVERRIDES.items():
        value = query.get_bytes(parameter)
        if value is None:
            continue
        if not signed:
            raise S3Error(
                "InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests."
            )
        if value:
            overrides[name] = _text(parameter.encode(), _as_latin_1(parameter, value))
    return overrides


def _as_latin_1(parameter: str, value: bytes) -> bytes:
    """The same text; the query has made sure that it is UTF-8."""
    try:
        return value.decode().encode("latin-1")
    except UnicodeEncodeError:
        raise S3Error(
            "InvalidArgument",
            "Header value cannot be represented using ISO-8859-1.",
            ArgumentName=parameter,
            ArgumentValue=value.decode()[:256],
        ) from None


def _text(name: bytes, value: bytes) -> str:
    if _forbidden(value):
        raise S3Error(
            "InvalidArgument", "Header values must not contain control characters.", ArgumentName=name.decode("latin-1")
        )
    return value.decode("latin-1")


def _without_aws_chunked(value: bytes) -> bytes:
    codings = [coding.strip() for coding in value.split(b",")]
    kept = [coding for coding in codings if coding.lower() != b"aws-chunked"]
    return value if len(kept) == len(codings) else b",".join(kept)


def _check_size(found: Mapping[bytes, bytes]) -> None:
    size = sum(len(name) - len(_META) + len(value) for name, value in found.items() if name.startswith(_META))
    if size > MAX_USER_METADATA:
        raise S3Error("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(MAX_USER_METADATA))
