"""One line per request: the combined log format, followed by ``name=value`` fields of our own.

No byte of a client's can end the line or a field, and no signature or credential gets in.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from select import PIPE_BUF
from stat import S_ISREG
from time import gmtime, strftime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes, unquote

from twisted.logger import Logger

if TYPE_CHECKING:
    from aisobj.web.request import Request

#: The parameters of presigned URLs, in lower case: SigV4's, and SigV2's.
_SECRET: Final = frozenset(
    {"x-amz-signature", "x-amz-credential", "x-amz-security-token", "signature", "awsaccesskeyid"}
)
#: What a key may hold to stand in a line as it is: what ``quote_from_bytes`` leaves alone.
_PLAIN_KEY: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~/"
_UNSAFE: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # all but printable ASCII without " and \

#: Requests held back for one write. Their lines are made together too: 8 us each, 20 between other work (measured).
_BATCH: Final = 64


class AccessLog:
    """Lines are collected and written a batch at a time; the site calls :meth:`flush` every second.

    :param path: of a file to append to, created with mode 0640; ``-`` is the standard output.
    :raises OSError: the file cannot be opened.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self._path = path
        self._ended: list[tuple[Request, str, float]] = []
        self._second = -1
        self._time = ""
        self._failing = False
        self._fd = self._open()
        #: A write to a file is not mixed with those of other workers, however long it is.
        self._whole = S_ISREG(os.fstat(self._fd).st_mode)

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def add(self, request: Request, now: float, seconds: float) -> None:
        """:param now: seconds since the epoch, when the request ended; ``seconds`` how long it took."""
        if int(now) != self._second:
            self._second = int(now)
            self._time = strftime("%d/%b/%Y:%H:%M:%S +0000", gmtime(now))
        self._ended.append((request, self._time, seconds))
        if len(self._ended) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was collected. A log that cannot be written (a full disk) loses lines and stops no request."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        data = "".join([_line(*one) for one in ended]).encode("ascii")
        try:
            for piece in [data] if self._whole else _atomic(data):
                rest = piece
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._log.error("the access log {path} cannot be written: {error}", path=self._path, error=error)
            self._failing = True

    def reopen(self) -> None:
        """After the file was renamed (logrotate); the old one is kept if the new one cannot be opened.

        :raises OSError:
        """
        self.flush()
        if self._path != "-":
            old, self._fd = self._fd, self._open()
            os.close(old)

    def close(self) -> None:
        """Flush, and give the file back."""
        self.flush()
        if self._path != "-":
            os.close(self._fd)


def _atomic(data: bytes) -> Iterator[bytes]:
    """Whole lines, as many at a time as a pipe takes without mixing them with what other workers write."""
    start = 0
    while len(data) - start > PIPE_BUF:
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1 or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
    yield data[start:]


def _line(request: Request, time: str, seconds: float) -> str:
    uri = _target(request.uri)
    version = "1.1" if request.http11 else "1.0"
    size = request.bytes_out
    return (
        f"{request.peer} - {_token(request.principal_name)} [{time}] "
        f'"{request.method.decode("latin-1")} {uri} HTTP/{version}" {request.status} {size} '
        f'"{_header(request.header(b"referer"))}" "{_header(request.header(b"user-agent"))}" '
        f"operation={request.operation or '-'} bucket={_token(request.bucket)} key={_key(request.key)} "
        f"id={request.request_id} in={request.body.received} out={size} "
        f"seconds={seconds:.6f} error={request.error_code or '-'}\n"
    )


def _key(key: bytes) -> str:
    if not key:
        return "-"
    return quote_from_bytes(key) if key.translate(None, _PLAIN_KEY) else key.decode("ascii")


#: A target that needs no thought: no query, or one of a presigned URL as SDKs write it, whose secrets are left out of
#: the groups; nothing but printable ASCII without ``"`` and ``\\``.
_plain_target: Final = re.compile(
    rb"([!#->@-[\]-~]*+)"
    rb"(?:(\?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=)[!#-%'-[\]-~]*+"
    rb"((?:&X-Amz-(?:Date|Expires|SignedHeaders)=[!#-%'-[\]-~]*+)*+&X-Amz-Signature=)[!#-%'-[\]-~]*+)?+"
).fullmatch


def _target(uri: bytes) -> str:
    """The request's target for within quotes, without secrets."""
    match = _plain_target(uri)
    if match is None:
        return _text(_redacted(uri.decode("latin-1")))
    path, credential, signature = match.groups()
    return (path if credential is None else b"%b%b-%b-" % (path, credential, signature)).decode("ascii")


def _redacted(uri: str) -> str:
    """Without the values of secret parameters, however their names are spelled."""
    path, mark, query = uri.partition("?")
    if not mark:
        return uri
    parameters = [parameter.partition("=") for parameter in query.split("&")]
    redacted = [
        f"{name}=-" if mark and _is_secret(name) else f"{name}{mark}{value}" for name, mark, value in parameters
    ]
    return f"{path}?{'&'.join(redacted)}"


@lru_cache(maxsize=256)
def _is_secret(name: str) -> bool:
    return (unquote(name) if "%" in name else name).lower() in _SECRET


def _text(value: str) -> str:
    r"""For within quotes: what is not plain ASCII becomes ``\xNN``."""
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", value)


@lru_cache(maxsize=64)  # the same few clients come again and again
def _header(value: bytes | None) -> str:
    if value is None:
        return "-"
    return _text(_redacted(value.decode("latin-1")))


@lru_cache(maxsize=1024)
def _token(value: str | None) -> str:
    """For outside quotes."""
    return quote_from_bytes(value.encode("utf-8", "surrogateescape"), safe="@:+,=") if value else "-"
