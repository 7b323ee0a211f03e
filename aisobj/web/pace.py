"""Whether a client sends what it announced, and reads what it asked for."""

from __future__ import annotations

from aisobj.web.limits import Limits
from aisobj.web.transport import Output


class SendingPace:
    """Of one body. Bytes earn time; silence costs it, but only while it is the client we wait for.

    :ivar received: bytes since the last ``check``.
    """

    __slots__ = ("_credit", "received")

    def __init__(self, limits: Limits) -> None:
        self.received = 0
        self._credit = limits.body_grace_seconds  # seconds that the client may be silent

    def check(self, waiting: bool, since: float, limits: Limits) -> bool:
        """False: it took too long. Called each ``sweep_seconds``.

        :param waiting: whether we wait for the client.
        :param since: how long ago the last time was, seconds.
        """
        received, self.received = self.received, 0
        self._credit = min(limits.body_grace_seconds, self._credit + received / limits.body_rate)
        if waiting:
            self._credit -= since
        return self._credit >= 0 or not waiting


class ReadingPace:
    """Of one connection. What a client does not read waits in our buffers, and then in the kernel's; a byte that it has
    got earns it time, and waiting costs it.
    """

    __slots__ = ("_credit", "_read")

    def __init__(self, limits: Limits) -> None:
        self._credit = limits.response_grace_seconds  # seconds that the client may not read
        self._read = 0

    def check(self, output: Output, since: float, limits: Limits) -> bool:
        """False: it took too long. Called each ``sweep_seconds``.

        :param since: how long ago the last time was, seconds.
        """
        sent, pending = output.sent, output.pending
        if not pending and sent == self._read:
            return True
        read = output.read_by_client()
        if read == sent and not pending:
            self._credit = limits.response_grace_seconds
        else:
            earned = (read - self._read) / limits.response_rate
            self._credit = min(limits.response_grace_seconds, self._credit + earned) - since
        self._read = read
        return self._credit >= 0
