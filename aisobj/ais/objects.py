"""``/v1/objects/BUCKET/KEY``: put, get, head, delete.

Source: AIStore ``ais/target.go`` (``httpobj*``), ``cmn/objattrs.go`` (headers), ``api/apc/const.go``; the calls of the
Python SDK 2.0.0, which sends ``Content-Type: application/json`` with everything, so no Content-Type is stored here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred

from aisobj.ais.base import Call, NativeResource, admit_parameters, split
from aisobj.ais.errors import NODE_ID, bucket_uri, not_implemented
from aisobj.checksums import CHECKSUM_TYPES
from aisobj.errors import BlobMissing, S3Error
from aisobj.model import Attributes, ObjectRecord
from aisobj.protocol.conditions import WritePrecondition, parse_range, resolve
from aisobj.protocol.metadata import parse_object_headers
from aisobj.protocol.s3time import http_date
from aisobj.storage.objects import Found
from aisobj.web.download import send_found
from aisobj.web.request import Request
from aisobj.web.upload import receive

Headers = list[tuple[bytes, bytes]]

_META = "x-amz-meta-"
_CUSTOM = b"ais-custom-md"
#: How often a reader whose blobs were replaced under it looks again.
_READ_ATTEMPTS = 5
#: In the query of a request that was sent here by :func:`_over_tls`.
_ARRIVED = "ais_target"

#: What HEAD may be asked for (``api/apc/lsmsg.go``); those without a header have nothing to say here.
PROPERTIES = frozenset(
    {"name", "size", "version", "checksum", "atime", "copies", "ec", "custom", "location", "chunked"}
    | {"last-modified", "etag", "cached", "status"}
)


async def get(call: Call) -> None:
    """The object, or one range of it."""
    _refuse_processing(call)
    for _ in range(_READ_ATTEMPTS):
        running = _send(call)
        if running is None:
            return
        try:
            await running
            return
        except BlobMissing:  # replaced since the index was read
            if call.request.status:
                raise
    raise S3Error("SlowDown", "The object is being replaced all the time.", headers={"Retry-After": "1"})


async def head(call: Call) -> None:
    """What is known about the object: ``?props=`` names what is wanted, without it everything comes."""
    found = call.store.objects.fetch(call.bucket, call.key, with_body=False)
    text = call.query.get("props")
    wanted = PROPERTIES if text is None else frozenset(filter(None, (name.strip() for name in text.split(","))))
    for name in wanted - PROPERTIES:
        raise S3Error("InvalidRequest", f'unknown object property "{name[:80]}"')
    headers = _attributes(call, found, wanted)
    call.request.respond(200, (*headers, (b"Content-Length", b"%d" % found.record.size)))


async def put(call: Call) -> None:
    """Store an object. ``Ais-Checksum-Type`` and ``-Value`` are verified, ``Ais-Custom-Md`` becomes user metadata."""
    admit_parameters(call.query, _ARRIVED)
    if _over_tls(call):
        return
    bucket = call.store.buckets.get(call.bucket)
    kind, value = _promised(call.request)
    _, metadata = parse_object_headers(_custom(call.request))
    body, checksum = await receive(
        call.request,
        call.auth,
        lambda size, digests: call.store.objects.writer(bucket, [*digests, kind], size),
        {"bucket": bucket.id, "key": call.key, "content-type": ""},
        call.request.limits.object_bytes,
    )
    found = body.digests.hex(kind)
    if found != value and kind != "none":
        await call.store.objects.discard(body)
        raise S3Error("BadDigest", f"BAD DATA CHECKSUM: {kind}[{value}] != {kind}[{found}]")
    _, record = await call.store.objects.put(
        call.bucket, call.key, body, Attributes(headers=metadata, checksum=checksum), WritePrecondition.none
    )
    call.send(*_checksum(record), *_version(record), *_etag(record))


async def delete(call: Call) -> None:
    """Delete the object; a missing one is an error, unlike in S3."""
    admit_parameters(call.query)
    await call.message()
    await call.store.objects.delete(call.bucket, call.key, _must_exist)
    call.send()


def _must_exist(current: ObjectRecord | None) -> None:
    if current is None:
        raise S3Error("NoSuchKey")


async def post(call: Call) -> None:
    """AIStore's multipart uploads, renames and promotions: not here."""
    message = await call.message()
    raise not_implemented(f'action "{message.action}"')


async def patch(call: Call) -> None:
    """AIStore sets custom properties so: not here."""
    raise not_implemented("setting the custom properties of an object")


def _send(call: Call) -> Deferred[None] | None:
    found = call.store.objects.fetch(call.bucket, call.key)
    size = found.record.size
    headers = _attributes(call, found, PROPERTIES)
    headers.append((b"Content-Type", b"application/octet-stream"))
    text = call.request.header(b"range")
    spec = None if text is None else parse_range(text.decode("latin-1"))
    if spec is None:
        return send_found(call.request, call.store, found, 200, headers, 0, size)
    offset, length = resolve(spec, size)
    headers.append((b"Content-Range", b"bytes %d-%d/%d" % (offset, offset + length - 1, size)))
    return send_found(call.request, call.store, found, 206, headers, offset, length)


