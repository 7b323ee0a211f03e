"""A whole server in this process (signatures, resource tree, store on disk, access log, metrics), without the network.

Requests are handed to its channels directly; what it sends goes nowhere. For ``request_cost`` and ``instructions``. It
imports no botocore, whose import alone would take valgrind half a minute: whoever uses it signs beforehand.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection
from twisted.web.resource import Resource

from aisobj.model import BucketProps
from aisobj.polling import poll_quietly
from aisobj.protocol.credentials import Credentials
from aisobj.storage.embedded import lock_data_directory, open_store
from aisobj.tap import IServerReactor, make_root
from aisobj.web.accesslog import AccessLog
from aisobj.web.auth import Authenticator
from aisobj.web.channel import Channel
from aisobj.web.health import State
from aisobj.web.site import Site

HOST = "127.0.0.1:8080"
ACCESS_KEY, SECRET = "BENCHMARK", "benchmark-secret"
CONNECTIONS = 16


class Nowhere(Connection):
    """A TCP connection, and its socket, that takes everything at once. ``answered`` is called for each answer."""

    def __init__(self) -> None:  # not Connection's: there is no socket
        self.head = b""
        self.answered: Callable[[], None] = lambda: None
        self.socket = cast(Any, self)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self.head = bytes(data[:16])
        self.answered()
        return len(data)

    def fileno(self) -> int:
        raise OSError("there is no socket")

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


class Channels:
    """Connections to a server."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._connections = [self._connect() for _ in range(CONNECTIONS)]

    def _connect(self) -> tuple[Channel, Nowhere]:
        channel, transport = self._site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5)), Nowhere()
        channel.makeConnection(transport)  # type: ignore[no-untyped-call]
        return channel, transport

    async def run(self, requests: Sequence[bytes], count: int, connections: int = CONNECTIONS) -> None:
        """Answer ``count`` requests, taken in turn, on so many connections at once. Raises RuntimeError: not 200."""
        turn = iter(range(count))
        left = count
        done: Deferred[None] = Deferred()

        def send(channel: Channel) -> None:
            number = next(turn, None)
            if number is not None:
                channel.dataReceived(requests[number % len(requests)])

        def answered(channel: Channel, transport: Nowhere) -> None:
            nonlocal left
            left -= 1
            if not transport.head.startswith(b"HTTP/1.1 200"):
                if not done.called:
                    done.errback(RuntimeError(f"the answer was {transport.head!r}"))
            elif not left:  # the answer is out, but the channel is still at it
                reactor.callLater(0, done.callback, None)
            else:
                reactor.callLater(0, send, channel)

        from twisted.internet import reactor  # noqa: PLC0415

        chosen = self._connections[:connections]
        for channel, transport in chosen:
            transport.answered = partial(answered, channel, transport)
        for channel, _ in chosen:
            send(channel)
        await done

    def loop(self, requests: Sequence[bytes], count: int) -> None:
        """As :meth:`run` on one connection, for requests that are answered at once."""
        channel, transport = self._connections[0]
        transport.answered = lambda: None
        for number in range(count):
            transport.head = b""
            channel.dataReceived(requests[number % len(requests)])
            self._site.outbox.flush()
            if not transport.head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the answer was {transport.head!r}")


@asynccontextmanager
async def serving(reactor: IServerReactor) -> AsyncIterator[Channels]:
    """A server over an empty store of its own, which goes at the end. Not durable."""
    poll_quietly(reactor)
    with tempfile.TemporaryDirectory(prefix="ais-s3-bench-") as name:
        data = Path(name, "data")
        lock = lock_data_directory(data)
        store = await open_store(data, reactor=reactor, sync=False, lock=lock)
        await store.start()
        try:
            authenticator = Authenticator(Credentials([("bench", ACCESS_KEY, SECRET)]), "", reactor.seconds)
            site = Site(Resource(), reactor, access_log=AccessLog(str(Path(name, "access.log"))))
            site.root = make_root(reactor, site, State(), authenticator, BucketProps(), "", store)
            yield Channels(site)
        finally:
            await store.close()
            lock.release()
