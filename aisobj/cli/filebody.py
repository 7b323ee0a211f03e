"""A request body that is read from a file while it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from aisobj.checksums import Digest, new_digest

#: Bytes read at once.
BLOCK = 256 * 1024


class Readable(Protocol):
    """A binary file."""

    def read(self, size: int, /) -> bytes: ...


@implementer(IBodyProducer)
class FileBody:
    """A request body that is read from a file, in a thread, as fast as the connection takes it.

    :param length: bytes, None if it is unknown (the body is sent in chunks then).
    :param checksum_type: of the digest to compute on the way, see :attr:`digest`.
    :param progress: called with the length of each block.

    The file is the caller's to close.
    """

    def __init__(
        self,
        file: Readable,
        length: int | None,
        reactor: IReactorThreads,
        checksum_type: str = "none",
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self.digest: Digest = new_digest(checksum_type)
        self._file = file
        self._reactor = reactor
        self._progress = progress
        self._resumed: Deferred[None] | None = None
        self._stopped = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        return Deferred.fromCoroutine(self._produce(consumer))

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._stopped = True
        self.resumeProducing()

    async def _produce(self, consumer: IConsumer) -> None:
        pool = self._reactor.getThreadPool()
        while not self._stopped:
            block = await deferToThreadPool(self._reactor, pool, self._read)
            if not block or self._stopped:
                return
            consumer.write(block)
            self._progress(len(block))
            if self._resumed is not None:
                await self._resumed

    def _read(self) -> bytes:
        block = self._file.read(BLOCK)
        self.digest.update(block)
        return block
