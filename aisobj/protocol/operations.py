"""Which S3 operation a request is: one table for dispatch, the metric label, the access log and ``Allow``.

Default deny. AWS tells its operations apart by sub-resources in the query (``?acl``), and adds new ones over time. A
sub-resource that we do not know must never fall through to the plain operation (``PUT key?newthing`` would overwrite
the object with a document), so what a query may hold beside the operation's own parameters is decided here:

* a name of the table that is not for this level or not implemented: 501 NotImplemented;
* ``x-*`` and the signature's parameters: ignored ("custom access log information" in AWS's server access log format);
* a header hoisted into the query (``x-amz-acl``): as the header; ``x-amz-copy-source`` and the like: 501;
* ``partNumber`` on the PUT of an object, without ``uploadId``: 400 InvalidArgument, which says so, as AWS does;
* anything else on PUT, POST, DELETE: 501; on GET and HEAD 501 only if it looks like a sub-resource (a bare word of
  letters and hyphens without a value), so that cache busters work.

Headers that ask for what we do not have (encryption, locks, grants, tags) are 501 too, per operation.
Source: AWS API reference, "Amazon S3 API Actions", and botocore's service model (``s3/2006-03-01``).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aisobj.errors import S3Error
from aisobj.protocol import unsupported
from aisobj.protocol.query import Query

HeaderGetter = Callable[[bytes], bytes | None]


class Level(enum.Enum):
    """What the path names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"

    __hash__ = object.__hash__  # Enum's own is a function in Python, and every request looks its level up


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One S3 operation. Identity is equality."""

    name: str  #: S3's own name, e.g. ``PutObject``
    level: Level
    method: str  #: GET, HEAD, PUT, POST or DELETE
    implemented: bool
    parameters: frozenset[str]  #: query parameters of its own, besides the sub-resource
    guard: unsupported.Guard  #: the headers that it refuses

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method not in _READS


_READS = frozenset({"GET", "HEAD"})

_RESPONSE = " ".join(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)

#: Version 1 and 2 take each other's parameters without effect: clients send them empty.
_LIST = "delimiter encoding-type max-keys prefix marker continuation-token fetch-owner start-after"

#: The operations that exist here -> their own query parameters.
_IMPLEMENTED: Mapping[str, str] = {
    "ListBuckets": "max-buckets continuation-token prefix bucket-region",
    "CreateBucket": "",
    "HeadBucket": "",
    "DeleteBucket": "",
    "GetBucketCors": "",
    "GetBucketLocation": "",
    "GetBucketVersioning": "",
    "PutBucketVersioning": "",
    "ListObjects": _LIST,
    "ListObjectsV2": _LIST,
    "ListObjectVersions": "delimiter encoding-type key-marker max-keys prefix version-id-marker",
    "ListMultipartUploads": "delimiter encoding-type key-marker max-uploads prefix upload-id-marker",
    "DeleteObjects": "",
    "PutObject": "",
    "GetObject": f"versionId partNumber {_RESPONSE}",
    "HeadObject": f"versionId partNumber {_RESPONSE}",
    "DeleteObject": "versionId",
    "GetObjectTagging": "versionId",
    "CopyObject": "",
    "CreateMultipartUpload": "",
    "UploadPart": "partNumber",
    "UploadPartCopy": "partNumber",
    "CompleteMultipartUpload": "",
    "AbortMultipartUpload": "",
    "ListParts": "max-parts part-number-marker encoding-type",
}

#: level -> sub-resource ("" = none) -> method -> operation
_TABLE: Mapping[Level, Mapping[str, Mapping[str, str]]] = {
    Level.SERVICE: {
        "": {"GET": "ListBuckets"},
        "max-directory-buckets": {"GET": "ListDirectoryBuckets"},
    },
    Level.BUCKET: {
        "": {
            "GET": "ListObjects",
            "HEAD": "HeadBucket",
            "PUT": "CreateBucket",
            "DELETE": "DeleteBucket",
            "POST": "PostObject",
        },
        "list-type": {"GET": "ListObjectsV2"},
        "abac": {"GET": "GetBucketAbac", "PUT": "PutBucketAbac"},
        "accelerate": {"GET": "GetBucketAccelerateConfiguration", "PUT": "PutBucketAccelerateConfiguration"},
        "acl": {"GET": "GetBucketAcl", "PUT": "PutBucketAcl"},
        "analytics": {
            "GET": "ListBucketAnalyticsConfigurations",
            "PUT": "PutBucketAnalyticsConfiguration",
            "DELETE": "DeleteBucketAnalyticsConfiguration",
        },
        "cors": {"GET": "GetBucketCors", "PUT": "PutBucketCors", "DELETE": "DeleteBucketCors"},
        "delete": {"POST": "DeleteObjects"},
        "encryption": {"GET": "GetBucketEncryption", "PUT": "PutBucketEncryption", "DELETE": "DeleteBucketEncryption"},
        "intelligent-tiering": {
            "GET": "ListBucketIntelligentTieringConfigurations",
            "PUT": "PutBucketIntelligentTieringConfiguration",
            "DELETE": "DeleteBucketIntelligentTieringConfiguration",
        },
        "inventory": {
            "GET": "ListBucketInventoryConfigurations",
            "PUT": "PutBucketInventoryConfiguration",
            "DELETE": "DeleteBucketInventoryConfiguration",
        },
        "lifecycle": {
            "GET": "GetBucketLifecycleConfiguration",
            "PUT": "PutBucketLifecycleConfiguration",
            "DELETE": "DeleteBucketLifecycle",
        },
        "location": {"GET": "GetBucketLocation"},
        "logging": {"GET": "GetBucketLogging", "PUT": "PutBucketLogging"},
        "metadataAnnotationTable": {"PUT": "UpdateBucketMetadataAnnotationTableConfiguration"},
        "metadataConfiguration": {
            "GET": "GetBucketMetadataConfiguration",
            "POST": "CreateBucketMetadataConfiguration",
            "DELETE": "DeleteBucketMetadataConfiguration",
        },
        "metadataInventoryTable": {"PUT": "UpdateBucketMetadataInventoryTableConfiguration"},
        "metadataJournalTable": {"PUT": "UpdateBucketMetadataJournalTableConfiguration"},
        "metadataTable": {
            "GET": "GetBucketMetadataTableConfiguration",
            "POST": "CreateBucketMetadataTableConfiguration",
            "DELETE": "DeleteBucketMetadataTableConfiguration",
        },
        "metrics": {
            "GET": "ListBucketMetricsConfigurations",
            "PUT": "PutBucketMetricsConfiguration",
            "DELETE": "DeleteBucketMetricsConfiguration",
        },
        "notification": {"GET": "GetBucketNotificationConfiguration", "PUT": "PutBucketNotificationConfiguration"},
        "object-lock": {"GET": "GetObjectLockConfiguration", "PUT": "PutObjectLockConfiguration"},
        "ownershipControls": {
            "GET": "GetBucketOwnershipControls",
            "PUT": "PutBucketOwnershipControls",
            "DELETE": "DeleteBucketOwnershipControls",
        },
        "policy": {"GET": "GetBucketPolicy", "PUT": "PutBucketPolicy", "DELETE": "DeleteBucketPolicy"},
        "policyStatus": {"GET": "GetBucketPolicyStatus"},
        "publicAccessBlock": {
            "GET": "GetPublicAccessBlock",
            "PUT": "PutPublicAccessBlock",
            "DELETE": "DeletePublicAccessBlock",
        },
        "replication": {
            "GET": "GetBucketReplication",
            "PUT": "PutBucketReplication",
            "DELETE": "DeleteBucketReplication",
        },
        "requestPayment": {"GET": "GetBucketRequestPayment", "PUT": "PutBucketRequestPayment"},
        "session": {"GET": "CreateSession"},
        "tagging": {"GET": "GetBucketTagging", "PUT": "PutBucketTagging", "DELETE": "DeleteBucketTagging"},
        "uploads": {"GET": "ListMultipartUploads"},
        "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
        "versions": {"GET": "ListObjectVersions"},
        "website": {"GET": "GetBucketWebsite", "PUT": "PutBucketWebsite", "DELETE": "DeleteBucketWebsite"},
    },
    Level.OBJECT: {
        "": {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"},
        "uploadId": {
            "GET": "ListParts",
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        },
        "uploads": {"POST": "CreateMultipartUpload"},
        "acl": {"GET": "GetObjectAcl", "PUT": "PutObjectAcl"},
        "annotation": {
            "GET": "ListObjectAnnotations",
            "PUT": "PutObjectAnnotation",
            "DELETE": "DeleteObjectAnnotation",
        },
        "attributes": {"GET": "GetObjectAttributes"},
        "encryption": {"PUT": "UpdateObjectEncryption"},
        "legal-hold": {"GET": "GetObjectLegalHold", "PUT": "PutObjectLegalHold"},
        "renameObject": {"PUT": "RenameObject"},
        "restore": {"POST": "RestoreObject"},
        "retention": {"GET": "GetObjectRetention", "PUT": "PutObjectRetention"},
        "select": {"POST": "SelectObjectContent"},
        "tagging": {"GET": "GetObjectTagging", "PUT": "PutObjectTagging", "DELETE": "DeleteObjectTagging"},
        "torrent": {"GET": "GetObjectTorrent"},
    },
}

#: With ``x-amz-copy-source`` the left one is the right one.
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}


def _operation(name: str, level: Level, method: str) -> Operation:
    parameters = frozenset(_IMPLEMENTED.get(name, "").split())
    return Operation(name, level, method, name in _IMPLEMENTED, parameters, unsupported.guard(name))


#: As ``_TABLE``, methods as in the request line.
_BY_LEVEL: Mapping[Level, Mapping[str, Mapping[bytes, Operation]]] = {
    level: {
        sub_resource: {method.encode(): _operation(name, level, method) for method, name in methods.items()}
        for sub_resource, methods in sub_resources.items()
    }
    for level, sub_resources in _TABLE.items()
}
_COPY: Mapping[str, Operation] = {plain: _operation(copy, Level.OBJECT, "PUT") for plain, copy in _COPIES.items()}
_SUB_RESOURCES = frozenset(name for table in _TABLE.values() for name in table if name)

#: Every operation in the table by its name.
OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        *(op for tables in _BY_LEVEL.values() for methods in tables.values() for op in methods.values()),
        *_COPY.values(),
    )
}


def routes() -> Iterator[tuple[Level, str, Operation]]:
    """Every row of the table: level, sub-resource ("" = none), operation."""
    for level, sub_resources in _BY_LEVEL.items():
        for sub_resource, methods in sub_resources.items():
            for operation in methods.values():
                yield level, sub_resource, operation


#: Signature version 2 in the query; the last two are headers that it covers, which boto repeats there.
_SIGV2 = frozenset({"AWSAccessKeyId", "Signature", "Expires", "content-type", "content-md5"})
#: What a part of an upload would become, if its upload is not named.
_PUTS = frozenset({"PutObject", "CopyObject"})
_looks_like_sub_resource = re.compile(r"[A-Za-z][A-Za-z-]*").fullmatch


def find(level: Level, method: bytes, query: Query, header: HeaderGetter) -> Operation:
    """The operation that a request names, implemented or not: the label of metrics and of the access log.

    :param method: as in the request line.
    :param header: lower-case header name -> value or None.

    Raises NotImplemented for a sub-resource that this level does not have, MethodNotAllowed (with ``Allow``) for a
    method that the sub-resource does not have, InvalidArgument for two sub-resources at once.
    """
    sub_resource = _sub_resource(query) if query.pairs else ""
    methods = _BY_LEVEL[level].get(sub_resource)
    if methods is None:
        raise S3Error("NotImplemented", ResourceType=sub_resource)
    operation = methods.get(method)
    if operation is None:
        raise _method_not_allowed(level, sub_resource, method)
    if method == b"PUT" and operation.name in _COPY and header(b"x-amz-copy-source") is not None:
        return _COPY[operation.name]
    return operation


def resolve(level: Level, method: bytes, query: Query, header: HeaderGetter) -> Operation:
    """The implemented operation that a request is. Parameters as for :func:`find`.

    Raises what :func:`find` does, NotImplemented for an operation, a query parameter or a header that asks for what we
    do not have, InvalidArgument or InvalidStorageClass for a header value that AWS does not know either, and
    InvalidArgument for ``partNumber`` without an upload.
    """
    operation = find(level, method, query, header)
    admit(operation, query, header)
    return operation


def admit(operation: Operation, query: Query, header: HeaderGetter) -> None:
    """What :func:`resolve` checks of an operation that was found."""
    if not operation.implemented:
        raise S3Error("NotImplemented", Operation=operation.name)
    operation.guard.check(header)
    if query.pairs:
        _check_parameters(operation, query)


def _sub_resource(query: Query) -> str:
    found = [name for name in query.names() if name in _SUB_RESOURCES]
    if len(found) > 1:
        raise S3Error("InvalidArgument", f"Conflicting query string parameters: {', '.join(sorted(found))}")
    return found[0] if found else ""


def _method_not_allowed(level: Level, sub_resource: str, method: bytes) -> S3Error:
    """``Allow`` names the methods that would work; a sub-resource without any is not implemented at all."""
    methods = _TABLE[level][sub_resource]
    allowed = [verb for verb, name in methods.items() if name in _IMPLEMENTED]
    if not allowed:
        return S3Error("NotImplemented", ResourceType=sub_resource)
    return S3Error(
        "MethodNotAllowed",
        headers={"Allow": ", ".join(sorted(allowed))},
        Method=method.decode("latin-1"),
        ResourceType=(sub_resource or level.value).upper(),
    )


def _check_parameters(operation: Operation, query: Query) -> None:
    hoisted = query.hoisted()
    if hoisted:
        unsupported.check_hoisted(operation.guard, dict(reversed(hoisted)), operation.writes)
    for name, value in query.pairs:
        if name in operation.parameters or name in _SUB_RESOURCES or name in _SIGV2:
            continue
        if name[:2] in ("x-", "X-"):
            continue
        if name == "partNumber" and operation.name in _PUTS:
            message = "This operation does not accept partNumber without uploadId"
            raise S3Error("InvalidArgument", message, ArgumentName=name)
        if operation.writes or (not value and _looks_like_sub_resource(name)):
            raise S3Error("NotImplemented", ParameterName=name)
