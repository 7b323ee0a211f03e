"""The head of a request: llhttp parses it, this module refuses what llhttp lets through.

Sans-IO. The channel cuts the head off at ``CRLF CRLF`` and counts its bytes; a parser lives for one head and never sees
a body, because httptools does not tell where in a read a message ended, and hands the body of a request with
``Upgrade`` on as the next request. Rules: RFC 9112; everything refused here closes the connection.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from aisobj.errors import S3Error
from aisobj.web.limits import Limits

RawHeaders = list[tuple[bytes, bytes]]

_METHOD_BEGINS: Final = re.compile(rb"[A-Z-]{1,20}(?: |\Z)")
_AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%-]+(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"[0-9]{1,19}")

_LF: Final = ord("\n")
_HASH: Final = ord("#")  # a number is looked for at once, bytes after a TypeError in Python 3.11

#: One of each at most, or two readers find two bodies, or two servers.
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
#: Those that say one thing, so that two of them must say the same (RFC 9110 section 5.3, and of ``Origin`` RFC 6454
#: section 7.3): whoever looks at the first, where somebody else has looked at the last, lets in what was not meant to.
#: Of ``x-amz-`` user metadata alone are lists.
_SINGLE: Final = frozenset(
    b"authorization content-md5 content-type content-disposition date expires range if-range if-modified-since "
    b"if-unmodified-since origin referer access-control-request-method".split()
)
_SINGLE_PREFIXES: Final = (b"x-amz-", b"sec-fetch-", b"ais-checksum-")
_LIST_PREFIX: Final = b"x-amz-meta-"

#: Methods that llhttp knows but that name no path on this server (RFC 9110 section 9.3.6, RFC 9113 section 3.4).
_NOT_OURS: Final = frozenset({b"CONNECT", b"PRI"})


class Head:
    """One request head that passed every check.

    :ivar method: e.g. ``b"GET"``.
    :ivar target: origin form, as on the wire; absolute form is already reduced to it.
    :ivar headers: names in lower case, wire order, values without surrounding blanks.
    :ivar fields: name -> value; where a name comes several times with different values, the list that they make.
    :ivar length: of the body by Content-Length; 0 without one, None if the body is chunked.
    :ivar expects_continue: ``Expect: 100-continue`` on a request that has a body, if only one of length 0.
    """

    length: int | None = 0
    http11 = True
    keep_alive = False
    expects_continue = False

    def __init__(self, method: bytes = b"-", target: bytes = b"-") -> None:
        self.method = method
        self.target = target
        self.headers: RawHeaders = []
        self.fields: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools calls this; llhttp already dropped the blanks before the value."""
        self.headers.append((name.lower(), value.rstrip(b" \t")))


def refusal(message: str, code: str = "BadRequest") -> S3Error:
    """An error after which the connection cannot be used."""
    return S3Error(code, message, close=True)


def check_beginning(data: bytes, limits: Limits) -> None:
    """Refuse at once what cannot become a head, rather than at the time-out: a TLS hello, bare LFs, too many bytes.

    :param data: all that arrived of the head; it has no ``CRLF CRLF`` yet.
    :raises S3Error:
    """
    if len(data) > limits.head_bytes:
        raise refusal("The request line and headers are too long.", "RequestHeaderSectionTooLarge")
    if not _METHOD_BEGINS.match(data):
        raise refusal("This is not an HTTP request.")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise refusal("A line must end in CRLF.")


