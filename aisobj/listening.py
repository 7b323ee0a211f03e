"""Ports from Twisted's endpoint strings: bound at once, so that a busy one is refused before anything else happens, and
let in nobody before the store is open. Who connects in between waits in the kernel's queue.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure


class StartupError(Exception):
    """The server cannot start. The text is one line for the operator."""


def one_line(error: object) -> str:
    """What an error says, fit for the end of a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class Listener:
    """One bound port.

    :ivar url: where clients find S3; ``unix:PATH`` for a Unix socket.
    :ivar loopback: only this machine reaches it.
    """

    def __init__(self, port: IListeningPort, scheme: str) -> None:
        self._port = port
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
        # Every port that binds at once is one of Twisted's own; bind() has made sure.
        self._port.stopReading()  # type: ignore[attr-defined]

    def accept(self) -> None:
        """Let them in."""
        self._port.startReading()  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Let nobody in any more; connections go on."""
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
    return Listener(port, "https" if description.startswith("ssl:") else "http")


def addresses_beyond(listeners: Iterable[Listener]) -> list[str]:
    """The URLs that other machines reach."""
    return [listener.url for listener in listeners if not listener.loopback]
