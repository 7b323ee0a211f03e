"""What the master and its workers say to each other: a line of JSON each, over a pipe each way. The end of the master's
pipe is the end of the master, and of whoever reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from aisobj.options import Settings

#: A longer text in the log is cut, characters.
LOG_LIMIT = 100_000


class Serve(msgspec.Struct, tag=True, frozen=True):
    """Begin. A worker does nothing before that."""

    settings: Settings
    credentials: str | None  #: the text of the file, so that all workers let in the same users
    cwd: str  #: what relative paths in endpoint strings start from
    number: int  #: from 0; number 0 does what is done behind the clients' backs
    alone: bool  #: no other worker uses the store yet


class Drain(msgspec.Struct, tag=True, frozen=True):
    """Finish what is in flight, and end."""


class Cut(msgspec.Struct, tag=True, frozen=True):
    """Drain no longer."""


class ReopenLogs(msgspec.Struct, tag=True, frozen=True):
    """The files were renamed."""


class OthersSettled(msgspec.Struct, tag=True, frozen=True):
    """No blob with a smaller id is unsettled in any other worker, nor will be (``Sweeper.others``)."""

    blob_id: bytes


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker lets clients in."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """It cannot, and ends."""

    text: str


class Settled(msgspec.Struct, tag=True, frozen=True):
    """No blob of the worker with a smaller id is unsettled, nor will be."""

    blob_id: bytes


class Log(msgspec.Struct, tag=True, frozen=True):
    """For the server's log."""

    level: str
    text: str


ToWorker = Serve | Drain | Cut | ReopenLogs | OthersSettled
ToMaster = Ready | Failed | Settled | Log


def encode(message: ToWorker | ToMaster) -> bytes:
    """A line, with its end."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def _path(kind: type[Any], text: Any) -> Any:
    return Path(text) if kind is Path else kind(text)


decode_to_worker = msgspec.json.Decoder(ToWorker, dec_hook=_path).decode
decode_to_master = msgspec.json.Decoder(ToMaster, dec_hook=_path).decode


class Lines:
    """Puts together again what a pipe has cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines
