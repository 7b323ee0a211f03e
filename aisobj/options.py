"""The options of ``twistd ais-s3``, as the operator gives them and as the server takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, cast

from twisted.python import usage

import aisobj
from aisobj.checksums import CHECKSUM_TYPES
from aisobj.listening import StartupError, one_line
from aisobj.model import BucketProps
from aisobj.storage.upkeep import UpkeepSettings
from aisobj.web.limits import Limits

DEFAULT_LISTEN = "tcp:8080:interface=127.0.0.1"
NO_LOG = "off"
#: More are of no use; each needs slots in the index's table of readers.
MAX_WORKERS = 128

#: The shortest interval of what is done in the background, hours.
MIN_HOURS = 0.0001

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

OPEN_FLAG = "anyone-on-the-network-may-write"


class Options(usage.Options):
    """What the operator may say; :meth:`Settings.of` reads it together with the environment."""

    synopsis = "[options]"
    longdesc = (
        "Each option is also an environment variable, in capitals after AIS_S3_: --no-sync is AIS_S3_NO_SYNC=1. "
        "AIS_S3_LISTEN and AIS_S3_SERVER_NAME take several values, with spaces between. The command line wins."
    )

    optParameters = [
        ["data", "d", None, "Data directory, made if missing. [default: ~/.local/share/ais-s3]"],
        ["credentials", "c", None, "File of users in the AWS shared-credentials format; without one, anybody may."],
        ["region", "r", None, "The only region that signatures may name. [default: any]"],
        ["checksum", None, None, f"Checksum of new buckets: {', '.join(CHECKSUM_TYPES)}. [default: xxhash]"],
        ["access-log", None, None, f"File, - for standard output, {NO_LOG} for none. [default: -]"],
        ["audit-log", None, None, f"The same, for who changed what and who was denied, as JSON. [default: {NO_LOG}]"],
        ["index-backups", None, None, "How many daily backups of the index to keep; 0: make none. [default: 3]"],
        ["index-backup-hours", None, None, "From one backup of the index to the next. [default: 24]"],
        ["scrub-rate", None, None, "MiB/s that the background scrub reads at most; 0: no scrub. [default: 4]"],
        ["scrub-hours", None, None, "From the end of one background scrub to the next. [default: 168]"],
        ["workers", "w", None, "Processes that serve. [default: as many as there are cores for them]"],
        ["max-connections", None, None, "Open at once, in each worker. [default: 4096]"],
        ["max-connections-per-address", None, None, "The same, from one address; 0: no such limit. [default: 0]"],
    ]
    optFlags = [
        ["no-sync", None, "Never wait for the disk: fast, and lost at a power cut. For throw-away servers."],
        [OPEN_FLAG, None, "Serve other machines without credentials."],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["listen"] = []
        self["server-name"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint (Twisted's strings; TLS: ssl:), repeatable. [default: tcp:8080:interface=127.0.0.1]"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_server_name(self, name: str) -> None:
        """Further host name of a server without credentials (* for any), repeatable."""
        self["server-name"].append(name)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"ais-s3 {aisobj.__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:  # twistd would print the whole help first
            refuse(f"{one_line(error)} (twistd ais-s3 --help explains)")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options, checked. Paths are absolute: twistd changes its directory."""

    listen: tuple[str, ...]
    data: Path
    credentials: Path | None
    region: str
    checksum: str
    sync: bool
    access_log: str | None  #: a path, ``-``, or None for none
    audit_log: str | None  #: the same
    open_to_network: bool
    server_names: tuple[str, ...]
    workers: int
    connections: int = Limits().connections  #: in each worker
    connections_per_address: int = 0
    upkeep: UpkeepSettings = field(default_factory=UpkeepSettings)

    @classmethod
    def of(cls, options: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
        """:raises StartupError: a value that cannot be."""

        def text(name: str, default: str = "") -> str:
            return cast(str | None, options[name]) or environ.get(_variable(name)) or default

        def several(name: str) -> tuple[str, ...]:
            return tuple(cast("list[str]", options[name]) or environ.get(_variable(name), "").split())

        usual = UpkeepSettings()
        checksum = text("checksum", BucketProps().checksum_type)
        if checksum not in CHECKSUM_TYPES:
            raise StartupError(f"--checksum {checksum}: it must be one of {', '.join(CHECKSUM_TYPES)}")
        credentials = text("credentials")
        return cls(
            listen=several("listen") or (DEFAULT_LISTEN,),
            data=Path(text("data")).absolute() if text("data") else default_data(environ),
            credentials=Path(credentials).absolute() if credentials else None,
            region=text("region"),
            checksum=checksum,
            sync=not _flag(options, environ, "no-sync"),
            access_log=_log(text("access-log", "-")),
            audit_log=_log(text("audit-log", NO_LOG)),
            open_to_network=_flag(options, environ, OPEN_FLAG),
            server_names=several("server-name"),
            workers=_workers(text("workers")),
            connections=_count("max-connections", text("max-connections", str(Limits().connections)), 1),
            connections_per_address=_count("max-connections-per-address", text("max-connections-per-address", "0")),
            upkeep=UpkeepSettings(
                backups=_count("index-backups", text("index-backups", str(usual.backups))),
                backup_interval=3600 * _number("index-backup-hours", text("index-backup-hours", "24"), least=MIN_HOURS),
                scrub_rate=_number("scrub-rate", text("scrub-rate", str(usual.scrub_rate))),
                scrub_interval=3600 * _number("scrub-hours", text("scrub-hours", "168"), least=MIN_HOURS),
            ),
        )


def _variable(option: str) -> str:
    return f"AIS_S3_{option.upper().replace('-', '_')}"


def _log(path: str) -> str | None:
    return None if path == NO_LOG else path if path == "-" else str(Path(path).absolute())


def _workers(text: str) -> int:
    if not text:
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise StartupError(f"--workers {text}: it must be a number from 1 to {MAX_WORKERS}")
    return int(text)


def _count(option: str, text: str, least: int = 0) -> int:
    return int(_number(option, text, least, whole=True))


def _number(option: str, text: str, least: float = 0.0, whole: bool = False) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not least <= value < 1e6:
        raise StartupError(f"--{option} {text}: it must be a {'whole ' if whole else ''}number, {least:g} or more")
    return value


def _flag(options: Mapping[str, object], environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(_variable(name), "").lower()
    if value not in _TRUE | _FALSE:
        raise StartupError(f"{_variable(name)}={value}: it must be 1 or 0")
    return bool(options[name]) or value in _TRUE


def default_data(environ: Mapping[str, str]) -> Path:
    """Where systemd says (``StateDirectory=``), else the user's own data directory (XDG Base Directory)."""
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state)
    home = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(home):
        home = os.path.expanduser("~/.local/share")
    if not os.path.isabs(home):
        raise StartupError("--data is needed: the user has no home directory")
    return Path(home, "ais-s3")


def refuse(message: str) -> NoReturn:
    """End with one line on stderr and exit status 1."""
    raise SystemExit(f"ais-s3: {message}")
