"""Plain PutObject and DeleteObject as SDKs sign them in ``Authorization`` (see ``plain``), of a body of any length.

Here the short way leads to the operation itself: one match takes the place of the parser, of the resources on the way
and of the search for the operation. So what the operation finds wrong is told as it is when the tree has led there.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from aisobj.protocol import operations
from aisobj.protocol.operations import Level, Operation
from aisobj.protocol.plain_signature import DELETES, EXPECT, LENGTH, WRITES, PlainHeaders, PlainValues
from aisobj.protocol.query import EMPTY
from aisobj.s3.call import Context
from aisobj.s3.object import ObjectResource
from aisobj.s3.plain_head import has_each_once, note_sender, sdk_headers, sdk_target
from aisobj.web.body import RequestBody
from aisobj.web.framing import LengthFraming
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

_match_put = re.compile(
    rb"(PUT) " + sdk_target(b"PutObject") + rb" HTTP/1\.1\r\n" + sdk_headers(WRITES) + rb"\r\n"
).fullmatch
_match_delete = re.compile(
    rb"(DELETE) " + sdk_target(b"DeleteObject") + rb" HTTP/1\.1\r\n" + sdk_headers(DELETES) + rb"\r\n"
).fullmatch

_PUT, _DELETE = (operations.find(Level.OBJECT, method, EMPTY, lambda name: None) for method in (b"PUT", b"DELETE"))
#: Resources of so many buckets are kept, whether the buckets exist or not.
_BUCKETS = 256


class PlainSdkWrites:
    """A :data:`aisobj.web.site.Shortcut`."""

    def __init__(self, context: Context) -> None:
        self._authenticator = context.authenticator
        self._object = lru_cache(maxsize=_BUCKETS)(partial(ObjectResource, context))

    def __call__(self, channel: Channel, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n") + 4
        if end > channel.site.limits.head_bytes:
            return False
        head = data[:end]
        if data.startswith(b"PUT"):
            return self._take(channel, head, data[end:], _match_put(head), WRITES, _PUT)
        return end == len(data) and self._take(channel, head, b"", _match_delete(head), DELETES, _DELETE)

    def _take(
        self,
        channel: Channel,
        head: bytes,
        rest: bytes,
        match: re.Match[bytes] | None,
        headers: PlainHeaders,
        operation: Operation,
    ) -> bool:
        """:param rest: what came after the head."""
        if match is None:
            return False
        started = channel.site.now()
        method, uri, path, raw_bucket, key, query, *values = match.groups()
        length = int(values[LENGTH] or 0)
        if not has_each_once(head, values) or len(rest) > length or (headers is WRITES and not _is_announced(values)):
            return False
        try:
            auth = self._authenticator.authenticate_plain(headers, method, path, query or b"", values)
        except Exception:  # the tree meets it too, and tells
            return False
        if auth is None:
            return False
        bucket = raw_bucket.decode("ascii")
        request = PlainRequest(channel, started, method, uri, path, bucket, key)
        request.set_headers(
            {name: value for name, value in zip(headers.names, values, strict=True) if value is not None}
        )
        note_sender(request, auth.principal, uri, None)
        if length:
            request.body = RequestBody(channel, LengthFraming(length), values[EXPECT] is not None)
        resource = self._object(bucket)
        perform = partial(resource.perform, auth=auth, query=EMPTY, operation=operation)
        channel.run_request(request, rest, lambda: resource.run(request, perform))
        return True


def _is_announced(values: PlainValues) -> bool:
    """The length of a body is there; of one that is empty the tree tells who expects ``100 Continue``."""
    length = values[LENGTH]
    return length is not None and (length != b"0" or values[EXPECT] is None)
