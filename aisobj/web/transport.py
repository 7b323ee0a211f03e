"""What leaves on a connection: whole answers, and large bodies from a source of blocks, with back-pressure.

On plain TCP the very buffer of the source goes to ``send(2)``: ``transport.write`` would copy it twice more (0.5 s of
CPU per GB, measured). Whole answers are sent at the end of the reactor's turn (``outbox``), large bodies at once. The
transport calls a pull producer only when its own buffers are empty
(``twisted.internet.abstract.FileDescriptor.doWrite``), and nobody else writes to it, so ``send(2)`` keeps the order.
Everything else (TLS, transports of tests) gets ``bytes`` by ``transport.write`` and stops us as a push producer.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from errno import ENOBUFS
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from aisobj.web.outbox import Outbox

Block = bytes | bytearray | memoryview

#: Over TLS a write this large passes at once through Twisted's aggregation of small writes (64,000 bytes), so that
#: the socket's buffer can stop us before we copy the next one.
_PIECE_BYTES = 64 * 1024


_MORE = getattr(socket, "MSG_MORE", 0)
_INT = struct.Struct("i")
_TCP_NOTSENT_LOWAT = 25  #: socket has it from Python 3.12 on
_UNSENT_BYTES = 64 * 1024


class BlockSource(Protocol):
    """Where the bytes of a large body come from."""

    def next_block(self) -> Block | Deferred[Block | None] | None:
        """The next bytes, or None at the end. They may be overwritten at the next call, so they are sent before it.

        Raising, or a failing Deferred, aborts the connection: what was sent stays visibly incomplete.
        """
        ...

    def give_back(self, count: int) -> bool:
        """Take back the last ``count`` bytes of the last block, to give them again later, and the memory they are in.
        False: it cannot."""
        ...

    def close(self) -> None:
        """Called exactly once, when no block is wanted any more, for whatever reason."""
        ...


class HeldBlocks:
    """Which blocks wait for their connections to take them. Of too many, the oldest are given back to their sources,
    since thousands of clients that do not read would hold half a MiB each.

    :param most: how many may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._outputs: dict[Output, None] = {}

    def add(self, output: Output) -> None:
        self._outputs[output] = None
        if len(self._outputs) > self._most:
            oldest = next(iter(self._outputs))
            del self._outputs[oldest]
            oldest.give_back()

    def discard(self, output: Output) -> None:
        self._outputs.pop(output, None)


class WrongLength(Exception):
    """A source had more or fewer bytes than the ``Content-Length`` that was sent. The connection was aborted."""


