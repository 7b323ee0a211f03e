"""An object: GetObject, HeadObject, PutObject. Copies, deletes and multipart uploads have files of their own."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from aisobj.errors import BlobMissing, S3Error
from aisobj.model import Attributes, Body, Bucket, ObjectRecord, PartInfo
from aisobj.protocol.conditions import Outcome, ReadConditions, WritePrecondition, parse_date, parse_range, resolve
from aisobj.protocol.metadata import freshness_headers, parse_object_headers, response_headers, response_overrides
from aisobj.protocol.operations import Level
from aisobj.protocol.query import EMPTY
from aisobj.s3 import multipart
from aisobj.s3.answers import Headers, checksum_headers, content_range, read_headers, write_headers
from aisobj.s3.call import Call, S3Resource
from aisobj.s3.copying import copy_object
from aisobj.s3.deleting import delete_object
from aisobj.s3.tagging import get_object_tagging
from aisobj.s3.versions import check_version
from aisobj.storage.interfaces import Owner
from aisobj.storage.objects import Found
from aisobj.web.download import send_found
from aisobj.web.upload import SmallUpload, begin_small, receive

#: With none of these a read is of the whole object, without its checksum.
_CHOOSE = frozenset((b"range", b"x-amz-checksum-mode"))

#: How often a reader whose blobs were replaced under it looks again.
_READ_ATTEMPTS = 5


def get_object(call: Call) -> Coroutine[Deferred[Any], Any, None] | None:
    """GetObject and HeadObject. A small object is answered at once, without a coroutine."""
    running = _send(call)
    return None if running is None else _watch(call, running)


async def _watch(call: Call, running: Deferred[None]) -> None:
    """Until the head is out, a blob that is missing means that the object was replaced: look again."""
    for _ in range(_READ_ATTEMPTS):
        try:
            await running
            return
        except BlobMissing:
            if call.request.status:
                raise
        again = _send(call)
        if again is None:
            return
        running = again
    await running


def _send(call: Call) -> Deferred[None] | None:
    request, query, store = call.request, call.query, call.context.store
    # What a HEAD tells is in the record, but for where a part is, and which part a range may be.
    with_body = request.method != b"HEAD" or "partNumber" in query or request.header(b"range") is not None
    found = store.objects.fetch(call.bucket_name, call.key, with_body)
    record = found.record
    if query is not EMPTY:
        check_version(found.bucket, record, call.key, query.get("versionId"))
    headers = read_headers(found.bucket, record)
    if not request.has_none_of(ReadConditions.HEADERS):
        outcome = ReadConditions.parse(call.text_header).evaluate(record.etag, record.mtime, call.now_ns())
        if outcome is Outcome.PRECONDITION_FAILED:
            raise S3Error("PreconditionFailed")
        if outcome is Outcome.NOT_MODIFIED:
            request.respond(304, headers + freshness_headers(record.headers, _overrides(call)))
            return None
    if query is EMPTY and request.has_none_of(_CHOOSE):
        headers += response_headers(record.content_type, record.headers)
        return send_found(request, store, found, 200, headers, 0, record.size)
    headers += response_headers(record.content_type, record.headers, _overrides(call))
    status, offset, length = _select(call, found, headers)
    return send_found(request, store, found, status, headers, offset, length)


def _overrides(call: Call) -> dict[str, str]:
    return {} if call.query is EMPTY else response_overrides(call.query, signed=_is_signed(call))


def _is_signed(call: Call) -> bool:
    """An open server looks at no signature, but one still tells an SDK, or who was given a URL, from any link."""
    return (
        not call.auth.principal.anonymous
        or call.request.header(b"authorization") is not None
        or call.query.signed
        or "Signature" in call.query
    )


def _select(call: Call, found: Found, headers: Headers) -> tuple[int, int, int]:
    """Status, offset and length of what was asked for: all, a range, or a part."""
    record = found.record
    wanted = call.request.header(b"range")
    part = None if call.query is EMPTY else call.query.get("partNumber")
    with_checksum = record.checksum is not None and call.text_header("x-amz-checksum-mode") == "ENABLED"
    if part is not None:
        if wanted is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter.")
        offset, length = _part_range(record, found.body, multipart.part_number(part))
        if record.parts:
            headers.append((b"x-amz-mp-parts-count", b"%d" % record.parts))
    else:
        spec = parse_range(wanted.decode("latin-1")) if wanted is not None and _if_range(call, record) else None
        if spec is None:
            if with_checksum:
                headers += checksum_headers(record.checksum)
            return 200, 0, record.size
        offset, length = resolve(spec, record.size)
    if with_checksum:
        headers += _part_checksum(record, found.body, offset, length)
    return _partial(headers, offset, length, record.size)


def _if_range(call: Call, record: ObjectRecord) -> bool:
    """Whether a range may be sent: not if it is the rest of something else (RFC 9110 section 13.1.5)."""
    value = call.text_header("if-range")
    if value is None:
        return True
    return value == f'"{record.etag}"' or parse_date(value) == record.mtime // 10**9


def _partial(headers: Headers, offset: int, length: int, size: int) -> tuple[int, int, int]:
    if length:
        headers.append((b"Content-Range", content_range(offset, length, size).encode("ascii")))
        return 206, offset, length
    return 200, offset, length


def _parts(record: ObjectRecord, body: Body | None) -> list[PartInfo]:
    """What ``partNumber`` counts: 1..N, whatever numbers they were uploaded with. What one request stored is one."""
    return body.parts if record.parts and body is not None else [PartInfo(1, record.size, b"", record.checksum)]


def _part_range(record: ObjectRecord, body: Body | None, number: int) -> tuple[int, int]:
    parts = _parts(record, body)
    if number > len(parts):
        raise S3Error("InvalidPartNumber", ActualPartCount=str(len(parts)), PartNumberRequested=str(number))
    return sum(part.size for part in parts[: number - 1]), parts[number - 1].size


def _part_checksum(record: ObjectRecord, body: Body | None, offset: int, length: int) -> Headers:
    """The checksum of a range that is exactly one part, with the object's own type.

    Source: AWS, "Checking object integrity in Amazon S3": of a single part, by its number or by the bytes that it is.
    """
    for part in _parts(record, body):
        if not offset and part.size == length:
            return [*checksum_headers(part.checksum)[:1], *checksum_headers(record.checksum)[1:]]
        offset -= part.size
        if offset < 0:
            break
    return []


def put_object(call: Call) -> Coroutine[Deferred[Any], Any, None] | Deferred[None]:
    """PutObject. A small one, without conditions, takes no coroutine."""
    request, limit = call.request, call.store.objects.inline_limit
    if request.body.length is None or request.body.length > limit:
        return _put(call)
    if not request.has_none_of(WritePrecondition.HEADERS):
        return _put(call)
    bucket, begin = call.bucket(), call.store.objects.writer
    content_type, headers = parse_object_headers(call.object_headers())
    upload = begin_small(request, call.auth, lambda size, digests: begin(bucket, digests, size), limit)
    if upload is None:
        return _put(call)
    piece = request.body.take()
    if piece is None:
        return request.body.read(limit).addCallback(_put_small, call, upload, content_type, headers)
    return _put_small(piece, call, upload, content_type, headers)


def _put_small(
    piece: bytes, call: Call, upload: SmallUpload, content_type: str, headers: dict[str, str]
) -> Deferred[None]:
    body, checksum = upload.finish(piece)
    attributes = Attributes(content_type, headers, checksum)
    putting = call.store.objects.put_inline(call.bucket_name, call.key, body, attributes)
    return putting.addCallback(_answer_put, call)


def _answer_put(written: tuple[Bucket, ObjectRecord], call: Call) -> None:
    call.send_empty(200, *write_headers(*written))


async def _put(call: Call) -> None:
    bucket = call.bucket()
    content_type, headers = parse_object_headers(call.object_headers())
    precondition, seen = WritePrecondition.none, b""
    if not call.request.has_none_of(WritePrecondition.HEADERS):
        precondition = WritePrecondition.parse(call.text_header)
        seen = _look_before(call, precondition)
    footer: Owner = {"bucket": bucket.id, "key": call.key, "content-type": content_type, "metadata": headers}
    body, checksum = await receive(
        call.request,
        call.auth,
        lambda size, digests: call.store.objects.writer(bucket, digests, size),
        footer,
    )
    attributes = Attributes(content_type, headers, checksum)
    written = await call.store.objects.put(call.bucket_name, call.key, body, attributes, precondition, seen)
    _answer_put(written, call)


def _look_before(call: Call, precondition: WritePrecondition) -> bytes:
    """Refuse what cannot succeed before the body is read; the version that the precondition holds for, if any."""
    try:
        current = call.store.objects.fetch(call.bucket_name, call.key, with_body=False).record
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise
        current = None
    precondition.check(current)
    return b"" if current is None else current.version_id


class ObjectResource(S3Resource):
    """``/s3/BUCKET/KEY``: the key is opaque, so there is nothing below. One for all keys: the request has its own."""

    level = Level.OBJECT
    handlers = {
        "GetObject": get_object,
        "HeadObject": get_object,
        "PutObject": put_object,
        "DeleteObject": delete_object,
        "GetObjectTagging": get_object_tagging,
        "CopyObject": copy_object,
        "CreateMultipartUpload": multipart.create_multipart_upload,
        "UploadPart": multipart.upload_part,
        "UploadPartCopy": multipart.upload_part_copy,
        "CompleteMultipartUpload": multipart.complete_multipart_upload,
        "AbortMultipartUpload": multipart.abort_multipart_upload,
        "ListParts": multipart.list_parts,
    }
