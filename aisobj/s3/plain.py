"""Plain reads: GetObject and HeadObject of a whole small object, as what reads a data set sends them.

Such a request says nothing but who asks for what: a presigned URL as SDKs write it (or, where the server is open, one
without a signature), Host, and headers that change no answer. One match of a regular expression takes it apart, and it
is answered with half of what the resource tree spends on it (docs/performance.md).

It is a shortcut, not a second opinion: what it cannot answer with 200 at once (another form, a wrong signature, no such
object, a body in a blob) it leaves to the tree, which looks at it from the beginning and alone tells errors. The
fuzzing target ``plain-read`` holds the two against each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aisobj.protocol import names
from aisobj.protocol.presigned import PLAIN_QUERY, PlainQuery, without_secrets
from aisobj.s3.answers import read_lines
from aisobj.s3.call import Context
from aisobj.web.body import NO_BODY
from aisobj.web.request import Request, new_request_id

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

_ACCEPT = rb"(?:Accept(?:-Encoding|-Language)?+: [!-~](?:[ -~]*[!-~])?\r\n){0,3}+"
#: Names of headers are as clients write them. The path is the canonical one: nothing in it is escaped.
_match = re.compile(
    rb"(GET|HEAD) ((/s3/([a-z0-9.-]{3,63}+)/([A-Za-z0-9_.~/-]{1,%d}+))" % names.MAX_KEY_BYTES
    + rb"(?:\?"
    + PLAIN_QUERY
    + rb")?+) HTTP/1\.1\r\n"
    + rb"Host: ([A-Za-z0-9.-]++(?::[0-9]{1,5}+)?+)\r\n"
    + _ACCEPT
    + rb"(?:User-Agent: ([!-~](?:[ -~]*[!-~])?)\r\n)?+"
    + _ACCEPT
    + rb"(?:Connection: [Kk]eep-[Aa]live\r\n)?+\r\n"
).fullmatch

_NO_HEADERS: dict[bytes, bytes] = {}


class PlainRead(Request):
    """What the channel, the log and the metrics ask a request for; the rest of a :class:`Request` is not there."""

    http11 = True
    keep_alive = True
    body = NO_BODY

    def __init__(self, channel: Channel, started: float, method: bytes, uri: bytes, bucket: str, key: bytes) -> None:
        self.channel = channel
        self.method = method
        self.uri = uri
        self.bucket = bucket
        self.key = key
        self.operation = "GetObject" if method == b"GET" else "HeadObject"
        self.header = _NO_HEADERS.get
        self.started = started
        self.request_id = new_request_id()


class PlainReads:
    """A :data:`aisobj.web.site.Shortcut`."""

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator

    def __call__(self, channel: Channel, head: bytes) -> tuple[Request, bytes, bytes | memoryview] | None:
        match = _match(head) if len(head) <= channel.site.limits.head_bytes else None
        if match is None:
            return None
        started = channel.site.now()
        method, uri, path, raw_bucket, key, *query, host, agent = match.groups()
        bucket = raw_bucket.decode("ascii")
        try:
            presigned: PlainQuery | None = query if query[0] is not None else None  # type: ignore[assignment]
            principal = self._authenticator.authenticate_bare(method, path, host, presigned)
            if principal is None:
                return None
            found = self._objects.fetch(bucket, key, method == b"GET")
            if found.bucket.props.validate_warm_get:
                self._objects.check_inline(found)
        except Exception:  # the tree meets it too, and tells
            return None
        lines = read_lines(found.bucket, found.record)
        body: bytes | memoryview | None = found.inline if method == b"GET" else b""
        if lines is None or body is None:
            return None
        request = PlainRead(channel, started, method, uri, bucket, key)
        if agent is not None:
            request.header = {b"user-agent": agent}.get
        if presigned is not None and not principal.anonymous:
            request.principal_name = principal.name
            request.logged_target = (b"%b?%b" % (path, without_secrets(presigned))).decode("ascii")
        return request, lines, body