class Output:
    """Takes what is to be sent and keeps what the connection does not take yet.

    :ivar sent: bytes taken by the connection so far: if this stands still while ``pending``, the client does not read.
    :ivar unsent: when the connection was lost, how much of what was to be sent then had not been.
    :param drained: called when nothing is left of a ``write`` that returned False, and at the end of a ``send``.
    """

    #: After so many bytes at a stretch the other connections have their turn.
    turn_bytes: float = math.inf

    def __init__(self, transport: Any, drained: Callable[[], None], held: HeldBlocks) -> None:
        self.sent = 0
        self.unsent = 0
        self._transport = transport
        self._drained = drained
        self._held = held
        self._rest: memoryview | bytes = b""
        self._body: _Body | None = None
        self._pumping = False
        self._full = False  # until resumeProducing
        self._lost: Failure | None = None

    def write(self, data: bytes) -> bool:
        """Send ``data``. True: it is gone; False: ``drained`` will be called, unless the connection is lost."""
        if self._lost is not None:
            return False
        if self._rest:
            self._rest = bytes(self._rest) + data
            return False
        taken = self._push(data)
        if taken == len(data):  # as of most answers
            return not self._full
        self._rest = memoryview(data)[taken or 0 :]
        if not taken:
            if taken is not None:
                self._await_room()
            return False
        return self._push_rest() and not self.pending

    @property
    def pending(self) -> bool:
        """The client must read before we go on."""
        return self._full or len(self._rest) > 0

    def send(self, source: BlockSource, length: int) -> Deferred[None]:
        """Send the ``length`` bytes of ``source`` and close it.

        :return: fires when the last byte was handed over. Fails, and the connection is gone or being aborted, with
            what the source failed with, with :class:`WrongLength`, or with the reason the connection was lost for
            (a ``twisted.internet.error.ConnectionClosed`` or ``ConnectionLost``). Cancelling aborts the connection.
        """
        if self._lost is not None:
            source.close()
            return fail(self._lost)
        body = self._body = _Body(source, length, Deferred(self._cancelled))
        self._pump()
        return body.done

    def read_by_client(self) -> int:
        """How much of ``sent`` the client's side has got."""
        return self.sent

    def give_back(self) -> None:
        """Hold no block until the connection takes it."""
        body, rest = self._body, self._rest
        if body is not None and body.begun and not body.waiting and rest and body.source.give_back(len(rest)):
            body.left += len(rest)
            self._rest = b""

    def connection_lost(self, reason: Failure) -> None:
        """Nothing can be sent any more."""
        self._drop(reason)

    def close(self) -> None:
        """Let go of the transport before it is told to close."""

    # IPullProducer, IPushProducer

    def resumeProducing(self) -> None:
        """The transport has room."""
        self._full = False
        if self._body is not None:
            self._held.discard(self)
        self._pump()

    def pauseProducing(self) -> None:
        """The transport is full (push producers only)."""

    def stopProducing(self) -> None:
        """The transport is gone; ``connection_lost`` follows."""

    def _push(self, data: Block) -> int | None:
        """Hand over what the connection takes of ``data`` now: how many bytes; None if it is broken."""
        raise NotImplementedError

    def _await_room(self) -> None:
        """Have ``resumeProducing`` called when the connection takes more."""
        raise NotImplementedError

    def _pump(self) -> None:
        """Send until the connection is full, the source has nothing ready, or it is the others' turn."""
        if self._pumping or self._lost is not None:
            return
        self._pumping = True
        try:
            turn_ends = self.sent + self.turn_bytes
            while self._push_rest():
                if self._body is None:
                    self._drained()
                    if self._body is None:
                        return
                if self.sent >= turn_ends and self._body.left:
                    self._await_room()
                    return
                if not self._next_block(self._body):
                    return
        finally:
            self._pumping = False

    def _push_rest(self) -> bool:
        """True when nothing is left over."""
        rest = self._rest
        while rest:
            taken = self._push(rest)
            if taken == len(rest):
                break
            if not taken:
                if taken is not None:
                    self._await_room()
                    if self._body is not None and self._body.begun:
                        self._held.add(self)
                return False
            rest = self._rest = memoryview(rest)[taken:]
        self._rest = b""
        return True

    def _next_block(self, body: _Body) -> bool:
        """False when there is nothing to send now."""
        if not body.left:
            self._end_body(None)
            return self._body is not None
        if body.waiting:
            return False
        try:
            block = body.source.next_block()
        except Exception:
            self._abort(Failure())
            return False
        if isinstance(block, Deferred):
            body.waiting = True
            block.addCallbacks(self._block_came, self._block_failed, callbackArgs=(body,), errbackArgs=(body,))
            return not body.waiting and self._body is body
        return self._take_block(body, block)

    def _take_block(self, body: _Body, block: Block | None) -> bool:
        size = 0 if block is None else len(block)
        if block is None or size > body.left:
            self._abort(Failure(WrongLength(f"{body.left} bytes are left to send and the source gave {size}")))
            return False
        body.left -= size
        body.begun = True
        self._rest = block if isinstance(block, (bytes, memoryview)) else memoryview(block)
        return True

    def _block_came(self, block: Block | None, body: _Body) -> None:
        body.waiting = False
        if self._body is body and self._take_block(body, block):
            self._pump()

    def _block_failed(self, failure: Failure, body: _Body) -> None:
        body.waiting = False
        if self._body is body:
            self._abort(failure)

    def _abort(self, failure: Failure) -> None:
        """Whatever the client has got of this body, it must not look complete."""
        self._transport.abortConnection()
        self._drop(failure)

    def _cancelled(self, _: object) -> None:
        self._abort(Failure(CancelledError()))

    def _drop(self, failure: Failure) -> None:
        if self._lost is None:
            self.unsent = len(self._rest) + (self._body.left if self._body is not None else 0)
        self._lost = failure
        self._rest = b""
        self._end_body(failure)

    def _end_body(self, failure: Failure | None) -> None:
        body, self._body = self._body, None
        if body is None:
            return
        self._held.discard(self)
        body.source.close()
        if failure is None:
            self._drained()
            body.done.callback(None)
        else:
            body.done.errback(failure)


