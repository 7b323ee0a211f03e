"""Headers that answers about an object carry."""

from __future__ import annotations

from aisobj import checksums
from aisobj.model import Bucket, Checksum, ObjectRecord, VersioningStatus
from aisobj.protocol.s3time import http_date
from aisobj.s3.versions import shown

_ENABLED = VersioningStatus.ENABLED  # for every request: see protocol.signing

Headers = list[tuple[bytes, bytes]]


def read_headers(bucket: Bucket, record: ObjectRecord) -> Headers:
    """What every answer to a read carries, 304 included."""
    headers = [
        (b"Last-Modified", http_date(record.mtime).encode("ascii")),
        etag_header(record.etag),
        (b"Accept-Ranges", b"bytes"),
    ]
    if bucket.props.versioning_status is _ENABLED:
        headers += version_header(bucket, record)
    return headers


def write_headers(bucket: Bucket, record: ObjectRecord) -> Headers:
    """What the answer to a successful write carries."""
    return [etag_header(record.etag), *checksum_headers(record.checksum), *version_header(bucket, record)]


def etag_header(etag: str) -> tuple[bytes, bytes]:
    return b"ETag", b'"%b"' % etag.encode("ascii")


def version_header(bucket: Bucket, record: ObjectRecord) -> Headers:
    """``x-amz-version-id``, while the bucket's status is Enabled."""
    version = shown(bucket, record)
    return [(b"x-amz-version-id", version.encode("ascii"))] if version else []


def checksum_headers(checksum: Checksum | None) -> Headers:
    """``x-amz-checksum-*`` and its type."""
    if checksum is None:
        return []
    kind = checksums.COMPOSITE if checksum.parts else checksums.FULL_OBJECT
    return [
        (checksums.header_name(checksum.algorithm).encode(), checksums.encode(checksum).encode()),
        (b"x-amz-checksum-type", kind.encode()),
    ]
