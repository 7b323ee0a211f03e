"""Plain PutObject and DeleteObject (see ``plain``): of a body that has arrived with its head, and of what is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from aisobj.model import Bucket, ObjectRecord
from aisobj.s3.answers import write_lines
from aisobj.s3.call import Context, S3Resource
from aisobj.s3.plain_head import ACCEPT, AGENT, HOST, KEEP_ALIVE, TARGET, note_sender, signature
from aisobj.web.body import WholeBody
from aisobj.web.rendering import OperationResource
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

#: Clients have it in one of several places.
_LENGTH = rb"(?:Content-Length: (?P<%b>0|[1-9][0-9]{0,6}+)\r\n)?+"
_match = re.compile(
    rb"(PUT|DELETE) "
    + TARGET
    + rb" HTTP/1\.1\r\n"
    + _LENGTH % b"early"
    + HOST
    + ACCEPT
    + AGENT
    + rb"(?(early)|%b)" % (_LENGTH % b"middle")
    + ACCEPT
    + KEEP_ALIVE
    + rb"(?(early)|(?(middle)|%b))" % (_LENGTH % b"late")
    + rb"\r\n"
).fullmatch


class PlainWrite(PlainRequest):
    """With what was begun, and who tells how it failed."""

    writing: Deferred[Any]
    edge: OperationResource

    def answer(self) -> None:
        self.edge.watch(self.writing.addCallback(self.written), self)

    def written(self, outcome: Any) -> None:
        """Answer: it is done."""
        raise NotImplementedError


class PlainPut(PlainWrite):
    operation = "PutObject"

    def written(self, outcome: tuple[Bucket, ObjectRecord]) -> None:
        self.respond_lines(200, write_lines(*outcome))


class PlainDelete(PlainWrite):
    operation = "DeleteObject"

    def written(self, outcome: object) -> None:
        self.respond_lines(204, b"")


class PlainWrites:
    """A :data:`aisobj.web.site.Shortcut`."""

    #: Of the methods that it may know.
    FIRST_BYTES = (b"P", b"D")

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator
        self._edge = S3Resource(context)

    def __call__(self, channel: Channel, data: bytes) -> PlainRequest | None:
        end = data.find(b"\r\n\r\n") + 4
        match = _match(data, 0, end) if end <= channel.site.limits.head_bytes else None
        if match is None:
            return None
        started = channel.site.now()
        method, uri, path, raw_bucket, key, *query, early, host, agent, middle, late = match.groups()
        bucket, body = raw_bucket.decode("ascii"), data[end:]
        if not self._is_whole(method, early or middle or late, body):
            return None
        try:
            presigned = signature(query)
            principal = self._authenticator.authenticate_bare(method, path, host, presigned)
            if principal is None:
                return None
            writing: Deferred[Any] | None
            request = (PlainPut if method == b"PUT" else PlainDelete)(channel, started, method, uri, path, bucket, key)
            note_sender(request, principal, presigned, agent)
            if method == b"PUT":
                request.body = WholeBody(len(body))
                writing = self._objects.put_whole(bucket, key, body)
            else:
                writing = self._objects.delete_at_once(bucket, key)
        except Exception:  # nothing has been begun; the tree meets it too, and tells
            return None
        if writing is None:
            return None
        request.writing, request.edge = writing, self._edge
        return request

    def _is_whole(self, method: bytes, length: bytes | None, body: bytes) -> bool:
        """All of the body has come, and nothing else, and it may go into the index."""
        if method == b"DELETE" or length is None:
            return method == b"DELETE" and length is None and not body
        return len(body) == int(length) and len(body) <= self._objects.inline_limit