class _Body:
    """A source that is being sent."""

    __slots__ = ("begun", "done", "left", "source", "waiting")

    def __init__(self, source: BlockSource, length: int, done: Deferred[None]) -> None:
        self.source = source
        self.left = length  #: bytes not yet taken from the source
        self.begun = False  #: something was taken from the source
        self.waiting = False  #: for the source's Deferred
        self.done = done


@implementer(IPullProducer)
class TCPOutput(Output):
    """Straight into the socket, which takes what fits; the reactor tells when there is room again."""

    turn_bytes: int = 1024 * 1024
    _registered = False

    def __init__(self, transport: Any, drained: Callable[[], None], held: HeldBlocks, outbox: Outbox) -> None:
        super().__init__(transport, drained, held)
        self._outbox = outbox
        self._in_outbox = False

    def write(self, data: bytes) -> bool:
        """As :meth:`Output.write`, at the end of the turn: always False."""
        if self._lost is None:
            self._rest = bytes(self._rest) + data if self._rest else data
            if not self._in_outbox:
                self._in_outbox = True
                self._outbox.add(self)
        return False

    def send_waiting(self) -> None:
        """For the outbox. (A body that has begun sends what came before it, and nobody sends before there is room.)"""
        if self._rest and not self._full and self._body is None:
            self._push_rest()

    def report_sent(self) -> None:
        """For the outbox."""
        self._in_outbox = False
        if self._body is not None or self._lost is not None:
            return
        if not self._rest:
            self._drained()
        elif not self._full:  # it came after what was sent in the middle of the turn
            self._in_outbox = True
            self._outbox.add(self)

    def _push(self, data: Block) -> int | None:
        # What Connection.writeSomeData does, without the frames and the view it needs for that.
        try:
            body = self._body
            if body is None or body.begun or not body.left:
                taken: int = self._transport.socket.send(data)
            else:  # a head: in one packet with the beginning of its body, so that it does not wake the client
                taken = self._transport.socket.send(data, _MORE)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == ENOBUFS:
                return 0
            self._transport.abortConnection()
            return None
        self.sent += taken
        return taken

    def read_by_client(self) -> int:
        try:
            (queued,) = _INT.unpack(ioctl(self._transport.socket, TIOCOUTQ, _INT.pack(0)))
        except OSError:
            return self.sent
        # (A Unix socket counts its own bookkeeping, too.)
        return max(0, self.sent - int(queued))

    def keep_little_in_kernel(self) -> None:
        """Where there are many connections: what their clients do not read takes the whole machine's memory for TCP,
        some 450 KB each."""
        with suppress(OSError):
            self._transport.socket.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def _await_room(self) -> None:
        self._full = True
        if not self._registered:
            self._registered = True
            self._pumping, pumping = True, self._pumping  # registering asks for data at once; there is no room
            self._transport.registerProducer(self, False)
            self._pumping = pumping
        self._transport.startWriting()

    def close(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()


@implementer(IPushProducer)
class BufferedOutput(Output):
    """Through ``transport.write``; how much the client has read is only seen when the transport has room again."""

    def __init__(self, transport: Any, drained: Callable[[], None], held: HeldBlocks) -> None:
        super().__init__(transport, drained, held)
        self._registered = True
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._full = True

    def _push(self, data: Block) -> int | None:
        if self._full:
            return 0
        piece = bytes(data[:_PIECE_BYTES])
        self._transport.write(piece)
        self.sent += len(piece)
        return len(piece)

    def _await_room(self) -> None:
        """``resumeProducing`` comes whenever ``_full`` was set."""

    def close(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()
