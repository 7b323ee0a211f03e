"""The documents that S3 answers with.

Source: the "Response Syntax" of each operation in AWS's API reference; the order of elements is that of AWS's answers.
Each function returns the whole body. A LIST page of 1,000 keys is one f-string a key: it is on the hot path.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aisobj.checksums import type_of
from aisobj.errors import S3Error
from aisobj.model import Checksum, ListedObject, ObjectRecord, Part, Upload, VersioningStatus
from aisobj.protocol.listing import Page, PartsPage, Slices, UploadsPage
from aisobj.protocol.listparams import (
    BucketsParams,
    ListParams,
    PartsParams,
    UploadsParams,
    VersionsParams,
    encode_token,
)
from aisobj.protocol.s3time import ISO8601, NANOSECONDS, iso8601
from aisobj.protocol.xmltext import DECLARATION, NAMESPACE, escape, escape_readable, is_plain, url_encode

#: Keys written in one go: some 0.2 ms. Longer pieces would also be larger than what malloc keeps for the next page.
_PIECE = 500
_BOOLEAN = {False: "false", True: "true"}


class _BetweenKeyAndETag(dict[int, str]):
    """Whole seconds since the epoch -> what stands between the key and the ETag of a row of a page."""

    def __missing__(self, seconds: int) -> str:
        text = self[seconds] = f"</Key><LastModified>{ISO8601[seconds]}</LastModified><ETag>&quot;"
        return text


class _BetweenETagAndSize(dict[str, str]):
    """The algorithm of an object's checksum -> what stands between the ETag and the size of a row."""

    def __init__(self, composite: bool) -> None:
        self._composite = composite

    def __missing__(self, algorithm: str) -> str:
        text = self[algorithm] = f"&quot;</ETag>{_kind_of_checksum(algorithm, self._composite)}<Size>"
        return text


def _kind_of_checksum(algorithm: str, composite: bool) -> str:
    """What a listing says of a checksum: which it is, but not its value."""
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{type_of(composite)}</ChecksumType>"


#: By whether it is composite; and where there is none.
_BEFORE_SIZE = (_BetweenETagAndSize(False), _BetweenETagAndSize(True))
_SIZE = "&quot;</ETag><Size>"


def error_document(error: S3Error, resource: str, request_id: str, host_id: str = "") -> bytes:
    """The ``Error`` document (it has no namespace). It always parses, whatever the client put into its request.

    :param resource: the path of the request, decoded, e.g. ``/bucket/key``; "" leaves the element out.
    :param request_id: what ``x-amz-request-id`` says; "" leaves the element out.
    :param host_id: what ``x-amz-id-2`` says; "" leaves the element out.
    """
    tail = {"Resource": resource, "RequestId": request_id, "HostId": host_id}
    elements = {"Code": error.code, "Message": error.message, **error.detail}
    elements |= {name: text for name, text in tail.items() if text}
    inner = "".join(f"<{name}>{escape_readable(text)}</{name}>" for name, text in elements.items())
    return f"{DECLARATION}<Error>{inner}</Error>".encode()


def list_buckets(
    params: BucketsParams, owner: str, buckets: Iterable[tuple[str, int]], *, region: str = "", next_after: bytes = b""
) -> bytes:
    """``ListAllMyBucketsResult``.

    :param buckets: (name, creation time in ns), one page in order of names.
    :param region: of every bucket; shown as AWS does, if the request has a parameter.
    :param next_after: the last name of a page that is not the last one; it becomes the ``ContinuationToken``.
    """
    where = f"<BucketRegion>{escape(region)}</BucketRegion>" if region and params.asked else ""
    rows = "".join(
        f"<Bucket><Name>{escape(name)}</Name><CreationDate>{iso8601(created)}</CreationDate>{where}</Bucket>"
        for name, created in buckets
    )
    token = _optional("ContinuationToken", encode_token(next_after) if next_after else "")
    prefix = _optional("Prefix", escape(params.prefix.decode()))
    return _document("ListAllMyBucketsResult", f"{_owner('Owner', owner)}<Buckets>{rows}</Buckets>{token}{prefix}")


