"""Whether a client sends what it announced, and reads what it asked for."""

from __future__ import annotations

from aisobj.web.limits import Limits
from aisobj.web.transport import Output


class _Window:
    """Whether a rate is kept over one stretch of time after the other. Credit alone runs out slowly where bytes come
    nearly fast enough."""

    __slots__ = ("_bytes", "_seconds")

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def is_slow(self, count: int, seconds: float, rate: int, length: float) -> bool:
        """Add ``count`` bytes and the seconds waited for them; at the end of a stretch of ``length`` seconds, whether
        fewer than ``rate`` bytes a second have come."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < length:
            return False
        slow = self._bytes < rate * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return slow


class SendingPace:
    """Of one body. Bytes earn time; silence costs it, but only while it is the client we wait for.

    :ivar received: bytes since the last ``check``.
    """

    __slots__ = ("_credit", "_window", "received")

    def __init__(self, limits: Limits) -> None:
        self.received = 0
        self._credit = limits.body_grace_seconds  # seconds that the client may be silent
        self._window = _Window()

    def check(self, waiting: bool, since: float, limits: Limits) -> bool:
        """False: it took too long. Called each ``sweep_seconds``.

        :param waiting: whether we wait for the client.
        :param since: how long ago the last time was, seconds.
        """
        received, self.received = self.received, 0
        self._credit = min(limits.body_grace_seconds, self._credit + received / limits.body_rate)
        if waiting:
            self._credit -= since
        slow = self._window.is_slow(received, since if waiting else 0.0, limits.body_rate, limits.body_grace_seconds)
        return (self._credit >= 0 and not slow) or not waiting


class ReadingPace:
    """Of one connection. What a client does not read waits in our buffers, and then in the kernel's; a byte that it has
    got earns it time, and waiting costs it.
    """

    __slots__ = ("_credit", "_read", "_window")

    def __init__(self, limits: Limits) -> None:
        self._credit = limits.response_grace_seconds  # seconds that the client may not read
        self._window = _Window()
        self._read = 0

    def check(self, output: Output, since: float, limits: Limits) -> bool:
        """False: it took too long. Called each ``sweep_seconds``.

        :param since: how long ago the last time was, seconds.
        """
        sent, pending = output.sent, output.pending
        if not pending and sent == self._read:
            return True
        read = output.read_by_client()
        count, self._read = read - self._read, read
        rate, grace = limits.response_rate, limits.response_grace_seconds
        if read == sent and not pending:
            self._credit = grace
            return True
        self._credit = min(grace, self._credit + count / rate) - since
        return not self._window.is_slow(count, since, rate, grace) and self._credit >= 0
