"""Ports from Twisted's endpoint strings: bound at once, so that a busy one is refused before anything else happens, and
let in nobody before the store is open. Who connects in between waits in the kernel's queue.

Several workers share the ports that their master has bound: they inherit the sockets and accept from them in turns.
"""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorFDSet,
    IReactorTime,
    IReadDescriptor,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

#: The endpoints whose sockets workers share; of the others nobody knows what they do with a connection.
_SHARED = frozenset({"tcp", "ssl", "unix", "systemd"})
#: Connections that may wait in the kernel until they are accepted; it allows no more than ``net.core.somaxconn``.
#: Twisted's 50 are too few while a server starts, and for what thousands of clients do at once: the kernel drops the
#: next one's packets, and its client tries again after a second, and after three.
_BACKLOG = 4096
#: Too many open files, or no memory for one more connection: seconds until accepting is tried again.
_PAUSE = 0.5
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class StartupError(Exception):
    """The server cannot start. The text is one line for the operator."""


def one_line(error: object) -> str:
    """What an error says, fit for the end of a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class IListener(Protocol):
    """A port whose end is ours."""

    url: str

    def accept(self) -> None:
        """Let them in."""

    async def close(self) -> None:
        """Let nobody in any more; connections go on."""


class Listener:
    """One bound port.

    :ivar url: where clients find S3; ``unix:PATH`` for a Unix socket.
    :ivar loopback: only this machine reaches it.
    """

    def __init__(self, port: IListeningPort, scheme: str) -> None:
        self._port = port
        self._accepting = False
        address = port.getHost()
        if isinstance(address, (IPv4Address, IPv6Address)):
            ip = ipaddress.ip_address(address.host.partition("%")[0])
            host = f"[{address.host}]" if ip.version == 6 else address.host
            self.url = f"{scheme}://{host}:{address.port}/s3"
            self.loopback = ip.is_loopback
        else:
            name = address.name if isinstance(address, UNIXAddress) else address
            self.url = f"unix:{name.decode(errors='replace') if isinstance(name, bytes) else name}"
            self.loopback = True
        # Every port that binds at once is one of Twisted's own; ``bind`` has made sure.
        self._port.stopReading()  # type: ignore[attr-defined]
        # Twisted shuts a socket down before it closes it: for the workers that have it, too, and those in its queue.
        self._port._shouldShutdown = False  # type: ignore[attr-defined]

    def fileno(self) -> int:
        """Of the listening socket."""
        descriptor: int = self._port.fileno()  # type: ignore[attr-defined]
        return descriptor

    def lengthen_queue(self) -> None:
        """Of those that wait to be accepted."""
        self._port.socket.listen(_BACKLOG)  # type: ignore[attr-defined]

    def accept(self) -> None:
        """Let them in."""
        self._accepting = True
        self._port.startReading()  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Let nobody in any more but those who have connected already; connections go on."""
        queue = select.poll()
        queue.register(self.fileno(), select.POLLIN)
        for _ in range(_BACKLOG if self._accepting else 0):
            if not queue.poll(0):
                break
            self._port.doRead()  # type: ignore[attr-defined]
        await maybeDeferred(self._port.stopListening)


def bind(reactor: IReactorFDSet, description: str, factory: IProtocolFactory) -> Listener:
    """Bind what an endpoint string describes.

    :raises StartupError: it does not parse, names a certificate that cannot be used, or the port cannot be had.
    """
    found: list[IListeningPort | Failure] = []
    try:
        # Endpoint strings go to parsers of whoever has a plugin for them; these raise whatever they like.
        serverFromString(reactor, description).listen(factory).addBoth(found.append)
    except Exception as error:
        raise StartupError(f"--listen {description}: {type(error).__name__}: {one_line(error)}") from None
    if not found:
        raise StartupError(f"--listen {description}: only TCP, TLS and Unix sockets and those of systemd will do")
    port = found[0]
    if isinstance(port, Failure):
        reason: object = port.value
        if isinstance(reason, CannotListenError):
            reason = reason.socketError
        raise StartupError(f"--listen {description}: {one_line(reason)}")
    if not IReadDescriptor.providedBy(port):
        port.stopListening()
        raise StartupError(f"--listen {description}: only TCP, TLS and Unix sockets and those of systemd will do")
    listener = Listener(port, "https" if description.startswith("ssl:") else "http")
    if "backlog=" not in description:
        listener.lengthen_queue()
    return listener


