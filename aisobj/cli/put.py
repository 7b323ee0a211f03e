"""``ais put``: files, folders, wildcards and standard input to objects."""

from __future__ import annotations

import glob
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from aisobj.cli.filebody import FileBody, Readable
from aisobj.cli.output import quoted
from aisobj.cli.report import Report
from aisobj.cli.session import for_each, run
from aisobj.cli.uri import Uri

if TYPE_CHECKING:
    from aisobj.client import Client

STDIN = "-"


class Upload(NamedTuple):
    """A file and the object it becomes."""

    path: Path
    name: str


class _Root(NamedTuple):
    """A file or folder to upload; names are relative to ``base``."""

    path: Path
    base: Path


def plan(
    sources: Sequence[str], destination: Uri, *, recursive: bool, complain: Callable[[str], None]
) -> Iterator[Upload]:
    """What is to be uploaded. Folders are looked through as the result is iterated.

    One file becomes the object that the destination names, or one in it if that is a bucket or ends in ``/``. Of a
    folder, a wildcard, or several sources the destination is the beginning of every name, as in AIStore: ``ais://b/x``
    and ``a.txt`` make ``xa.txt``, ``ais://b/x/`` makes ``x/a.txt``. Names go on with the path below the folder, or
    below what precedes the first wildcard.

    :param complain: called with a line for each folder that cannot be read.
    :raises click.ClickException: at once, for a source that does not exist and a wildcard that matches nothing.
    """
    roots = [root for source in sources for root in _roots(source)]
    first = Path(sources[0])
    alone = len(sources) == 1 and os.path.lexists(first) and not first.is_dir()
    if alone and destination.name and not destination.name.endswith("/"):
        return iter([Upload(first, destination.name)])
    return (
        Upload(path, destination.name + path.relative_to(base).as_posix())
        for root, base in roots
        for path in (_files(root, recursive, complain) if root.is_dir() else (root,))
    )


def _roots(source: str) -> list[_Root]:
    path = Path(source)
    if os.path.lexists(path):
        return [_Root(path, path if path.is_dir() else path.parent)]
    if not glob.has_magic(source):
        raise click.ClickException(f"{source}: no such file or directory")
    found = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
    if "**" in source:  # which has matched the files in its folders already
        found = [match for match in found if not match.is_dir()]
    if not found:
        raise click.ClickException(f'no files match "{source}"')
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return [_Root(match, base) for match in found]


def _files(folder: Path, recursive: bool, complain: Callable[[str], None]) -> Iterator[Path]:
    """The files in a folder, in order: neither links to folders nor devices."""

    def report(error: OSError) -> None:
        complain(f"{error.filename}: {error.strerror}")

    for directory, folders, files in os.walk(folder, onerror=report):
        folders.sort()
        if not recursive:
            folders.clear()
        for file in sorted(files):
            path = Path(directory, file)
            if path.is_file():
                yield path


def put(sources: Sequence[str], destination: Uri, *, recursive: bool, quiet: bool, bar: bool) -> None:
    """The command."""
    if STDIN in sources:
        if len(sources) > 1:
            raise click.UsageError("standard input cannot be put together with files")
        if not destination.name or destination.name.endswith("/"):
            raise click.UsageError(f"object name is missing in {destination}: standard input has no name of its own")

    async def operation(client: Client) -> Report:
        # Whether the bucket is there shows before anything is sent; its checksum is computed on the way.
        props = await client.bucket_props(destination.bucket)
        report = Report(client.reactor, f"PUT to {Uri(destination.bucket, '')}", quiet=quiet, bar=bar)
        sender = _Sender(client, destination.bucket, props["checksum"]["type"], report)
        try:
            if STDIN in sources:
                await sender.send_stdin(destination.name)
            else:
                uploads = plan(sources, destination, recursive=recursive, complain=report.fail)
                await for_each(uploads, sender.send)
        finally:
            report.close()
        return report

    run(operation).check()


class _Sender:
    def __init__(self, client: Client, bucket: str, checksum_type: str, report: Report) -> None:
        self._client = client
        self._bucket = bucket
        self._type = checksum_type
        self._report = report

    async def send_stdin(self, name: str) -> None:
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
            await self._send(file, None, name)

    async def send(self, upload: Upload) -> None:
        from aisobj.client import ClientError  # noqa: PLC0415  with treq, which is slow to import

        path = upload.path
        try:
            name = os.fsencode(upload.name).decode("utf-8")
            with path.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                size = status.st_size if stat.S_ISREG(status.st_mode) else None
                self._report.expect(size or 0)
                await self._send(file, size, name)
        except UnicodeDecodeError:
            self._report.fail(f"{path!r}: its name is not valid UTF-8, as names of objects must be")
        except OSError as error:
            self._report.fail(f"{path}: {error.strerror or error}")
        except ClientError as error:
            self._report.fail(f"{path}: {error}")

    async def _send(self, file: Readable, size: int | None, name: str) -> None:
        body = FileBody(file, size, self._client.reactor, self._type, self._report.moved)
        await self._client.put_object(self._bucket, name, body, self._type, body.digest)
        self._report.done(f"PUT {quoted(name)} to {Uri(self._bucket, '')}")
