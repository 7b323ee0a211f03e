"""A real server on a real socket with a clock of its own, and a client that sends and sees raw bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from aisobj.errors import S3Error
from aisobj.web.accesslog import AccessLog
from aisobj.web.limits import Limits
from aisobj.web.outbox import Outbox
from aisobj.web.request import Request
from aisobj.web.site import Site

reactor: Any = _reactor
HANG = 10.0  # no test needs a fifth of it

Handler = Callable[[Request], Any]


class Root(Resource):
    """Every request goes to ``handler``."""

    isLeaf = True

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self.handler = handler
        self.requests: list[Request] = []

    def render(self, request: Request) -> Any:
        self.requests.append(request)
        return self.handler(request)


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """Collects what comes; whoever waits is told."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.eof = False  # the server closed its half
        self.lost: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def data(self) -> bytes:
        """What came and was not taken by ``response``."""
        return bytes(self._data)

    @data.setter
    def data(self, data: bytes) -> None:
        self._data[:] = data

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        self._check()

    def readConnectionLost(self) -> None:
        self.eof = True
        self._check()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.eof = True
        self.lost = reason
        self._check()

    def _check(self) -> None:
        for waiting in list(self._waiting):
            if waiting[0]():
                self._waiting.remove(waiting)
                waiting[1].callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            done: Deferred[None] = Deferred()
            self._waiting.append((condition, done))
            done.addTimeout(HANG, reactor)
            await done

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def closed(self) -> bytes:
        """All that came until the server closed."""
        await self.until(lambda: self.eof)
        return self.data

    async def response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Take the next whole response (its length is by Content-Length) off what came."""
        await self.until(lambda: b"\r\n\r\n" in self._data or self.eof)
        head = bytes(self._data.partition(b"\r\n\r\n")[0])
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}
        begin = len(head) + 4
        end = begin + int(headers.get(b"content-length", b"0"))
        await self.until(lambda: len(self._data) >= end or self.eof)
        body = bytes(self._data[begin:end])
        del self._data[:end]
        return status, headers, body


class Server:
    """A site that listens; ``advance`` lets its time pass."""

    def __init__(self, handler: Handler, limits: Limits, log: AccessLog | None, tls: Any = None) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.root = Root(handler)
        self.site = Site(self.root, self.clock, limits, log)
        self.site.outbox = Outbox(reactor)  # the turns that end are the reactor's, whatever the clock says
        factory = TLSMemoryBIOFactory(tls, False, self.site) if tls else self.site
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self._ended: list[tuple[Request, float, float]] = []
        self.site.observers.append(self._ended.extend)
        self.clients: list[Client] = []

    @property
    def ended(self) -> list[tuple[Request, int, float]]:
        """Requests that have ended, with their status and how many seconds they took."""
        self.site.flush()
        return [(request, request.status, seconds) for request, _, seconds in self._ended]

    @property
    def requests(self) -> list[Request]:
        return self.root.requests

    async def connect(self, data: bytes = b"", tls: Any = None, source: str = "127.0.0.1") -> Client:
        port = self.port.getHost().port
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=(source, 0))
        if tls:
            endpoint = wrapClientTLS(tls, endpoint)
        client: Client = await connectProtocol(endpoint, Client())
        self.clients.append(client)
        if data:
            client.send(data)
        return client

    async def ask(self, data: bytes) -> bytes:
        """All that a new connection answers to ``data`` until it is closed."""
        return await (await self.connect(data)).closed()

    def advance(self, seconds: float) -> None:
        """In the steps of the sweep."""
        step = self.site.limits.sweep_seconds
        self.clock.pump([step] * int(seconds / step))

    async def turn(self) -> None:
        """Let the reactor do what is due."""
        await deferLater(reactor, 0.002)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor turn until it is so."""
        for _ in range(int(HANG / 0.005)):
            if condition():
                return
            await deferLater(reactor, 0.005)
        raise AssertionError("it did not happen")


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, log: AccessLog | None = None, tls: Any = None, **limits: Any
) -> AsyncIterator[Server]:
    server = Server(handler, replace(Limits(), **limits), log, tls)
    try:
        yield server
    finally:
        await server.port.stopListening()
        for client in server.clients:
            if client.lost is None:
                client.transport.abortConnection()
        for channel in list(server.site.connections):
            channel.abort()
        await server.until(lambda: not server.site.connections and all(client.lost for client in server.clients))


# What tests send, and simple handlers

HOST = b"Host: x\r\n"
GET = b"GET /s3/b/k HTTP/1.1\r\n" + HOST + b"\r\n"


def hello(request: Request) -> int:
    request.respond(200, [(b"ETag", b'"e"')], b"hello " + request.path)
    return NOT_DONE_YET


class Sink:
    """Takes a body; while ``hold``, each write waits for ``release``."""

    def __init__(self, hold: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.hold = hold
        self.waiting: Deferred[None] | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def write(self, data: bytes) -> Deferred[None] | None:
        assert self.waiting is None, "written to while busy"
        self.pieces.append(data)
        if not self.hold:
            return None
        self.waiting = Deferred()
        return self.waiting

    def release(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)


def answer_failure(failure: Failure, request: Request) -> None:
    error = failure.value
    request.fail(error if isinstance(error, S3Error) else S3Error("InternalError"))


def echo(request: Request) -> int:
    reading = request.body.read(1 << 20)
    reading.addCallback(lambda body: request.respond(200, [], body))
    reading.addErrback(answer_failure, request)
    return NOT_DONE_YET


def code_of(answer: bytes) -> bytes:
    found = re.search(rb"<Code>(.*)</Code>", answer)
    return found[1] if found else b""


def with_headers(*lines: bytes, method: bytes = b"PUT") -> bytes:
    return method + b" / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def raises(error: Exception) -> Any:
    def handler(request: Request) -> int:
        raise error

    return handler


def put(length: int, *lines: bytes) -> bytes:
    return with_headers(b"Content-Length: %d" % length, *lines)
