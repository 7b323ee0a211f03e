"""Plain GetObject and HeadObject (see ``plain``): answered at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aisobj.protocol.presigned import PlainQuery
from aisobj.s3.answers import read_lines
from aisobj.s3.call import Context
from aisobj.s3.plain_head import ACCEPT, AGENT, HOST, KEEP_ALIVE, TARGET, note_sender
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

_match = re.compile(
    rb"(GET|HEAD) " + TARGET + rb" HTTP/1\.1\r\n" + HOST + ACCEPT + AGENT + ACCEPT + KEEP_ALIVE + rb"\r\n"
).fullmatch


class PlainReads:
    """A :data:`aisobj.web.site.Shortcut`."""

    #: Of the methods that it may know.
    FIRST_BYTES = (b"G", b"H")

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator

    def __call__(self, channel: Channel, head: bytes) -> bool:
        match = _match(head) if len(head) <= channel.site.limits.head_bytes else None
        if match is None:
            return False
        started = channel.site.now()
        method, uri, path, raw_bucket, key, *query, host, agent = match.groups()
        bucket = raw_bucket.decode("ascii")
        try:
            presigned: PlainQuery | None = query if query[0] is not None else None  # type: ignore[assignment]
            principal = self._authenticator.authenticate_bare(method, path, host, presigned)
            if principal is None:
                return False
            found = self._objects.fetch(bucket, key, method == b"GET")
            if found.bucket.props.validate_warm_get:
                self._objects.check_inline(found)
        except Exception:  # the tree meets it too, and tells
            return False
        lines = read_lines(found.bucket, found.record)
        content: bytes | memoryview | None = found.inline if method == b"GET" else b""
        if lines is None or content is None:
            return False
        request = PlainRequest(channel, started, method, uri, path, bucket, key)
        request.operation = "GetObject" if method == b"GET" else "HeadObject"
        note_sender(request, principal, presigned, agent)
        channel.begin(request)
        request.respond_lines(200, lines, content)
        return True
