"""Who may be connected: so many in all, and so many from one address.

Where there is no room, the connection on which nothing is going on, and whose time would be up first, makes room (as
in nginx, ``ngx_drain_connections``): whoever opens connections and says nothing, or little, locks nobody out. Where all
are busy, the newcomer is told 503 ``SlowDown``, in one of a few places kept for that; beyond these it is cut without a
word.
"""

from __future__ import annotations

import enum
import heapq
import ipaddress
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address

from aisobj.web.limits import Limits

if TYPE_CHECKING:
    from aisobj.web.channel import Channel

#: Found with one look at all connections. A look at 4,096 takes 0.5 ms.
_AT_ONCE = 64
#: After a look that found none: seconds until the next one.
_BLIND = 0.1


class Entry(enum.Enum):
    """What becomes of a new connection."""

    WELCOME = enum.auto()
    TOLD = enum.auto()  #: to come again later
    CUT = enum.auto()


class Admission:
    """The open connections of one process.

    :param seconds: the time.
    :param closed: counts connections by what they were closed for (``aisobj.metrics.CLOSED``).
    :ivar connections: all of them, those included that are told to go.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float], closed: Callable[[str], None]) -> None:
        self.connections: set[Channel] = set()
        self._limits = limits
        self._seconds = seconds
        self._closed = closed
        self._told: set[Channel] = set()
        self._addresses: dict[str, set[Channel]] = {}
        self._idle: list[tuple[float, Channel]] = []  # may have become busy since; the first to go is the last
        self._blind_until = 0.0

    def enter(self, channel: Channel) -> Entry:
        """A connection was accepted."""
        address = self._address(channel)
        of_address = self._addresses.setdefault(address, set()) if address else None
        refused = ""
        if of_address is not None and len(of_address) >= self._limits.connections_per_address:
            if not self._displace(_idle(of_address, 1)):
                refused = "address"
        elif len(self.connections) - len(self._told) >= self._limits.connections and not self._displace(self._look()):
            refused = "connections"
        if refused:
            self._closed(refused)
            if len(self._told) >= self._limits.refusals:
                return Entry.CUT
            self._told.add(channel)
        elif of_address is not None:
            of_address.add(channel)
        self.connections.add(channel)
        return Entry.TOLD if refused else Entry.WELCOME

    def leave(self, channel: Channel) -> None:
        """It is gone."""
        self.connections.discard(channel)
        self._told.discard(channel)
        address = self._address(channel)
        of_address = self._addresses.get(address)
        if of_address is not None:
            of_address.discard(channel)
            if not of_address:
                del self._addresses[address]

    def _address(self, channel: Channel) -> str:
        """What counts as one address; "": nothing that would be counted."""
        address = channel.client_address
        if not self._limits.connections_per_address or not isinstance(address, (IPv4Address, IPv6Address)):
            return ""
        ip = ipaddress.ip_address(address.host.partition("%")[0])
        if isinstance(ip, ipaddress.IPv4Address):
            return str(ip)
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))  # what one client has as a rule

    def _look(self) -> Iterable[tuple[float, Channel]]:
        """The idle ones, the first to go first, a few at a time."""
        while self._idle:
            yield self._idle.pop()
        now = self._seconds()
        if now < self._blind_until:
            return
        self._idle = _idle(self.connections, _AT_ONCE)[::-1]
        if not self._idle:
            self._blind_until = now + _BLIND
        while self._idle:
            yield self._idle.pop()

    def _displace(self, candidates: Iterable[tuple[float, Channel]]) -> bool:
        """Close the first one that is idle still."""
        for deadline, channel in candidates:
            if channel.idle_until() == deadline and channel.close_idle():
                self._closed("displaced")
                return True
        return False


def _idle(channels: Iterable[Channel], most: int) -> list[tuple[float, Channel]]:
    """Those whose time is up first, first."""
    number = count()  # so that no channels are compared
    found = ((until, next(number), channel) for channel in channels if (until := channel.idle_until()) is not None)
    return [(until, channel) for until, _, channel in heapq.nsmallest(most, found)]
