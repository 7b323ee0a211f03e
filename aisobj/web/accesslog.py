"""One line per request: the combined log format, followed by ``name=value`` fields of our own.

No byte of a client's can end the line or a field, and no signature or credential gets in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from time import gmtime, strftime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from aisobj.web.logfile import LogFile
from aisobj.web.redaction import redacted

if TYPE_CHECKING:
    from aisobj.web.request import Ended, Request

#: What a key may hold to stand in a line as it is: what ``quote_from_bytes`` leaves alone.
_is_plain_key: Final = re.compile(rb"[A-Za-z0-9_.~/-]*+").fullmatch
_UNSAFE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # all but printable ASCII without " and \


class AccessLog:
    """
    :param path: of a file to append to, created with mode 0640; ``-`` is the standard output.
    :raises OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file = LogFile(path, "the access log")

    def add(self, ended: Iterable[Ended]) -> None:
        """Write their lines in one go. A log that cannot be written (a full disk) loses them and stops no request."""
        second, time, lines = -1, "", []
        for request, now, seconds in ended:
            if int(now) != second:
                second = int(now)
                time = strftime("%d/%b/%Y:%H:%M:%S +0000", gmtime(now))
            lines.append(_line(request, time, seconds))
        self._file.write("".join(lines).encode("ascii"))

    def reopen(self) -> None:
        """After the file was renamed (logrotate); the old one is kept if the new one cannot be opened.

        :raises OSError:
        """
        self._file.reopen()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _line(request: Request, time: str, seconds: float) -> str:
    uri = request.logged_target
    if uri is None:
        uri, key = _target(request.uri), _key(request.key)
    else:
        key = request.key.decode("ascii")
    version = "1.1" if request.http11 else "1.0"
    size = request.bytes_out
    referer, agent = request.header(b"referer"), request.header(b"user-agent")
    return (
        f"{request.channel.peer} - {_token(request.principal_name)} [{time}] "
        f'"{request.method.decode("latin-1")} {uri} HTTP/{version}" {request.status} {size} '
        f'"{"-" if referer is None else _header(referer)}" "{"-" if agent is None else _header(agent)}" '
        f"operation={request.operation or '-'} bucket={_token(request.bucket)} key={key} "
        f"id={request.request_id} in={request.body.received} out={size} "
        f"seconds={seconds:.6f} error={request.error_code or '-'}\n"
    )


def _key(key: bytes) -> str:
    if not key:
        return "-"
    if _is_plain_key(key):
        return key.decode("ascii")
    return quote_from_bytes(redacted(key.decode("latin-1")).encode("latin-1"))


def _targets(names: bytes, around: bool) -> Callable[[bytes], re.Match[bytes] | None]:
    r"""Matches targets that need no thought: nothing but printable ASCII without ``"`` and ``\``; a path without what
    may be a name's value, or may be escaped; no query, or one of a presigned URL as SDKs write it, whose secrets are
    left out of the groups.

    :param names: of the other parameters, whose values are plain.
    :param around: whether they may stand before the credential and after the signature, too.
    """
    value = rb"[0-9A-Za-z._~;-]*+"
    others = rb"(?>(?:&(?:%b)=%b(?>(?:%%3[Bb]%b)*))*)" % (names, value, value)
    beside = others if around else b""
    return re.compile(
        rb"([!#$&-9;<>@-[\]-~]*+)"
        rb"(?>(?:(\?X-Amz-Algorithm=AWS4-HMAC-SHA256%b&X-Amz-Credential=)[!#-%%'-[\]-~]*+"
        rb"(%b&X-Amz-Signature=)[!#-%%'-[\]-~]*+(%b))?)" % (beside, others, beside)
    ).fullmatch


_plain_target: Final = _targets(rb"X-Amz-(?:Date|Expires|SignedHeaders)", False)
#: Those of the SDKs for Go and JavaScript: 2 us, where looking at all takes 12.
_wordy_target: Final = _targets(rb"X-Amz-(?:Date|Expires|SignedHeaders|Content-Sha256)|x-id|x-amz-checksum-mode", True)


def _target(uri: bytes) -> str:
    """The request's target for within quotes, without secrets."""
    match = _plain_target(uri) or _wordy_target(uri)
    if match is None:
        return _text(redacted(uri.decode("latin-1")))
    path, credential, signature, rest = match.groups()
    return (path if credential is None else b"%b%b-%b-%b" % (path, credential, signature, rest)).decode("ascii")


def _text(value: str) -> str:
    r"""For within quotes: what is not plain ASCII becomes ``\xNN``."""
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", value)


@lru_cache(maxsize=64)  # the same few clients come again and again
def _header(value: bytes) -> str:
    return _text(redacted(value.decode("latin-1")))


@lru_cache(maxsize=1024)
def _token(value: str | None) -> str:
    """For outside quotes."""
    return quote_from_bytes(redacted(value).encode("utf-8", "surrogateescape"), safe="@:+,=") if value else "-"
