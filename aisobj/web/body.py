"""A request body on its way from the connection to whoever consumes it, with back-pressure.

Nothing is collected: the channel holds back what it has read (one read at most) until :meth:`RequestBody.deliver` is
called and whenever the consumer's Deferred has not fired, and stops reading from the socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from aisobj.errors import S3Error
from aisobj.web.framing import ChunkedFraming, LengthFraming

if TYPE_CHECKING:
    from aisobj.web.channel import Channel


class BodyConsumer(Protocol):
    """What a body is delivered to."""

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take the next bytes; nothing more comes, and the client is paused, until a returned Deferred fires.

        Raising, or a failing Deferred, ends the delivery: the failure comes out of ``deliver``.
        """
        ...


class RequestBody:
    """The body of one request.

    :ivar length: in bytes, None if it is chunked; 0 if there is none.
    :ivar chunked: it has ``Transfer-Encoding: chunked``.
    :ivar expect_continue: the client waits for ``100 Continue``: it was neither sent nor is it moot by now.
    :ivar received: bytes of the body taken out of the framing so far.
    """

    def __init__(self, channel: Channel | None, framing: LengthFraming | ChunkedFraming, expect_continue: bool) -> None:
        self.length = framing.remaining if isinstance(framing, LengthFraming) else None
        self.chunked = self.length is None
        self.expect_continue = expect_continue
        self.received = 0
        self._channel = channel
        self._framing = framing
        self._consumer: BodyConsumer | None = None
        self._delivery: Deferred[None] | None = None
        self._waiting: Deferred[None] | None = None  # the consumer's, while it has not fired
        self._busy = False
        self._discarding = False
        self._failure: Failure | None = None

    # For resources

    def deliver(self, consumer: BodyConsumer) -> Deferred[None]:
        """Begin to read the body into ``consumer``; once per request. Sends ``100 Continue`` if the client waits.

        The returned Deferred never fires while the consumer is still at work, unless it is cancelled; that also
        cancels what ``consumer.write`` returned last.

        :return: fires with None when the consumer has taken the last byte. Fails with :class:`S3Error`
            ``IncompleteBody`` (the client hung up; if only its sending half, the answer still gets there),
            ``RequestTimeout`` (it sends too slowly), ``BadRequest`` (broken chunked framing), all with ``close``; or
            with the consumer's own failure.
        """
        if self._channel is None:
            return succeed(None)
        if self._delivery is not None:
            raise RuntimeError("a body is delivered once")
        delivery = self._delivery = Deferred(lambda _: self.abandon())
        if self._failure is not None:
            self._finish(self._failure)
        elif self._discarding:  # the request is answered already
            self._finish(Failure(CancelledError()))
        else:
            self._consumer = consumer
            self._channel.begin_delivery(self)
        return delivery

    def take(self) -> bytes | None:
        """The whole body, where all of it is there already; else None, and :meth:`deliver` will have it."""
        channel = self._channel
        if channel is None:
            return b""
        if self.length is None or self._delivery is not None or self._discarding or self._failure is not None:
            return None
        piece = channel.take_body(self._framing, self.length)
        if piece is not None:
            self.received = len(piece)
            self._delivery = _DELIVERED
        return piece

    def read(self, limit: int, too_large_code: str = "MalformedXML") -> Deferred[bytes]:
        """The whole body, for documents.

        :param limit: bytes; a longer one fails with ``S3Error(too_large_code)``, if declared before it is sent.
        """
        if self._channel is None:
            return succeed(b"")
        collector = _Collector(limit, too_large_code)
        delivery: Deferred[None]
        if self.length is not None and self.length > limit:
            delivery = Deferred()
            delivery.errback(S3Error(too_large_code))
        else:
            delivery = self.deliver(collector)
        return delivery.addCallback(lambda _: b"".join(collector.pieces))

    # For the channel

    @property
    def complete(self) -> bool:
        """The whole message has arrived and was handed on."""
        return self._framing.done and not self._busy

    @property
    def busy(self) -> bool:
        """The consumer asked us to wait."""
        return self._busy

    @property
    def wants_data(self) -> bool:
        """Bytes may be fed now; if none arrive, it is the client who is slow."""
        return (self._consumer is not None or self._discarding) and not self._busy and not self._framing.done

    @property
    def failed(self) -> bool:
        """The rest of the body will never be read: where the next request begins is unknown."""
        return self._failure is not None

    def drainable(self, limit: int) -> bool:
        """The rest is at most ``limit`` bytes, and surely on its way."""
        framing = self._framing
        return isinstance(framing, LengthFraming) and framing.remaining <= limit and not self.expect_continue

    def feed(self, data: bytes) -> bytes:
        """Pass on what belongs to the body; returns what follows it. Only while ``wants_data``."""
        try:
            piece, rest = self._framing.feed(data)
        except S3Error as error:
            self.fail(Failure(error))
            return b""
        self.received += len(piece)
        if self._discarding:
            return rest
        if piece:
            self._pass_on(piece)
        if self._framing.done and not self._busy:
            self._finish(None)
        return rest

    def discard(self) -> None:
        """The response is out: drop the rest of the body as it comes."""
        self._discarding = True
        self.abandon()

    def abandon(self) -> None:
        """End a delivery that nobody waits for any more."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._finish(Failure(CancelledError()))

    def fail(self, failure: Failure) -> None:
        """The rest of the body does not come, or cannot be understood."""
        if self._failure is None and not self._framing.done:
            self._failure = failure
            if not self._busy:
                self._finish(failure)

    def _pass_on(self, piece: bytes) -> None:
        consumer = self._consumer
        assert consumer is not None
        try:
            waiting = consumer.write(piece)
        except Exception:  # whatever it is belongs to the one who awaits the delivery
            self._finish(Failure())
            return
        if waiting is not None:
            self._busy = True
            self._waiting = waiting
            waiting.addCallbacks(self._taken, self._refused)

    def _taken(self, _: object) -> None:
        self._busy = False
        self._waiting = None
        if self._failure is not None or self._framing.done:
            self._finish(self._failure)
        self._advance_channel()

    def _refused(self, failure: Failure) -> None:
        self._busy = False
        self._waiting = None
        self._finish(failure)
        self._advance_channel()

    def _advance_channel(self) -> None:
        if self._channel is not None:
            self._channel.advance()

    def _finish(self, failure: Failure | None) -> None:
        """Fire the delivery, once."""
        self._consumer = None
        delivery = self._delivery
        if delivery is None or delivery.called:
            return
        if failure is None:
            delivery.callback(None)
        else:
            delivery.errback(failure)


class WholeBody(RequestBody):
    """One that came with its head, and has been taken: nothing can be read from it."""

    length = 0
    complete = True
    failed = False

    def __init__(self, received: int) -> None:
        self.received = received


class _Collector:
    def __init__(self, limit: int, too_large_code: str) -> None:
        self.pieces: list[bytes] = []
        self._left = limit
        self._code = too_large_code

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise S3Error(self._code)
        self.pieces.append(data)


#: Of a body that was taken at once.
_DELIVERED: Deferred[None] = succeed(None)

#: The body of every request that has none.
NO_BODY = RequestBody(None, LengthFraming(0), False)
