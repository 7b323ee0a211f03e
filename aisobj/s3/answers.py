"""Headers that answers about an object carry."""

from __future__ import annotations

from functools import lru_cache

from aisobj import checksums
from aisobj.model import Bucket, Checksum, ObjectRecord, VersioningStatus
from aisobj.protocol.metadata import response_headers
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


def read_lines(
    bucket: Bucket, record: ObjectRecord, with_checksum: bool, span: tuple[int, int] | None = None
) -> bytes | None:
    """What an answer with an object carries, Content-Length too, as lines; None for an object that has headers of
    its own, or a version to show. (Measured: a third of what the list takes, until it is lines.)

    :param span: offset and length, at least 1, where only so much is sent.
    """
    content_type = _content_type(record.content_type)
    if record.headers or bucket.props.versioning_status is _ENABLED or content_type is None:
        return None
    if span is not None:
        content_type += "\r\nContent-Range: " + content_range(*span, record.size)
    return (
        f'Last-Modified: {http_date(record.mtime)}\r\nETag: "{record.etag}"\r\nAccept-Ranges: bytes\r\n'
        f"Content-Type: {content_type}\r\n{_checksum_lines(record.checksum) if with_checksum else ''}"
        f"Content-Length: {record.size if span is None else span[1]}\r\n"
    ).encode("ascii")


def content_range(offset: int, length: int, size: int) -> str:
    """The value of ``Content-Range`` in an answer with some of the ``size`` bytes of an object."""
    return f"bytes {offset}-{offset + length - 1}/{size}"


@lru_cache(maxsize=256)
def _content_type(stored: str) -> str | None:
    """None for what cannot be a line of its own; nothing of that kind is stored."""
    ((_, value),) = response_headers(stored, {})
    return text if value.isascii() and (text := value.decode()).isprintable() else None


def write_headers(bucket: Bucket, record: ObjectRecord) -> Headers:
    """What the answer to a successful write carries."""
    return [etag_header(record.etag), *checksum_headers(record.checksum), *version_header(bucket, record)]


def write_lines(bucket: Bucket, record: ObjectRecord) -> bytes:
    """The same as lines, with Content-Length, of a write without a checksum."""
    version = shown(bucket, record)
    return b'ETag: "%b"\r\n%bContent-Length: 0\r\n' % (
        record.etag.encode("ascii"),
        b"x-amz-version-id: %b\r\n" % version.encode("ascii") if version else b"",
    )


def etag_header(etag: str) -> tuple[bytes, bytes]:
    return b"ETag", b'"%b"' % etag.encode("ascii")


def version_header(bucket: Bucket, record: ObjectRecord) -> Headers:
    """``x-amz-version-id``, while the bucket's status is Enabled."""
    version = shown(bucket, record)
    return [(b"x-amz-version-id", version.encode("ascii"))] if version else []


def _checksum_lines(checksum: Checksum | None) -> str:
    return b"".join([b"%b: %b\r\n" % header for header in checksum_headers(checksum)]).decode("ascii")


def checksum_headers(checksum: Checksum | None) -> Headers:
    """``x-amz-checksum-*`` and its type."""
    if checksum is None:
        return []
    kind = checksums.type_of(checksum.parts > 0)
    return [
        (checksums.header_name(checksum.algorithm).encode(), checksums.encode(checksum).encode()),
        (b"x-amz-checksum-type", kind.encode()),
    ]
