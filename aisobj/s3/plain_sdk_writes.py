"""Plain PutObject and DeleteObject as SDKs sign them in ``Authorization`` (see ``plain``), of a body of any length.

Here the short way leads to the operation itself: one match takes the place of the parser, of the resources on the way
and of the search for the operation. So what the operation finds wrong is told as it is when the tree has led there.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from aisobj.protocol import operations
from aisobj.protocol.operations import Level, Operation
from aisobj.protocol.plain_signature import DELETES, EXPECT, LENGTH, PAYLOAD, WRITES, PlainHeaders, PlainValues
from aisobj.protocol.query import EMPTY
from aisobj.s3.call import Context
from aisobj.s3.object import ObjectResource
from aisobj.s3.plain_head import has_each_once, note_sender, sdk_headers, sdk_target
from aisobj.web.auth import authenticated
from aisobj.web.body import RequestBody
from aisobj.web.framing import LengthFraming
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.web.channel import Channel


def _kind(method: bytes, operation: bytes, headers: PlainHeaders) -> tuple[re.Pattern[bytes], PlainHeaders, Operation]:
    """What a head looks like, what it may have, and what it asks for."""
    target, lines = sdk_target(operation), sdk_headers(headers)
    pattern = re.compile(rb"(%b) %b HTTP/1\.1\r\n%b\r\n" % (method, target, lines))
    return pattern, headers, operations.find(Level.OBJECT, method, EMPTY, lambda name: None)


_PUT = _kind(b"PUT", b"PutObject", WRITES)
_DELETE = _kind(b"DELETE", b"DeleteObject", DELETES)


class PlainSdkWrites:
    """As a :data:`aisobj.web.site.Shortcut`, of a head that is not too long and what came after it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, channel: Channel, head: bytes, rest: bytes) -> bool:
        pattern, headers, operation = _PUT if head.startswith(b"P") else _DELETE
        match = pattern.fullmatch(head)
        if match is None:
            return False
        started = channel.site.now()
        method, uri, path, raw_bucket, key, query, *values = match.groups()
        length = int(values[LENGTH] or 0)
        if not has_each_once(head, values) or len(rest) > length or (headers is WRITES and not _is_announced(values)):
            return False
        try:
            principal = self._context.authenticator.authenticate_plain(headers, method, path, query or b"", values)
        except Exception:  # the tree meets it too, and tells
            return False
        if principal is None:
            return False
        bucket = raw_bucket.decode("ascii")
        request = PlainRequest(channel, started, method, uri, path, bucket, key)
        fields = zip(headers.names, values, strict=True)
        request.set_headers({name: value for name, value in fields if value is not None})
        note_sender(request, principal, uri, None)
        if length:
            request.body = RequestBody(channel, LengthFraming(length), values[EXPECT] is not None)
        resource = ObjectResource(self._context, bucket)
        auth = authenticated(principal, values[PAYLOAD])
        perform = partial(resource.perform, auth=auth, query=EMPTY, operation=operation)
        channel.run_request(request, rest, lambda: resource.run(request, perform))
        return True


def _is_announced(values: PlainValues) -> bool:
    """The length of a body is there; of one that is empty the tree tells who expects ``100 Continue``."""
    length = values[LENGTH]
    return length is not None and (length != b"0" or values[EXPECT] is None)