def _attributes(call: Call, found: Found, wanted: frozenset[str]) -> Headers:
    record = found.record
    headers: Headers = [(b"Ais-Present", b"true"), (b"Accept-Ranges", b"bytes")]
    for name, make in _HEADERS.items():
        if name in wanted:
            headers.extend(make(record))
    if "custom" in wanted:
        for name, value in call.store.objects.headers(found.bucket, record).items():
            if name.startswith(_META):
                headers.append((b"Ais-Custom-Md", f"{name.removeprefix(_META)}={value}".encode("latin-1")))
    return headers


def _checksum(record: ObjectRecord) -> Headers:
    if not record.checksum_value:  # type none, or made by CompleteMultipartUpload
        return []
    return [
        (b"Ais-Checksum-Type", record.checksum_type.encode("ascii")),
        (b"Ais-Checksum-Value", record.checksum_value.encode("ascii")),
    ]


def _version(record: ObjectRecord) -> Headers:
    return [(b"Ais-Version", b"%d" % record.counter)]


def _etag(record: ObjectRecord) -> Headers:
    return [(b"ETag", b'"%b"' % record.etag.encode("ascii"))]


#: property -> its headers
_HEADERS: Mapping[str, Callable[[ObjectRecord], Headers]] = {
    "checksum": _checksum,
    # The time of the last write: reads leave no trace.
    "atime": lambda record: [(b"Ais-Atime", b"%d" % record.mtime)],
    "version": _version,
    "last-modified": lambda record: [(b"Last-Modified", http_date(record.mtime).encode("ascii"))],
    "etag": _etag,
    "copies": lambda record: [(b"Ais-Mirror-Copies", b"1")],
    "location": lambda record: [(b"Ais-Location", f"t[{NODE_ID}]".encode("ascii"))],
}


def _promised(request: Request) -> tuple[str, str]:
    """The checksum that the client gives for the body: its type and lower-case hex, or ("none", "")."""
    kind = (request.header(b"ais-checksum-type") or b"").decode("latin-1")
    value = (request.header(b"ais-checksum-value") or b"").decode("latin-1")
    if not kind or not value:
        return "none", ""
    if kind not in CHECKSUM_TYPES:
        raise S3Error(
            "InvalidRequest", f"invalid checksum type {json.dumps(kind)} (expecting [{' '.join(CHECKSUM_TYPES)}])"
        )
    return kind, value.lower()


def _custom(request: Request) -> Headers:
    """``Ais-Custom-Md: name=value`` as the S3 header that it stands for."""
    found: Headers = []
    for header, text in request.raw_headers:
        if header == _CUSTOM:
            name, equals, value = text.partition(b"=")
            if not equals or not name.strip():
                raise S3Error("InvalidRequest", "invalid Ais-Custom-Md header: expecting name=value")
            found.append((_META.encode() + name.strip(), value.strip()))
    return found


def _refuse_processing(call: Call) -> None:
    """Parameters that ask for something else than the object's bytes. Raises NotImplemented."""
    for name in call.query.names():
        if name.startswith(("arch", "etl_")):
            raise not_implemented(f'the query parameter "{name}"')


def _over_tls(call: Call) -> bool:
    """Send AIStore's Python SDK round once more, if this is its empty first attempt over TLS.

    Over https the SDK (``request_client.py``, ``_prepare_proxy_request``) asks a proxy for the target's address before
    it sends a body: it announces the Content-Length, sends nothing, and takes any answer but a redirect for the final
    one. Waiting for the body would hang. This is the only redirect that this server ever sends.
    """
    request = call.request
    if (
        not request.secure
        or _ARRIVED in call.query
        or not (request.header(b"user-agent") or b"").startswith(b"ais/python")
        or (request.header(b"connection") or b"").lower() != b"close"
    ):
        return False
    authority = request.header(b"host") or b""
    separator = b"&" if request.query else b"?"
    location = b"https://%b%b%b%b=1" % (authority, request.uri, separator, _ARRIVED.encode())
    request.keep_alive = False
    request.respond(307, ((b"Location", location),))
    return True


class ObjectsResource(NativeResource):
    """``/v1/objects/BUCKET/KEY``; the key is all that follows, and opaque."""

    label = "V1Objects"
    handlers = {b"GET": get, b"HEAD": head, b"PUT": put, b"DELETE": delete, b"POST": post, b"PATCH": patch}

    def target(self, request: Request) -> tuple[str, bytes]:
        bucket, key = split(request, b"/v1/objects")
        if not bucket:
            raise S3Error("InvalidBucketName")
        if not key:
            if request.method == b"POST":
                raise not_implemented(f"POST to {bucket_uri(bucket)}")
            raise S3Error("InvalidRequest", f"missing object name in {bucket_uri(bucket)}/")
        return bucket, key
