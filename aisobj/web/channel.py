"""One HTTP connection: bytes in, requests out, answers in order.

A request goes to its resource when its head is complete; its body is read when the resource asks for it. While a
response is running nothing of the next request is looked at, and nothing more is read from the socket once something
of it waits here, so that at most one read is queued. Time-outs are looked at by the site's sweep
(:meth:`Channel.check`).

RFC 9112 for the protocol; which input gets which answer is decided in ``head`` and ``framing``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from socket import MSG_PEEK
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from aisobj.errors import S3Error
from aisobj.web.admission import Entry
from aisobj.web.body import NO_BODY, RequestBody
from aisobj.web.framing import ChunkedFraming, LengthFraming
from aisobj.web.head import Head, check_beginning, parse_head
from aisobj.web.pace import ReadingPace, SendingPace
from aisobj.web.request import Request
from aisobj.web.transport import BlockSource, BufferedOutput, Output, TCPOutput

if TYPE_CHECKING:
    from aisobj.web.site import Site

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_without_empty_lines = re.compile(rb"\A(?:\r\n)+").sub

#: Bytes per read from the socket: Twisted's own, and while a long body is delivered.
_READ = 64 * 1024
_LONG_READ = 256 * 1024


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Channel(Protocol):
    """Built by :class:`aisobj.web.site.Site`.

    :ivar secure: TLS.
    :ivar peer: the client's address, without its port.
    """

    _log = Logger()
    _output: Output

    def __init__(self, site: Site, address: IAddress | None) -> None:
        self.site = site
        self.secure = False
        self.client_address = address
        self.peer: str = getattr(address, "host", "-")
        self._buffer = b""  # received, and not yet looked at
        self._request: Request | None = None  # the one being answered
        self._body: RequestBody | None = None  # until its end was read; it may outlive its request
        self._flushing = False  # the response's end has been written, and the client must read first
        self._advancing = False
        self._paused = False  # we do not read
        self._eof = False  # the client sends no more
        self._closing = False  # what still arrives is dropped
        self._gone = False  # lost or aborted
        self._connected = True
        self._dropped = 0  # bytes, while closing
        self._handshaken = True
        self._deadline = math.inf
        self._sending = SendingPace(site.limits)
        self._reading = ReadingPace(site.limits)

    # IProtocol, IHandshakeListener, IHalfCloseableProtocol

    def connectionMade(self) -> None:
        transport = self.transport
        self.secure = ISSLTransport.providedBy(transport)
        if isinstance(transport, Connection) and not self.secure:
            self._output = TCPOutput(transport, self._drained, self.site.held_blocks, self.site.outbox)
        else:
            self._output = BufferedOutput(transport, self._drained, self.site.held_blocks)
        entry = self.site.connected(self)
        if entry is Entry.CUT or (entry is Entry.TOLD and self.secure):  # no handshake for a refusal
            self.abort()
            return
        if isinstance(self.client_address, (IPv4Address, IPv6Address)):
            transport.setTcpNoDelay(True)
            if len(self.site.connections) > self.site.limits.crowd and isinstance(self._output, TCPOutput):
                self._output.keep_little_in_kernel()
        limits = self.site.limits
        self._handshaken = not self.secure
        now = self.site.seconds()
        self._deadline = now + (limits.handshake_seconds if self.secure else limits.head_seconds)
        if entry is Entry.TOLD:
            busy = S3Error("SlowDown", "There are too many connections.", headers={"Retry-After": "1"}, close=True)
            self._refuse(busy)
        elif self.site.draining:  # it was in the queue of the port: what it may have asked is answered
            self._deadline = now + limits.arrival_seconds

    def handshakeCompleted(self) -> None:
        self._handshaken = True
        self._deadline = self.site.seconds() + self.site.limits.head_seconds

    def dataReceived(self, data: bytes) -> None:
        if self._closing or self._gone:
            self._dropped += len(data)
            if self._dropped > self.site.limits.linger_bytes:
                self.abort()
            return
        if self._request is None and not self._buffer and self._body is None:
            shortcut = self.site.shortcuts.get(data[:1])
            if shortcut is not None and shortcut(self, data):
                return
        self._buffer = self._buffer + data if self._buffer else data
        if self._body is not None:
            self._sending.received += len(data)
            self._body.expect_continue = False  # it did not wait
        self.advance()

    def readConnectionLost(self) -> None:
        """The client closed its sending half, or everything: the difference shows when we write."""
        self._eof = True
        idle = self._closing or (self._request is None and self._body is None and not self._buffer)
        if idle and isinstance(self._output, TCPOutput):
            # Nothing is left to be sent, so that there is nothing to wait for (``loseConnection`` would, for a turn).
            self.transport.connectionLost(connectionDone)  # type: ignore[union-attr]
        elif self._closing:
            self._lose_connection()
        else:
            self.advance()

    def writeConnectionLost(self) -> None:
        """We have closed our sending half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self._end(reason)
        self.site.disconnected(self)

    # Requests

    def begin(self, request: Request) -> None:
        """For a shortcut, before it answers: this is the request that is being answered."""
        self._request = request
        self._deadline = math.inf

    def run_request(self, request: Request, received: bytes, run: Callable[[], None]) -> None:
        """For a shortcut: ``run`` has a request answered, of whose body ``received`` is the beginning."""
        self.begin(request)
        if request.body is not NO_BODY:
            self._buffer = received
            self._begin_body(request.body)
        self._advancing = True
        try:
            run()
        finally:
            self._advancing = False
        self.advance()

    def advance(self) -> None:
        """Go on with what has been read, as far as it goes."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._buffer and not self._closing and not self._gone:
                body = self._body
                if body is not None:
                    if not body.wants_data:
                        break
                    data, self._buffer = self._buffer, b""
                    self._buffer = body.feed(data)
                    self._check_body_end()
                elif self._request is not None or not self._take_head():
                    break
        finally:
            self._advancing = False
        if self._eof:
            self._advance_at_end()
        elif self._paused or self._buffer or self._body is not None:  # else there is nothing to hold back
            self._pause_or_resume()

    def _advance_at_end(self) -> None:
        if self._closing or self._gone:
            return
        if self._request is None:
            self._lose_connection()
        elif self._body is not None and self._body.wants_data and not self._buffer:
            self._body.fail(Failure(S3Error("IncompleteBody", close=True)))

    def _check_body_end(self) -> None:
        if self._body is not None and self._body.complete:
            self._body = None
            if isinstance(self._output, TCPOutput):
                self.transport.bufferSize = _READ  # type: ignore[union-attr]
            if self._request is None:  # it was dropped after the answer
                self._deadline = self.site.seconds() + self.site.limits.idle_seconds
                if self.site.draining:
                    self._close_after_answer(self.site.seconds())

    def _pause_or_resume(self) -> None:
        """Read on unless what we have must be dealt with first."""
        body = self._body
        pause = self._request is not None and (bool(self._buffer) or (body is not None and body.busy))
        if pause is not self._paused and not self._gone:
            self._paused = pause
            if pause:
                self.transport.pauseProducing()  # type: ignore[union-attr]
            else:
                self.transport.resumeProducing()  # type: ignore[union-attr]

    def _take_head(self) -> bool:
        """Begin the next request; False if its head is not complete."""
        data = self._buffer
        if data[0] == 13:  # RFC 9112 section 2.2: empty lines before the request line are ignored
            data = self._buffer = _without_empty_lines(b"", data)
            if data in (b"", b"\r"):
                return False
        limits = self.site.limits
        end = data.find(b"\r\n\r\n") + 4
        try:
            if end < 4:
                check_beginning(data, limits)
                self._deadline = min(self._deadline, self.site.seconds() + limits.head_seconds)
                return False
            if end == len(data):
                self._buffer = b""
            else:
                data, self._buffer = data[:end], data[end:]
            head = parse_head(data, limits)
        except S3Error as error:
            self._refuse(error)
            return False
        self._deadline = math.inf
        request = self._request = Request(self, head, self.site.now())
        if head.length != 0:
            self._begin_body(request.body)
        elif head.expects_continue:
            # RFC 9110 section 10.1.1 asks for none, but the AWS CLI, and botocore before 1.44, take the status that
            # comes instead for that of the connection's next PUT, and wait for the rest of its answer.
            self._output.write(_CONTINUE)
        self._process(request)
        return True

    def _begin_body(self, body: RequestBody) -> None:
        self._body = body
        self._sending = SendingPace(self.site.limits)
        if self._buffer:
            body.expect_continue = False

    def begin_delivery(self, body: RequestBody) -> None:
        """Somebody wants the body now. A long one is read in larger steps: that halves what receiving it costs."""
        if body.expect_continue:
            body.expect_continue = False
            self._output.write(_CONTINUE)
        if not body.drainable(self.site.limits.drain_bytes) and isinstance(self._output, TCPOutput):
            self.transport.bufferSize = _LONG_READ  # type: ignore[union-attr]
        self.advance()

    def take_body(self, framing: LengthFraming | ChunkedFraming, length: int) -> bytes | None:
        """All ``length`` bytes of the body of the request being processed, if they have been read."""
        if len(self._buffer) < length:
            return None
        piece, self._buffer = framing.feed(self._buffer)
        self._body = None
        return piece

    def _refuse(self, error: S3Error) -> None:
        """Answer what is no request, or none in time."""
        self._deadline = math.inf
        request = self._request = Request(self, Head(), self.site.now())
        request.fail(error)

    def _process(self, request: Request) -> None:
        try:
            body = self.site.getResourceFor(request).render(request)
            if body is not NOT_DONE_YET:
                request.respond(200, [], body)
        except S3Error as error:
            self._fail(request, error)
        except UnsupportedMethod as error:
            allow = b", ".join(error.allowedMethods).decode("ascii")
            self._fail(request, S3Error("MethodNotAllowed", headers={"Allow": allow}))
        except Exception:
            self._log.failure("{method} failed, request {id}", method=request.method, id=request.request_id)
            self._fail(request, S3Error("InternalError"))

    def _fail(self, request: Request, error: S3Error) -> None:
        if request.status:
            self.abort()
        else:
            request.fail(error)

    # Responses

    def connection_header(self, request: Request) -> bytes:
        """Decide, when the head of its response is sent, whether the connection outlives this request."""
        if request.keep_alive and (
            self.site.draining
            or (self._eof and not self._buffer)
            or (request.body is not NO_BODY and not self._can_end(request.body))
        ):
            request.keep_alive = False
        if not request.keep_alive:
            return b"Connection: close\r\n"
        return b"" if request.http11 else b"Connection: keep-alive\r\n"

    def _can_end(self, body: RequestBody) -> bool:
        """The next request's beginning will be found."""
        return not body.failed and (body.complete or body.drainable(self.site.limits.drain_bytes))

    def write(self, data: bytes) -> None:
        """The beginning of a response."""
        self._output.write(data)

    def write_last(self, data: bytes) -> None:
        """A whole response, or its end."""
        sent = self._output.write(data)
        self._flushing = True
        if sent:
            self._drained()

    def send_last(self, source: BlockSource, length: int) -> Deferred[None]:
        """The body of the response whose head was written."""
        self._flushing = True
        return self._output.send(source, length)

    def _drained(self) -> None:
        """The connection has taken all that was written; if that was a response's end, it is complete."""
        request = self._request
        if request is None or not self._flushing:
            return
        self._flushing = False
        self._request = None
        site = self.site
        now = site.seconds()
        self._deadline = now + site.limits.idle_seconds
        request.ended(None)
        site.request_ended(request)
        if not request.keep_alive or site.draining:
            self._close_after_answer(now)
            return
        if self._body is not None:
            self._deadline = now + site.limits.head_seconds
            self._body.discard()
            self._check_body_end()
        if (self._buffer or self._paused or self._eof) and not self._advancing:
            self.advance()

    # The end

    def _close_after_answer(self, now: float) -> None:
        """Close our half and drop what still comes for a while: closing a socket with unread bytes resets the
        connection, and the client might never see the answer (RFC 9112 section 9.6)."""
        body, self._body = self._body, None
        self._buffer = b""
        self._closing = True
        self._deadline = now + self.site.limits.linger_seconds
        if body is not None:
            body.discard()
        if self._eof or self.secure:  # over TLS the connection stays open until the client answers the close alert
            self._lose_connection()
        else:
            self._output.close()
            self.transport.loseWriteConnection()  # type: ignore[union-attr]
        if self._paused and not self._eof:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _lose_connection(self) -> None:
        self._closing = True
        self._deadline = self.site.seconds() + self.site.limits.linger_seconds
        self._output.close()
        self.transport.loseConnection()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Cut the connection at once."""
        self._end(Failure(ConnectionAborted()))
        if self._connected:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def idle_until(self) -> float | None:
        """When its time is up, if no request is running: then it may be closed for another one's sake."""
        if self._request is not None or self._body is not None or self._closing or self._gone:
            return None
        return self._deadline

    def close_idle(self) -> bool:
        """Close one that is idle. False: the next request, or more of it, has just arrived."""
        if self._arriving():
            return False
        if self.secure or self._buffer:
            self.abort()
        else:
            self._lose_connection()
        return True

    def _arriving(self) -> bool:
        """Something has been received that the reactor has not told us of yet."""
        transport = self.transport
        if self.secure or not isinstance(transport, Connection):
            return False
        try:
            return bool(transport.socket.recv(1, MSG_PEEK))
        except OSError:  # nothing, or it is gone
            return False

    def drain(self) -> None:
        """Close if no request is running; otherwise the running one is the last."""
        if self._request is None and self._body is None and not self._buffer and not self._closing:
            if self._arriving():
                return
            if not self._output.sent and not self.secure:  # it may have connected just now
                self._deadline = min(self._deadline, self.site.seconds() + self.site.limits.arrival_seconds)
                return
            self._lose_connection()
            # Nothing is under way that could be cut: a TLS client that does not answer the close alert (one that waits
            # in a pool of connections never does) must not hold up the end.
            self._deadline = self.site.seconds()

    def _end(self, reason: Failure) -> None:
        if self._gone:
            return
        self._gone = True
        self._buffer = b""
        request, self._request = self._request, None
        body, self._body = self._body, None
        if request is not None:
            request.gone = True
        self._output.connection_lost(reason)
        if request is not None:
            request.bytes_out -= self._output.unsent
        if body is not None:
            body.fail(Failure(S3Error("IncompleteBody", close=True)))
        if request is not None:
            request.ended(reason)
            self.site.request_ended(request)

    # Time-outs

    def check(self, now: float, since: float) -> None:
        """Called every ``sweep_seconds``; ``since`` is how long ago the last time was."""
        if self._gone:
            return
        if now >= self._deadline:
            self._expire(now)
            return
        if not self._reading.check(self._output, since, self.site.limits):
            self.site.count_closed("response")
            self.abort()
            return
        body = self._body
        if body is not None and self._request is not None:
            waiting = body.wants_data and not self._buffer
            if not self._sending.check(waiting, since, self.site.limits):
                self.site.count_closed("body")
                body.fail(Failure(S3Error("RequestTimeout", close=True)))

    def _expire(self, now: float) -> None:
        if self._closing and self._output.read_by_client() + 1 < self._output.sent:  # 1: our end of the connection
            # The end of an answer is on its way, which a reset would take back; ``ReadingPace`` sees that it is read.
            self._deadline = now + self.site.limits.linger_seconds
            return
        if self._closing or not self._handshaken or self._body is not None:
            self.abort()
        elif self._buffer:
            self._buffer = b""
            self.site.count_closed("head")
            self._refuse(S3Error("RequestTimeout", close=True))
        else:
            self._lose_connection()
