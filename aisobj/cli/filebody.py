"""A request body that is read from a file while it is sent."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from aisobj.checksums import Digest, new_digest

#: Bytes read at once.
BLOCK = 256 * 1024


class Readable(Protocol):
    """A binary file. Where it may have to wait it is unbuffered: the interpreter at its end wants a buffer's lock."""

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
        # Where the length is known the end is too: the answer may come at once, and its receiver closes the file.
        left = math.inf if self.length is UNKNOWN_LENGTH else self.length
        while left > 0:
            try:
                block = await self._next_block()
            except ValueError:  # closed meanwhile
                if not self._stopped:
                    raise
            if self._stopped:
                await Deferred()  # "the Deferred is never fired" then
            if not block:
                return
            left -= len(block)
            consumer.write(block)
            self._progress(len(block))
            if self._resumed is not None:
                await self._resumed

    def _next_block(self) -> Deferred[bytes]:
        if self.length is not UNKNOWN_LENGTH:
            return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read)
        # A pipe may be silent for ever, and the end of the process waits for the threads of the pool.
        found: Deferred[bytes] = Deferred()
        threading.Thread(target=self._read_into, args=(found,), daemon=True).start()
        return found

    def _read_into(self, found: Deferred[bytes]) -> None:
        try:
            result: bytes | Failure = self._read()
        except Exception:
            result = Failure()
        self._reactor.callFromThread(found.callback, result)

    def _read(self) -> bytes:
        block = self._file.read(BLOCK)
        self.digest.update(block)
        return block
