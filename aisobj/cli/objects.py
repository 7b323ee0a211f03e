"""Objects: list and show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from aisobj.cli.output import Table, print_json, size_text, time_text
from aisobj.cli.session import run
from aisobj.cli.uri import Uri, select

if TYPE_CHECKING:
    from aisobj.client import Client, Entry, ObjectInfo

#: property -> heading and cell of a listing
_COLUMNS: Mapping[str, tuple[str, Callable[[Entry, str], str]]] = {
    "name": ("NAME", lambda entry, endpoint: entry.name),
    "size": ("SIZE", lambda entry, endpoint: size_text(entry.size)),
    "checksum": ("CHECKSUM", lambda entry, endpoint: entry.checksum),
    "atime": ("ATIME", lambda entry, endpoint: entry.atime),
    "version": ("VERSION", lambda entry, endpoint: entry.version),
    "cached": ("CACHED", lambda entry, endpoint: "yes"),
    "target_url": ("TARGET URL", lambda entry, endpoint: endpoint),
    "status": ("STATUS", lambda entry, endpoint: "ok"),
    "copies": ("COPIES", lambda entry, endpoint: str(entry.copies)),
    "custom": ("CUSTOM", lambda entry, endpoint: entry.custom),
    "location": ("LOCATION", lambda entry, endpoint: entry.location),
}
_ALL = ("name", "size", "checksum", "atime", "version", "cached", "target_url", "status", "copies")


def columns(props: str) -> list[str]:
    """The columns that ``--props`` asks for; the name always comes first. Raises click.UsageError."""
    names = [name.strip() for name in props.split(",") if name.strip()]
    if "all" in names:
        return list(_ALL)
    for name in names:
        if name not in _COLUMNS:
            raise click.UsageError(f'unknown object property "{name}" (expecting {", ".join(_COLUMNS)} or all)')
    return ["name", *(name for name in dict.fromkeys(names) if name != "name")]


def list_objects(
    uri: Uri,
    *,
    prefix: str,
    props: str,
    limit: int,
    recursive: bool,
    start_after: str,
    headers: bool,
    as_json: bool,
) -> None:
    """Page by page, so that a bucket of any size begins to show at once."""
    wanted = columns(props)
    selection = select(uri.name + prefix)

    async def operation(client: Client) -> None:
        pages = client.pages(
            uri.bucket,
            prefix=selection.prefix,
            props=",".join(wanted),
            # A wildcard may match below a folder.
            recursive=recursive or selection.pattern is not None,
            start_after=start_after,
        )
        found = _limited(pages, selection.matches, limit)
        if as_json:
            await _print_json(found, wanted, client.endpoint)
        else:
            await _print_table(found, wanted, client.endpoint, headers)

    run(operation)


async def _limited(
    pages: AsyncIterator[list[Entry]], matches: Callable[[str], bool], limit: int
) -> AsyncIterator[list[Entry]]:
    left = limit
    async for page in pages:
        found = [entry for entry in page if matches(entry.name)]
        if limit:
            found = found[:left]
            left -= len(found)
        yield found
        if limit and not left:
            return


async def _print_table(pages: AsyncIterator[list[Entry]], wanted: list[str], endpoint: str, headers: bool) -> None:
    table = Table()
    rows = [tuple(_COLUMNS[name][0] for name in wanted)] if headers else []
    async for page in pages:
        rows += [tuple(_cell(name, entry, endpoint) for name in wanted) for entry in page]
        if rows:
            table.print(rows)
        rows = []


def _cell(name: str, entry: Entry, endpoint: str) -> str:
    if entry.is_dir:
        return entry.name if name == "name" else ""
    return _COLUMNS[name][1](entry, endpoint)


async def _print_json(pages: AsyncIterator[list[Entry]], wanted: list[str], endpoint: str) -> None:
    """An array, written as it comes."""
    separator = "["
    async for page in pages:
        for entry in page:
            click.echo(
                f"{separator}\n    {json.dumps(_document(entry, wanted, endpoint), ensure_ascii=False)}", nl=False
            )
            separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def _document(entry: Entry, wanted: list[str], endpoint: str) -> dict[str, Any]:
    if entry.is_dir:
        return {"name": entry.name}
    exact = {"size": entry.size, "copies": entry.copies}
    return {name: exact.get(name, _COLUMNS[name][1](entry, endpoint)) for name in wanted}


def show_object(uri: Uri, *, props: str, as_json: bool) -> None:
    """What is known about an object."""
    info = run(lambda client: client.head_object(uri.bucket, uri.name))
    document = _described(uri, info)
    if as_json:
        print_json(document)
        return
    names = [name.strip() for name in props.split(",") if name.strip()]
    if "all" in names:
        names = list(document)
    for name in names:
        if name not in document:
            raise click.UsageError(f'unknown object property "{name}" (expecting {", ".join(document)} or all)')
    Table().print([("PROPERTY", "VALUE"), *((name, _shown(name, document[name])) for name in sorted(names))])


def _described(uri: Uri, info: ObjectInfo) -> dict[str, Any]:
    return {
        "name": str(uri),
        "size": info.size,
        "checksum": info.checksum,
        "checksum-type": info.checksum_type,
        "atime": time_text(info.atime),
        "version": info.version,
        "etag": info.etag,
        "custom": info.custom,
        "cached": True,
        "copies": 1,
    }


def _shown(name: str, value: Any) -> str:
    if name == "size":
        return size_text(value)
    if value is True:
        return "yes"
    if isinstance(value, dict):
        return f"[{', '.join(f'{key}={text}' for key, text in sorted(value.items()))}]"
    return str(value) or "-"
