"""CopyObject, and finding the source of any copy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aisobj import checksums
from aisobj.errors import BlobMissing, S3Error
from aisobj.model import Attributes, ObjectRecord
from aisobj.protocol import xml
from aisobj.protocol.conditions import ReadConditions, WritePrecondition
from aisobj.protocol.metadata import parse_object_headers
from aisobj.protocol.names import parse_copy_source
from aisobj.s3.answers import version_header
from aisobj.s3.call import Call
from aisobj.s3.versions import check_version, shown
from aisobj.storage.objects import Found
from aisobj.web.upload import read_document

#: A copy of more has to be made in parts (AWS, CopyObject).
MAX_COPY = 5 << 30
_SOURCE_ATTEMPTS = 5

T = TypeVar("T")


async def copy_object(call: Call) -> None:
    """CopyObject: the source's own metadata, or with REPLACE the request's.

    What is named in the request is enough of a change for a copy onto itself, also a storage class that is the source's
    own (AWS, CopyObject; ``aws s3 cp --storage-class``, rclone's ``settier``).
    """
    target = call.bucket()
    await expect_no_body(call)
    replaces = _directive(call, "x-amz-metadata-directive")
    _directive(call, "x-amz-tagging-directive")  # there are no tags yet: both directives come to the same
    precondition = WritePrecondition.parse(call.text_header)
    algorithm = checksum_algorithm(call)
    changes = bool(replaces or algorithm or call.text_header("x-amz-storage-class"))
    new_type, new_headers = parse_object_headers(call.object_headers())

    async def copy(source: Found) -> tuple[Found, ObjectRecord]:
        if source.record.size > MAX_COPY:
            raise S3Error(
                "InvalidRequest", f"The specified copy source is larger than the maximum allowable size: {MAX_COPY}"
            )
        if (source.bucket.id, source.key) == (target.id, call.key) and not changes:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        old = source.record
        if replaces:
            attributes = Attributes(new_type, new_headers)
        else:
            attributes = Attributes(old.content_type, call.store.objects.headers(source.bucket, old))
        _, record = await call.store.copier.copy(source, target, call.key, attributes, precondition, algorithm)
        return source, record

    source, record = await with_source(call, copy)
    call.send_xml(xml.copy_object_result(record), *source_version(source), *version_header(call.bucket(), record))


async def expect_no_body(call: Call) -> None:
    """Raises InvalidRequest for a copy that brings bytes, which would be lost (AWS's text)."""
    try:
        await read_document(call.request, call.auth, 0)
    except S3Error as error:
        if error.code != "MalformedXML":
            raise
        message = "The request included a body. Requests of this type must not include a non-empty body."
        raise S3Error("InvalidRequest", message) from None


async def with_source(call: Call, use: Callable[[Found], Awaitable[T]]) -> T:
    """Run ``use`` with the object that ``x-amz-copy-source`` names, again if it is replaced meanwhile.

    Raises what the conditions on the source raise, NoSuchBucket, NoSuchKey, NoSuchVersion, InvalidArgument.
    """
    bucket_name, key, version_id = parse_copy_source(call.request.header(b"x-amz-copy-source") or b"")
    conditions = ReadConditions.parse(call.text_header, "x-amz-copy-source-")
    for attempt in range(_SOURCE_ATTEMPTS):
        source = call.store.objects.fetch(bucket_name, key)
        check_version(source.bucket, source.record, key, version_id)
        conditions.check_copy_source(source.record.etag, source.record.mtime, call.now_ns())
        try:
            return await use(source)
        except BlobMissing:
            if attempt + 1 == _SOURCE_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def source_version(source: Found) -> list[tuple[bytes, bytes]]:
    """``x-amz-copy-source-version-id``, where the source's bucket shows ids."""
    version = shown(source.bucket, source.record)
    return [(b"x-amz-copy-source-version-id", version.encode("ascii"))] if version else []


def checksum_algorithm(call: Call) -> str:
    """``x-amz-checksum-algorithm``: AWS's name, or "". Raises InvalidRequest for an unknown one."""
    value = (call.text_header("x-amz-checksum-algorithm") or "").upper()
    if value and value not in checksums.AWS_ALGORITHMS:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the "
            f"valid types: [{', '.join(checksums.AWS_ALGORITHMS)}]",
        )
    return value


def _directive(call: Call, name: str) -> bool:
    """True for REPLACE. Raises InvalidArgument."""
    value = call.text_header(name)
    if value not in (None, "COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"Unknown {name}.", ArgumentName=name, ArgumentValue=value or "")
    return value == "REPLACE"