def addresses_beyond(listeners: Iterable[Listener]) -> list[str]:
    """The URLs that other machines reach."""
    return [listener.url for listener in listeners if not listener.loopback]


def check_shareable(descriptions: Iterable[str]) -> None:
    """:raises StartupError: an endpoint is none that several workers can share."""
    for description in descriptions:
        kind = description.partition(":")[0].lower()
        if kind not in _SHARED:
            raise StartupError(f"--listen {description}: {kind} endpoints need --workers 1")


class _TlsReactor:
    """Takes the TLS settings out of an ``ssl:`` endpoint, in place of the reactor that would bind a port of its own."""

    def __init__(self) -> None:
        self.wrapped: list[IProtocolFactory] = []

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: IOpenSSLServerConnectionCreator, **_: object
    ) -> None:
        # As Twisted's own listenSSL does.
        self.wrapped.append(TLSMemoryBIOFactory(contextFactory, False, factory))


def worker_factory(description: str, factory: IProtocolFactory) -> IProtocolFactory:
    """What a worker gives the connections to, that it accepts from a shared socket.

    :raises StartupError: a certificate or key cannot be used (any more).
    """
    if not description.lower().startswith("ssl:"):
        return factory
    catcher = _TlsReactor()
    try:
        serverFromString(catcher, description).listen(factory)
    except Exception as error:
        raise StartupError(f"--listen {description}: {type(error).__name__}: {one_line(error)}") from None
    return catcher.wrapped[0]


class ISharingReactor(IReactorFDSet, IReactorTime):
    """What a shared port needs of a reactor."""


@implementer(IReadDescriptor)
class SharedPort:
    """A listening socket that other processes accept from, too.

    One connection is accepted each time the reactor finds the socket readable, so that a worker that has just woken up
    does not take all that wait. Twisted's own ports take up to 100, and at adoption they set the queue's length and
    the mode of a Unix socket anew, and unlink it at the end: all of that is the master's business.

    Connections are what they are at a port of Twisted's. (``adoptStreamConnection`` duplicates each: 8 system calls
    more, see docs/performance.md, and one more file for a moment.)
    """

    _log = Logger()

    def __init__(self, reactor: ISharingReactor, descriptor: int, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._family = self._socket.family
        self._factory = factory
        self._open = True
        self._begun = 0  # connections
        self.url = ""  # the master says it

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "shared port"

    def accept(self) -> None:
        """Let them in."""
        if self._open:
            self._reactor.addReader(self)

    async def close(self) -> None:
        """Let nobody in any more; connections go on."""
        if self._open:
            for _ in range(_BACKLOG):  # who has connected already would get a reset
                if not self._accept_one():
                    break
            self._reactor.removeReader(self)
            self.connectionLost()

    def doRead(self) -> None:
        self._accept_one()

    def _accept_one(self) -> bool:
        """False: nobody is there, or nobody can be let in now."""
        try:
            connection, address = self._socket.accept()
        except OSError as error:
            if error.errno in _NO_MORE:
                self._pause(error)
            return False  # mostly: another worker was quicker
        self._begin(connection, address)
        return True

    def _begin(self, connection: socket.socket, address: Any) -> None:
        """As :meth:`twisted.internet.tcp.Port.doRead`. Raises nothing.

        :param address: of the client, from ``accept``.
        """
        transport = None
        try:
            peer, make = self._kind_of(address)
            protocol = self._factory.buildProtocol(peer)
            if protocol is None:
                connection.close()
                return
            self._begun += 1
            transport = make(connection, protocol, address, None, self._begun, self._reactor)
            transport.repstr = f"<{transport.logstr}>"  # it would be the port's to say
            protocol.makeConnection(transport)
        except Exception:  # whatever is wrong with one connection, the port goes on
            self._log.failure("a connection could not be begun")
            if transport is None:
                connection.close()
            else:
                transport.abortConnection()

    def _kind_of(self, address: Any) -> tuple[IAddress, Any]:
        """A client's address, and what makes its transport."""
        if self._family == socket.AF_UNIX:
            return UNIXAddress(address), unix.Server
        if address[3:] and address[3]:  # with its scope
            numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            address = (socket.getnameinfo(address, numbers)[0], *address[1:])
        return (IPv6Address if self._family == socket.AF_INET6 else IPv4Address)("TCP", *address), tcp.Server

    def _pause(self, error: OSError) -> None:
        self._log.error("no connection can be accepted: {error}", error=one_line(error))
        self._reactor.removeReader(self)
        self._reactor.callLater(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._open:
            self._reactor.addReader(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open = False
        self._socket.close()
