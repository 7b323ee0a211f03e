"""What operators and their tools ask: ``/-/health``, ``/-/ready`` and ``/metrics``.

``/-/health`` and the one word of ``/-/ready`` are for anyone. The details of ``/-/ready``, and ``/metrics``, are for
the machine itself and for signed requests; so a proxy on the same machine must not pass ``/metrics`` on.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from dataclasses import asdict

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.web.resource import Resource

import aisobj
from aisobj.errors import S3Error
from aisobj.metrics import CONTENT_TYPE, Gauges, Metrics
from aisobj.web.auth import Authenticator
from aisobj.web.rendering import OperationResource
from aisobj.web.request import Request

_NO_STORE = (b"Cache-Control", b"no-store")
_TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"), _NO_STORE)
_JSON = ((b"Content-Type", b"application/json"), _NO_STORE)
_METRICS = ((b"Content-Type", CONTENT_TYPE), _NO_STORE)


class Phase(enum.Enum):
    """What a server is doing."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class State:
    """Shared by the service, which moves it on, and ``/-/ready``, which tells."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING


class _OperatorResource(OperationResource):
    """Base: GET and HEAD only, errors as S3 writes them."""

    label: str

    def __init__(self) -> None:
        Resource.__init__(self)

    def handle(self, request: Request) -> Deferred[None] | None:
        request.operation = self.label
        if request.method not in (b"GET", b"HEAD"):
            raise S3Error("MethodNotAllowed", headers={"Allow": "GET, HEAD"})
        self.answer(request)
        return None

    def answer(self, request: Request) -> None:
        """Answer a GET or a HEAD. May raise S3Error."""
        raise NotImplementedError

    def render_error(self, request: Request, error: S3Error) -> None:
        request.fail(error)


class HealthResource(_OperatorResource):
    """``/-/health``: 200 as long as the process answers at all."""

    label = "Health"

    def answer(self, request: Request) -> None:
        request.respond(200, _TEXT, b"ok\n")


class ReadyResource(_OperatorResource):
    """``/-/ready``: 200 while new requests are welcome, else 503.

    A store that went read-only is ready, since it still reads; the details and ``ais_s3_read_only`` tell of it.
    """

    label = "Ready"

    def __init__(self, state: State, authenticator: Authenticator, gauges: Callable[[], Gauges]) -> None:
        _OperatorResource.__init__(self)
        self._state = state
        self._authenticator = authenticator
        self._gauges = gauges

    def answer(self, request: Request) -> None:
        phase = self._state.phase
        status = 200 if phase is Phase.READY else 503
        try:
            check_operator(request, self._authenticator)
        except S3Error:
            request.respond(status, _TEXT, f"{phase.value}\n".encode())
            return
        details = {"phase": phase.value, "version": aisobj.__version__, **asdict(self._gauges())}
        request.respond(status, _JSON, msgspec.json.encode(details) + b"\n")


class MetricsResource(_OperatorResource):
    """``/metrics``, in Prometheus's text format."""

    label = "Metrics"

    def __init__(self, metrics: Metrics, authenticator: Authenticator) -> None:
        _OperatorResource.__init__(self)
        self._metrics = metrics
        self._authenticator = authenticator

    def answer(self, request: Request) -> None:
        check_operator(request, self._authenticator)
        request.site.flush()
        request.respond(200, _METRICS, self._metrics.render())


def check_operator(request: Request, authenticator: Authenticator) -> None:
    """Let in who is on this machine (and means it: no web page that rebound its name) or has signed.

    :raises S3Error: AccessDenied, or whatever is wrong with the signature.
    """
    if _is_local(request.getClientAddress()):
        authenticator.check_origin(request)
    elif authenticator.open:
        raise S3Error("AccessDenied", "This is for requests from the server's own machine only.")
    else:
        authenticator.authenticate(request)


def _is_local(client: IAddress | None) -> bool:
    if isinstance(client, UNIXAddress):
        return True
    if not isinstance(client, (IPv4Address, IPv6Address)):
        return False
    address = ipaddress.ip_address(client.host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
