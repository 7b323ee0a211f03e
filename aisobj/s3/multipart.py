"""Multipart uploads: CreateMultipartUpload, UploadPart, UploadPartCopy, Complete, Abort, ListParts."""

from __future__ import annotations

from aisobj import checksums
from aisobj.errors import S3Error
from aisobj.model import Attributes, Bucket, Checksum, Part, Upload
from aisobj.protocol import xml
from aisobj.protocol.conditions import WritePrecondition, parse_copy_source_range, resolve_copy_source_range
from aisobj.protocol.listing import Slices
from aisobj.protocol.listparams import PartsParams
from aisobj.protocol.metadata import parse_object_headers
from aisobj.s3.answers import checksum_headers, etag_header, version_header
from aisobj.s3.call import Call
from aisobj.s3.copying import MAX_COPY, checksum_algorithm, expect_no_body, source_version, with_source
from aisobj.storage.completing import Chosen, Stated
from aisobj.storage.interfaces import Owner
from aisobj.storage.objects import Found
from aisobj.web.upload import header_checksum, read_document, receive

MAX_PARTS = 10_000
#: 10,000 parts with number, ETag and checksums.
_MAX_DOCUMENT = 8 << 20
#: Parts looked at in one go: some 0.5 ms.
_CHOSEN = 500


async def create_multipart_upload(call: Call) -> None:
    """CreateMultipartUpload."""
    bucket = call.bucket()
    await read_document(call.request, call.auth, 1 << 20)
    content_type, headers = parse_object_headers(call.object_headers())
    algorithm = checksum_algorithm(call)
    kind = call.text_header("x-amz-checksum-type")
    if kind is not None and not algorithm:
        raise S3Error(
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )
    full_object = bool(algorithm) and checksums.checksum_kind(algorithm, kind) == checksums.FULL_OBJECT
    owner = call.auth.principal.name
    upload = await call.store.uploads.create(
        bucket, call.key, owner, Attributes(content_type, headers), algorithm, full_object
    )
    call.send_xml(xml.initiate_multipart_upload_result(call.bucket_name, call.key, upload), *_algorithm_headers(upload))


def _algorithm_headers(upload: Upload) -> list[tuple[bytes, bytes]]:
    if not upload.checksum_algorithm:
        return []
    kind = checksums.type_of(not upload.checksum_full_object)
    return [
        (b"x-amz-checksum-algorithm", upload.checksum_algorithm.encode()),
        (b"x-amz-checksum-type", kind.encode()),
    ]


def part_number(text: str) -> int:
    """``partNumber``. Raises InvalidArgument outside 1..10000."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_PARTS:
        return int(text)
    raise S3Error(
        "InvalidArgument",
        f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
        ArgumentName="partNumber",
        ArgumentValue=text[:64],
    )


def _named_part(call: Call) -> tuple[Bucket, Upload, int]:
    number = part_number(call.query.get("partNumber") or "")
    bucket = call.bucket()
    return bucket, call.store.uploads.get(bucket, call.key, call.query.get("uploadId") or ""), number


async def upload_part(call: Call) -> None:
    """UploadPart."""
    bucket, upload, number = _named_part(call)
    footer: Owner = {
        "bucket": bucket.id,
        "key": call.key,
        "upload": upload.id,
        "part": number,
    }
    body, checksum = await receive(
        call.request, call.auth, lambda size, digests: call.store.uploads.writer(upload, digests, size), footer
    )
    if checksum is not None and upload.checksum_algorithm and checksum.algorithm != upload.checksum_algorithm:
        await call.store.objects.discard(body)
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.checksum_algorithm.lower()}, "
            f"actual checksum Type: {checksum.algorithm.lower()}",
        )
    part = await call.store.uploads.put_part(bucket, call.key, upload, number, body, checksum)
    call.send_empty(200, etag_header(part.etag), *checksum_headers(part.checksum)[:1])


async def upload_part_copy(call: Call) -> None:
    """UploadPartCopy: a whole object or a range of it."""
    bucket, upload, number = _named_part(call)
    await expect_no_body(call)
    wanted = call.text_header("x-amz-copy-source-range")
    spec = None if wanted is None else parse_copy_source_range(wanted)

    async def copy(source: Found) -> tuple[Found, Part]:
        offset, length = (0, source.record.size)
        if spec is not None:
            offset, length = resolve_copy_source_range(spec, source.record.size)
        if length > MAX_COPY:
            raise S3Error("EntityTooLarge", ProposedSize=str(length), MaxSizeAllowed=str(MAX_COPY))
        return source, await call.store.copier.copy_part(source, offset, length, bucket, call.key, upload, number)

    source, part = await with_source(call, copy)
    call.send_xml(xml.copy_part_result(part), *source_version(source))


async def complete_multipart_upload(call: Call) -> None:
    """CompleteMultipartUpload."""
    bucket = call.bucket()
    upload_id = call.query.get("uploadId") or ""
    # The x-amz-checksum-* headers of this request speak of the object, not of the document.
    document = await read_document(call.request, call.auth, _MAX_DOCUMENT, required=True, of_body=False)
    # In a thread it would take the interpreter for 5 ms at a time, and the reactor wait for it at each system call.
    chosen = await call.store.turns.run(_read_chosen(document), at_once=True)
    bucket, record = await call.store.uploads.complete(
        bucket,
        call.key,
        upload_id,
        chosen,
        WritePrecondition.parse(call.text_header),
        _stated(call),
    )
    scheme = "https" if call.request.secure else "http"
    host = call.text_header("host") or ""
    location = f"{scheme}://{host}{call.request.path.decode('latin-1')}"
    result = xml.complete_multipart_upload_result(location, call.bucket_name, call.key, record)
    call.send_xml(result, *version_header(bucket, record))


def _read_chosen(document: bytes) -> Slices[list[Chosen]]:
    parts = yield from xml.read_complete(document)
    chosen: list[Chosen] = []
    for start in range(0, len(parts), _CHOSEN):
        chosen += [Chosen(each.number, each.etag, _part_checksum(each)) for each in parts[start : start + _CHOSEN]]
        if start + _CHOSEN < len(parts):
            yield
    return chosen


def _part_checksum(part: xml.CompletePart) -> Checksum | None:
    for algorithm, value in part.checksums.items():
        if algorithm in checksums.AWS_ALGORITHMS:
            try:
                return Checksum(algorithm, checksums.parse_value(algorithm, value))
            except ValueError:
                raise S3Error("InvalidPart", PartNumber=str(part.number), ETag=part.etag) from None
    return None


def _stated(call: Call) -> Stated:
    size = call.text_header("x-amz-mp-object-size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) <= 19):
        raise S3Error("InvalidArgument", ArgumentName="x-amz-mp-object-size")
    return Stated(
        header_checksum(call.request, composite=True),
        call.text_header("x-amz-checksum-type"),
        None if size is None else int(size),
    )


async def abort_multipart_upload(call: Call) -> None:
    """AbortMultipartUpload."""
    await call.store.uploads.abort(call.bucket(), call.key, call.query.get("uploadId") or "")
    call.send_empty(204)


def list_parts(call: Call) -> None:
    """ListParts."""
    params = PartsParams.parse(call.query)
    bucket = call.bucket()
    upload = call.store.uploads.get(bucket, call.key, call.query.get("uploadId") or "")
    page = call.store.uploads.list_parts(bucket, upload, params)
    call.send_xml(xml.list_parts(params, call.bucket_name, call.key, upload, page))
