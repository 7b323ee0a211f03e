"""Request headers that ask for what this server does not have: refused, never silently ignored.

An object that its owner believes encrypted, locked or tagged must not be stored otherwise. Accepted and without effect:
``x-amz-request-payer``, ``x-amz-expected-bucket-owner`` and ``x-amz-source-expected-bucket-owner`` (there are no AWS
account ids here), ``x-amz-bypass-governance-retention`` (there are no locks), ``x-amz-acl: private`` and
``bucket-owner-full-control`` (what every object is).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aisobj.errors import S3Error

_SSE = "x-amz-server-side-encryption"
_SSE_C = tuple(f"{_SSE}-customer-{name}" for name in ("algorithm", "key", "key-md5"))
_SSE_ALL = (
    _SSE,
    *_SSE_C,
    f"{_SSE}-aws-kms-key-id",
    f"{_SSE}-context",
    f"{_SSE}-bucket-key-enabled",
)
_SSE_C_SOURCE = tuple(f"x-amz-copy-source-server-side-encryption-customer-{n}" for n in ("algorithm", "key", "key-md5"))
_LOCK = tuple(
    f"x-amz-object-lock-{name}"
    for name in (
        "mode",
        "retain-until-date",
        "legal-hold",
        "event-hold",
        "event-hold-duration-days",
        "event-hold-duration-years",
    )
)
_GRANTS = tuple(f"x-amz-grant-{name}" for name in ("full-control", "read", "read-acp", "write", "write-acp"))
_NEW_OBJECT = (*_SSE_ALL, *_LOCK, *_GRANTS, "x-amz-website-redirect-location", "x-amz-tagging")

#: operation -> headers that are refused when they have a value
_REFUSED: Mapping[str, tuple[str, ...]] = {
    "CreateBucket": (*_GRANTS, "x-amz-bucket-namespace"),
    "PutBucketVersioning": ("x-amz-mfa",),
    "DeleteObjects": ("x-amz-mfa",),
    "DeleteObject": ("x-amz-mfa", "x-amz-if-match-last-modified-time", "x-amz-if-match-size"),
    "GetObject": _SSE_C,
    "HeadObject": _SSE_C,
    "PutObject": (*_NEW_OBJECT, "x-amz-write-offset-bytes"),
    "CopyObject": (*_NEW_OBJECT, *_SSE_C_SOURCE, "x-amz-object-annotation-directive"),
    "CreateMultipartUpload": _NEW_OBJECT,
    "UploadPart": _SSE_C,
    "UploadPartCopy": (*_SSE_C, *_SSE_C_SOURCE),
    "CompleteMultipartUpload": _SSE_C,
    "ListParts": _SSE_C,
}


@dataclass(frozen=True, slots=True)
class _Choice:
    """A header with a fixed set of values, of which we have some."""

    accepted: frozenset[bytes]
    known: frozenset[bytes]  #: AWS's further values: NotImplemented
    unknown_code: str  #: the error for any other value


def _choice(accepted: str, known: str, unknown_code: str = "InvalidArgument") -> _Choice:
    return _Choice(frozenset(accepted.encode().split()), frozenset(known.encode().split()), unknown_code)


_ACL = _choice(
    "private bucket-owner-full-control",
    "public-read public-read-write authenticated-read aws-exec-read bucket-owner-read log-delivery-write",
)
_STORAGE_CLASS = _choice(
    "STANDARD",
    "REDUCED_REDUNDANCY STANDARD_IA ONEZONE_IA INTELLIGENT_TIERING GLACIER DEEP_ARCHIVE OUTPOSTS GLACIER_IR SNOW "
    "EXPRESS_ONEZONE FSX_OPENZFS FSX_ONTAP",
    "InvalidStorageClass",
)
_OBJECT_CHOICES = {"x-amz-acl": _ACL, "x-amz-storage-class": _STORAGE_CLASS}

_CHOICES: Mapping[str, Mapping[str, _Choice]] = {
    "PutObject": _OBJECT_CHOICES,
    "CopyObject": _OBJECT_CHOICES,
    "CreateMultipartUpload": _OBJECT_CHOICES,
    "CreateBucket": {
        "x-amz-acl": _ACL,
        "x-amz-bucket-object-lock-enabled": _choice("false False", "true True"),
        "x-amz-object-ownership": _choice("BucketOwnerEnforced", "BucketOwnerPreferred ObjectWriter"),
    },
}


@dataclass(frozen=True, slots=True)
class Guard:
    """What one operation refuses. Names are lower-case."""

    refused: tuple[bytes, ...]
    choices: tuple[tuple[bytes, _Choice], ...]
    names: frozenset[bytes]  #: of both: a request with none of them passes

    def check(self, header: Callable[[bytes], bytes | None]) -> None:
        """Raise NotImplemented (or the choice's own code) if a header asks for what we do not have.

        An empty value asks for nothing (SDKs send ``x-amz-tagging:`` for "no tags").
        """
        for name in self.refused:
            if header(name):
                raise S3Error("NotImplemented", Header=name.decode())
        for name, choice in self.choices:
            value = header(name)
            if value and value not in choice.accepted:
                code = "NotImplemented" if value in choice.known else choice.unknown_code
                raise S3Error(code, ArgumentName=name.decode(), ArgumentValue=value.decode("latin-1"))


def guard(operation: str) -> Guard:
    """The guard of an operation, by S3's name; one that refuses nothing for others."""
    refused = tuple(name.encode() for name in _REFUSED.get(operation, ()))
    choices = tuple((name.encode(), choice) for name, choice in _CHOICES.get(operation, {}).items())
    return Guard(refused, choices, frozenset((*refused, *(name for name, _ in choices))))


#: In a query these may be there. They count as headers (``Call.text_header``, ``Call.object_headers``), but for values
#: of checksums and the algorithm that an SDK says it used for them: a checksum there is that of the empty body which
#: the SDK saw when it signed (aws-sdk-js-v3), not of the body that comes.
_HARMLESS_HOISTED = (
    b"x-amz-checksum-",
    b"x-amz-sdk-checksum-algorithm",
    b"x-amz-meta-",
    b"x-amz-acl",
    b"x-amz-storage-class",
    b"x-amz-request-payer",
    b"x-amz-expected-bucket-owner",
    b"x-amz-tagging",
    b"x-amz-object-lock",
    b"x-amz-bucket-object-lock-enabled",
)


def check_hoisted(guard: Guard, hoisted: Mapping[bytes, bytes], writes: bool) -> None:
    """Headers that a presigning SDK moved into the query: refused like headers, and on a write default deny.

    ``x-amz-copy-source`` in a query, for example, would otherwise make a PutObject of a CopyObject.
    """
    guard.check(hoisted.get)
    if writes:
        for name, value in hoisted.items():
            if value and not name.startswith(_HARMLESS_HOISTED):
                raise S3Error("NotImplemented", ParameterName=name.decode())