def location_constraint(region: str) -> bytes:
    """``LocationConstraint``: empty for us-east-1, as with AWS."""
    return _document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def versioning_configuration(status: VersioningStatus) -> bytes:
    """``VersioningConfiguration``: empty for a bucket that never was versioned."""
    text = "" if status is VersioningStatus.UNSET else status.name.capitalize()
    return _document("VersioningConfiguration", _optional("Status", text))


def no_tags() -> bytes:
    """``Tagging`` of an object without tags."""
    return _document("Tagging", "<TagSet></TagSet>")


def list_objects(params: ListParams, bucket: str, page: Page[ListedObject], owner: str) -> Slices[bytes]:
    """``ListBucketResult``, version 1 or 2 as ``params`` says.

    Version 1 always names the owner and has ``NextMarker`` only with a delimiter (without one the last key serves).
    """
    encode = _encoder(params.url_encoded)
    if params.version == 1:
        next_marker = page.last if page.truncated and params.delimiter else b""
        head = f"<Marker>{encode(params.marker)}</Marker>{_optional('NextMarker', encode(next_marker))}"
    else:
        head = (
            f"{_optional('StartAfter', encode(params.start_after))}"
            f"{_optional('ContinuationToken', escape(params.continuation_token or ''))}"
            f"{_optional('NextContinuationToken', encode_token(page.last) if page.truncated else '')}"
            f"<KeyCount>{page.count}</KeyCount>"
        )
    shown_owner = _owner("Owner", owner) if params.version == 1 or params.fetch_owner else ""
    text = (
        f'{DECLARATION}<ListBucketResult xmlns="{NAMESPACE}"><Name>{escape(bucket)}</Name>'
        f"<Prefix>{encode(params.prefix)}</Prefix>{head}<MaxKeys>{params.max_keys}</MaxKeys>"
        f"{_delimiter(params, encode)}<IsTruncated>{_BOOLEAN[page.truncated]}</IsTruncated>"
    )
    pieces = [text.encode()]
    for start in range(0, len(page.items), _PIECE):
        if start:
            yield
        pieces.append(_contents(page.items[start : start + _PIECE], encode, shown_owner).encode())
    pieces.append(f"{_common_prefixes(page.common_prefixes, encode)}</ListBucketResult>".encode())
    return b"".join(pieces)


def _contents(items: list[tuple[bytes, ListedObject]], encode: Callable[[bytes], str], owner: str) -> str:
    if not items:
        return ""
    keys = _encode_all([key for key, _ in items], encode)
    # No call for a row, no global name, and as few strings as can be: the loop is a third of what a page costs.
    dates, second, before_size, size = _BetweenKeyAndETag(), NANOSECONDS, _BEFORE_SIZE, _SIZE
    end, begin = f"</Size>{owner}<StorageClass>STANDARD</StorageClass></Contents>", "<Contents><Key>"
    rows = (end + begin).join(
        [
            f"{key}{dates[record.mtime // second]}{record.etag}"
            f"{before_size[given.parts > 0][given.algorithm] if (given := record.checksum) else size}{record.size}"
            for key, (_, record) in zip(keys, items, strict=True)
        ]
    )
    return f"{begin}{rows}{end}"


def _encode_all(keys: list[bytes], encode: Callable[[bytes], str]) -> list[str]:
    """``encode`` of each. Most pages need no escaping at all, which one look at all keys tells (no key has a NUL)."""
    together = b"\0".join(keys)
    return together.decode("ascii").split("\0") if is_plain(together) else [encode(key) for key in keys]


