"""``ais rm``: objects and buckets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import click

from aisobj.cli.output import quoted
from aisobj.cli.report import Report
from aisobj.cli.session import confirm, for_each, run
from aisobj.cli.uri import Uri, select

if TYPE_CHECKING:
    from aisobj.client import Client


def remove_buckets(buckets: Sequence[Uri], *, yes: bool, ignore_error: bool) -> None:
    """Destroy buckets. One that is not empty needs a confirmation."""

    async def operation(client: Client) -> bool:
        from aisobj.client import ApiError  # noqa: PLC0415  with treq, which is slow to import

        failed = False
        for uri in buckets:
            try:
                if not yes and await _holds_something(client, uri.bucket):
                    await client.close()  # who knows how long the answer takes
                    confirm(f"The bucket {uri} is not empty. Destroy it with everything in it?")
                await client.destroy_bucket(uri.bucket)
            except ApiError as error:
                if not ignore_error or error.status != 404:
                    click.echo(f"Error: {error}", err=True)
                    failed = True
            else:
                click.echo(f'"{uri}" bucket destroyed')
        return failed

    if run(operation):
        raise click.exceptions.Exit(1)


async def _holds_something(client: Client, bucket: str) -> bool:
    async for page in client.pages(bucket, page_size=1):
        return bool(page)
    return False


def remove_objects(objects: Sequence[Uri], *, prefix: str | None, everything: bool, yes: bool, quiet: bool) -> None:
    """Delete objects: those that are named, and after a confirmation those that match."""
    for uri in objects:
        if not uri.name and prefix is None and not everything:
            raise click.UsageError(f"object name is missing in {uri} (use --all to delete all objects)")

    async def operation(client: Client) -> Report:
        report = Report(client.reactor, "", quiet=quiet, bar=False)
        for uri in objects:
            if prefix is not None or uri.is_many:
                await _remove_many(client, Uri(uri.bucket, uri.name + (prefix or "")), yes, report)
            else:
                await _remove(client, uri.bucket, uri.name, report)
        return report

    run(operation).check()


async def _remove_many(client: Client, uri: Uri, yes: bool, report: Report) -> None:
    selection = select(uri.name)

    async def names() -> AsyncIterator[str]:
        async for page in client.pages(uri.bucket, prefix=selection.prefix, props="name"):
            for entry in page:
                if selection.matches(entry.name):
                    yield entry.name

    if not yes:
        # Only whether there are any; counting them could take a while.
        first = await anext(names(), None)
        if first is None:
            raise click.ClickException(f"no objects match {uri}")
        await client.close()
        which = f"that match {uri}" if selection.pattern else f"in {uri}"
        confirm(f"Delete all objects {which} (the first is {quoted(first)})?")
    before = report.succeeded + report.failed
    await for_each(names(), lambda name: _remove(client, uri.bucket, name, report))
    if report.succeeded + report.failed == before:
        raise click.ClickException(f"no objects match {uri}")


async def _remove(client: Client, bucket: str, name: str, report: Report) -> None:
    from aisobj.client import ApiError  # noqa: PLC0415  with treq, which is slow to import

    try:
        await client.delete_object(bucket, name)
    except ApiError as error:
        report.fail(str(error))
    else:
        report.done(f"deleted {quoted(name)} from {Uri(bucket, '')}")