def parse_head(data: bytes, limits: Limits) -> Head:
    """:param data: from the request line to ``CRLF CRLF`` inclusive.

    :raises S3Error: always with ``close``.
    """
    if len(data) > limits.head_bytes:
        raise refusal("The request line and headers are too long.", "RequestHeaderSectionTooLarge")
    line = data[: data.index(b"\r\n")].split(b" ")
    if len(line) != 3 or data[0] < 65:  # llhttp skips any CR and LF before the method, which begins with a letter
        raise refusal("The request line is malformed.")
    method, target, version = line
    if _LF in target:  # to llhttp the end of a request line of HTTP/0.9
        raise refusal("The request line is malformed.")
    head = Head(method, target)
    if version != b"HTTP/1.1":
        head.http11 = False
        if version != b"HTTP/1.0":
            raise refusal("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    _feed(head, data)
    if method in _NOT_OURS:
        raise refusal("The method is not allowed here.", "MethodNotAllowed")
    headers = head.headers
    if len(headers) > limits.headers:
        raise refusal(f"More than {limits.headers} headers.", "RequestHeaderSectionTooLarge")
    fields = head.fields = dict(headers)
    if len(fields) != len(headers):
        _merge_repeated(headers, fields)
    _check_host(fields, head.http11)
    if target[:1] != b"/" or _HASH in target:
        head.target = _origin_form(target, fields)
    _frame_body(head, fields)
    head.keep_alive = _wants_keep_alive(fields, head.http11) if b"connection" in fields else head.http11
    return head


def _feed(head: Head, data: bytes) -> None:
    try:
        HttpRequestParser(head).feed_data(data)
    except HttpParserUpgrade:
        pass  # the head is complete; without a body the wish to upgrade is ignored
    except HttpParserInvalidMethodError:
        raise refusal("The method is unknown.") from None
    except HttpParserInvalidURLError:
        raise refusal("The request target is malformed.", "InvalidURI") from None
    except HttpParserError as error:
        raise refusal(f"The request head is malformed: {error}.") from None


def _merge_repeated(headers: RawHeaders, fields: dict[bytes, bytes]) -> None:
    """RFC 9110 section 5.3: several of a name are one list, unless only one of them can be meant."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    for name, given in values.items():
        if len(given) == 1:
            continue
        if name in _ONCE:
            raise refusal(f"More than one {name.decode()} header.")
        if given.count(given[0]) == len(given):
            continue
        if name in _SINGLE or (name.startswith(_SINGLE_PREFIXES) and not name.startswith(_LIST_PREFIX)):
            raise refusal(f"More than one {name.decode('latin-1')} header, and they differ.", "InvalidRequest")
        fields[name] = b", ".join(given)


def _check_host(fields: dict[bytes, bytes], http11: bool) -> None:
    host = fields.get(b"host")
    if host is None:
        if http11:
            raise refusal("The Host header is missing.")
    elif not _is_authority(host):
        raise refusal("The Host header is malformed.")


@lru_cache(maxsize=64)  # clients reach us by few names
def _is_authority(host: bytes) -> bool:
    return _AUTHORITY.fullmatch(host) is not None


def _origin_form(target: bytes, fields: dict[bytes, bytes]) -> bytes:
    """RFC 9112 section 3.2.2: absolute form must be accepted; here only for the host that Host names."""
    absolute = _ABSOLUTE.fullmatch(target)
    if b"#" in target or not absolute:
        raise refusal("The request target must be a path.", "InvalidURI")
    authority, rest = absolute.groups()
    if authority.lower() != fields.get(b"host", authority).lower():
        raise refusal("The request target names another host than the Host header.", "InvalidURI")
    return rest if rest.startswith(b"/") else b"/" + rest


def _frame_body(head: Head, fields: dict[bytes, bytes]) -> None:
    """How long the body is, by exactly one of two headers (RFC 9112 section 6)."""
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if not head.http11:
            raise refusal("Transfer-Encoding is unknown to HTTP/1.0.")
        if length is not None:
            raise refusal("Content-Length and Transfer-Encoding exclude each other.")
        if coding.lower() != b"chunked":
            raise refusal("The only Transfer-Encoding accepted is chunked.")
        head.length = None
    elif length is not None:
        if not _LENGTH.fullmatch(length):
            raise refusal("The Content-Length is malformed.")
        head.length = int(length)
    if head.length != 0 and b"upgrade" in fields:
        raise refusal("A request with a body cannot ask for an upgrade.")
    if head.length != 0 or length is not None:
        head.expects_continue = head.http11 and fields.get(b"expect", b"").lower() == b"100-continue"


def _wants_keep_alive(fields: dict[bytes, bytes], http11: bool) -> bool:
    """What ``Connection`` says (RFC 9112 section 9.3)."""
    options = {option.strip(b" \t").lower() for option in fields[b"connection"].split(b",")}
    return b"close" not in options if http11 else b"keep-alive" in options
