"""From a command to the reactor and back: one client per command, errors as one line on stderr."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, FirstError, gatherResults

from aisobj.cli.credentials import find_signer

if TYPE_CHECKING:
    from aisobj.client import Client

DEFAULT_ENDPOINT = "http://localhost:8080"
#: Files that are sent or fetched at once.
PARALLEL = 8

T = TypeVar("T")
_META = "aisobj.endpoint"


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_META] = value


#: On the command itself and on each subcommand, where it overrides the former.
endpoint_option = click.option(
    "--endpoint",
    metavar="URL",
    expose_value=False,
    callback=_remember,
    help=f"The server, instead of $AIS_ENDPOINT.  [default: {DEFAULT_ENDPOINT}]",
)


def run(operation: Callable[[Client], Awaitable[T]]) -> T:
    """Run the operation on a reactor of its own and return what it returns. Once per process.

    :raises click.ClickException: the operation's ClientError.
    """
    from twisted.internet.task import react  # noqa: PLC0415  the next line installs a reactor

    from aisobj.client import Client, ClientError  # noqa: PLC0415

    meta = click.get_current_context().meta
    endpoint = meta.get(_META) or os.environ.get("AIS_ENDPOINT") or DEFAULT_ENDPOINT
    signer = find_signer()
    outcome: list[T] = []
    errors: list[Exception] = []

    async def session(reactor: Any) -> None:
        try:
            client = Client(endpoint, reactor, signer, PARALLEL, os.environ.get("AIS_CLIENT_CA", ""))
            try:
                outcome.append(await operation(client))
            finally:
                await client.close()
        except Exception as error:
            errors.append(error)

    def start(reactor: Any) -> Deferred[None]:
        running = Deferred.fromCoroutine(session(reactor))
        # ^C stops the reactor: let go of temporary files first.
        reactor.addSystemEventTrigger("before", "shutdown", running.cancel)
        return running

    with contextlib.suppress(SystemExit):
        react(start)
    if outcome:
        return outcome[0]
    error = errors[0] if errors else CancelledError()
    if isinstance(error, CancelledError):
        raise click.Abort
    if isinstance(error, ClientError):
        raise click.ClickException(str(error)) from error
    raise error


def confirm(question: str) -> None:
    """Ask, while the reactor waits. Raises click.Abort for anything but yes."""
    # The reactor's handler would only make a note of ^C.
    reactors = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        click.confirm(question, abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, reactors)


async def for_each(items: AsyncIterator[T] | Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """``await work(item)`` for all items, :data:`PARALLEL` at a time; items are taken as they are needed."""
    source = items if isinstance(items, AsyncIterator) else _asynchronous(items)
    lock = DeferredLock()

    async def take_turns() -> None:
        while True:
            await lock.acquire()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            finally:
                lock.release()
            await work(item)

    try:
        await gatherResults([Deferred.fromCoroutine(take_turns()) for _ in range(PARALLEL)], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


async def _asynchronous(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
