"""Buckets: create, list, properties."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from aisobj.cli.output import Table, flat_rows, flatten, print_json, props_rows, value_text
from aisobj.cli.session import run
from aisobj.cli.uri import SCHEME, Uri

if TYPE_CHECKING:
    from aisobj.client import Client

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_props(words: Sequence[str]) -> dict[str, Any]:
    """``checksum.type=md5 versioning.enabled=false``, or one JSON document, as a partial ``Bprops``.

    :raises click.UsageError: anything else.
    """
    text = " ".join(words).strip()
    if text.startswith("{"):
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise click.UsageError(f"invalid bucket properties: {error}") from None
        return document
    props: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f'invalid bucket property "{word}": expecting NAME=VALUE')
        section = props
        *path, last = name.split(".")
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise click.UsageError(f'invalid bucket property "{word}": "{part}" has a value already')
        section[last] = _value(value)
    return props


def _value(text: str) -> Any:
    boolean = _BOOLEANS.get(text.lower())
    if boolean is not None:
        return boolean
    return int(text) if text.isdecimal() and len(text) < 20 else text


def create(buckets: Sequence[Uri], props: Mapping[str, Any], *, ignore_error: bool) -> None:
    """Create buckets, one after another."""

    async def operation(client: Client) -> bool:
        from aisobj.client import ApiError  # noqa: PLC0415  with treq, which is slow to import

        failed = False
        for uri in buckets:
            try:
                await client.create_bucket(uri.bucket, props)
            except ApiError as error:
                exists = error.status == 409
                text = f'Bucket "{uri}" already exists' if exists else str(error)
                if exists and ignore_error:
                    click.echo(text)
                    continue
                click.echo(f"Error: {text}", err=True)
                failed = True
            else:
                click.echo(f'"{uri}" bucket created')
        return failed

    if run(operation):
        raise click.exceptions.Exit(1)


def list_buckets(*, as_json: bool) -> None:
    """All buckets."""
    names = run(lambda client: client.buckets())
    if as_json:
        print_json([{"name": name, "provider": "ais"} for name in names])
        return
    click.echo(f"AIS Buckets ({len(names)})")
    for name in names:
        click.echo(f"  {SCHEME}{name}")


def show_props(uri: Uri, section: str, *, verbose: bool, as_json: bool) -> None:
    """A bucket's properties: a line for each section, or for each property."""
    props = run(lambda client: client.bucket_props(uri.bucket))
    if as_json:
        print_json(props)
        return
    if verbose or section:
        rows = flat_rows(props, section)
        if not rows:
            raise click.ClickException(f'unknown property "{section}"')
    else:
        rows = props_rows(props)
    Table().print([("PROPERTY", "VALUE"), *rows])


def set_props(uri: Uri, props: Mapping[str, Any]) -> None:
    """Set properties, and say which of them were something else before."""

    async def operation(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        before = await client.bucket_props(uri.bucket)
        await client.set_props(uri.bucket, props)
        return before, await client.bucket_props(uri.bucket)

    documents = run(operation)
    before, after = (dict(flatten(document)) for document in documents)
    changed = [name for name, _ in flatten(props) if after.get(name) != before.get(name)]
    if not changed:
        click.echo(f'Bucket "{uri}" already has the set props, nothing to do')
        return
    click.echo("Bucket props successfully updated")
    for name in changed:
        click.echo(f'"{name}" set to:"{value_text(after[name])}" (was:"{value_text(before[name])}")')


def reset_props(uri: Uri) -> None:
    """Back to the properties of a new bucket."""
    run(lambda client: client.reset_props(uri.bucket))
    click.echo("Bucket props successfully reset")
