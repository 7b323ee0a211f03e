"""Plain GetObject and HeadObject (see ``plain``): answered at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aisobj.s3.answers import read_lines
from aisobj.s3.call import Context
from aisobj.s3.plain_head import ACCEPT, AGENT, HOST, KEEP_ALIVE, TARGET, note_sender, signature
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

_match = re.compile(
    rb"(GET|HEAD) " + TARGET + rb" HTTP/1\.1\r\n" + HOST + ACCEPT + AGENT + ACCEPT + KEEP_ALIVE + rb"\r\n"
).fullmatch


class PlainRead(PlainRequest):
    """With its answer, until it is given: the request itself lives on for the access log."""

    lines: bytes
    content: bytes | memoryview

    def answer(self) -> None:
        lines, content = self.lines, self.content
        del self.lines, self.content
        self.respond_lines(200, lines, content)


class PlainReads:
    """A :data:`aisobj.web.site.Shortcut`."""

    #: Of the methods that it may know.
    FIRST_BYTES = (b"G", b"H")

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator

    def __call__(self, channel: Channel, head: bytes) -> PlainRequest | None:
        match = _match(head) if len(head) <= channel.site.limits.head_bytes else None
        if match is None:
            return None
        started = channel.site.now()
        method, uri, path, raw_bucket, key, *query, host, agent = match.groups()
        bucket = raw_bucket.decode("ascii")
        try:
            presigned = signature(query)
            principal = self._authenticator.authenticate_bare(method, path, host, presigned)
            if principal is None:
                return None
            found = self._objects.fetch(bucket, key, method == b"GET")
            if found.bucket.props.validate_warm_get:
                self._objects.check_inline(found)
        except Exception:  # the tree meets it too, and tells
            return None
        lines = read_lines(found.bucket, found.record)
        content: bytes | memoryview | None = found.inline if method == b"GET" else b""
        if lines is None or content is None:
            return None
        request = PlainRead(channel, started, method, uri, path, bucket, key)
        request.operation = "GetObject" if method == b"GET" else "HeadObject"
        request.lines = lines
        request.content = content
        note_sender(request, principal, presigned, agent)
        return request