def list_object_versions(
    params: VersionsParams, bucket: str, page: Page[ListedObject], owner: str, version_id: Callable[[bytes], str]
) -> Slices[bytes]:
    """``ListVersionsResult`` of a bucket whose objects have one version each, the latest.

    :param version_id: what is shown of a record's.
    """
    listed = params.keys
    encode = _encoder(listed.url_encoded)
    following = ""
    if page.truncated:
        following = f"<NextKeyMarker>{encode(page.last)}</NextKeyMarker>"
        if page.items and page.items[-1][0] == page.last:  # a common prefix has no version
            last = version_id(page.items[-1][1].version_id)
            following += f"<NextVersionIdMarker>{last}</NextVersionIdMarker>"
    text = (
        f'{DECLARATION}<ListVersionsResult xmlns="{NAMESPACE}"><Name>{escape(bucket)}</Name>'
        f"<Prefix>{encode(listed.prefix)}</Prefix><KeyMarker>{encode(params.key_marker)}</KeyMarker>"
        f"<VersionIdMarker>{escape(params.version_id_marker)}</VersionIdMarker>{following}"
        f"<MaxKeys>{listed.max_keys}</MaxKeys>{_delimiter(listed, encode)}"
        f"<IsTruncated>{_BOOLEAN[page.truncated]}</IsTruncated>"
    )
    pieces = [text.encode()]
    shown_owner = _owner("Owner", owner)
    for start in range(0, len(page.items), _PIECE):
        if start:
            yield
        rows = [
            f"<Version><Key>{encode(key)}</Key><VersionId>{version_id(record.version_id)}</VersionId>"
            f"<IsLatest>true</IsLatest>{_dated_etag(record)}{_listed_checksum(record)}<Size>{record.size}</Size>"
            f"<StorageClass>STANDARD</StorageClass>{shown_owner}</Version>"
            for key, record in page.items[start : start + _PIECE]
        ]
        pieces.append("".join(rows).encode())
    pieces.append(f"{_common_prefixes(page.common_prefixes, encode)}</ListVersionsResult>".encode())
    return b"".join(pieces)


def list_multipart_uploads(params: UploadsParams, bucket: str, page: UploadsPage) -> bytes:
    """``ListMultipartUploadsResult``. An upload id is shown as lower-case hex."""
    encode = _encoder(params.url_encoded)
    following = ""
    if page.truncated:
        following = (
            f"<NextKeyMarker>{encode(page.next_key_marker)}</NextKeyMarker>"
            f"<NextUploadIdMarker>{page.next_upload_id_marker}</NextUploadIdMarker>"
        )
    uploads = "".join(
        f"<Upload><Key>{encode(key)}</Key><UploadId>{upload.id.hex()}</UploadId>"
        f"{_owner('Initiator', upload.owner)}{_owner('Owner', upload.owner)}<StorageClass>STANDARD</StorageClass>"
        f"<Initiated>{iso8601(upload.initiated)}</Initiated>{_upload_checksum(upload)}</Upload>"
        for key, upload in page.items
    )
    return _document(
        "ListMultipartUploadsResult",
        f"<Bucket>{escape(bucket)}</Bucket><KeyMarker>{encode(params.key_marker)}</KeyMarker>"
        f"<UploadIdMarker>{params.upload_id_marker.hex()}</UploadIdMarker>{following}"
        f"<Prefix>{encode(params.prefix)}</Prefix>{_delimiter(params, encode)}"
        f"<MaxUploads>{params.max_uploads}</MaxUploads><IsTruncated>{_BOOLEAN[page.truncated]}</IsTruncated>{uploads}"
        f"{_common_prefixes(page.common_prefixes, encode)}",
    )


def list_parts(params: PartsParams, bucket: str, key: bytes, upload: Upload, page: PartsPage) -> bytes:
    """``ListPartsResult``."""
    name = url_encode(key) if params.url_encoded else escape_readable(key.decode())
    parts = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{iso8601(part.mtime)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size>{_checksum(part.checksum)}</Part>"
        for part in page.parts
    )
    return _document(
        "ListPartsResult",
        f"<Bucket>{escape(bucket)}</Bucket><Key>{name}</Key>"
        f"<UploadId>{upload.id.hex()}</UploadId>{_owner('Initiator', upload.owner)}{_owner('Owner', upload.owner)}"
        f"<StorageClass>STANDARD</StorageClass><PartNumberMarker>{params.part_number_marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{page.next_marker}</NextPartNumberMarker><MaxParts>{params.max_parts}</MaxParts>"
        f"<IsTruncated>{_BOOLEAN[page.truncated]}</IsTruncated>{_upload_checksum(upload)}{parts}",
    )


def copy_object_result(record: ObjectRecord) -> bytes:
    """``CopyObjectResult`` of the object that the copy made."""
    kind = _optional("ChecksumType", type_of(record.checksum.parts > 0)) if record.checksum else ""
    return _document("CopyObjectResult", f"{_dated_etag(record)}{kind}{_checksum(record.checksum)}")


def copy_part_result(part: Part) -> bytes:
    """``CopyPartResult`` of the part that UploadPartCopy made."""
    return _document("CopyPartResult", f"{_dated_etag(part)}{_checksum(part.checksum)}")


