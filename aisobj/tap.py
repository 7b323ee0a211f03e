"""``twistd ais-s3``: the options, and the only place where a server is put together.

twistd calls :func:`makeService` before it forks, so whatever can be refused is refused there, on the operator's own
terminal: options, credentials, the data directory, the ports. The store opens after the fork (``daemon``).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

from twisted.internet.threads import deferToThreadPool
from twisted.python import usage
from twisted.web.resource import IResource, Resource

import aisobj
from aisobj.checksums import CHECKSUM_TYPES
from aisobj.daemon import AisService, IDaemonReactor
from aisobj.errors import StorageError
from aisobj.listening import StartupError, addresses_beyond, bind, one_line
from aisobj.metrics import Gauges, Metrics
from aisobj.model import BucketProps
from aisobj.protocol.credentials import Credentials
from aisobj.root import RootResource
from aisobj.s3.call import Context
from aisobj.storage.embedded import IEmbeddedReactor, lock_data_directory, open_store
from aisobj.storage.store import ObjectStore
from aisobj.web.accesslog import AccessLog
from aisobj.web.auth import Authenticator
from aisobj.web.health import State
from aisobj.web.site import Site

DEFAULT_LISTEN = "tcp:8080:interface=127.0.0.1"
NO_ACCESS_LOG = "off"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

_OPEN_FLAG = "anyone-on-the-network-may-write"


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
        ["access-log", None, None, f"File, - for standard output, {NO_ACCESS_LOG} for none. [default: -]"],
    ]
    optFlags = [
        ["no-sync", None, "Never wait for the disk: fast, and lost at a power cut. For throw-away servers."],
        [_OPEN_FLAG, None, "Serve other machines without credentials."],
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
            _refuse(f"{one_line(error)} (twistd ais-s3 --help explains)")


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
    open_to_network: bool
    server_names: tuple[str, ...]

    @classmethod
    def of(cls, options: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
        """:raises StartupError: a value that cannot be."""

        def text(name: str, default: str = "") -> str:
            return cast(str | None, options[name]) or environ.get(_variable(name)) or default

        def several(name: str) -> tuple[str, ...]:
            return tuple(cast("list[str]", options[name]) or environ.get(_variable(name), "").split())

        checksum = text("checksum", BucketProps().checksum_type)
        if checksum not in CHECKSUM_TYPES:
            raise StartupError(f"--checksum {checksum}: it must be one of {', '.join(CHECKSUM_TYPES)}")
        credentials = text("credentials")
        log = text("access-log", "-")
        return cls(
            listen=several("listen") or (DEFAULT_LISTEN,),
            data=Path(text("data")).absolute() if text("data") else default_data(environ),
            credentials=Path(credentials).absolute() if credentials else None,
            region=text("region"),
            checksum=checksum,
            sync=not _flag(options, environ, "no-sync"),
            access_log=None if log == NO_ACCESS_LOG else log if log == "-" else str(Path(log).absolute()),
            open_to_network=_flag(options, environ, _OPEN_FLAG),
            server_names=several("server-name"),
        )


def _variable(option: str) -> str:
    return f"AIS_S3_{option.upper().replace('-', '_')}"


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


def makeService(options: Options) -> AisService:
    """For twistd. Whatever is wrong is one line on stderr and exit status 1."""
    from twisted.internet import reactor  # noqa: PLC0415 (twistd --reactor chooses it)

    try:
        return assemble(Settings.of(options, os.environ), cast(IServerReactor, reactor))
    except (StartupError, StorageError) as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    raise SystemExit(f"ais-s3: {message}")


class IServerReactor(IEmbeddedReactor, IDaemonReactor):
    """What a server needs of a reactor."""


def assemble(settings: Settings, reactor: IServerReactor) -> AisService:
    """A server, its directory locked and its ports bound; the store is opened when the service starts.

    :raises StartupError: or StorageError, with one line that says why it cannot be.
    """
    credentials = _read_credentials(settings.credentials)
    with ExitStack() as undo:
        directory = lock_data_directory(settings.data)
        undo.callback(directory.release)
        # Its root comes with the store; until then nobody is let in.
        site = Site(Resource(), reactor, access_log=_open_access_log(settings.access_log))
        listeners = [bind(reactor, description, site) for description in settings.listen]
        beyond = addresses_beyond(listeners)
        if credentials is None and beyond and not settings.open_to_network:
            raise StartupError(
                f"{beyond[0]} is open to other machines: give --credentials FILE, "
                f"or listen on 127.0.0.1, or say --{_OPEN_FLAG}"
            )
        state = State()
        hosts = (*settings.server_names, socket.gethostname())
        authenticator = Authenticator(credentials, settings.region, reactor.seconds, hosts)
        props = BucketProps(checksum_type=settings.checksum)
        undo.pop_all()
    return AisService(
        reactor,
        site,
        state,
        listeners,
        directory,
        open_store=partial(open_store, settings.data, reactor=reactor, sync=settings.sync, lock=directory),
        make_root=partial(make_root, reactor, site, state, authenticator, props, settings.region),
        notices=notices(settings, beyond if credentials is None else []),
    )


def make_root(
    reactor: IServerReactor,
    site: Site,
    state: State,
    authenticator: Authenticator,
    props: BucketProps,
    region: str,
    store: ObjectStore,
) -> IResource:
    def gauges() -> Gauges:
        totals = store.buckets.totals()
        return Gauges(len(site.connections), totals.objects, totals.bytes, store.read_only)

    metrics = Metrics(gauges)
    site.observers.append(
        lambda request, status, seconds: metrics.observe(
            request.operation, status, seconds, request.bytes_in, request.bytes_out
        )
    )
    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    return RootResource(Context(store, authenticator, props, in_thread, region), state, metrics, gauges)


def _read_credentials(path: Path | None) -> Credentials | None:
    if path is None:
        return None
    try:
        return Credentials.parse(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise StartupError(f"--credentials {path}: {reason}") from None


def _open_access_log(path: str | None) -> AccessLog | None:
    if path is None:
        return None
    try:
        return AccessLog(path)
    except OSError as error:
        raise StartupError(f"--access-log {path}: {error.strerror}") from None


def notices(settings: Settings, open_to: list[str]) -> list[str]:
    """What the log says loudly at each start."""
    notices = []
    if not settings.sync:
        notices.append("--no-sync: A POWER CUT OR A CRASH OF THIS MACHINE LOSES OR SPOILS WHAT IS STORED HERE")
    if open_to:
        notices.append(f"--{_OPEN_FLAG}: EVERY MACHINE THAT REACHES {' '.join(open_to)} MAY READ, WRITE AND DELETE")
    path = settings.credentials
    if path is not None and path.stat().st_mode & stat.S_IROTH:
        notices.append(f"--credentials {path}: EVERY USER OF THIS MACHINE CAN READ THE SECRETS")
    return notices
