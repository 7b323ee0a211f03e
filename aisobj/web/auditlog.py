"""Who changed what, and who was denied: one line of JSON for each.

A line is written when the operation is over, in the same turn of the reactor in which it is answered, whether the
client still listens or not: an operation goes on when its client leaves, so this is no business of the request's end.
It is written at once: what was acknowledged is in the file when its worker is killed.

No byte of a client's can end a line or a field: lines are ASCII, everything else is escaped as JSON does it. No
signature gets in, wherever a client has put it (``redaction``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from aisobj.web.logfile import LogFile
from aisobj.web.redaction import redacted

if TYPE_CHECKING:
    from aisobj.web.request import Request

#: The methods of requests that change nothing.
READS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})

#: A longer key is none (S3 takes 1,024 bytes), but may have been asked for.
_LONGEST: Final = 1024
#: The access key that a request names, in each form of a signature.
_NAMED_IN_HEADER: Final = re.compile(rb"(?:AWS4-HMAC-SHA256.*?\bCredential=([^/,\s]{1,128})/|AWS ([^:\s]{1,128}):)")
_NAMED_IN_QUERY: Final = re.compile(rb"(?:^|&)(?:X-Amz-Credential|AWSAccessKeyId)=([^&]{1,256})")


class AuditLog:
    """One file for all workers.

    :param path: of a file to append to, created with mode 0640; ``-`` is the standard output.
    :param now: seconds since the epoch.
    :param access_keys: name of a user -> the access key.
    :raises OSError: the file cannot be opened.
    """

    def __init__(self, path: str, now: Callable[[], float], access_keys: Mapping[str, str]) -> None:
        self._file = LogFile(path, "the audit log")
        self._now = now
        self._access_keys = access_keys

    def add(self, request: Request, error: str | None) -> None:
        """An operation is over.

        :param error: the code of its failure. None: it was done.
        """
        fields = {
            "time": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="microseconds"),
            "id": request.request_id,
            "user": request.principal_name,
            "access_key": self._access_key(request),
            "remote": request.peer,
            "method": _text(request.method),
            "operation": request.operation,
            "bucket": redacted(request.bucket) if request.bucket else None,
            "key": _text(request.key[:_LONGEST]) if request.key else None,
            "source": _text(source[:_LONGEST]) if (source := request.header(b"x-amz-copy-source")) else None,
            "status": request.status,
            "error": error,
            "bytes_in": request.bytes_in,
            "bytes_out": request.bytes_out,
        }
        if request.outcomes is None:
            self._file.write(_line(fields))
            return
        lines = [_line({**fields, "key": _text(key[:_LONGEST]), "error": code}) for key, code in request.outcomes]
        if error is not None:
            lines.append(_line(fields))
        self._file.write(b"".join(lines))

    def _access_key(self, request: Request) -> str | None:
        """The one that was verified, or the one that a denied request names."""
        known = self._access_keys.get(request.principal_name or "")
        if known is not None:
            return known
        in_header = _NAMED_IN_HEADER.match(request.header(b"authorization") or b"")
        if in_header is not None:
            return _text(in_header[1] or in_header[2])
        in_query = _NAMED_IN_QUERY.search(request.query)
        return None if in_query is None else redacted(unquote(_text(in_query[1])).partition("/")[0])

    def reopen(self) -> None:
        """After the file was renamed (logrotate); the old one is kept if the new one cannot be opened.

        :raises OSError:
        """
        self._file.reopen()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _text(value: bytes) -> str:
    r"""Without secrets; what is not UTF-8, which no stored key is, becomes ``\xNN``."""
    return redacted(value.decode("utf-8", "backslashreplace"))


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"
