"""``twistd ais-s3``: the only place where a server is put together.

twistd calls :func:`makeService` before it forks, so whatever can be refused is refused there, on the operator's own
terminal: options, credentials, the data directory, the ports. The store opens after the fork (``serving``, ``master``).
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet.threads import deferToThreadPool
from twisted.web.resource import IResource, Resource

from aisobj.daemon import AisService, IDaemonReactor
from aisobj.errors import StorageError
from aisobj.listening import IListener, Listener, StartupError, addresses_beyond, bind, check_shareable, one_line
from aisobj.master import Master
from aisobj.metrics import Gauges, Metrics
from aisobj.model import BucketProps
from aisobj.open_files import affordable_connections, allow_open_files
from aisobj.options import OPEN_FLAG, Options, Settings, refuse
from aisobj.programs import steady
from aisobj.protocol.credentials import Credentials
from aisobj.root import RootResource
from aisobj.s3.call import Context
from aisobj.s3.plain import shortcuts
from aisobj.serving import Serving
from aisobj.shared_metrics import make_directory
from aisobj.storage.embedded import (
    DataDirectory,
    IEmbeddedReactor,
    lock_data_directory,
    open_store,
    writer_socket,
)
from aisobj.storage.store import ObjectStore
from aisobj.web.accesslog import AccessLog
from aisobj.web.auditlog import AuditLog
from aisobj.web.auth import Authenticator
from aisobj.web.health import State
from aisobj.web.limits import Limits
from aisobj.web.request import Ended
from aisobj.web.site import Site


def makeService(options: Options) -> AisService:
    """For twistd. Whatever is wrong is one line on stderr and exit status 1."""
    from twisted.internet import reactor  # noqa: PLC0415 (twistd --reactor chooses it)

    steady(reactor)
    try:
        settings = Settings.of(options, os.environ)
        allow_open_files()
        return assemble(settings, cast(IServerReactor, reactor))
    except (StartupError, StorageError) as error:
        refuse(str(error))


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
        listeners: list[Listener] = []

        def listen(site: Site) -> list[Listener]:
            listeners.extend(bind(reactor, description, site) for description in settings.listen)
            return listeners

        server: Serving | None = None
        if settings.workers == 1:
            server = make_serving(settings, credentials, directory, reactor, listen)
        else:
            _check_logs(settings)
            listen(Site(Resource(), reactor))  # which never gets a connection
            check_shareable(settings.listen)
        beyond = addresses_beyond(listeners)
        if credentials is None and beyond and not settings.open_to_network:
            raise StartupError(
                f"{beyond[0]} is open to other machines: give --credentials FILE, "
                f"or listen on 127.0.0.1, or say --{OPEN_FLAG}"
            )
        master = None if server else _make_master(settings, credentials, directory, reactor, listeners)
        undo.pop_all()
    return AisService(reactor, server or cast(Master, master), notices(settings, beyond if credentials is None else []))


def _make_master(
    settings: Settings,
    credentials: str | None,
    directory: DataDirectory,
    reactor: IServerReactor,
    listeners: Sequence[Listener],
) -> Master:
    try:
        metrics = make_directory(directory.descriptor)
    except OSError as error:
        raise StartupError(f"no directory for the metrics of several workers: {one_line(error)}") from None
    return Master(
        reactor,
        settings,
        listeners,
        directory,
        writer_socket(settings.data),
        credentials=credentials,
        cwd=os.getcwd(),
        metrics=metrics,
    )


def make_serving(
    settings: Settings,
    credentials: str | None,
    directory: DataDirectory,
    reactor: IServerReactor,
    listen: Callable[[Site], Sequence[IListener]],
    *,
    worker: int | None = None,
    alone: bool = True,
    metrics: Callable[[Callable[[], Gauges]], Metrics] = Metrics,
) -> Serving:
    """What one process serves with.

    :param credentials: the text of a credentials file that can be read.
    :param listen: the ports, which give their connections to the site.
    :param worker: its number, for one of several.
    :raises StartupError:
    """
    # Its root comes with the store; until then nobody is let in.
    users = None if credentials is None else Credentials.parse(credentials)
    access_log, audit_log = _open_logs(settings, time.time, {} if users is None else users.access_keys())
    limits = Limits(
        connections=affordable_connections(settings.connections),
        connections_per_address=settings.connections_per_address,
    )
    site = Site(Resource(), reactor, limits, access_log, audit_log, time.time)
    listeners = listen(site)
    state = State()
    hosts = (*settings.server_names, socket.gethostname())
    authenticator = Authenticator(users, settings.region, time.time, hosts)
    props = BucketProps(checksum_type=settings.checksum)
    shared = worker is not None
    return Serving(
        site,
        state,
        listeners,
        directory,
        open_store=partial(
            open_store,
            settings.data,
            reactor=reactor,
            sync=settings.sync,
            lock=directory,
            shared=shared,
            upkeep=settings.upkeep,
        ),
        make_root=partial(make_root, reactor, site, state, authenticator, props, settings.region, metrics=metrics),
        alone=alone,
        sweep=not worker,
    )


def make_root(
    reactor: IServerReactor,
    site: Site,
    state: State,
    authenticator: Authenticator,
    props: BucketProps,
    region: str,
    store: ObjectStore,
    metrics: Callable[[Callable[[], Gauges]], Metrics] = Metrics,
) -> IResource:
    """The root resource over an open store.

    :param metrics: makes what counts the requests, of what it is to ask at each scrape.
    """

    def gauges() -> Gauges:
        totals = store.buckets.totals()
        return Gauges(len(site.connections), totals.objects, totals.bytes, store.corrupt_count(), store.read_only)

    counting = metrics(gauges)
    counting.closed = site.closed

    def count(ended: Sequence[Ended]) -> None:
        for request, _, seconds in ended:
            counting.observe(request.operation, request.status, seconds, request.body.received, request.bytes_out)

    site.observers.append(count)
    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    context = Context(store, authenticator, props, in_thread, region)
    site.shortcuts.update(shortcuts(context))
    return RootResource(context, state, counting, gauges)


def _read_credentials(path: Path | None) -> str | None:
    """The text of the file, which has been tried. Raises StartupError."""
    if path is None:
        return None
    try:
        text = path.read_text("utf-8")
        Credentials.parse(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise StartupError(f"--credentials {path}: {reason}") from None
    return text


def _check_logs(settings: Settings) -> None:
    """Raises StartupError where the workers could not open them."""
    for log in _open_logs(settings, time.time, {}):
        if log is not None:
            log.close()


def _open_logs(
    settings: Settings, now: Callable[[], float], access_keys: Mapping[str, str]
) -> tuple[AccessLog | None, AuditLog | None]:
    access_log: AccessLog | None = None
    try:
        if settings.access_log is not None:
            access_log = AccessLog(settings.access_log)
    except OSError as error:
        raise StartupError(f"--access-log {settings.access_log}: {error.strerror}") from None
    try:
        return access_log, None if settings.audit_log is None else AuditLog(settings.audit_log, now, access_keys)
    except OSError as error:
        raise StartupError(f"--audit-log {settings.audit_log}: {error.strerror}") from None


def notices(settings: Settings, open_to: list[str]) -> list[str]:
    """What the log says loudly at each start."""
    notices = []
    if not settings.sync:
        notices.append("--no-sync: A POWER CUT OR A CRASH OF THIS MACHINE LOSES OR SPOILS WHAT IS STORED HERE")
    if open_to:
        notices.append(f"--{OPEN_FLAG}: EVERY MACHINE THAT REACHES {' '.join(open_to)} MAY READ, WRITE AND DELETE")
    connections = affordable_connections(settings.connections)
    if connections < settings.connections:
        notices.append(f"only {connections} connections for each worker: the limit of open files allows no more")
    path = settings.credentials
    if path is not None and path.stat().st_mode & stat.S_IROTH:
        notices.append(f"--credentials {path}: EVERY USER OF THIS MACHINE CAN READ THE SECRETS")
    return notices
