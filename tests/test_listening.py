"""A port that processes share goes on whatever becomes of one connection."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from aisobj.listening import SharedPort

KINDS = ["IPv4", "IPv6", "Unix"]


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data + repr(self.transport).encode())
        self.transport.loseConnection()


class Broken(Protocol):
    def connectionMade(self) -> None:
        raise RuntimeError("on purpose")


@asynccontextmanager
async def shared(kind: str, path: Path, build: Callable[[Any], Protocol | None]) -> AsyncIterator[Any]:
    """A port whose connections ``build`` makes: the address of it, as ``socket.connect`` takes it."""
    family = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6, "Unix": socket.AF_UNIX}[kind]
    factory = Factory()
    factory.buildProtocol = build  # type: ignore[method-assign,assignment]
    with socket.socket(family) as listening:
        listening.bind(str(path / "socket") if kind == "Unix" else ("::1" if kind == "IPv6" else "127.0.0.1", 0))
        listening.listen()
        port = SharedPort(reactor, os.dup(listening.fileno()), factory)  # type: ignore[arg-type]
        port.accept()
        try:
            yield family, listening.getsockname()
        finally:
            await port.close()


def ask(where: tuple[int, Any]) -> bytes:
    with socket.socket(where[0]) as client:
        client.settimeout(30)
        client.connect(where[1])
        try:
            client.sendall(b"hello ")
            return b"".join(iter(lambda: client.recv(100), b""))
        except ConnectionError:
            return b""


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_a_connection_has_its_address_and_its_name(kind: str, tmp_path: Path) -> None:
    seen: list[Any] = []

    def build(address: Any) -> Protocol:
        seen.append(address)
        return Echo()

    async with shared(kind, tmp_path, build) as where:
        for number in (1, 2):
            answer = await deferToThread(ask, where)
            assert answer.startswith(b"hello <Echo,%d," % number)
    assert [type(each) for each in seen] == [{"IPv4": IPv4Address, "IPv6": IPv6Address, "Unix": UNIXAddress}[kind]] * 2
    assert kind == "Unix" or {each.host for each in seen} == {"::1" if kind == "IPv6" else "127.0.0.1"}


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_with_one_connection_harms_no_other(kind: str, tmp_path: Path) -> None:
    def raising(_: Any) -> Protocol:
        raise RuntimeError("on purpose")

    builders: Iterator[Callable[[Any], Protocol | None]] = iter(
        [raising, lambda _: Broken(), lambda _: None, lambda _: Echo()]
    )

    def build(address: Any) -> Protocol | None:
        return next(builders)(address)

    async with shared(kind, tmp_path, build) as where:
        for _ in range(3):
            assert await deferToThread(ask, where) == b""
        assert (await deferToThread(ask, where)).startswith(b"hello ")