def initiate_multipart_upload_result(bucket: str, key: bytes, upload: Upload) -> bytes:
    """``InitiateMultipartUploadResult``."""
    return _document(
        "InitiateMultipartUploadResult",
        f"<Bucket>{escape(bucket)}</Bucket><Key>{escape_readable(key.decode())}</Key><UploadId>{upload.id.hex()}</UploadId>",
    )


def complete_multipart_upload_result(location: str, bucket: str, key: bytes, record: ObjectRecord) -> bytes:
    """``CompleteMultipartUploadResult``. ``location``: the object's URL, percent-encoded."""
    kind = _optional("ChecksumType", type_of(record.checksum.parts > 0)) if record.checksum else ""
    return _document(
        "CompleteMultipartUploadResult",
        f"<Location>{escape(location)}</Location><Bucket>{escape(bucket)}</Bucket><Key>{escape_readable(key.decode())}</Key>"
        f"<ETag>&quot;{record.etag}&quot;</ETag>{_checksum(record.checksum)}{kind}",
    )


@dataclass(frozen=True, slots=True)
class Deleted:
    """One key that DeleteObjects removed, or that was not there."""

    key: bytes
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteFailed:
    """One key that DeleteObjects could not remove."""

    key: bytes
    error: S3Error
    version_id: str | None = None


def delete_result(results: Iterable[Deleted | DeleteFailed], *, quiet: bool) -> bytes:
    """``DeleteResult`` in the order of the request; with ``quiet`` only the failures."""
    rows = []
    for result in results:
        version = _optional("VersionId", escape(result.version_id or ""))
        subject = f"<Key>{escape_readable(result.key.decode())}</Key>{version}"
        if isinstance(result, DeleteFailed):
            message = escape_readable(result.error.message)
            rows.append(f"<Error>{subject}<Code>{result.error.code}</Code><Message>{message}</Message></Error>")
        elif not quiet:
            rows.append(f"<Deleted>{subject}</Deleted>")
    return _document("DeleteResult", "".join(rows))


def _document(root: str, inner: str) -> bytes:
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{inner}</{root}>'.encode()


def _optional(name: str, text: str) -> str:
    """An element whose text is already escaped, or nothing if there is no text."""
    return f"<{name}>{text}</{name}>" if text else ""


def _owner(element: str, name: str) -> str:
    text = escape(name)
    return f"<{element}><ID>{text}</ID><DisplayName>{text}</DisplayName></{element}>"


def _encoder(url_encoded: bool) -> Callable[[bytes], str]:
    return url_encode if url_encoded else _escape_key


def _escape_key(key: bytes) -> str:
    return escape(key.decode())


def _delimiter(params: ListParams | UploadsParams, encode: Callable[[bytes], str]) -> str:
    encoding = "<EncodingType>url</EncodingType>" if params.url_encoded else ""
    return _optional("Delimiter", encode(params.delimiter)) + encoding


def _common_prefixes(prefixes: list[bytes], encode: Callable[[bytes], str]) -> str:
    shown = _encode_all(prefixes, encode) if prefixes else []
    return "".join([f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>" for prefix in shown])


def _dated_etag(made: ObjectRecord | ListedObject | Part) -> str:
    return f"<LastModified>{iso8601(made.mtime)}</LastModified><ETag>&quot;{made.etag}&quot;</ETag>"


def _checksum(checksum: Checksum | None) -> str:
    """``<ChecksumCRC32>base64</ChecksumCRC32>``, with ``-N`` for a composite one; nothing without a checksum."""
    if checksum is None:
        return ""
    count = f"-{checksum.parts}" if checksum.parts else ""
    value = base64.b64encode(checksum.value).decode("ascii")
    return f"<Checksum{checksum.algorithm}>{value}{count}</Checksum{checksum.algorithm}>"


def _listed_checksum(record: ListedObject) -> str:
    given = record.checksum
    return "" if given is None else _kind_of_checksum(given.algorithm, given.parts > 0)


def _upload_checksum(upload: Upload) -> str:
    algorithm = upload.checksum_algorithm
    return _kind_of_checksum(algorithm, not upload.checksum_full_object) if algorithm else ""
