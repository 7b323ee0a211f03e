"""Plain PutObject and DeleteObject (see ``plain``): of a body that has arrived with its head, and of what is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from aisobj.protocol.presigned import PlainQuery, without_secrets
from aisobj.s3.answers import write_lines
from aisobj.s3.call import Context, S3Resource
from aisobj.s3.plain_head import ACCEPT, AGENT, HOST, KEEP_ALIVE, TARGET, note_sender
from aisobj.s3.plain_sdk_writes import PlainSdkWrites
from aisobj.web.body import WholeBody
from aisobj.web.request import PlainRequest, Request

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

#: Clients have it in one of several places.
_LENGTH = rb"(?>(?:Content-Length: (?P<%b>0|[1-9][0-9]{0,6}+)\r\n)?)"
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


class PlainWrites:
    """A :data:`aisobj.web.site.Shortcut`."""

    #: Of the methods that it may know.
    FIRST_BYTES = (b"P", b"D")

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator
        self._edge = S3Resource(context)  # tells what fails
        self._as_sdk = PlainSdkWrites(context)

    def __call__(self, channel: Channel, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n") + 4
        is_short = end <= channel.site.limits.head_bytes
        match = _match(data, 0, end) if is_short else None
        if match is None:
            return is_short and self._as_sdk(channel, data[:end], data[end:])
        started = channel.site.now()
        method, uri, path, raw_bucket, key, *query, early, host, agent, middle, late = match.groups()
        bucket, body = raw_bucket.decode("ascii"), data[end:]
        if not self._is_whole(method, early or middle or late, body):
            return False
        try:
            presigned: PlainQuery | None = query if query[0] is not None else None  # type: ignore[assignment]
            principal = self._authenticator.authenticate_bare(method, path, host, presigned)
            if principal is None:
                return False
            request = PlainRequest(channel, started, method, uri, path, bucket, key)
            target = None if presigned is None else without_secrets(uri, path, presigned)
            note_sender(request, principal, target, agent)
            writing: Deferred[Any] | None
            if method == b"PUT":
                request.operation = "PutObject"
                request.body = WholeBody(len(body))
                writing = self._objects.put_whole(bucket, key, body)
            else:
                request.operation = "DeleteObject"
                writing = self._objects.delete_at_once(bucket, key)
        except Exception:  # nothing has been begun; the tree meets it too, and tells
            return False
        if writing is None:
            return False
        channel.begin(request)
        self._edge.watch(writing, request, _answer)
        return True

    def _is_whole(self, method: bytes, length: bytes | None, body: bytes) -> bool:
        """All of the body has come, and nothing else, and it may go into the index."""
        if method == b"DELETE" or length is None:
            return method == b"DELETE" and length is None and not body
        return len(body) == int(length) and len(body) <= self._objects.inline_limit


def _answer(done: Any, request: Request) -> None:
    """:param done: of a PUT, the bucket and the object."""
    if request.method == b"PUT":
        request.respond_lines(200, write_lines(*done))
    else:
        request.respond_lines(204, b"")
