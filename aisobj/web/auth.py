"""Who may come in: a request to a Principal, before anything of its body is read.

With credentials every request is verified (``protocol.sigv4``). Without, the server is open, but only to programs that
meant it: a known ``Host`` (a web page that rebinds its DNS name to 127.0.0.1 sends its own) and, for what writes, no
foreign ``Origin`` (a form or script of another site sends one) and no ``Sec-Fetch-Site`` of another site (which a
browser sends besides, whatever it leaves out of ``Origin``; https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection

from aisobj.errors import S3Error
from aisobj.model import ANONYMOUS, Principal
from aisobj.protocol.authentication import verify
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.plain_signature import HOST, PlainHeaders, PlainValues, verify_plain_headers
from aisobj.protocol.presigned import PlainQuery, verify_bare
from aisobj.protocol.signing import Authenticated, PayloadMode, SignedRequest, payload_mode
from aisobj.web.request import Request

_READS = frozenset({b"GET", b"HEAD"})
#: Of ``Sec-Fetch-Site``: the page itself, and what the user did without any page. Whatever else there is, is foreign.
_OWN_SITES = frozenset({b"same-origin", b"none"})
_LOCAL_HOSTS = frozenset({"localhost", "ip6-localhost"})


class Authenticator:
    """Decides on every request of the S3 tree and of ``/v1``.

    :param credentials: None leaves the server open.
    :param region: the only region that a signature may name; "" takes any.
    :param now: seconds since the epoch.
    :param hosts: further host names that an open server answers to; ``*`` stands for any.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        region: str,
        now: Callable[[], float],
        hosts: Collection[str] = (),
    ) -> None:
        self._credentials = credentials
        self._region = region or None
        self._now = now
        self._hosts = _LOCAL_HOSTS.union(host.lower() for host in hosts)

    @property
    def open(self) -> bool:
        """Whether anybody may come in."""
        return self._credentials is None

    def authenticate(self, request: Request) -> Authenticated:
        """Who is asking, and how the body is to be verified. Raises S3Error."""
        if self._credentials is None:
            self.check_origin(request)
            return authenticated(ANONYMOUS, request.header(b"x-amz-content-sha256"))
        signed = SignedRequest(request.method, request.path, request.query, request.raw_headers)
        try:
            found = verify(signed, self._credentials, self._now(), region=self._region)
        except S3Error:
            request.denied = True
            raise
        request.principal_name = found.principal.name
        return found

    def authenticate_bare(self, method: bytes, path: bytes, host: bytes, query: PlainQuery | None) -> Principal | None:
        """Who asks, for a request that has no header of importance but Host and Content-Length; parameters as for
        :func:`aisobj.protocol.presigned.verify_bare`, but ``query`` may be None. None, or S3Error, where only
        :meth:`authenticate` can tell.
        """
        if self._credentials is None:
            return ANONYMOUS if self._knows(host) else None
        if query is None:
            return None
        return verify_bare(method, path, host, query, self._credentials, self._now(), region=self._region)

    def authenticate_plain(
        self, headers: PlainHeaders, method: bytes, path: bytes, query: bytes, values: PlainValues
    ) -> Principal | None:
        """The same of one that has some of the headers that SDKs send with a signature; parameters as for
        :func:`aisobj.protocol.plain_signature.verify_plain_headers`."""
        if self._credentials is None:
            host = values[HOST]
            return ANONYMOUS if host is not None and self._knows(host) else None
        now, region = self._now(), self._region
        return verify_plain_headers(headers, method, path, query, values, self._credentials, now, region=region)

    def _knows(self, header: bytes) -> bool:
        """An open server answers to this Host."""
        host = _host_of(header)
        return "*" in self._hosts or (host is not None and (host in self._hosts or _is_address(host)))

    def check_origin(self, request: Request) -> None:
        """For who need not sign: refuse what a web page made a browser send. Raises S3Error."""
        if not self._knows(request.header(b"host") or b""):
            raise S3Error("AccessDenied", "This server is open, so it answers only to names that it knows.")
        if request.method in _READS:
            return
        origin = request.header(b"origin")
        if origin is not None and not _is_own(origin, request.header(b"host")):
            raise _foreign()
        site = request.header(b"sec-fetch-site")
        if site is not None and site not in _OWN_SITES:
            raise _foreign()


def _is_own(origin: bytes, host: bytes | None) -> bool:
    """Whether a page of this very server sent it. ``null``, of a sandboxed page or a file, is not."""
    scheme, _, authority = origin.partition(b"://")
    return scheme in (b"http", b"https") and authority == host


def _foreign() -> S3Error:
    return S3Error("AccessDenied", "This server is open, so it takes no writes from other web sites.")


def authenticated(principal: Principal, payload: bytes | None) -> Authenticated:
    """How a body is to be verified whose chunks nobody signs. Where nobody signs at all, what its sender says of it is
    still checked.

    :param payload: ``x-amz-content-sha256``.
    """
    mode = payload_mode(payload)
    sha256 = payload.decode("ascii").lower() if payload is not None and mode is PayloadMode.SIGNED else None
    return Authenticated(principal, mode, sha256, None, 0 if principal.anonymous else 4, False)


def _host_of(header: bytes) -> str | None:
    """The host in a Host header, lower-case and without port; an IPv6 address without brackets."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        host, bracket, _ = text[1:].partition("]")
        return host if bracket else None
    return text.partition(":")[0].removesuffix(".") or None


def _is_address(host: str) -> bool:
    """An address cannot be rebound: whoever names it reaches just that address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
