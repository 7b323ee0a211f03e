"""Large bodies: the source's own buffer is sent, with back-pressure, complete or visibly not, over TCP and TLS."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rawhttp import reactor, serving
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from aisobj.web.outbox import MAX_WAIT, Outbox
from aisobj.web.request import Request
from aisobj.web.transport import BufferedOutput, HeldBlocks, TCPOutput, WrongLength

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BLOCK = 256 * 1024


class Connected:
    """What TCPOutput asks of a transport."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.peer.setblocking(False)


def test_what_comes_after_a_turns_first_part_was_sent_is_not_forgotten() -> None:
    clock = Clock()
    outbox, held, drained = Outbox(clock), HeldBlocks(1), list[str]()
    first, second = Connected(), Connected()
    continued = TCPOutput(first, lambda: drained.append("first"), held, outbox)
    other = TCPOutput(second, lambda: drained.append("second"), held, outbox)
    continued.write(b"100 Continue")
    clock.rightNow += MAX_WAIT * 2
    other.write(b"x")  # so late in the turn that what waits is sent
    assert first.peer.recv(100) == b"100 Continue"
    continued.write(b"answer")
    clock.pump([0, 0])
    assert first.peer.recv(100) == b"answer"
    assert drained == ["second", "first"]
    for each in (first, second):
        each.socket.close()
        each.peer.close()


class Blocks:
    """A source that fills one buffer again and again, and sees that nobody reads it too late."""

    def __init__(self, size: int, later: bool = False) -> None:
        self._left = size
        self._count = 0
        self._later = later
        self._buffer = bytearray(BLOCK)
        self.closed = 0

    def _fill(self) -> memoryview | None:
        size = min(self._left, BLOCK)
        self._left -= size
        self._count += 1
        self._buffer[:] = bytes([self._count % 251]) * BLOCK
        return memoryview(self._buffer)[:size] if size else None

    def next_block(self) -> Any:
        assert not self.closed
        if not self._later:
            return self._fill()
        if self._count % 2:
            return succeed(self._fill())
        block: Deferred[Any] = Deferred()
        reactor.callLater(0, lambda: block.callback(self._fill()))
        return block

    def give_back(self, count: int) -> bool:
        return False

    def close(self) -> None:
        self.closed += 1


