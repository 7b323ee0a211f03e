"""One request and its response, as the resources see it.

Not a subclass of ``twisted.web.server.Request``: most of what that inherits (``content``, ``args``, sessions, buffered
writes) would be there and not work. It has what ``twisted.web.resource.getChildForRequest`` and ``Resource.render``
need.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from aisobj.errors import S3Error
from aisobj.protocol.xml import error_document
from aisobj.web.body import NO_BODY, BodyConsumer, RequestBody
from aisobj.web.framing import ChunkedFraming, LengthFraming
from aisobj.web.head import Head, RawHeaders
from aisobj.web.limits import Limits
from aisobj.web.transport import Block, BlockSource

if TYPE_CHECKING:
    from aisobj.web.channel import Channel
    from aisobj.web.site import Site

__all__ = ["Block", "BlockSource", "BodyConsumer", "Ended", "Request", "RequestBody"]

#: What the access log says of a request whose client left before it was answered; nginx's number.
CLIENT_CLOSED: Final = 499

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode("ascii")) for status in HTTPStatus
}
_BODILESS: Final = frozenset({204, 304})
_NO_HEADERS: Final[dict[bytes, bytes]] = {}

_PERCENT: Final = ord("%")  # a number is looked for at once, bytes after a TypeError in Python 3.11

# Unique among workers by the random half, within one by the counter.
_ID: Final = f"{os.urandom(4).hex().upper()}%08X"
_id_numbers: Final = itertools.count(int.from_bytes(os.urandom(3), "big"))


def new_request_id() -> str:
    """16 upper-case hexadecimal digits, of no other request."""
    return _ID % (next(_id_numbers) & 0xFFFFFFFF)


#: A request that has ended, when (seconds since the epoch), and how many seconds it took.
Ended = tuple["Request", float, float]


class Request:
    """A request whose head has arrived. Its body is read by ``body.deliver`` or ``body.read``, its answer is one
    :meth:`respond`, or :meth:`start_response` and :meth:`send`.

    :ivar uri: raw target in origin form, with the query, exactly as on the wire.
    :ivar path: raw, what precedes the first ``?``; ``query`` what follows it, ``b""`` without one.
    :ivar raw_headers: names in lower case, in the order of the wire. Trailers never get here.
    :ivar postpath: unquoted segments of the path that resource traversal has not consumed; ``prepath`` the others.
    :ivar header: name in lower case -> the value of that header, of several the list that they make, or None.
    :ivar has_none_of: names in lower case -> whether there is no such header.
    :ivar request_id: 16 upper-case hexadecimal digits.
    :ivar started: seconds since the epoch when the head was complete.
    :ivar status: of the response, 0 until its head is sent.
    :ivar finished: the response is complete, or never will be.
    :ivar gone: the client went away, or the connection was aborted, before the response was complete; whatever is
        sent from then on is dropped.
    :ivar operation: and ``bucket``, ``key``, ``principal_name``, ``error_code``: for the access log and the metrics,
        set by whoever knows them.
    :ivar logged_target: ``uri`` as the access log shows it, where whoever made the request knows; without secrets, and
        fit for a line, as ``key`` is then.
    :ivar bytes_out: of the response's body.
    :ivar denied: it could not prove who sends it, or may not do what it asks for.
    :ivar outcomes: for the audit log, of an operation on several keys: each key that was tried, with the error's code
        or None.
    """

    operation: str | None = None
    bucket: str | None = None
    key = b""
    principal_name: str | None = None
    error_code: str | None = None
    denied = False
    logged_target: str | None = None
    outcomes: list[tuple[bytes, str | None]] | None = None
    status = 0
    bytes_out = 0
    finished = False
    gone = False
    _waiting_for_end: list[Deferred[None]] | None = None
    _headers: Headers | None = None
    _to_send = 0

    def __init__(self, channel: Channel, head: Head, started: float) -> None:
        self.channel = channel
        self.method = head.method
        self.uri = uri = head.target
        self.path, _, self.query = uri.partition(b"?")
        self.raw_headers: RawHeaders = head.headers
        self.http11 = head.http11
        self.keep_alive = head.keep_alive
        self.started = started
        self.request_id = new_request_id()
        self.prepath: list[bytes] = []
        segments = self.path[1:].split(b"/")
        self.postpath = [unquote_to_bytes(segment) for segment in segments] if _PERCENT in self.path else segments
        self.header: Callable[[bytes], bytes | None] = head.fields.get
        self.has_none_of: Callable[[AbstractSet[bytes]], bool] = head.fields.keys().isdisjoint
        if head.length == 0:
            self.body = NO_BODY
        else:
            limits = channel.site.limits
            framing = ChunkedFraming(limits) if head.length is None else LengthFraming(head.length)
            self.body = RequestBody(channel, framing, head.expects_continue)

    # The request

    @property
    def requestHeaders(self) -> Headers:
        """The headers in twisted.web's form, built when first asked for."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.raw_headers:
                self._headers.addRawHeader(name, value)
        return self._headers

    @property
    def site(self) -> Site:
        return self.channel.site

    @property
    def limits(self) -> Limits:
        return self.channel.site.limits

    @property
    def secure(self) -> bool:
        """It came over TLS."""
        return self.channel.secure

    @property
    def peer(self) -> str:
        """The client's address without its port."""
        return self.channel.peer

    def getClientAddress(self) -> IAddress | None:
        return self.channel.client_address

    @property
    def bytes_in(self) -> int:
        """Bytes of the body read so far."""
        return self.body.received

    # Its end

    def notifyFinish(self) -> Deferred[None]:
        """As in twisted.web: fires with None when the response is complete, fails when it never will be."""
        if self.finished:
            return fail(ConnectionAborted()) if self.gone else succeed(None)
        ended: Deferred[None] = Deferred()
        if self._waiting_for_end is None:
            self._waiting_for_end = []
        self._waiting_for_end.append(ended)
        return ended

    # The response

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes | memoryview[int] = b"") -> None:
        """The whole answer. Date, Server, x-amz-request-id, Content-Length and, where needed, Connection are added.

        On HEAD the body stays here, and a Content-Length among ``headers`` replaces that of ``body``.

        :raises ValueError: a header holds CR, LF or NUL; nothing was sent.
        :raises RuntimeError: there was an answer already.
        """
        if self.gone:
            return
        length: int | None = len(body)
        if self.method == b"HEAD" or status in _BODILESS:
            if b"content-length" in [name.lower() for name, _ in headers]:
                length = None
            body = b""
        answer = self._response_head(status, headers, length, body)
        self.bytes_out = len(body)
        self.channel.write_last(answer)

    def respond_lines(self, status: int, lines: bytes, body: bytes | memoryview = b"") -> None:
        """The whole answer, with headers that are lines already, Content-Length among them."""
        if self.gone:
            return
        self.bytes_out = len(body)
        self.channel.write_last(self._with_head(status, lines, body))

    def start_response(self, status: int, headers: Sequence[tuple[bytes, bytes]], content_length: int) -> None:
        """The head of an answer whose body :meth:`send` sends. With no body to send (HEAD, 204, 304, length 0) the
        response is complete with this, and ``send`` only closes its source.

        :raises ValueError: and RuntimeError, as :meth:`respond`.
        """
        if self.gone:
            return
        head = self._response_head(status, headers, content_length)
        self._to_send = 0 if self.method == b"HEAD" or status in _BODILESS else content_length
        if self._to_send:
            self.channel.write(head)
        else:
            self.channel.write_last(head)

    def send(self, source: BlockSource) -> Deferred[None]:
        """Send the body announced by :meth:`start_response`; ``source`` is closed in any case.

        :return: fires when all of it was handed over; the request is ``finished`` then. Otherwise fails as
            :meth:`aisobj.web.transport.Output.send` says; nothing is left to do then but to log a failure that is
            not the client's leaving (``twisted.internet.error.ConnectionClosed``, ``ConnectionLost``).
        """
        length = self._to_send
        if not length and not self.gone:
            source.close()
            return succeed(None)
        self.bytes_out = length
        return self.channel.send_last(source, length)

    def fail(self, error: S3Error) -> None:
        """Answer with S3's error document."""
        self.error_code = error.code
        resource = unquote_to_bytes(self.path).decode("utf-8", "replace") if self.path.startswith(b"/") else ""
        document = error_document(error, resource, self.request_id)
        headers = [(b"Content-Type", b"application/xml")]
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
        if error.close:
            self.keep_alive = False
        self.respond(error.status, headers, document)

    def abort(self) -> None:
        """Something is wrong after the head was sent: cut the connection, so that nothing passes for complete."""
        self.channel.abort()

    def _response_head(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        length: int | None,
        body: bytes | memoryview[int] = b"",
    ) -> bytes:
        """With as much of the body as there is."""
        if self.status:
            raise RuntimeError("this request has been answered")
        lines = b"".join([b"%b: %b\r\n" % field for field in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or 0 in lines:
            raise ValueError("a response header holds CR, LF or NUL")
        if length is not None and status not in _BODILESS:
            lines += b"Content-Length: %d\r\n" % length
        return self._with_head(status, lines, body)

    def _with_head(self, status: int, lines: bytes, body: bytes | memoryview[int]) -> bytes:
        self.status = status
        channel = self.channel
        return b"".join(
            (
                _STATUS_LINES[status],
                channel.site.common_headers(),
                b"x-amz-request-id: ",
                self.request_id.encode("ascii"),
                b"\r\n",
                lines,
                channel.connection_header(self),
                b"\r\n",
                body,
            )
        )

    # For the channel

    def ended(self, reason: Failure | None) -> None:
        """Tell those who asked: the response is complete, or for ``reason`` never will be."""
        self.finished = True
        if reason is not None:
            self.gone = True
            self.status = self.status or CLIENT_CLOSED
            self.error_code = self.error_code or "Aborted"
        if self._waiting_for_end is None:
            return
        waiting, self._waiting_for_end = self._waiting_for_end, None
        for ended in waiting:
            if reason is None:
                ended.callback(None)
            else:
                ended.errback(reason)


class PlainRequest(Request):
    """One that a shortcut has made of what the channel has received; it has what the channel, the log and the metrics
    ask a request for, and what an operation does once :meth:`set_headers` was called.

    :param key: decoded.
    """

    http11 = True
    keep_alive = True
    body = NO_BODY

    @property
    def query(self) -> bytes:  # type: ignore[override]
        """Only the audit log asks for it."""
        return self.uri[len(self.path) + 1 :]

    def __init__(
        self, channel: Channel, started: float, method: bytes, uri: bytes, path: bytes, bucket: str, key: bytes
    ) -> None:
        self.channel = channel
        self.method = method
        self.uri = uri
        self.path = path
        self.bucket = bucket
        self.key = key
        self.header = _NO_HEADERS.get
        self.started = started
        self.request_id = new_request_id()

    def set_headers(self, fields: dict[bytes, bytes]) -> None:
        """For an operation that asks for them.

        :param fields: names in lower case -> values.
        """
        self.raw_headers = list(fields.items())
        self.header = fields.get
        self.has_none_of = fields.keys().isdisjoint