def expected(size: int) -> bytes:
    whole = b"".join(bytes([(n + 1) % 251]) * BLOCK for n in range(size // BLOCK + 1))
    return whole[:size]


class Streaming:
    """A handler that sends ``source`` and keeps what came of it."""

    def __init__(self, source: Any, length: int) -> None:
        self.source = source
        self.length = length
        self.done: list[Any] = []

    def __call__(self, request: Request) -> int:
        request.start_response(200, [], self.length)
        request.send(self.source).addBoth(self.done.append)
        return NOT_DONE_YET


@pytest.fixture(scope="module")
def tls() -> Iterator[tuple[Any, Any]]:
    """Options for a server of the name localhost, and for its clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    yield (
        PrivateCertificate.loadPEM(pem + private).options(),
        optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(pem)),
    )


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest_twisted.ensureDeferred
async def test_every_byte_arrives_and_the_connection_goes_on(tls: Any, encrypted: bool, later: bool) -> None:
    size = 5 * BLOCK + 1234
    server_tls, client_tls = tls if encrypted else (None, None)
    handlers: list[Streaming] = []

    def handler(request: Request) -> int:
        handlers.append(Streaming(Blocks(size, later), size))
        return handlers[-1](request)

    async with serving(handler, tls=server_tls) as server:
        client = await server.connect(GET + GET + GET, client_tls)
        for _ in range(3):
            status, _, body = await client.response()
            assert status == 200
            assert body == expected(size)
        (channel,) = server.site.connections
        assert type(channel._output) is (BufferedOutput if encrypted else TCPOutput)
        assert [request.secure for request in server.requests] == [encrypted] * 3
        assert [handler.source.closed for handler in handlers] == [1, 1, 1]
        assert [handler.done for handler in handlers] == [[None]] * 3
        assert [request.bytes_out for request, _, _ in server.ended] == [size] * 3


@pytest.mark.parametrize("encrypted", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_stops_the_source_and_is_dropped(tls: Any, encrypted: bool) -> None:
    size = 400 * BLOCK
    server_tls, client_tls = tls if encrypted else (None, None)
    streaming = Streaming(Blocks(size), size)
    async with serving(streaming, tls=server_tls) as server:
        client = await server.connect(GET, client_tls)
        await client.until(lambda: len(client._data) > 0)
        client.transport.pauseProducing()
        (channel,) = server.site.connections
        output, seen, still = channel._output, (-1, -1), 0
        while still < 100:  # until the sockets are full, and the last bytes acknowledged, which may take 200 ms
            await server.turn()
            now = output.sent, output.read_by_client()
            seen, still = now, still + 1 if now == seen else 0
        sent = output.sent
        assert sent < size // 2
        server.advance(54)
        assert not server.requests[0].gone
        server.advance(3)
        assert server.requests[0].gone
        await server.until(lambda: bool(streaming.done))
        assert streaming.source.closed == 1
        assert streaming.done[0].check(ConnectionAborted)
        request, status, _ = server.ended[0]
        assert (status, request.error_code) == (200, "Aborted")
        assert request.bytes_out <= sent


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_slowly_is_not_dropped() -> None:
    size = 200 * BLOCK
    streaming = Streaming(Blocks(size), size)
    async with serving(streaming) as server:
        client = await server.connect(GET)
        (channel,) = await _connections(server)
        for _ in range(5):
            before = channel._output.sent
            client.transport.resumeProducing()
            await server.until(lambda before=before: channel._output.sent > before)  # type: ignore[misc]
            client.transport.pauseProducing()
            server.advance(50)
        client.transport.resumeProducing()
        assert (await client.response())[2] == expected(size)


async def _connections(server: Any) -> list[Any]:
    await server.until(lambda: bool(server.requests))
    return list(server.site.connections)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_closes_the_source() -> None:
    size = 200 * BLOCK
    streaming = Streaming(Blocks(size), size)
    async with serving(streaming) as server:
        client = await server.connect(GET)
        await client.until(lambda: len(client._data) > 0)
        client.transport.abortConnection()
        await server.until(lambda: bool(streaming.done))
        assert streaming.source.closed == 1
        assert streaming.done[0].check(ConnectionLost, ConnectionDone, ConnectionAborted)
        assert server.requests[0].gone


class Ends(Blocks):
    """Fails after ``size`` bytes."""

    def next_block(self) -> Any:
        return super().next_block() or Failure(OSError("disk")).raiseException()


class EndsLater(Blocks):
    def next_block(self) -> Any:
        block: Deferred[Any] = Deferred()
        reactor.callLater(0, lambda: block.callback(self._fill()) if self._left else block.errback(OSError("disk")))
        return block


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (lambda: Blocks(3 * BLOCK - 1), WrongLength),
        (lambda: Blocks(4 * BLOCK), WrongLength),
        (lambda: Ends(2 * BLOCK), OSError),
        (lambda: EndsLater(2 * BLOCK), OSError),
    ],
    ids=["short", "long", "raises", "fails"],
)
@pytest_twisted.ensureDeferred
async def test_a_source_that_fails_never_looks_complete(source: Any, error: type[Exception]) -> None:
    size = 3 * BLOCK if not isinstance(source(), Ends) else 4 * BLOCK
    length = size - 1 if error is WrongLength and source()._left > size else size
    streaming = Streaming(source(), length)
    async with serving(streaming) as server:
        client = await server.connect(GET)
        data = await client.closed()
        assert len(data.partition(b"\r\n\r\n")[2]) < length
        assert server.requests[0].bytes_out < length
        assert streaming.source.closed == 1
        assert streaming.done[0].check(error)
        assert server.requests[0].gone


@pytest_twisted.ensureDeferred
async def test_cancelling_a_send_aborts() -> None:
    waiting: Deferred[Any] = Deferred()

    class Waits(Blocks):
        def next_block(self) -> Any:
            return waiting

    source = Waits(BLOCK)
    sends: list[Deferred[None]] = []

    def handler(request: Request) -> int:
        request.start_response(200, [], BLOCK)
        sends.append(request.send(source))
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(GET)
        await server.until(lambda: bool(sends))
        failures: list[Failure] = []
        sends[0].addErrback(failures.append)
        sends[0].cancel()
        await client.closed()
        assert len(failures) == source.closed == 1
        waiting.callback(b"too late")


@pytest_twisted.ensureDeferred
async def test_a_response_without_a_body_closes_its_source_unread() -> None:
    streaming = Streaming(Blocks(BLOCK), BLOCK)
    async with serving(streaming) as server:
        client = await server.connect(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.until(lambda: client.data.endswith(b"\r\n\r\n"))
        assert streaming.source.closed == 1
        assert streaming.source._left == BLOCK


@pytest_twisted.ensureDeferred
async def test_a_large_inline_answer_holds_back_the_next_request() -> None:
    def handler(request: Request) -> int:
        request.respond(200, [], b"x" * 8_000_000)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect()
        client.transport.pauseProducing()
        client.send(GET * 3)
        await server.until(lambda: bool(server.requests))
        for _ in range(10):
            await server.turn()
        assert len(server.requests) == 1
        client.transport.resumeProducing()
        for _ in range(3):
            assert len((await client.response())[2]) == 8_000_000


# TLS


@pytest_twisted.ensureDeferred
async def test_a_tls_handshake_has_its_own_time(tls: Any) -> None:
    async with serving(lambda request: b"", tls=tls[0]) as server:
        silent = await server.connect()
        polite = await server.connect(b"", tls[1])
        await server.until(lambda: len(server.site.connections) == 2)
        await server.until(lambda: sum(channel._handshaken for channel in server.site.connections) == 1)
        server.advance(11)
        await silent.closed()
        await server.until(lambda: len(server.site.connections) == 1)
        polite.send(GET)
        assert (await polite.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_over_tls_an_early_answer_is_read_and_the_connection_closes(tls: Any) -> None:
    def handler(request: Request) -> int:
        request.respond(403, [], b"no")
        return NOT_DONE_YET

    async with serving(handler, tls=tls[0]) as server:
        head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n"
        client = await server.connect(head + b"x" * 5_000_000, tls[1])
        status, headers, body = await client.response()
        assert (status, headers[b"connection"], body) == (403, b"close", b"no")
        await client.until(lambda: client.lost is not None)
        await server.until(lambda: not server.site.connections)


@pytest_twisted.ensureDeferred
async def test_an_idle_tls_client_that_does_not_answer_holds_up_no_drain(tls: Any) -> None:
    async with serving(lambda request: b"ok", tls=tls[0]) as server:
        client = await server.connect(GET, tls[1])
        assert (await client.response())[0] == 200
        client.transport.pauseProducing()
        drained = server.site.drain(30)
        await server.turn()
        assert not drained.called
        server.advance(server.site.limits.sweep_seconds)
        await server.until(lambda: drained.called)
        client.transport.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_over_tls_too_many_connections_are_closed(tls: Any) -> None:
    async with serving(lambda request: b"ok", tls=tls[0], connections=1) as server:
        first = await server.connect(GET, tls[1])
        assert (await first.response())[0] == 200
        server.root.handler = lambda request: NOT_DONE_YET
        first.send(GET)
        await server.until(lambda: len(server.requests) == 2)
        second = await server.connect()
        assert await second.closed() == b""
        server.requests[1].respond(200, [])
        assert (await first.response())[0] == 200
